package update

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/format/patch"
	"github.com/relkit/relkit/pkg/format/version"
)

// stands tells whether this very patch is applied and was not taken back: a
// chain that is given again goes on where it ended. A later patch that leads
// back to where this one begins has taken it back too.
func (a *applier) stands(p *patch.Reader) (bool, error) {
	all, err := a.target.State.Transactions()
	if err != nil || a.o.Repair {
		return false, err
	}
	from := p.Header().From
	stands := false
	for _, t := range all {
		if !t.Stands() {
			continue
		}
		begin := t.Find(journal.Begin)
		switch {
		case begin.Patch == p.ID() && t.Status() == journal.Withdrawn:
			return false, a.pendingError(t)
		case begin.Patch == p.ID():
			stands = true
		case from != nil && from.Version != "" && from.Version != p.Header().To.Version && begin.To != nil && begin.To.Version == from.Version:
			stands = false
		}
	}
	return stands, nil
}

// newest tells whether the patch at hand is the one applied last of those that stand.
func (a *applier) newest(p *patch.Reader) (bool, error) {
	all, err := a.target.State.Transactions()
	if err != nil {
		return false, err
	}
	for _, t := range slices.Backward(all) {
		if t.Stands() {
			return t.Find(journal.Begin).Patch == p.ID(), nil
		}
	}
	return false, nil
}

// ordered puts several patches into the order in which they can be applied. Of
// each only the head is read, once its sign-offs were found good. Those that
// stand come first: they are passed over.
func (a *applier) ordered(ctx context.Context, sources []Source) ([]Source, error) {
	if len(sources) < 2 || slices.ContainsFunc(sources, func(s Source) bool { return s.Once }) {
		return sources, nil
	}
	w, err := a.world()
	if err != nil {
		return nil, err
	}
	var first, rest []Source
	var headers []*patch.Header
	for _, s := range sources {
		h, stands, err := a.head(ctx, s)
		switch {
		case err != nil:
			return nil, fmt.Errorf("%s: %w", s.Name, err)
		case stands:
			first = append(first, s)
		default:
			rest, headers = append(rest, s), append(headers, h)
		}
	}
	indexes, err := order(w, headers, a.o.AllowDowngrade)
	if lacking := (*lacking)(nil); errors.As(err, &lacking) {
		err = a.missing(err, "what brings "+lacking.what)
	}
	if err != nil {
		return nil, a.refuse(err, journal.AuditLine{})
	}
	for _, i := range indexes {
		first = append(first, rest[i])
	}
	return first, nil
}

