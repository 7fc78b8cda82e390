package transaction

import (
	"fmt"

	"github.com/relkit/relkit/pkg/engine/state"
	"github.com/relkit/relkit/pkg/format/journal"
)

// Recovered is what was done about one interrupted transaction.
type Recovered struct {
	ID string
	// Found is the state it was found in; Now the state it is in.
	Found, Now journal.Event
	// Begin is its first record, nil where nothing was recorded.
	Begin *journal.Record
}

// Recover finishes or undoes whatever an interrupted run left, newest first,
// and makes version.json and the audit log follow the journals. A transaction
// that was not yet applied is undone; a rollback that had begun is completed.
// A failure.Mixed says that a tree could not be brought back, an Unsettled that all
// is done but to tell of it.
func Recover(t Target) ([]Recovered, error) {
	all, err := t.State.Transactions()
	if err != nil {
		return nil, err
	}
	var done []Recovered
	for i := len(all) - 1; i >= 0; i-- {
		j := all[i]
		if j.Closed() || j.Pending() {
			continue
		}
		found := j.Status()
		if err := recoverOne(t, j); err != nil {
			return done, fmt.Errorf("recovering transaction %s (%s): %w", j.ID, found, err)
		}
		done = append(done, Recovered{ID: j.ID, Found: found, Now: j.Status(), Begin: j.Find(journal.Begin)})
	}
	if err := t.State.Settle(); err != nil {
		return done, &Unsettled{err}
	}
	return done, nil
}

// Unsettled is that the trees are as the journals say, and that version.json or the
// audit log cannot be made to say so: the disk is full, say.
type Unsettled struct{ err error }

func (u *Unsettled) Error() string {
	return "writing down what is installed: " + u.err.Error()
}

func (u *Unsettled) Unwrap() error { return u.err }

func recoverOne(t Target, j *state.Transaction) error {
	x := &Tx{Target: t, Journal: j}
	announce, closing := journal.Event(""), journal.Undone
	switch j.Status() {
	case journal.Undone, journal.RolledBack, journal.Aborted, journal.Freeing:
		if err := x.writable(); err != nil {
			return err
		}
	}
	switch j.Status() {
	case "":
		return t.State.Discard(j)
	case journal.Begin, journal.Staged:
		return x.Abort("interrupted before anything was visible")
	case journal.Undone, journal.RolledBack, journal.Aborted, journal.Freeing:
		return x.free()
	case journal.Committing, journal.Committed:
		announce = journal.Undoing
	case journal.Rollback:
		closing = journal.RolledBack
	}
	err := x.readPlan()
	if err == nil {
		err = x.takeBackAll(announce, "interrupted", closing)
	}
	if err != nil {
		return t.mixed(err)
	}
	if x.unwritten != nil {
		return fmt.Errorf("the old tree is back, and the journal cannot be written: %w", x.unwritten)
	}
	return nil
}

// readPlan reads the plan back, and what the rollback under way leaves alone.
func (x *Tx) readPlan() (err error) {
	if x.plan, err = x.State.ReadPlan(x.Journal); err != nil {
		return err
	}
	x.skip = map[int]bool{}
	if r := x.Journal.Find(journal.Rollback); r != nil && x.Journal.Status() == journal.Rollback {
		if err := x.checkDecisions(r); err != nil {
			return err
		}
		for _, i := range r.Skip {
			x.skip[i] = true
		}
		x.decided = decisionsOf(r)
	}
	return nil
}
