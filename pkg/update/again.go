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
	var found *state.Transaction
	for _, t := range all {
		if !t.TakenBack() || id != "" && !names(t, id) {
			continue
		}
		if found == nil || t.Find(journal.RolledBack).Seq > found.Find(journal.RolledBack).Seq {
			found = t
		}
	}
	hint := "relkit patch-rollback" + a.opt.flags() + " --list  # lists what can be applied again"
	switch {
	case found == nil && id == "":
		return Source{}, failure.WithHint(failure.Errorf(failure.Refused, "no patch was taken back and is still kept"), "%s", hint)
	case found == nil:
		return Source{}, failure.WithHint(failure.Errorf(failure.Refused, "patch %q was not taken back, or is no longer kept", id), "%s", hint)
	}
	s, _, err := a.sourceOf(found)
	return s, err
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

// takenBack is the transaction of this very patch that was taken back and can be
// committed again at once; nil where it is to be applied as a new one.
func (a *applier) takenBack(p *patch.Reader) (*state.Transaction, error) {
	all, err := a.target.State.Transactions()
	if err != nil {
		return nil, err
	}
	for _, t := range slices.Backward(all) {
		if !t.TakenBack() || t.Find(journal.Begin).Patch != p.ID() {
			continue
		}
		atBoot, err := a.commitsAtBoot(p.Header(), t)
		if err != nil || atBoot || a.o.Stage || a.o.Repair || a.o.modifies() || !a.inWindow() {
			return nil, err
		}
		return t, nil
	}
	return nil, nil
}

// commitsAtBoot tells whether what a transaction brings is committed at boot.
func (a *applier) commitsAtBoot(h *patch.Header, t *state.Transaction) (bool, error) {
	if ready := t.Find(journal.Ready); a.o.AtBoot || ready != nil && ready.Boot {
		return true, nil
	}
	if a.opt.Root != "/" {
		return false, nil
	}
	touches, err := transaction.Touches(a.target, t, bootGlobs)
	return touches || h.Reboot == patch.RebootRequired, err
}

// again commits what was taken back out of its slots.
func (a *applier) again(ctx context.Context, p *patch.Reader, t *state.Transaction, r *Result) (*Result, error) {
	if err := a.allowMounts(); err != nil {
		return nil, err
	}
	tx, modified, err := transaction.Reopen(ctx, a.target, t, a.opt.Jobs)
	if err != nil {
		return nil, failure.WithHint(err, "relkit patch-rollback%[1]s --prune  # gives up what is kept; then relkit patch-apply%[1]s PATCH", a.opt.flags())
	}
	if err := listMismatches(modified); err != nil {
		return nil, err
	}
	r.Transaction, r.Deviations, r.Changes = t.ID, t.Find(journal.Begin).Deviations, tx.Changes()
	if a.opt.DryRun {
		r.Status = Planned
		return r, nil
	}
	run := a.runnerOf(t)
	r.Reboot = p.Header().Reboot == patch.RebootRequired
	return r, a.commit(ctx, tx, run, r)
}
