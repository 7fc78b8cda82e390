package transaction

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/relkit/relkit/pkg/engine/state"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

var (
	version1 = journal.Version{Product: "fw", Version: "1"}
	version2 = journal.Version{Product: "fw", Version: "2"}
)

func begin(from, to journal.Version) journal.Record {
	return journal.Record{PatchID: "fw-1-2", From: &from, To: &to}
}

// apply takes a machine from one tree to another, in one go.
func apply(t Target, from, to spec) error {
	entries, segments := from.diff(to)
	_, err := Run(context.Background(), t, entries, segments, begin(version1, version2), Options{Jobs: 2, Remount: t.Remount})
	return err
}

// undone is an apply whose check fails.
func undone(t Target, from, to spec) error {
	entries, segments := from.diff(to)
	s, err := Look(context.Background(), t.Root, entries, Options{Remount: t.Remount})
	if err != nil {
		return err
	}
	x, err := Begin(t, s, begin(version1, version2))
	if err != nil {
		return err
	}
	if err := x.Stage(context.Background(), segments); err != nil {
		return err
	}
	if err := x.Commit(); err != nil {
		return err
	}
	return x.Undo("check failed", errors.New("check failed"))
}

// rollback takes the newest applied transaction back.
func rollback(t Target) error {
	j, err := newest(t)
	if err != nil {
		return err
	}
	return Revert(context.Background(), t, j, 2)
}

// scenario is one thing done to a machine, and the two trees it may end in.
type scenario struct {
	name string
	kind fsKind
	// setUp brings a machine into the state before; fresh hands out copies of it.
	setUp func(t *testing.T) *fsys.Mem
	base  *fsys.Mem
	run   func(Target) error
	// before and after are the snapshots and versions of the two allowed ends.
	before, after               string
	versionBefore, versionAfter journal.Version
}

// fsKind is a way in which file systems differ.
type fsKind string

const (
	likeExt4   fsKind = "like ext4"
	likeXFS    fsKind = "like xfs"
	noExchange fsKind = "without exchange"
)

func (k fsKind) set(m *fsys.Mem) {
	m.SetNoExchange(k == noExchange || k == oldVFAT || k == oldLayers)
	m.SetNoLink(k == oldVFAT)
	m.SetLikeXFS(k == likeXFS)
}

func scenarios(t *testing.T) []scenario {
	older, newer := oldTree(), newTree()
	snapOf := func(s spec) string { return snapshot(t, machine(t, s).FS()) }
	before, after := snapOf(older), snapOf(newer)
	fresh := func(t *testing.T) *fsys.Mem { return machine(t, older) }
	applied := func(kind fsKind) func(t *testing.T) *fsys.Mem {
		return func(t *testing.T) *fsys.Mem {
			m := machine(t, older)
			kind.set(m)
			if err := apply(target(m, &fsys.Meter{}), older, newer); err != nil {
				t.Fatal(err)
			}
			m.SyncAll()
			return m
		}
	}
	awaiting := func(kind fsKind) func(t *testing.T) *fsys.Mem {
		return func(t *testing.T) *fsys.Mem {
			m := machine(t, older)
			kind.set(m)
			if _, err := committedLater(target(m, &fsys.Meter{}), older, newer, true); err != nil {
				t.Fatal(err)
			}
			m.SyncAll()
			return m
		}
	}
	takenBack := func(kind fsKind) func(t *testing.T) *fsys.Mem {
		return func(t *testing.T) *fsys.Mem {
			m := applied(kind)(t)
			if err := rollback(target(m, &fsys.Meter{})); err != nil {
				t.Fatal(err)
			}
			m.SyncAll()
			return m
		}
	}
	var all []scenario
	for _, kind := range []fsKind{likeExt4, likeXFS, noExchange} {
		all = append(all,
			scenario{"apply " + string(kind), kind, fresh, nil, func(t Target) error { return apply(t, older, newer) },
				before, after, journal.Version{}, version2},
			scenario{"failing check " + string(kind), kind, fresh, nil, func(t Target) error {
				if err := undone(t, older, newer); failure.Of(err) != failure.Restored {
					return err
				}
				return nil
			}, before, before, journal.Version{}, journal.Version{}},
			scenario{"rollback " + string(kind), kind, applied(kind), nil, rollback,
				after, before, version2, version1},
			scenario{"staged and committed apart " + string(kind), kind, fresh, nil, func(t Target) error {
				_, err := committedLater(t, older, newer, false)
				return err
			}, before, after, journal.Version{}, version2},
			scenario{"committed at boot " + string(kind), kind, fresh, nil, func(t Target) error {
				_, err := committedLater(t, older, newer, true)
				return err
			}, before, after, journal.Version{}, version2},
			scenario{"confirmed " + string(kind), kind, awaiting(kind), nil, func(t Target) error {
				j, err := newest(t)
				if err != nil {
					return err
				}
				return Note(t, j, journal.Record{Event: journal.Applied})
			}, after, after, version2, version2},
			scenario{"rolled back at boot " + string(kind), kind, applied(kind), nil, func(t Target) error {
				j, err := newest(t)
				if err == nil {
					err = Note(t, j, journal.Record{Event: journal.Withdrawn})
				}
				if err != nil {
					return err
				}
				return rollback(t)
			}, after, before, version2, version1},
			scenario{"applied again " + string(kind), kind, takenBack(kind), nil, again,
				before, after, version1, version2},
			scenario{"applied again at boot " + string(kind), kind, takenBack(kind), nil, againAtBoot,
				before, after, version1, version2},
			scenario{"given up " + string(kind), kind, applied(kind), nil, func(t Target) error {
				j, err := newest(t)
				if err != nil {
					return err
				}
				return Free(t, j, "retention")
			}, after, after, version2, version2},
		)
	}
	return all
}

