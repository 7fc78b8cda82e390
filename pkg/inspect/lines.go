package inspect

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/relkit/relkit/pkg/format/patch"
	"github.com/relkit/relkit/pkg/format/trustdoc"
)

// Rows is what was found for a person: a name and a value a row, then the
// files. Values hold nothing that a terminal would act on.
func (res *Result) Rows() [][]string {
	rows := [][]string{{"kind", res.Kind}}
	if res.Digest.String() != "" {
		rows = append(rows, []string{"digest", res.Digest.String()})
	}
	switch doc := res.Document.(type) {
	case nil:
	case *patch.Header:
		rows = append(rows, patchRows(doc)...)
	case *trustdoc.Document:
		rows = append(rows, TrustRows(doc)...)
	default:
		rows = append(rows, flatten(doc)...)
	}
	for _, s := range res.Signoffs {
		rows = append(rows, []string{"sign-off", signoffText(s)})
	}
	for _, s := range res.Signatures {
		text := "by " + s.Key
		if s.Problem != "" {
			text = "does not count: " + strconv.Quote(s.Problem)
		}
		rows = append(rows, []string{"signature", text})
	}
	if t := res.Tree; t != nil {
		rows = append(rows, treeRows(t)...)
	}
	if a := res.Audit; a != nil {
		rows = append(rows, auditRows(a)...)
	}
	if res.Whole != "" {
		rows = append(rows, []string{"whole", res.Whole})
	}
	for _, a := range res.Verified {
		text := a.Role + " by " + a.Signer()
		for _, e := range a.Evidence {
			text += ", evidence " + e.Name + " " + e.Digest.String()
		}
		rows = append(rows, []string{"verified", text})
	}
	return rows
}

// FileRows is a row a file, a heading first; none where files were not wanted.
func (res *Result) FileRows() [][]string {
	if len(res.Files) == 0 {
		return nil
	}
	rows := [][]string{{"CHANGE", "KIND", "SIZE", "PACKED", "METHOD", "PATH"}}
	for _, f := range res.Files {
		path := f.Path
		if f.From != "" {
			path += " (from " + f.From + ")"
		}
		rows = append(rows, []string{orDash(f.Change), f.Kind, strconv.FormatInt(f.Size, 10), strconv.FormatInt(f.Packed, 10), orDash(f.Method), path})
	}
	return rows
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func patchRows(h *patch.Header) [][]string {
	rows := [][]string{{"id", h.ID}, {"product", h.Product}}
	add := func(name, value string) {
		if value != "" {
			rows = append(rows, []string{name, value})
		}
	}
	add("model", strings.Join(h.Model, " "))
	add("labels", pairs(h.Labels))
	if h.From != nil {
		add("from", sideText(*h.From))
	} else {
		add("from", "anything: a full patch")
	}
	add("to", sideText(h.To))
	add("requires", h.Requires)
	add("conflicts", h.Conflicts)
	add("supersedes", strings.Join(h.Supersedes, " "))
	add("provides", h.Provides)
	add("floor", h.Floor)
	add("commands", strings.Join(h.RequiresCommands, " "))
	for _, s := range h.RequiresSpace {
		add("free after", fmt.Sprintf("%d bytes in %s", s.Bytes, s.Path))
	}
	add("reboot", h.Reboot)
	add("restart", strings.Join(h.Restart, " "))
	add("reload", strings.Join(h.Reload, " "))
	add("stop", strings.Join(h.Stop, " "))
	add("hooks", strings.Join(h.Hooks.Names(), " "))
	add("config files", strings.Join(h.ConfigFiles, " "))
	add("managed", strings.Join(h.Managed, " "))
	add("never", strings.Join(h.Never, " "))
	add("created", h.Created.Format(time.RFC3339))
	if !h.Expires.IsZero() {
		add("expires", h.Expires.Format(time.RFC3339))
	}
	for _, b := range h.Builds {
		add("build "+b.Side, b.Build+" "+b.Record.String())
	}
	s := h.Sizes
	add("changes", fmt.Sprintf("%d, %d of them files that get %d new bytes", s.Entries, s.Files, s.NewBytes))
	methods := map[string]int{}
	for _, g := range h.Segments {
		methods[methodNames[g.Method]]++
	}
	add("payload", fmt.Sprintf("%d bytes in %d segments%s", s.PayloadBytes, len(h.Segments), counted(methods)))
	return rows
}

// pairs writes "a=1 b=2".
func pairs(labels map[string]string) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		parts = append(parts, name+"="+labels[name])
	}
	return strings.Join(parts, " ")
}

