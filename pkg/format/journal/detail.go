package journal

import (
	"cmp"
	"fmt"
)

// Detail is what a line says beyond its event, for people, on one line; "" for
// nothing.
func (l *AuditLine) Detail() string {
	text := ""
	add := func(format string, args ...any) {
		if text != "" {
			text += "; "
		}
		text += fmt.Sprintf(format, args...)
	}
	if l.From != nil && l.To != nil {
		add("%s %s -> %s", l.To.Product, cmp.Or(l.From.Version, "-"), cmp.Or(l.To.Version, "-"))
	}
	if l.Hook != "" {
		result := l.Result
		if result == "" {
			result = "begins"
		}
		if l.Attempt > 1 {
			result += fmt.Sprintf(", attempt %d", l.Attempt)
		}
		add("%s: %s", l.Hook, result)
	}
	for _, s := range l.Signoffs {
		add("signed by %s", s)
	}
	for _, s := range l.Insecure {
		add("INSECURE: %s", s)
	}
	if l.Reason != "" {
		add("%q", l.Reason)
	}
	for _, d := range l.Deviations {
		add("%s %s", d.Outcome, d.Path)
	}
	for _, path := range l.Kept {
		add("kept %s", path)
	}
	if l.KeptFrom > 1 {
		add("lines from %d on are kept", l.KeptFrom)
	}
	if l.TornTail > 0 {
		add("%d bytes of a half-written line before this one were set aside", l.TornTail)
	}
	return text
}
