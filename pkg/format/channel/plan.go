package channel

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/version"
)

// Step is one patch to apply.
type Step struct {
	Artifact
	From string // "" for a full patch
	To   string
}

// Decision is what a machine is to do.
type Decision struct {
	// Target is the version that the steps lead to; "" where there is nothing to do.
	Target string
	Steps  []Step
	// Note says, for a person, why it is this and not more.
	Note string
}

// Options change how Plan decides.
type Options struct {
	// Force takes a release whatever share it has reached, and when the channel is paused.
	Force bool
}

// Plan decides what a machine with a version installed ("" where that is not
// known) gets at a time: the newest release that is meant for it and that can
// be reached, by the patches that weigh least. Both documents have been checked.
// The error is a failure.Refused: there is a release for it and no way there.
func Plan(r *Releases, s *Status, m Machine, installed string, now time.Time, opt Options) (Decision, error) {
	switch {
	case s.State == Halted:
		return Decision{Note: "the channel is halted"}, nil
	case s.State == Paused && !opt.Force:
		return Decision{Note: "the channel is paused"}, nil
	}
	var held []string
	var unreachable string
	for i := len(r.Releases) - 1; i >= 0; i-- {
		rel := &r.Releases[i]
		if installed != "" && version.Compare(rel.Version, installed) <= 0 {
			break
		}
		if why := r.holds(i, s, m, now, opt); why != "" {
			held = append(held, fmt.Sprintf("%s: %s", rel.Version, why))
			continue
		}
		if steps := r.path(m, installed, rel.Version); steps != nil {
			return Decision{Target: rel.Version, Steps: steps, Note: strings.Join(held, "; ")}, nil
		}
		if unreachable == "" {
			unreachable = rel.Version
		}
	}
	switch {
	case unreachable != "" && installed == "":
		return Decision{}, failure.Errorf(failure.Refused, "the installed version is not known, and release %q has no full patch for this machine", unreachable)
	case unreachable != "":
		return Decision{}, failure.Errorf(failure.Refused, "no patches lead from %q to %q, and there is no full patch for this machine", installed, unreachable)
	case len(held) > 0:
		return Decision{Note: strings.Join(held, "; ")}, nil
	case len(r.Releases) == 0:
		return Decision{Note: "the channel has no releases"}, nil
	}
	return Decision{Note: fmt.Sprintf("%s is installed, and nothing in the channel is newer", installed)}, nil
}

// holds tells why release i is not for m now; "" where it is.
func (r *Releases) holds(i int, s *Status, m Machine, now time.Time, opt Options) string {
	rel := &r.Releases[i]
	if r.Floor != "" && version.Compare(rel.Version, r.Floor) < 0 {
		return "it is below the security floor " + r.Floor
	}
	why, allowed := rel.Selector.selects(m)
	if why != "" || allowed || opt.Force {
		return why
	}
	share := ShareAt(rel.Rollout, now, s.Issued)
	if i == len(r.Releases)-1 {
		share = min(share, s.CapBasisPoints)
	}
	switch {
	case share >= WholeShare:
		return ""
	case m.Key == "":
		return fmt.Sprintf("it is out for %s of the machines, and this one has no machine id to draw a lot with", Percent(share))
	case !InShare(Bucket(ReleaseID(r.Product, rel.Version), m.Key), share):
		return fmt.Sprintf("it is out for %s of the machines, and this one is not among them yet", Percent(share))
	}
	return ""
}

// Percent writes a share in basis points as people do: "2.5 %".
func Percent(basisPoints int) string {
	s := fmt.Sprintf("%d.%02d", basisPoints/100, basisPoints%100)
	return strings.TrimSuffix(strings.TrimRight(s, "0"), ".") + " %"
}

// path is the steps from one version to another that weigh least, and of those
// the fewest; nil where there are none (Dijkstra's algorithm over versions).
func (r *Releases) path(m Machine, from, to string) []Step {
	g := r.graph(m, from)
	start, goal := g.index(from), g.index(to)
	best := make([]route, len(g.versions))
	best[start] = route{reached: true}
	for done := make([]bool, len(g.versions)); ; {
		at := -1
		for v := range best {
			if best[v].reached && !done[v] && (at < 0 || best[v].less(best[at])) {
				at = v
			}
		}
		if at < 0 {
			return nil
		}
		if at == goal {
			return g.walk(best, start, goal)
		}
		done[at] = true
		for _, e := range g.edges[at] {
			next := route{true, best[at].bytes + e.Size, best[at].hops + 1, at, e}
			if old := best[g.index(e.To)]; !old.reached || next.less(old) {
				best[g.index(e.To)] = next
			}
		}
	}
}

// route is the best way found so far to a version, and its last step.
type route struct {
	reached bool
	bytes   int64
	hops    int
	before  int
	step    Step
}

func (a route) less(b route) bool {
	return a.bytes < b.bytes || a.bytes == b.bytes && a.hops < b.hops
}

// graph is the versions, each of which stands for all spellings that compare
// equal ("" is before all), and the steps out of each.
type graph struct {
	versions []string
	edges    [][]Step
}

func (r *Releases) graph(m Machine, from string) *graph {
	g := &graph{versions: []string{from}}
	for _, rel := range r.Releases {
		g.versions = append(g.versions, rel.Version)
	}
	for _, p := range r.Patches {
		g.versions = append(g.versions, p.From)
	}
	slices.SortFunc(g.versions, compare)
	g.versions = slices.CompactFunc(g.versions, func(a, b string) bool { return compare(a, b) == 0 })
	g.edges = make([][]Step, len(g.versions))
	minBase := map[string]string{}
	for _, rel := range r.Releases {
		minBase[rel.Version] = rel.MinBase
		if rel.Full == nil || !matchesModel(rel.Full.Model, m.Models) {
			continue
		}
		for v, name := range g.versions {
			if compare(name, rel.Version) < 0 && (rel.MinBase == "" || name != "" && compare(name, rel.MinBase) >= 0) {
				g.edges[v] = append(g.edges[v], Step{*rel.Full, "", rel.Version})
			}
		}
	}
	for _, p := range r.Patches {
		if matchesModel(p.Model, m.Models) && compare(p.From, minBase[p.To]) >= 0 {
			v := g.index(p.From)
			g.edges[v] = append(g.edges[v], Step(p))
		}
	}
	return g
}

func (g *graph) index(v string) int {
	i, _ := slices.BinarySearchFunc(g.versions, v, compare)
	return i
}

func (g *graph) walk(best []route, start, goal int) []Step {
	steps := []Step{}
	for v := goal; v != start; v = best[v].before {
		steps = append(steps, best[v].step)
	}
	slices.Reverse(steps)
	return steps
}

// compare orders versions with "" (not known) before all.
func compare(a, b string) int {
	if a == "" || b == "" {
		return len(a) - len(b)
	}
	return version.Compare(a, b)
}