// counted writes " (1 delta, 2 zstd)".
func counted(n map[string]int) string {
	var parts []string
	for name, count := range n {
		parts = append(parts, fmt.Sprintf("%d %s", count, name))
	}
	sort.Strings(parts)
	if len(parts) == 0 {
		return ""
	}
	return " (" + strings.Join(parts, ", ") + ")"
}

func sideText(s patch.Side) string { return strings.TrimSpace(s.Version + " " + s.Tree.String()) }

func signoffText(s Signoff) string {
	if s.Problem != "" {
		return s.Name + ": does not count: " + strconv.Quote(s.Problem)
	}
	text := fmt.Sprintf("%s: %s by %s, %s", s.Role, s.Verdict, s.Key, s.Time.Format(time.RFC3339))
	for _, e := range s.Evidence {
		text += ", " + e.Name
	}
	return text
}

func treeRows(t *Tree) [][]string {
	rows := [][]string{{"entries", strconv.FormatInt(t.Entries, 10)}}
	var kinds []string
	for k := range t.Kinds {
		kinds = append(kinds, k)
	}
	sort.Strings(kinds)
	for _, k := range kinds {
		rows = append(rows, []string{k, strconv.FormatInt(t.Kinds[k], 10)})
	}
	return append(rows, []string{"bytes", strconv.FormatInt(t.Bytes, 10)})
}

func auditRows(a *Audit) [][]string {
	rows := [][]string{{"lines", strconv.FormatInt(a.Head.Count, 10)}}
	for _, l := range a.Lines {
		text := l.Time.Format(time.RFC3339) + " " + string(l.Event)
		for _, s := range []string{l.Transaction, l.PatchID, l.Reason} {
			if s != "" {
				text += " " + s
			}
		}
		rows = append(rows, []string{strconv.FormatInt(l.Seq, 10), text})
	}
	if a.TornBytes > 0 {
		rows = append(rows, []string{"torn", fmt.Sprintf("%d bytes of a line that was never finished", a.TornBytes)})
	}
	return rows
}

// flatten writes any document as rows: a.b[0].c and its value, in the order of
// the document's fields where it is one of relkit's own.
func flatten(doc any) [][]string {
	b, err := json.Marshal(doc)
	if err != nil {
		return [][]string{{"document", strconv.Quote(err.Error())}}
	}
	dec := json.NewDecoder(strings.NewReader(string(b)))
	dec.UseNumber()
	var rows [][]string
	flattenValue(dec, "", &rows)
	return rows
}

// flattenValue reads one value of a document that is known to be JSON.
func flattenValue(dec *json.Decoder, name string, rows *[][]string) {
	tok, err := dec.Token()
	if err != nil {
		return
	}
	switch tok {
	case json.Delim('{'):
		for dec.More() {
			key, err := dec.Token()
			if err != nil {
				return
			}
			sub := fmt.Sprint(key)
			if name != "" {
				sub = name + "." + sub
			}
			flattenValue(dec, sub, rows)
		}
		_, _ = dec.Token() // the closing brace of what is known to be whole
	case json.Delim('['):
		for i := 0; dec.More(); i++ {
			flattenValue(dec, fmt.Sprintf("%s[%d]", name, i), rows)
		}
		_, _ = dec.Token()
	case nil:
		*rows = append(*rows, []string{name, "null"})
	default:
		*rows = append(*rows, []string{name, fmt.Sprint(tok)})
	}
}
