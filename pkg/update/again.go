package update

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"github.com/relkit/relkit/pkg/engine/state"
	"github.com/relkit/relkit/pkg/engine/transaction"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/format/patch"
	"github.com/relkit/relkit/pkg/format/signature"
	"github.com/relkit/relkit/pkg/format/strict"
)

// A patch that was taken back lies in its slots as it was staged. Given again it
// is decided about as ever, by its header and its sign-offs, of which a copy is
// kept for when the patch itself is no longer at hand; then its slots are
// verified by digest and committed again. Nothing is downloaded or unpacked.

// given is what is kept of a patch, as the file "patch" of its transaction.
type given struct {
	Schema string `json:"schema"`
	// Head is the patch up to where its payload is asked for.
	Head []byte `json:"head"`
	// Beside are sign-offs that were given beside the patch.
	Beside []besideDoc `json:"beside,omitempty"`
	// Named says that who may sign was named on the command line, or was another
	// machine's word: what this machine has in its own file says nothing of it.
	Named bool `json:"named,omitempty"`
}

type besideDoc struct {
	Name string `json:"name"`
	Doc  []byte `json:"doc"`
	Sig  []byte `json:"sig"`
}

const (
	givenSchema = "relkit.given/v1"
	maxGiven    = 256 << 20
)

// recorder keeps what is read through it until it is told to stop.
type recorder struct {
	r    io.Reader
	head []byte
	done bool
}

func (r *recorder) Read(b []byte) (int, error) {
	n, err := r.r.Read(b)
	if !r.done {
		r.head = append(r.head, b[:n]...)
	}
	return n, err
}

// stop returns what was read so far.
func (r *recorder) stop() []byte {
	r.done = true
	return r.head
}

// keepGiven keeps the head of the patch at hand with its transaction.
func (a *applier) keepGiven(t *state.Transaction) error {
	g := given{Schema: givenSchema, Head: a.opening, Named: a.o.SignersGiven || a.opt.Root != "/"}
	for _, d := range a.beside {
		g.Beside = append(g.Beside, besideDoc(d))
	}
	b, err := json.Marshal(&g)
	if err == nil {
		err = a.target.State.WriteGiven(t, b)
	}
	if err != nil {
		return fmt.Errorf("keeping the head of the patch: %w", err)
	}
	return nil
}

// keptSource is what is kept of a patch that was taken back, as a patch to apply:
// the one with that id, digest or transaction, or the one taken back last.
func (a *applier) keptSource(id string) (Source, error) {
	all, err := a.target.State.Transactions()
	if err != nil {
		return Source{}, err
	}
	last := lastTakenBack(all, id)
	if last == nil || !last.TakenBack() {
		return Source{}, a.notKept(last, id)
	}
	s, _, err := a.sourceOf(last)
	return s, err
}

// lastTakenBack is the transaction that was taken back last, and whose patch does not
// stand since; of those that id names, where it is not "", one that is kept comes
// before one that is not. nil for none.
func lastTakenBack(all []*state.Transaction, id string) (last *state.Transaction) {
	stands := map[digest.Digest]bool{}
	for _, t := range all {
		if t.Stands() {
			stands[t.Find(journal.Begin).Patch] = true
		}
	}
	later := func(t *state.Transaction) bool {
		if last == nil || id != "" && t.TakenBack() != last.TakenBack() {
			return last == nil || t.TakenBack()
		}
		return t.Find(journal.RolledBack).Seq > last.Find(journal.RolledBack).Seq
	}
	for _, t := range all {
		if t.Find(journal.RolledBack) == nil || stands[t.Find(journal.Begin).Patch] || id != "" && !names(t, id) {
			continue
		}
		if later(t) {
			last = t
		}
	}
	return last
}

// sourceOf is what is kept of a transaction's patch, as a patch of which only the
// head is there; named is given.Named.
func (m *machine) sourceOf(t *state.Transaction) (s Source, named bool, err error) {
	begin := t.Find(journal.Begin)
	var g given
	b, err := m.target.State.ReadGiven(t)
	if err == nil {
		err = strict.Decode(b, maxGiven, &g)
	}
	if err == nil && g.Schema != givenSchema {
		err = fmt.Errorf("schema %q, want %q", g.Schema, givenSchema)
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = failure.Errorf(failure.Refused, "its head is not kept: give the patch itself")
	}
	if err != nil {
		return s, false, fmt.Errorf("reading what is kept of patch %s: %w", begin.PatchID, err)
	}
	s = Source{Name: begin.PatchID, headOnly: true, Open: func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(g.Head)), nil
	}}
	for _, d := range g.Beside {
		s.Beside = append(s.Beside, signature.SignedDoc(d))
	}
	return s, g.Named, nil
}

// names tells whether a word names the transaction: the id or the digest of its
// patch, or its own number.
func names(t *state.Transaction, word string) bool {
	begin := t.Find(journal.Begin)
	return begin != nil && (begin.PatchID == word || begin.Patch.String() == word || t.ID == word)
}

