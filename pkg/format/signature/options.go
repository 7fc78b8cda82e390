package signature

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// cutOptions takes the options: up to the first blank outside double quotes.
func cutOptions(text string) (options, rest string, err error) {
	quoted := false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\' && i+1 < len(text) && text[i+1] == '"':
			i++
		case c == '"':
			quoted = !quoted
		case !quoted && (c == ' ' || c == '\t'):
			return text[:i], strings.TrimLeft(text[i:], " \t"), nil
		}
	}
	if quoted {
		return "", "", errors.New("options: no closing quote")
	}
	return "", "", errors.New("no key on the line")
}

// parseOptions reads comma-separated options; their names are case-insensitive.
func (s *Signer) parseOptions(options string) error {
	seen := map[string]bool{}
	for {
		end := strings.IndexAny(options, "=,")
		name, value := options, ""
		switch {
		case end >= 0 && options[end] == '=':
			var err error
			name = options[:end]
			if value, options, err = cutQuoted(name, options[end+1:]); err != nil {
				return err
			}
		case end >= 0:
			name, options = options[:end], options[end:]
		default:
			options = ""
		}
		lower := strings.ToLower(name)
		if seen[lower] {
			return fmt.Errorf("option %q stands twice", name)
		}
		seen[lower] = true
		if err := s.setOption(lower, value, end >= 0 && value != ""); err != nil {
			return err
		}
		if options == "" {
			break
		}
		var comma bool
		if options, comma = strings.CutPrefix(options, ","); !comma || options == "" {
			return fmt.Errorf("option %q: want a comma and another option after it", name)
		}
	}
	if !s.ValidAfter.IsZero() && !s.ValidBefore.IsZero() && !s.ValidAfter.Before(s.ValidBefore) {
		return errors.New("valid-before is not after valid-after")
	}
	return nil
}

func (s *Signer) setOption(name, value string, hasValue bool) (err error) {
	switch {
	case name == "cert-authority" && !hasValue:
		s.CertAuthority = true
	case name == "namespaces" && hasValue:
		s.Namespaces, err = value, checkPatterns(value)
	case name == "valid-after" && hasValue:
		s.ValidAfter, err = parseTime(value)
	case name == "valid-before" && hasValue:
		s.ValidBefore, err = parseTime(value)
	default:
		return fmt.Errorf("unknown option, or one without its value: %q", name)
	}
	return err
}

// cutQuoted takes a value in double quotes, in which \" is a quote.
func cutQuoted(name, text string) (value, rest string, err error) {
	text, ok := strings.CutPrefix(text, `"`)
	if !ok {
		return "", "", fmt.Errorf("option %q: its value needs double quotes", name)
	}
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] == '\\' && i+1 < len(text) && text[i+1] == '"':
			i++
			b.WriteByte('"')
		case text[i] == '"':
			return b.String(), text[i+1:], nil
		default:
			b.WriteByte(text[i])
		}
	}
	return "", "", fmt.Errorf("option %q: no closing quote", name)
}

// parseTime reads YYYYMMDD or YYYYMMDDHHMM[SS], in UTC with a Z or UTC after
// it, else in local time.
func parseTime(s string) (time.Time, error) {
	digits, utc := s, false
	for _, suffix := range []string{"Z", "UTC"} {
		if n := len(s) - len(suffix); n > 0 && strings.EqualFold(s[n:], suffix) {
			digits, utc = s[:n], true
		}
	}
	layout := map[int]string{8: "20060102", 12: "200601021504", 14: "20060102150405"}[len(digits)]
	t, err := time.Parse(layout, digits)
	if err == nil && !utc {
		t = standardTime(t)
	}
	if layout == "" || err != nil || strings.Trim(digits, "0123456789") != "" || t.Unix() <= 0 {
		return time.Time{}, fmt.Errorf("bad time %q: want YYYYMMDD[Z] or YYYYMMDDHHMM[SS][Z], after 1970", s)
	}
	return t, nil
}

// standardTime is the instant at which local clocks show what clock shows in
// UTC, summer time never counted: ssh-keygen asks mktime(3) with tm_isdst 0, so
// that its 12:00 of a summer's day is 13:00 on the wall. The offset is that of
// the nearest time without summer time, as in the C library.
func standardTime(clock time.Time) time.Time {
	near := time.Date(clock.Year(), clock.Month(), clock.Day(), clock.Hour(), clock.Minute(), clock.Second(), 0, time.Local)
	for days := 0; days <= 366; days += 7 {
		for _, t := range []time.Time{near.AddDate(0, 0, -days), near.AddDate(0, 0, days)} {
			if !t.IsDST() {
				_, offset := t.Zone()
				return clock.Add(-time.Duration(offset) * time.Second).In(time.Local)
			}
		}
	}
	return near
}
