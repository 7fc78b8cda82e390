package update

import (
	"fmt"
	"maps"
	"strings"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/format/patch"
	"github.com/relkit/relkit/pkg/format/version"
)

// world is what requires and conflicts are held against: what is installed, or
// will be once the patches before the one at hand are.
type world struct {
	installed journal.Version
	// names are the product, the ids of applied patches, what those supersede and
	// provide, and what the machine provides, each with its version, "" for none.
	names map[string]string
	// by maps a superseded patch to the one that has taken its place.
	by map[string]string
	// floors are the oldest versions that may be installed, by product.
	floors map[string]string
}

// world is the machine as it is.
func (m *machine) world() (*world, error) {
	installed, err := m.target.State.Version()
	if err != nil {
		return nil, err
	}
	all, err := m.target.State.Transactions()
	if err != nil {
		return nil, err
	}
	c, _, err := m.readMachine()
	if err != nil {
		return nil, err
	}
	w := &world{installed: installed, names: map[string]string{}, by: map[string]string{}, floors: m.floors(all)}
	if err := w.provide(strings.Join(c.Provides, ", ")); err != nil {
		return nil, err
	}
	for _, t := range all {
		b := t.Find(journal.Begin)
		if b == nil || !t.Stands() {
			continue
		}
		if err := w.add(b.PatchID, b.Supersedes, b.Provides); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// worldNow is the machine as it is, with what this run found already there, and
// with what a dry run would have applied by now.
func (a *applier) worldNow() (*world, error) {
	w, err := a.world()
	for _, h := range a.found {
		if err == nil {
			err = w.add(h.ID, h.Supersedes, h.Provides)
		}
	}
	for _, h := range a.planned.headers {
		if err == nil {
			err = w.apply(h)
		}
	}
	return w, err
}

func (w *world) clone() *world {
	c := *w
	c.names, c.by, c.floors = maps.Clone(w.names), maps.Clone(w.by), maps.Clone(w.floors)
	return &c
}

// apply makes it the world once h is applied.
func (w *world) apply(h *patch.Header) error {
	w.installed = journal.Version{Product: h.Product, Version: h.To.Version}
	raise(w.floors, h.Product, h.Floor)
	return w.add(h.ID, h.Supersedes, h.Provides)
}

func (w *world) add(id string, supersedes []string, provides string) error {
	w.names[id] = ""
	for _, s := range supersedes {
		w.names[s], w.by[s] = "", id
	}
	return w.provide(provides)
}

func (w *world) provide(text string) error {
	provides, err := version.ParseProvides(text)
	for _, t := range provides {
		w.names[t.Name] = t.Version
	}
	return err
}

// lookup tells the version of a name, and whether it is there.
func (w *world) lookup(name string) (string, bool) {
	if name == w.installed.Product && name != "" {
		return w.installed.Version, true
	}
	v, ok := w.names[name]
	return v, ok
}

// based is the world as h takes it: where nobody wrote down what is installed it
// is the base of h, which the files' digests will confirm or not.
func (w *world) based(h *patch.Header) *world {
	if w.installed != (journal.Version{}) || h.From == nil {
		return w
	}
	c := *w
	c.installed = journal.Version{Product: h.Product, Version: h.From.Version}
	return &c
}

// unmet is what h requires and is not there.
func (w *world) unmet(h *patch.Header) (version.Expr, error) {
	requires, err := version.ParseExpr(h.Requires)
	if err != nil {
		return nil, fmt.Errorf("reading requires of patch %s: %w", h.ID, err)
	}
	return requires.Unmet(w.based(h).lookup), nil
}

// lacking is the error that something is not there which another patch may bring.
type lacking struct{ text, what string }

func (l *lacking) Error() string { return l.text }

// admitDependencies evaluates requires and conflicts.
func (w *world) admitDependencies(h *patch.Header) error {
	unmet, err := w.unmet(h)
	if err != nil {
		return err
	}
	if len(unmet) > 0 {
		return failure.As(failure.Refused, &lacking{fmt.Sprintf("patch %s requires %s", h.ID, unmet), unmet.String()})
	}
	conflicts, err := version.ParseExpr(h.Conflicts)
	if err != nil {
		return fmt.Errorf("reading conflicts of patch %s: %w", h.ID, err)
	}
	if held := conflicts.Held(w.based(h).lookup); len(held) > 0 {
		return failure.Errorf(failure.Refused, "patch %s conflicts with %s", h.ID, version.Expr(held))
	}
	return nil
}

// superseded are the patches that are applied and that h takes the place of.
func (w *world) superseded(h *patch.Header) []string {
	var ids []string
	for _, id := range h.Supersedes {
		if _, there := w.names[id]; there {
			ids = append(ids, id)
		}
	}
	return ids
}
