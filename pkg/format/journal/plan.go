package journal

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/format/strict"
)

// PlanSchema is the schema field of a plan's first line.
const PlanSchema = "relkit.plan/v1"

// Action is what one step of a plan does. Every step is undone by itself.
type Action string

// The actions. SLOT is the step's name in the slot folder of its file system.
const (
	// Place renames SLOT to the path, which does not exist. Undo: the path to SLOT.
	Place Action = "place"
	// Swap exchanges SLOT and the path. Undo: the same.
	Swap Action = "swap"
	// Take renames the path to SLOT, which does not exist. Undo: SLOT to the path.
	Take Action = "take"
	// Meta gives a folder the metadata of New, if not nil. Undo: of Old, if not nil.
	// It stands after the other actions in a plan, deepest folders first, and is
	// done after them in both directions: what is renamed moves a folder's times.
	Meta Action = "meta"
)

// Step is one step of a plan.
type Step struct {
	Do Action
	// Top numbers the file system of the path, as in Plan.Tops.
	Top int
	// Old is what stands at the path before, New after; nil for nothing.
	// With Meta both are folders. Old is as the live tree had it.
	Old, New *manifest.Entry
	// OldInode and NewInode are the inode numbers of old and staged, 0 for none.
	OldInode, NewInode uint64
	// OldChange is Old's st_ctime, OldLinks its link count, when it was verified.
	OldChange manifest.Time
	OldLinks  uint64
}

// Path is the path the step is about.
func (s *Step) Path() string {
	if s.New != nil {
		return s.New.Path
	}
	return s.Old.Path
}

// Plan is all that a transaction will do, in order.
type Plan struct {
	// Tops tell of each file system whether it can exchange two names atomically.
	Tops  []PlanTop
	Steps []Step
}

// PlanTop is one file system of a plan.
type PlanTop struct {
	// Path of its top folder, relative to the target's root.
	Path     string
	Exchange bool
	// NoLinks says that the file system has no hard links.
	NoLinks bool
	// Renumbers says that inodes may get other numbers and change times without a
	// change: on vfat when they are forgotten, on overlayfs when they are copied up.
	Renumbers bool
	// Layers says that a folder may come from a lower layer, which no rename takes
	// from its place: overlayfs.
	Layers bool
}

type planHead struct {
	Schema string        `json:"schema"`
	Tops   []planHeadTop `json:"tops"`
	Steps  int           `json:"steps"`
}

type planHeadTop struct {
	Path      string `json:"path"`
	Exchange  bool   `json:"exchange"`
	NoLinks   bool   `json:"no_links,omitempty"`
	Renumbers bool   `json:"renumbers,omitempty"`
	Layers    bool   `json:"layers,omitempty"`
}

type stepLine struct {
	Do        Action   `json:"do"`
	Top       int      `json:"top"`
	Old       string   `json:"old,omitempty"`
	New       string   `json:"new,omitempty"`
	OldInode  uint64   `json:"old_inode,omitempty"`
	NewInode  uint64   `json:"new_inode,omitempty"`
	OldChange [2]int64 `json:"old_ctime"`
	OldLinks  uint64   `json:"old_links,omitempty"`
}

// WritePlan writes a plan: a JSON head line, then one JSON line a step in
// which entries stand as mtree(5) text. It is never in memory as a whole.
func WritePlan(to io.Writer, p *Plan) error {
	b := bufio.NewWriterSize(to, planBuffer)
	enc := json.NewEncoder(b)
	enc.SetEscapeHTML(false)
	head := planHead{Schema: PlanSchema, Tops: []planHeadTop{}, Steps: len(p.Steps)}
	for _, t := range p.Tops {
		line := planHeadTop(t)
		line.Path = manifest.Escape(t.Path)
		head.Tops = append(head.Tops, line)
	}
	if err := enc.Encode(&head); err != nil {
		return err
	}
	for i := range p.Steps {
		s := &p.Steps[i]
		line := stepLine{
			Do: s.Do, Top: s.Top, OldInode: s.OldInode, NewInode: s.NewInode,
			OldChange: [2]int64{s.OldChange.Sec, s.OldChange.Nsec}, OldLinks: s.OldLinks,
		}
		if s.Old != nil {
			line.Old = string(manifest.AppendEntry(nil, s.Old))
		}
		if s.New != nil {
			line.New = string(manifest.AppendEntry(nil, s.New))
		}
		if err := enc.Encode(&line); err != nil {
			return err
		}
	}
	return b.Flush()
}

