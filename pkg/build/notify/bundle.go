package notify

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Bounds on a mail of several builds, in bytes; the least lines of each log.
const (
	maxText     = 128 << 10
	maxAttached = 4 << 20
	leastTail   = 6
)

// group says which entries are told in one mail: those of one builder, whatever
// the cell, for the same people. "" is told alone.
func (e *entry) group() string {
	if e.Parts == nil || len(e.All) == 0 {
		return ""
	}
	return strings.Join([]string{e.Target, e.Notice.Project, e.builder(), e.From, strings.Join(e.All, ","), strings.Join(e.To, ",")}, "\x00")
}

// builder is the builder without its cell.
func (e *entry) builder() string {
	name, _, _ := strings.Cut(e.Notice.Builder, "[")
	return name
}

// bundle makes one entry of several of a group; of one, it is that one.
func bundle(list []*entry) *entry {
	if len(list) == 1 {
		return list[0]
	}
	first := list[0]
	h := sha256.New()
	for _, e := range list {
		fmt.Fprintf(h, "%s\x00", e.Notice.ID)
	}
	n := *first.Notice
	n.ID = first.Notice.ID + "-" + hex.EncodeToString(h.Sum(nil)[:6])
	n.Builder = first.builder()
	n.Subject, n.Text, n.Event = bundleSubject(list), bundleText(list), strings.Join(events(list), ", ")
	b := &entry{Schema: entrySchema, Target: first.Target, Label: first.Label, From: first.From, All: first.All, To: first.To, Notice: &n, Queued: first.Queued, path: first.path}
	for _, e := range list {
		b.Queued = later(b.Queued, e.Queued)
		if part := maxAttached / len(list); len(e.Log) > 0 {
			name := strings.Map(plain, fmt.Sprintf("%s-%d-%s", e.Notice.Builder, e.Notice.Number, e.LogName))
			b.more = append(b.more, attachment{name, e.Log[max(0, len(e.Log)-part):]})
		}
	}
	return b
}

// plain makes a file's name of a cell's: no reader of mails takes all characters.
func plain(r rune) rune {
	if strings.ContainsRune(`[],=/ "\`, r) {
		return '_'
	}
	return r
}

// events are the different ones, in the order of their weight.
func events(list []*entry) (names []string) {
	for _, event := range []string{broke, failing, failedInfra, recovered, succeeded, interrupted} {
		if slices.ContainsFunc(list, func(e *entry) bool { return e.Notice.Event == event }) {
			names = append(names, event)
		}
	}
	return names
}

// tally counts what became of builds: "2 fail, 1 works again".
func tally(list []*entry) string {
	words := map[string][2]string{broke: {"fails", "fail"}, failing: {"still fails", "still fail"}, failedInfra: {"could not be built", "could not be built"},
		recovered: {"works again", "work again"}, succeeded: {"succeeded", "succeeded"}, interrupted: {"was interrupted", "were interrupted"}}
	var all []string
	for _, event := range events(list) {
		n := 0
		for _, e := range list {
			if e.Notice.Event == event {
				n++
			}
		}
		all = append(all, fmt.Sprintf("%d %s", n, words[event][min(n-1, 1)]))
	}
	return strings.Join(all, ", ")
}

// bundleSubject names as many cells as there is room for, the worst first.
func bundleSubject(list []*entry) string {
	head := fmt.Sprintf("[%s] %s: %s", list[0].Notice.Project, list[0].builder(), tally(list))
	var cells []string
	for _, event := range events(list) {
		for _, e := range list {
			if cell := strings.TrimSuffix(strings.TrimPrefix(e.Notice.Builder, e.builder()+"["), "]"); e.Notice.Event == event && !slices.Contains(cells, cell) {
				cells = append(cells, cell)
			}
		}
	}
	return clean(head+": "+strings.Join(cells, "; "), maxSubject)
}

// bundleText says of all builds what became of them and of each that failed why.
func bundleText(list []*entry) string {
	var t strings.Builder
	fmt.Fprintf(&t, "Of builder %s of %s: %s.\n\n", list[0].builder(), list[0].Notice.Project, tally(list))
	width := 0
	for _, e := range list {
		width = max(width, len(e.name()))
	}
	bad := 0
	for _, e := range list {
		fmt.Fprintf(&t, "  %-*s  %s\n", min(width, 60), clean(e.name(), maxLine), e.Parts.Became)
		if !e.failed() {
			continue
		}
		if bad++; e.Parts.Says != "" {
			fmt.Fprintf(&t, "      %s\n", e.Parts.Says)
		}
	}
	common(&t, list, func(p *parts) string { return p.Shared }, "")
	common(&t, list, func(p *parts) string { return p.Changes }, "Changes since the last good build")
	lines := min(TailLines, max(leastTail, 3*TailLines/max(1, bad)))
	shown, seen := 0, map[string]bool{}
	for _, e := range list {
		if !e.failed() {
			continue
		}
		most, same := lines, e.Parts.Step+"\x00"+e.Parts.Says
		if e.Parts.Says != "" && seen[same] { // it breaks like one above
			most = min(lines, leastTail)
		}
		seen[same] = true
		section := e.section(most)
		if t.Len()+len(section) > maxText {
			fmt.Fprintf(&t, "\nThere is no room here for %d more; relkit build --explain BUILDER/N tells of each.\n", bad-shown)
			break
		}
		shown++
		t.WriteString(section)
	}
	return t.String()
}

// name is the build's.
func (e *entry) name() string { return fmt.Sprintf("%s/%d", e.Notice.Builder, e.Notice.Number) }

func (e *entry) failed() bool {
	return e.Notice.Event == broke || e.Notice.Event == failing || e.Notice.Event == failedInfra
}

// section is what a text of many says of one that failed.
func (e *entry) section(lines int) string {
	var t strings.Builder
	name := clean(e.name(), maxLine)
	fmt.Fprintf(&t, "\n---- %s %s\n%s\n\n%s%s", name, strings.Repeat("-", max(4, 70-len(name))), e.Parts.Sentence, e.Parts.Own, e.Parts.Commands)
	e.Parts.log(&t, lines)
	return t.String()
}

// common writes what is the same of all once, and what is not with the names of
// those that it is of.
func common(t *strings.Builder, list []*entry, of func(*parts) string, title string) {
	var order []string
	names := map[string][]string{}
	for _, e := range list {
		text := of(e.Parts)
		if text == "" {
			continue
		}
		if names[text] == nil {
			order = append(order, text)
		}
		names[text] = append(names[text], e.name())
	}
	for _, text := range order {
		head := title
		if len(order) > 1 {
			head = clean(strings.TrimSpace(title+" of "+strings.Join(names[text], ", ")), maxLine)
			head = strings.ToUpper(head[:1]) + head[1:]
		}
		if head != "" {
			head += ":\n"
		}
		if t.Len()+len(text) < maxText {
			fmt.Fprintf(t, "\n%s%s", head, text)
		}
	}
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