// notKept says why there is nothing to apply again, and which patch would do it; last
// is what was taken back and is no longer kept, nil for nothing.
func (a *applier) notKept(last *state.Transaction, id string) error {
	list := "relkit patch-rollback" + a.opt.flags() + " --list  # lists what can be applied again"
	if last == nil && id == "" {
		return failure.WithHint(failure.Errorf(failure.Refused, "no patch was taken back"), "%s", list)
	}
	if last == nil {
		return failure.WithHint(failure.Errorf(failure.Refused, "patch %q was not taken back", id), "%s", list)
	}
	whole, err := a.target.State.Whole(last)
	if err != nil {
		return err
	}
	begin := whole.Find(journal.Begin)
	from := ""
	if begin.From != nil && begin.From.Version != "" {
		from = " from " + begin.From.Version
	}
	return failure.WithHint(failure.Errorf(failure.Refused, "patch %s was taken back, and what it brought is no longer kept: %s", begin.PatchID, whyFreed(whole)),
		"relkit patch-apply%s %s.rkp  # the patch itself: %s %s%s, digest %s", a.flags(), failure.Word(begin.PatchID), begin.To.Product, begin.To.Version, from, begin.Patch)
}

// whyFreed is why the slots of a transaction that was taken back are gone.
func whyFreed(t *state.Transaction) string {
	for _, r := range slices.Backward(t.Records) {
		switch {
		case r.Event == journal.Undone:
			return "it was tried again and did not stay"
		case r.Event == journal.Aborted || r.Event == journal.Freeing && r.Reason != "":
			return "it was given up: " + r.Reason
		case r.Event == journal.Rollback && len(r.Deviations)+len(r.Skip)+len(r.Saved) > 0, r.Event == journal.RolledBack && len(r.Kept) > 0:
			return "files were changed since it was applied, so it does not lie there as it was staged"
		}
	}
	return "a rollback that was cut off has freed it"
}

// takenBack is the transaction of this very patch that was taken back and can be
// committed again, boot where the next boot has to do that; nil where the patch is
// to be applied as a new one, as one at hand is where the plan cannot be read.
func (a *applier) takenBack(p *patch.Reader, headOnly bool) (t *state.Transaction, boot bool, err error) {
	if a.o.Stage || a.o.Repair || a.o.modifies() || !a.inWindow() {
		return nil, false, nil
	}
	if a.opt.DryRun && !headOnly {
		return nil, false, nil // its plan is told, and those that build on it are held against that
	}
	all, err := a.target.State.Transactions()
	if err != nil {
		return nil, false, err
	}
	for _, t := range slices.Backward(all) {
		if !t.TakenBack() || t.Find(journal.Begin).Patch != p.ID() {
			continue
		}
		touches := false
		if a.opt.Root == "/" && !a.o.AtBoot {
			touches, err = transaction.Touches(a.target, t, bootGlobs)
		}
		if err != nil && !headOnly {
			a.opt.Log.Info("what is kept of the patch cannot be used: it is unpacked anew", "err", err)
			return nil, false, nil
		}
		if err != nil {
			return nil, false, a.orPrune(err)
		}
		boot, err = a.commitsAtBoot(p.Header(), touches)
		return t, boot, err
	}
	return nil, false, nil
}

// commitsAtBoot tells whether what was taken back is to be committed at boot, where
// touches says that it changes what a machine boots with: see admitPlaces.
func (a *applier) commitsAtBoot(h *patch.Header, touches bool) (bool, error) {
	if a.o.AtBoot {
		return true, a.bootReady("it was asked for")
	}
	if a.opt.Root != "/" || !touches && h.Reboot != patch.RebootRequired {
		return false, nil
	}
	return true, a.bootReady("patch " + h.ID + " asks for it, or changes what the running system boots with")
}

// again commits what was taken back out of its slots, or has the next boot do so;
// nil where that is not whole any more, or the tree is not what it was staged for, and
// the patch itself is at hand.
func (a *applier) again(ctx context.Context, p *patch.Reader, t *state.Transaction, boot bool, s Source, r *Result) (*Result, error) {
	if err := a.allowMounts(); err != nil {
		return nil, err
	}
	tx, modified, err := transaction.Reopen(ctx, a.target, t, a.opt.Jobs)
	if err != nil && !s.headOnly && ctx.Err() == nil {
		a.opt.Log.Info("what is kept of the patch cannot be used: it is unpacked anew", "err", err)
		return nil, nil
	}
	if err != nil {
		return nil, a.orPrune(err)
	}
	if len(modified) > 0 && !s.headOnly {
		// It may be one that the patch goes round, as it does for a config file, and
		// what it is refused for has its hint there. Nothing was changed so far.
		return nil, nil
	}
	if err := listMismatches(modified); err != nil {
		return nil, failure.WithHint(err, "relkit patch-apply%s %s.rkp  # the patch itself: it looks at the tree anew", a.flags(), failure.Word(p.Header().ID))
	}
	r.Transaction, r.Deviations, r.Changes = t.ID, t.Find(journal.Begin).Deviations, tx.Changes()
	if a.opt.DryRun {
		r.Status = Planned
		return r, nil
	}
	r.atBoot = boot
	if r.Reboot = boot || p.Header().Reboot == patch.RebootRequired; boot {
		if err := a.keepGiven(t); err != nil { // with the sign-offs that count now
			return nil, err
		}
		return r, a.keep(tx, r, journal.Record{Boot: true, Reboot: true, Changes: r.Changes, Insecure: r.Insecure, Reason: a.waivedReason()})
	}
	tx.Insecure, tx.Reason = r.Insecure, a.waivedReason()
	return r, a.commit(ctx, tx, a.runnerOf(t), r)
}

// orPrune adds the hint that what is kept can be given up, for the patch itself.
func (a *applier) orPrune(err error) error {
	return failure.WithHint(err, "relkit patch-rollback%[1]s --prune  # gives up what is kept; then relkit patch-apply%[2]s PATCH", a.opt.flags(), a.flags())
}
