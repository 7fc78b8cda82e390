package update

import (
	"path"
	"slices"

	"github.com/relkit/relkit/pkg/engine/transaction"
	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/format/patch"
)

// planned are the patches that a dry run of several would have applied by now:
// the tree is not as they would leave it, so what they touch is taken to be as
// the next one wants it, which is what the chain of versions says.
type planned struct {
	headers []*patch.Header
	paths   map[string]bool
}

func (p *planned) add(h *patch.Header, entries *patch.Entries) {
	if p.paths == nil {
		p.paths = map[string]bool{}
	}
	p.headers = append(p.headers, h)
	for i := range entries.Changes {
		p.paths[entries.Changes[i].Path()] = true
	}
}

// touched tells whether one of the patches changes name, or a folder above it:
// what is below that is not there yet, or still.
func (p *planned) touched(name string) bool {
	for ; name != "." && name != "/"; name = path.Dir(name) {
		if p.paths[name] {
			return true
		}
	}
	return p.paths["."]
}

// touches tells whether the next patch changes or reads what one of them touches.
func (p *planned) touches(next *patch.Entries) bool {
	return slices.ContainsFunc(next.Changes, func(c patch.Change) bool { return p.touched(c.Path()) }) ||
		slices.ContainsFunc(next.Bases, func(b patch.Base) bool { return p.touched(b.Path) })
}

// planOn is a dry run's plan of a patch that builds on one before it: what was
// changed elsewhere on the machine refuses it as ever, the rest is told as the
// patch has it. Where it would find no room, and which places could not be
// changed, only the tree that it comes to can say.
func (a *applier) planOn(r *Result, p *patch.Reader, entries *patch.Entries, s *transaction.Survey) (*Result, error) {
	s.Mismatches = slices.DeleteFunc(s.Mismatches, func(m transaction.Mismatch) bool { return a.planned.touched(m.Path) })
	if err := a.mismatchError(s); err != nil {
		return nil, err
	}
	s.Deviations = slices.DeleteFunc(s.Deviations, func(d journal.Deviation) bool {
		name, err := manifest.Unescape(d.Path)
		return err == nil && a.planned.touched(name)
	})
	s.Replaced = slices.DeleteFunc(s.Replaced, a.planned.touched)
	a.tell(r, s)
	r.Status, r.Changes = Planned, len(entries.Changes)
	r.atBoot = a.o.AtBoot || a.opt.Root == "/" && p.Header().Reboot == patch.RebootRequired
	stays := map[string]journal.Deviation{}
	for _, d := range s.Deviations {
		stays[d.Path] = d
	}
	for i := range entries.Changes {
		c := &entries.Changes[i]
		if d, ok := stays[manifest.Escape(c.Path())]; ok {
			r.Plan = append(r.Plan, "keep "+d.Path+" ("+d.Why()+")")
			continue
		}
		r.Plan = append(r.Plan, transaction.DescribeChange(c))
	}
	a.planned.add(p.Header(), entries)
	return r, p.Verify()
}
