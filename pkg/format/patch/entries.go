package patch

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/manifest"
)

// entriesMagic is the first line of the entries, unpacked.
const entriesMagic = "#relkit-entries v1"

// The fields that may end the line of a new file: content, with holes or without,
// or base.
const (
	contentField = " content="
	holesField   = " holes="
	baseField    = " base="
)

// Entries is what a patch changes.
type Entries struct {
	// Bases are the old files whose bytes the patch uses, by rising ordinal;
	// the numbers may have gaps.
	Bases []Base
	// Changes are in the order of manifest.Compare, one a path.
	Changes []Change
}

// Base is a file of the old tree that content is copied from. It may be a file
// that the patch does not change.
type Base struct {
	Ordinal int
	Path    string
	Size    int64
	Digest  digest.Digest
}

// Change is what happens to one path: New alone creates, Old alone deletes,
// both replace or only change metadata. A name of a hard-link group may stand
// here with Old and New alike, since a group is always listed whole.
//
// The bytes of a new file of more than no bytes come from exactly one place:
// Content where it is not -1, else Base where it is not -1, else the file that
// Old describes, whose size and digest are then the same.
type Change struct {
	Old, New *manifest.Entry
	// Content is the offset in the output of all segments; -1 for none. Files
	// with the same content share an offset.
	Content int64
	// Holes is how many bytes of Content are in long runs of zeros, of which
	// staging makes holes: they need no room. 0 is the safe answer.
	Holes int64
	// Base is the ordinal of the old file that is copied whole; -1 for none.
	Base int
}

// Path is the path that changes.
func (c *Change) Path() string {
	if c.New != nil {
		return c.New.Path
	}
	return c.Old.Path
}

// Base finds a base by its ordinal.
func (e *Entries) Base(ordinal int) (Base, bool) {
	i, ok := slices.BinarySearchFunc(e.Bases, ordinal, func(b Base, n int) int { return cmp.Compare(b.Ordinal, n) })
	if !ok {
		return Base{}, false
	}
	return e.Bases[i], true
}

// Content is a range of the segments' output and the files made from it.
type Content struct {
	Offset, Size int64
	Digest       digest.Digest
	// Changes are indexes into Entries.Changes.
	Changes []int
}

// Contents lists what the payload carries by rising offset. The ranges of a
// patch that has been read follow each other without a gap, from 0 to
// Sizes.NewBytes.
func (e *Entries) Contents() []Content {
	var all []Content
	at := map[int64]int{}
	for i := range e.Changes {
		c := &e.Changes[i]
		if c.Content < 0 {
			continue
		}
		k, ok := at[c.Content]
		if !ok {
			k = len(all)
			at[c.Content] = k
			all = append(all, Content{Offset: c.Content, Size: c.New.Size, Digest: c.New.Digest})
		}
		all[k].Changes = append(all[k].Changes, i)
	}
	slices.SortFunc(all, func(a, b Content) int { return cmp.Compare(a.Offset, b.Offset) })
	return all
}

// Encode writes the entries as the text that goes, packed, into the member.
func (e *Entries) Encode() ([]byte, error) {
	check := newEntryCheck()
	b := []byte(entriesMagic + "\n")
	for i := range e.Bases {
		if err := check.base(&e.Bases[i]); err != nil {
			return nil, err
		}
		b = appendBase(b, &e.Bases[i])
	}
	var lines []byte
	for i := range e.Changes {
		c := &e.Changes[i]
		if err := check.change(c); err != nil {
			return nil, err
		}
		if c.Old != nil {
			lines = manifest.AppendEntry(lines[:0], c.Old)
			b = appendSigned(b, '-', lines)
		}
		if c.New != nil {
			lines = manifest.AppendEntry(lines[:0], c.New)
			b = appendSigned(b, '+', lines)
			b = appendSource(b, c)
		}
	}
	return b, check.end()
}