// head reads the header of a patch.
func (a *applier) head(ctx context.Context, s Source) (h *patch.Header, stands bool, err error) {
	f, err := s.Open(ctx)
	if err != nil {
		return nil, false, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	p, _, err := a.openPatch(f, s)
	if err != nil {
		return nil, false, err
	}
	stands, err = a.stands(p)
	return p.Header(), stands, err
}

// order finds an order in which all the patches can be applied to w: each when
// the version it leads from is installed, what it requires is there, and what it
// supersedes comes before it. Where several orders serve, patches that leave the
// version as it is come before those that change it, the smaller step before the
// larger, and then it is the order given.
func order(w *world, headers []*patch.Header, downgrade bool) ([]int, error) {
	if err := apart(headers); err != nil {
		return nil, err
	}
	o := &orderer{headers: headers, downgrade: downgrade, used: make([]bool, len(headers)), dead: map[string]bool{}, best: w}
	found, err := o.search(w)
	if err != nil {
		return nil, err
	}
	if found {
		return o.path, nil
	}
	if err := o.explain(w); err != nil {
		return nil, err
	}
	// It is no matter of order: a downgrade, say. Verification tells.
	return append(o.bestPath, o.unplaced...), nil
}

// apart refuses patches that exclude each other, in whatever order.
func apart(headers []*patch.Header) error {
	for _, a := range headers {
		conflicts, err := version.ParseExpr(a.Conflicts)
		if err != nil {
			return fmt.Errorf("reading conflicts of patch %s: %w", a.ID, err)
		}
		for _, b := range headers {
			if a != b && len(conflicts.Held(func(name string) (string, bool) { return "", name == b.ID })) > 0 {
				return failure.Errorf(failure.Refused, "the patches %s and %s conflict with each other", a.ID, b.ID)
			}
		}
	}
	return nil
}

// maxOrders bounds the search, in patches tried; a chain takes as many as it is long.
const maxOrders = 100_000

// orderer searches depth first, and never twice from the same patches applied.
type orderer struct {
	headers   []*patch.Header
	downgrade bool
	used      []bool
	path      []int
	dead      map[string]bool
	tried     int
	// best and unplaced are how far the search came at the furthest.
	best     *world
	bestPath []int
	unplaced []int
}

func (o *orderer) search(w *world) (bool, error) {
	left := o.left()
	if len(o.path) == 0 || len(left) < len(o.unplaced) {
		o.best, o.bestPath, o.unplaced = w, slices.Clone(o.path), left
	}
	if len(left) == 0 {
		return true, nil
	}
	key := fmt.Sprint(o.used, w.installed)
	if o.dead[key] {
		return false, nil
	}
	if o.tried++; o.tried > maxOrders {
		return false, failure.Errorf(failure.Refused, "no order found for %d patches: give them in several runs", len(o.headers))
	}
	fitting, err := o.fitting(w, left)
	if err != nil {
		return false, err
	}
	for _, i := range fitting {
		next := w.clone()
		if err := next.apply(o.headers[i]); err != nil {
			return false, err
		}
		o.used[i], o.path = true, append(o.path, i)
		if found, err := o.search(next); found || err != nil {
			return found, err
		}
		o.used[i], o.path = false, o.path[:len(o.path)-1]
	}
	o.dead[key] = true
	return false, nil
}

func (o *orderer) left() []int {
	var left []int
	for i := range o.headers {
		if !o.used[i] {
			left = append(left, i)
		}
	}
	return left
}

// fitting are the patches that can come next, the best first.
func (o *orderer) fitting(w *world, left []int) ([]int, error) {
	var all []int
	rank := map[int]int{}
	for _, i := range left {
		h := o.headers[i]
		unmet, err := w.unmet(h)
		if err != nil {
			return nil, err
		}
		if _, superseded := w.by[h.ID]; superseded || len(unmet) > 0 || !o.leadsOn(w, h) {
			continue
		}
		all = append(all, i)
		rank[i] = o.rank(w, h, left)
	}
	slices.SortStableFunc(all, func(i, j int) int {
		if rank[i] != rank[j] {
			return rank[i] - rank[j]
		}
		return version.Compare(o.headers[i].To.Version, o.headers[j].To.Version)
	})
	return all, nil
}

// leadsOn tells whether h begins at what is installed in w.
func (o *orderer) leadsOn(w *world, h *patch.Header) bool {
	is, to := w.installed, h.To.Version
	switch {
	case is.Product != "" && is.Product != h.Product:
		return false
	case is.Version == "" || to == "" || to == is.Version:
		return true // the files tell
	case h.From != nil && h.From.Version != "" && h.From.Version != is.Version:
		return false
	}
	return o.downgrade || version.Compare(to, is.Version) >= 0
}

// rank is 0 for a patch that stays at the version, 1 for one that leads on, and
// 2 for one that leads to where the machine is; 3 more where another one's tree
// is what it begins with.
func (o *orderer) rank(w *world, h *patch.Header, left []int) int {
	rank := 1
	if h.To.Version == w.installed.Version {
		rank = 0
		if h.From != nil && h.From.Version != "" && h.From.Version != h.To.Version {
			rank = 2
		}
	}
	for _, i := range left {
		if b := o.headers[i]; b != h && h.From != nil && h.From.Version == b.To.Version && b.To.Tree == h.From.Tree {
			return rank + 3
		}
	}
	return rank
}

// explain says why there is no order: what is missing, or the circle. It is nil
// where neither is the reason.
func (o *orderer) explain(w *world) error {
	for _, i := range o.unplaced {
		if lacks := o.lacks(i); lacks != "" {
			text := fmt.Sprintf("patch %s needs %s; given are %s; installed is %s", o.headers[i].ID, lacks, o.ids(), installedText(w))
			return failure.As(failure.Refused, &lacking{text, lacks})
		}
	}
	for _, i := range o.unplaced {
		if circle := o.circle(i); len(circle) > 0 {
			return failure.Errorf(failure.Refused, "the patches wait for each other: %s", strings.Join(circle, " needs "))
		}
	}
	return nil
}

func installedText(w *world) string {
	if w.installed.Version == "" {
		return "nothing that was written down"
	}
	return w.installed.Product + " " + w.installed.Version
}

func (o *orderer) ids() string {
	var ids []string
	for _, h := range o.headers {
		ids = append(ids, h.ID)
	}
	return strings.Join(ids, ", ")
}

// needs is what patch i lacks where the search came furthest: each in words, and
// the patches among those left that would bring it.
func (o *orderer) needs(i int) (words []string, from [][]int) {
	h := o.headers[i]
	is := o.best.installed
	if is.Product != "" && is.Product != h.Product {
		words, from = append(words, "the product "+h.Product), append(from, nil)
	}
	if is.Version != "" && h.From != nil && h.From.Version != "" && h.From.Version != is.Version && h.To.Version != is.Version {
		words = append(words, h.Product+" "+h.From.Version)
		from = append(from, o.bringing(i, func(b *patch.Header) bool { return b.Product == h.Product && b.To.Version == h.From.Version }))
	}
	unmet, _ := o.best.unmet(h) // read before without an error
	for _, t := range unmet {
		words = append(words, t.String())
		from = append(from, o.bringing(i, func(b *patch.Header) bool { return brings(b, t) }))
	}
	return words, from
}

func (o *orderer) bringing(i int, does func(*patch.Header) bool) []int {
	var all []int
	for _, j := range o.unplaced {
		if j != i && does(o.headers[j]) {
			all = append(all, j)
		}
	}
	return all
}

// brings tells whether t would hold once h is applied, as far as it is for h.
func brings(h *patch.Header, t version.Term) bool {
	w := &world{names: map[string]string{}, by: map[string]string{}, floors: map[string]string{}}
	if w.apply(h) != nil {
		return false
	}
	return len(version.Expr{t}.Held(w.lookup)) > 0
}

// lacks is what patch i needs and no other patch brings, "" for nothing.
func (o *orderer) lacks(i int) string {
	words, from := o.needs(i)
	for k := range words {
		if len(from[k]) == 0 {
			return words[k]
		}
	}
	return ""
}

// circle walks from need to need until a patch comes up again.
func (o *orderer) circle(start int) []string {
	var walk []int
	for i := start; ; {
		if k := slices.Index(walk, i); k >= 0 {
			var ids []string
			for _, j := range append(walk[k:], i) {
				ids = append(ids, o.headers[j].ID)
			}
			return ids
		}
		walk = append(walk, i)
		_, from := o.needs(i)
		if len(from) == 0 || len(from[0]) == 0 {
			return nil
		}
		i = from[0][0]
	}
}