// planBuffer is how much of a plan is read or written at a time, in bytes.
const planBuffer = 64 << 10

// ReadPlan reads what WritePlan writes. The reader's digest is held against the
// journal's before the plan is used, so any error means a damaged disk.
func ReadPlan(from io.Reader) (*Plan, error) {
	b := bufio.NewReaderSize(from, planBuffer)
	text, err := planLine(b)
	if err == io.EOF {
		return nil, fmt.Errorf("line 1: no head")
	}
	if err != nil {
		return nil, fmt.Errorf("line 1: %w", err)
	}
	if err := Newer(text, PlanSchema); err != nil {
		return nil, fmt.Errorf("line 1: %w", err)
	}
	var head planHead
	if err := strict.Decode(text, MaxLine, &head); err != nil {
		return nil, fmt.Errorf("line 1: %w", err)
	}
	if head.Schema != PlanSchema {
		return nil, fmt.Errorf("line 1: schema %q, want %q", head.Schema, PlanSchema)
	}
	p := new(Plan)
	for _, t := range head.Tops {
		path, err := manifest.Unescape(t.Path)
		if err != nil || !manifest.ValidPath(path) {
			return nil, fmt.Errorf("line 1: bad path %q", t.Path)
		}
		top := PlanTop(t)
		top.Path = path
		p.Tops = append(p.Tops, top)
	}
	for n := 2; ; n++ {
		text, err := planLine(b)
		if err == io.EOF {
			break
		}
		var s *Step
		if err == nil {
			s, err = parseStep(text, len(p.Tops))
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		p.Steps = append(p.Steps, *s)
	}
	if len(p.Steps) != head.Steps {
		return nil, fmt.Errorf("%d steps, want %d", len(p.Steps), head.Steps)
	}
	return p, nil
}

// planLine is the next line, without its end; io.EOF where there is none.
func planLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case err == nil:
			return line[:len(line)-1], nil
		case err == io.EOF && len(line) > 0:
			return nil, errors.New("no end")
		case err != bufio.ErrBufferFull:
			return nil, err
		case len(line) > MaxLine:
			return nil, fmt.Errorf("more than %d bytes", MaxLine)
		}
	}
}

func parseStep(text []byte, tops int) (*Step, error) {
	var l stepLine
	if err := strict.Decode(text, MaxLine, &l); err != nil {
		return nil, err
	}
	s := &Step{
		Do: l.Do, Top: l.Top, OldInode: l.OldInode, NewInode: l.NewInode,
		OldChange: manifest.Time{Sec: l.OldChange[0], Nsec: l.OldChange[1]}, OldLinks: l.OldLinks,
	}
	for _, side := range []struct {
		text string
		to   **manifest.Entry
	}{{l.Old, &s.Old}, {l.New, &s.New}} {
		if side.text == "" {
			continue
		}
		e, n, err := manifest.ParseEntry([]byte(side.text))
		if err != nil {
			return nil, err
		}
		if n != len(side.text) {
			return nil, fmt.Errorf("data after the entry of %q", e.Path)
		}
		*side.to = &e
	}
	return s, s.check(tops)
}

// check holds what every step must be for its action.
func (s *Step) check(tops int) error {
	if s.Top < 0 || s.Top >= tops {
		return fmt.Errorf("file system %d of %d", s.Top, tops)
	}
	if s.Old == nil && s.New == nil {
		return fmt.Errorf("step about nothing")
	}
	if s.Old != nil && s.New != nil && s.Old.Path != s.New.Path {
		return fmt.Errorf("step about both %q and %q", s.Old.Path, s.New.Path)
	}
	switch s.Do {
	case Place:
		if s.Old != nil {
			return fmt.Errorf("place with something there")
		}
	case Take:
		if s.New != nil {
			return fmt.Errorf("take with something new")
		}
	case Swap:
		if s.Old == nil || s.New == nil {
			return fmt.Errorf("swap with one side")
		}
	case Meta:
		for _, e := range []*manifest.Entry{s.Old, s.New} {
			if e != nil && e.Kind != manifest.Dir {
				return fmt.Errorf("metadata of %q, which is no folder", e.Path)
			}
		}
	default:
		return fmt.Errorf("unknown action %q", s.Do)
	}
	return nil
}