// appendBase writes: base ORDINAL ./PATH size=N sha256digest=HEX
func appendBase(b []byte, base *Base) []byte {
	b = append(b, "base "...)
	b = strconv.AppendInt(b, int64(base.Ordinal), 10)
	b = append(b, " ./"...)
	b = append(b, manifest.Escape(base.Path)...)
	b = append(b, " size="...)
	b = strconv.AppendInt(b, base.Size, 10)
	b = append(b, " sha256digest="...)
	b = append(b, base.Digest.Hex()...)
	return append(b, '\n')
}

// appendSigned puts sign before each of the lines.
func appendSigned(b []byte, sign byte, lines []byte) []byte {
	start := true
	for _, c := range lines {
		if start {
			b = append(b, sign)
		}
		b = append(b, c)
		start = c == '\n'
	}
	return b
}

// appendSource adds the field that ends a new file's line, before its newline.
func appendSource(b []byte, c *Change) []byte {
	switch {
	case c.Content >= 0:
		b = strconv.AppendInt(append(b[:len(b)-1], contentField...), c.Content, 10)
		if c.Holes > 0 {
			b = strconv.AppendInt(append(b, holesField...), c.Holes, 10)
		}
	case c.Base >= 0:
		b = strconv.AppendInt(append(b[:len(b)-1], baseField...), int64(c.Base), 10)
	default:
		return b
	}
	return append(b, '\n')
}

// entryCheck holds what entries must be among each other; it serves writer and reader.
type entryCheck struct {
	bases   map[int]Base
	byPath  map[string]Base
	ordinal int // of the last base
	last    string
	// shut is the last path that is no folder afterwards; what is below it comes right after it.
	shut     string
	old, new groups
	contents []Content // without Changes
}

func newEntryCheck() *entryCheck {
	return &entryCheck{bases: map[int]Base{}, byPath: map[string]Base{}, ordinal: -1}
}

func (k *entryCheck) base(b *Base) error {
	switch {
	case b.Ordinal <= k.ordinal:
		return fmt.Errorf("base %d does not follow %d", b.Ordinal, k.ordinal)
	case !manifest.ValidPath(b.Path) || b.Path == ".":
		return fmt.Errorf("base %d: bad path %q", b.Ordinal, b.Path)
	case b.Size <= 0 || b.Digest.IsZero():
		return fmt.Errorf("base %q: a file needs a size and a digest", b.Path)
	}
	if _, twice := k.byPath[b.Path]; twice {
		return fmt.Errorf("base %q stands twice", b.Path)
	}
	k.ordinal = b.Ordinal
	k.bases[b.Ordinal], k.byPath[b.Path] = *b, *b
	return nil
}

func (k *entryCheck) change(c *Change) error {
	if c.Old == nil && c.New == nil {
		return errors.New("change of nothing")
	}
	path := c.Path()
	if k.last != "" && manifest.Compare(k.last, path) >= 0 {
		return fmt.Errorf("entry %q is not after %q", path, k.last)
	}
	k.last = path
	if below := k.shut != "" && strings.HasPrefix(path, k.shut+"/"); below && c.New != nil {
		return fmt.Errorf("entry %q: %q is no folder afterwards", path, k.shut)
	} else if !below {
		k.shut = ""
		if c.New == nil || c.New.Kind != manifest.Dir {
			k.shut = path
		}
	}
	for _, e := range []*manifest.Entry{c.Old, c.New} {
		if e == nil {
			continue
		}
		if e.Path != path {
			return fmt.Errorf("entry %q: its old side is %q", path, c.Old.Path)
		}
		if err := e.Validate(); err != nil {
			return err
		}
	}
	if path == "." && c.New == nil {
		return errors.New("entry \".\": the top of a tree is never deleted")
	}
	if c.Old != nil && c.New != nil && c.Old.Link == 0 && c.Old.Equal(c.New) {
		return fmt.Errorf("entry %q: no change", path)
	}
	if b, ok := k.byPath[path]; ok && (c.Old == nil || c.Old.Digest != b.Digest || c.Old.Size != b.Size) {
		return fmt.Errorf("entry %q: its old side is not the base of that path", path)
	}
	if err := k.source(c); err != nil {
		return fmt.Errorf("entry %q: %w", path, err)
	}
	if err := k.old.add(c.Old); err != nil {
		return fmt.Errorf("old %w", err)
	}
	if err := k.new.add(c.New); err != nil {
		return fmt.Errorf("new %w", err)
	}
	return nil
}