// again applies what was taken back once more, out of its slots.
func again(t Target) error {
	j, err := newest(t)
	if err != nil {
		return err
	}
	x, modified, err := Reopen(context.Background(), t, j, 2)
	if err == nil && len(modified) > 0 {
		err = fmt.Errorf("modified: %v", modified)
	}
	if err != nil {
		return err
	}
	if err := x.Commit(); err != nil {
		return err
	}
	return x.Finish()
}

// againAtBoot leaves what was taken back to a boot, which commits it.
func againAtBoot(t Target) error {
	j, err := newest(t)
	if err != nil {
		return err
	}
	x, modified, err := Reopen(context.Background(), t, j, 2)
	if err == nil && len(modified) > 0 {
		err = fmt.Errorf("modified: %v", modified)
	}
	if err == nil {
		err = x.Keep(journal.Record{Boot: true})
	}
	if err == nil {
		err = Note(t, j, journal.Record{Event: journal.Armed})
	}
	if err == nil {
		x, modified, err = Reopen(context.Background(), t, j, 2)
	}
	if err == nil && len(modified) > 0 {
		err = fmt.Errorf("modified: %v", modified)
	}
	if err == nil {
		err = x.Commit()
	}
	if err != nil {
		return err
	}
	return x.Await()
}

// newest is the newest transaction of a machine.
func newest(t Target) (*state.Transaction, error) {
	all, err := t.State.Transactions()
	if err == nil && len(all) == 0 {
		err = errors.New("no transactions")
	}
	if err != nil {
		return nil, err
	}
	return all[len(all)-1], nil
}

// committedLater stages, leaves it, and commits what it finds staged; at boot
// it stays unconfirmed.
func committedLater(t Target, from, to spec, boot bool) (*state.Transaction, error) {
	ctx := context.Background()
	entries, segments := from.diff(to)
	s, err := Look(ctx, t.Root, entries, Options{Remount: t.Remount})
	if err != nil {
		return nil, err
	}
	x, err := Begin(t, s, begin(version1, version2))
	if err != nil {
		return nil, err
	}
	if err := x.Stage(ctx, segments); err != nil {
		return nil, err
	}
	if err := x.Keep(journal.Record{Boot: boot}); err != nil {
		return nil, err
	}
	if boot {
		if err := Note(t, x.Journal, journal.Record{Event: journal.Armed}); err != nil {
			return nil, err
		}
	}
	j, err := newest(t)
	if err != nil {
		return nil, err
	}
	x, modified, err := Reopen(ctx, t, j, 2)
	if err == nil && len(modified) > 0 {
		err = fmt.Errorf("modified: %v", modified)
	}
	if err != nil {
		return nil, err
	}
	if err := x.Commit(); err != nil {
		return nil, err
	}
	if boot {
		return x.Journal, x.Await()
	}
	return x.Journal, x.Finish()
}
