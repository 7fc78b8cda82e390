package patchmake

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/relkit/relkit/pkg/config"
	"github.com/relkit/relkit/pkg/engine/transaction"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/glob"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/sys/tree"
)

// Product says what of a tree its product manages: a product file.
type Product struct {
	Product string `toml:"product"`
	// Managed are globs of what belongs to the product; none means everything.
	Managed []string `toml:"managed"`
	// Never are globs of what stays out whatever Managed says.
	Never []string `toml:"never"`
}

// DecodeProduct reads a product file, called name in errors.
func DecodeProduct(name string, data []byte) (Product, error) {
	var p Product
	return p, config.Decode(name, data, &p)
}

// scope is a product's globs, ready to match; a nil managed means everything.
type scope struct {
	managed, never glob.Set
	// unfilled are files that a full patch leaves out where they are empty.
	unfilled glob.Set
	// left are the names that were left out, without those below them.
	left map[string]bool
}

func (p *Product) scope() (*scope, error) {
	managed, err := glob.ParseSet(p.Managed)
	if err != nil {
		return nil, failure.As(failure.Usage, fmt.Errorf("managed: %w", err))
	}
	never, err := glob.ParseSet(p.Never)
	if err != nil {
		return nil, failure.As(failure.Usage, fmt.Errorf("never: %w", err))
	}
	return &scope{managed: managed, never: never, left: map[string]bool{}}, nil
}

// skip leaves out what a walk need not even look at.
func (s *scope) skip(path string, _ manifest.Kind) bool {
	if !s.never.Covers(path) {
		return false
	}
	s.left[path] = true
	return true
}

// leftOut lists what was left out, for a person.
func (s *scope) leftOut() string {
	const most = 5
	paths := slices.SortedFunc(maps.Keys(s.left), manifest.Compare)
	rest := len(paths) - most
	for i := range paths {
		paths[i] = manifest.Escape(paths[i])
	}
	text := strings.Join(paths[:min(len(paths), most)], ", ")
	if rest > 0 {
		text += fmt.Sprintf(" and %d more", rest)
	}
	return text
}

// own are the places of relkit itself, which no patch touches.
var own = []string{tree.Slots, tree.DefaultState}

// filter keeps what is managed and the folders above it, less what is never to
// be kept, and of a full patch a machine id that is empty, for the machine to fill
// in: put over one that is filled it would make the machine another. A hard-link group of which one name is left is none any more; the
// groups are numbered again.
func (s *scope) filter(all []manifest.Entry) []manifest.Entry {
	keep := map[string]bool{".": true}
	names := map[int]int{}
	for i := range all {
		path := all[i].Path
		if s.leavesOut(path) || all[i].Kind == manifest.File && all[i].Size == 0 && s.unfilled.Match(path) {
			continue
		}
		names[all[i].Link]++
		for ; !keep[path]; path = manifest.Parent(path) {
			keep[path] = true
		}
	}
	links := renumber{}
	var kept []manifest.Entry
	for i := range all {
		e := all[i]
		if !keep[e.Path] {
			if keep[manifest.Parent(e.Path)] {
				s.left[e.Path] = true
			}
			continue
		}
		if names[e.Link] < 2 {
			e.Link = 0
		}
		kept = append(kept, *links.of(&e))
	}
	return kept
}

// asides are what names end in that relkit gives to what it puts beside a file.
var asides = []string{transaction.NewSuffix, transaction.SavedSuffix, transaction.OldSuffix}

func (s *scope) leavesOut(path string) bool {
	if slices.ContainsFunc(asides, func(suffix string) bool { return strings.HasSuffix(path, suffix) }) {
		return true
	}
	for _, o := range own {
		if path == o || strings.HasPrefix(path, o+"/") {
			return true
		}
	}
	return s.never.Covers(path) || len(s.managed) > 0 && !s.managed.Covers(path)
}