// source holds that the bytes of a new file come from one place that can have them.
func (k *entryCheck) source(c *Change) error {
	needs := c.New != nil && c.New.Kind == manifest.File && c.New.Size > 0
	switch {
	case c.Content < -1 || c.Base < -1 || c.Content >= 0 && c.Base >= 0:
		return fmt.Errorf("bad content %d and base %d", c.Content, c.Base)
	case c.Holes < 0 || c.Holes > 0 && (c.Content < 0 || c.Holes > c.New.Size):
		return fmt.Errorf("bad holes %d", c.Holes)
	case !needs && (c.Content >= 0 || c.Base >= 0):
		return errors.New("content for what has none")
	case !needs:
		return nil
	case c.Content >= 0:
		if c.Content+c.New.Size < c.Content {
			return fmt.Errorf("bad content %d", c.Content)
		}
		k.contents = append(k.contents, Content{Offset: c.Content, Size: c.New.Size, Digest: c.New.Digest})
		return nil
	case c.Base >= 0:
		b, ok := k.bases[c.Base]
		if !ok || b.Size != c.New.Size || b.Digest != c.New.Digest {
			return fmt.Errorf("base %d is not a file of the same size and digest", c.Base)
		}
		return nil
	case c.Old == nil || c.Old.Kind != manifest.File || c.Old.Size != c.New.Size || c.Old.Digest != c.New.Digest:
		return errors.New("no content")
	}
	return nil
}

// end checks what only shows when all is there.
func (k *entryCheck) end() error {
	if err := k.old.end(); err != nil {
		return fmt.Errorf("old %w", err)
	}
	if err := k.new.end(); err != nil {
		return fmt.Errorf("new %w", err)
	}
	_, err := k.output()
	return err
}

// output is the length of the stream that contents point into: the ranges are
// the same or follow each other without a gap.
func (k *entryCheck) output() (int64, error) {
	slices.SortFunc(k.contents, func(a, b Content) int { return cmp.Compare(a.Offset, b.Offset) })
	var end int64
	for i, c := range k.contents {
		if i > 0 && k.contents[i-1].Offset == c.Offset {
			if p := k.contents[i-1]; p.Size != c.Size || p.Digest != c.Digest {
				return 0, fmt.Errorf("content %d: two files that differ", c.Offset)
			}
			continue
		}
		if c.Offset != end {
			return 0, fmt.Errorf("content %d: the one before ends at %d", c.Offset, end)
		}
		end += c.Size
	}
	return end, nil
}

// groups holds that hard-link groups are numbered as they appear, agree in all
// but the path, and are not of one name.
type groups struct {
	first []manifest.Entry
	names []int
}

func (g *groups) add(e *manifest.Entry) error {
	switch {
	case e == nil || e.Link == 0:
		return nil
	case e.Link == len(g.first)+1:
		g.first = append(g.first, *e)
		g.names = append(g.names, 1)
		return nil
	case e.Link > len(g.first):
		return fmt.Errorf("entry %q: hard-link group %d, want at most %d", e.Path, e.Link, len(g.first)+1)
	}
	same := *e
	same.Path = g.first[e.Link-1].Path
	if !same.Equal(&g.first[e.Link-1]) {
		return fmt.Errorf("entry %q differs from %q, the first name of its hard-link group", e.Path, same.Path)
	}
	g.names[e.Link-1]++
	return nil
}

func (g *groups) end() error {
	for i, n := range g.names {
		if n < 2 {
			return fmt.Errorf("entry %q is alone in its hard-link group", g.first[i].Path)
		}
	}
	return nil
}
