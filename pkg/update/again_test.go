package update

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/format/patch"
)

// emptyPatch is a patch that changes nothing, read to where its payload begins.
func emptyPatch(t *testing.T) *patch.Reader {
	t.Helper()
	h := patch.Header{
		ID: "p", Created: now, Product: "fw", From: &patch.Side{Version: "4.1", Tree: digest.Of([]byte("4.1"))},
		To: patch.Side{Version: "4.2", Tree: digest.Of([]byte("4.2"))}, Reboot: patch.RebootNone,
	}
	var b bytes.Buffer
	s, err := patch.Seal(h, nil, &patch.Entries{}, patch.NewPayload(io.Discard))
	if err == nil {
		err = s.Write(&b, nil, strings.NewReader(""))
	}
	if err != nil {
		t.Fatal(err)
	}
	p, err := patch.Open(&b)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestAgainWithoutPlan: on the running system, where the plan says whether the next
// boot has to commit it, what was taken back and has a plan that cannot be read is not
// kept for who has the patch itself; who has not is told how to give it up.
func TestAgainWithoutPlan(t *testing.T) {
	a := newApplier(t)
	p := emptyPatch(t)
	j, err := a.target.State.Begin(journal.Record{PatchID: p.Header().ID, Patch: p.ID()})
	if err != nil {
		t.Fatal(err)
	}
	wrong := digest.Of([]byte("another plan"))
	for _, r := range []journal.Record{
		{Event: journal.Staged, Plan: wrong}, {Event: journal.Committing}, {Event: journal.Committed}, {Event: journal.Applied},
		{Event: journal.Rollback}, {Event: journal.RolledBack},
	} {
		if err := a.target.State.Append(j, r); err != nil {
			t.Fatal(err)
		}
	}
	if found, _, err := a.takenBack(p, false); err != nil || found != nil {
		t.Errorf("with the patch at hand: %v, %v", found, err)
	}
	_, _, err = a.takenBack(p, true)
	if err == nil || !strings.Contains(err.Error(), "reading the plan of transaction") || !strings.Contains(failure.Hint(err), "--prune") {
		t.Errorf("without: %v, hint %q", err, failure.Hint(err))
	}
}
