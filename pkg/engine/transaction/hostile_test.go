package transaction

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/relkit/relkit/pkg/engine/state"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// cutInCommit is a machine whose power went in the middle of the renames, and
// all that had been done reached the disk.
func cutInCommit(t *testing.T, from, to spec) *fsys.Mem {
	t.Helper()
	probe := &fsys.Meter{Record: true}
	if err := apply(target(machine(t, from), probe), from, to); err != nil {
		t.Fatal(err)
	}
	// The middle of what comes between the records "committing" and "committed".
	var syncs []int
	for i, op := range probe.Trace() {
		if strings.HasPrefix(op, "fsync transactions/000001/journal") {
			syncs = append(syncs, i+1)
		}
	}
	committing, committed := syncs[1], syncs[2]
	m := machine(t, from)
	meter := &fsys.Meter{CrashAt: (committing + committed) / 2}
	if err := apply(target(m, meter), from, to); !errors.Is(err, fsys.ErrCrashed) {
		t.Fatal(err)
	}
	cut := m.Crash(fsys.Policy{Keep: fsys.KeepAll})
	if snapshot(t, cut.FS()) == snapshot(t, machine(t, from).FS()) {
		t.Fatal("the cut came before anything was visible")
	}
	return cut
}

// TestSlotsAreMissing: where the slots are not there, since their file system is
// not mounted for one, recovery says so and touches nothing.
func TestSlotsAreMissing(t *testing.T) {
	older, newer := oldTree(), newTree()
	m := cutInCommit(t, older, newer)
	tg := target(m, &fsys.Meter{})
	before := snapshot(t, m.FS())
	if err := m.FS().Rename("boot/.relkit", "boot/elsewhere", fsys.NoReplace); err != nil {
		t.Fatal(err)
	}
	_, err := Recover(tg)
	if failure.Of(err) != failure.Mixed || !strings.Contains(err.Error(), `"boot"`) || !strings.Contains(failure.Hint(err), "--recover") {
		t.Fatalf("got %v", err)
	}
	if err := m.FS().Rename("boot/elsewhere", "boot/.relkit", fsys.NoReplace); err != nil {
		t.Fatal(err)
	}
	tg = target(m, &fsys.Meter{})
	if _, err := Recover(tg); err != nil {
		t.Fatal(err)
	}
	if got, want := snapshot(t, m.FS()), snapshot(t, machine(t, older).FS()); got != want {
		t.Fatalf("not the old tree: %s", firstDifference(got, want))
	}
	if got := snapshot(t, m.FS()); got == before {
		t.Fatal("nothing had to be recovered")
	}
}

// TestSecondState: relkit with another state folder leaves the first one's slots alone.
func TestSecondState(t *testing.T) {
	older, newer := oldTree(), newTree()
	m := cutInCommit(t, older, newer)
	first := target(m, &fsys.Meter{})
	second := first
	second.State = state.New(fsys.NewMem().FS())
	a, b := oldTree(), oldTree()
	b["zdir/keep"] = file(0o644, "changed by the second")
	b.finish()
	entries, segments := a.diff(b)
	if _, err := Run(context.Background(), second, entries, segments, begin(version1, version2), Options{}); err != nil {
		t.Fatal(err)
	}
	if err := Revert(context.Background(), second, transactions(t, second.State)[0], 1); err != nil {
		t.Fatal(err)
	}
	if _, err := Recover(first); err != nil {
		t.Fatal(err)
	}
	if got, want := snapshot(t, m.FS()), snapshot(t, machine(t, older).FS()); got != want {
		t.Fatalf("not the old tree: %s", firstDifference(got, want))
	}
}

// TestStateDiskFull: the tree is put back although nothing can be written down,
// and the next run writes it down.
func TestStateDiskFull(t *testing.T) {
	older, newer := oldTree(), newTree()
	for k := 1; k <= 6; k++ {
		m := cutInCommit(t, older, newer)
		full := &fsys.Meter{FailAt: k, Err: syscall.ENOSPC, Sticky: true}
		tg := Target{
			Root: m.FS(), State: state.New(fsys.Watch(m.Sub(stateDir), full)),
			Now: time.Now, Log: slog.New(slog.DiscardHandler), Unprivileged: true,
		}
		if _, err := Recover(tg); err == nil || failure.Of(err) != failure.Failed {
			t.Fatalf("full from step %d: %v", k, err)
		}
		if got, want := snapshot(t, m.FS()), snapshot(t, machine(t, older).FS()); got != want {
			t.Fatalf("full from step %d: not the old tree: %s", k, firstDifference(got, want))
		}
		tg = target(m, &fsys.Meter{})
		if _, err := Recover(tg); err != nil {
			t.Fatal(err)
		}
		checkAudit(t, tg.State, fmt.Sprint("full from step ", k))
	}
}

// TestDiskStaysFull: from any step on nothing can be written any more. Once
// there is room again one recovery mends everything.
func TestDiskStaysFull(t *testing.T) {
	for _, s := range scenarios(t) {
		t.Run(s.name, func(t *testing.T) {
			steps := s.clean(t)
			for k := 1; k <= steps; k += 3 * stride() {
				m := s.fresh(t)
				s.kind.set(m)
				_ = s.run(target(m, &fsys.Meter{FailAt: k, Err: syscall.ENOSPC, Sticky: true, ShortWrite: true}))
				s.check(t, m, fmt.Sprintf("full from step %d on", k))
			}
		})
	}
}

// TestStrangersInOurFolders: what others put into folders that the patch made is
// never lost, by a rollback or by a failing check.
func TestStrangersInOurFolders(t *testing.T) {
	older, newer := oldTree(), newTree()
	for _, kind := range []fsKind{likeExt4, noExchange} {
		for _, how := range []string{"rollback", "check"} {
			m := machine(t, older)
			kind.set(m)
			tg := target(m, &fsys.Meter{})
			entries, segments := older.diff(newer)
			s, err := Look(context.Background(), tg.Root, entries, Options{})
			if err != nil {
				t.Fatal(err)
			}
			x, err := Begin(tg, s, begin(version1, version2))
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(x.Stage(context.Background(), segments), x.Commit()); err != nil {
				t.Fatal(err)
			}
			strange := []string{"new/customer.db", "unturn/customer.db", "symdir/d/customer.db"}
			for _, path := range strange {
				if err := fsys.WriteFile(m.FS(), path, []byte("precious"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if how == "check" {
				err = x.Undo("check failed", errors.New("check failed"))
				if failure.Of(err) != failure.Restored {
					t.Fatal(err)
				}
			} else {
				if err := x.Finish(); err != nil {
					t.Fatal(err)
				}
				r, err := OpenRollback(context.Background(), tg, x.Journal, RollbackOptions{OnModified: OnModifiedReplace, Jobs: 2})
				if err != nil {
					t.Fatal(err)
				}
				if len(r.Modified) != 3 {
					t.Fatalf("modified: %v", r.Modified)
				}
				if err := r.Commit(journal.Record{}, nil); err != nil {
					t.Fatal(err)
				}
			}
			for _, want := range []string{"new/customer.db", "unturn.relkit-saved/customer.db"} {
				if b, err := fsys.ReadFile(m.FS(), want, 100); err != nil || string(b) != "precious" {
					t.Errorf("%s, %s: %s: %q, %v", kind, how, want, b, err)
				}
			}
			if n := countFiles(t, m.FS(), ".", "customer.db"); n != len(strange) {
				t.Errorf("%s, %s: %d of %d files are left", kind, how, n, len(strange))
			}
			for path, e := range older {
				if e.content == "" {
					continue
				}
				if b, err := fsys.ReadFile(m.FS(), path, 1<<20); err != nil || string(b) != e.content {
					t.Errorf("%s, %s: %s is not the old one: %v", kind, how, path, err)
				}
			}
		}
	}
}

func countFiles(t *testing.T, f fsys.FS, dir, name string) (n int) {
	t.Helper()
	names, err := f.ReadDir(dir)
	if err != nil {
		return 0
	}
	for _, child := range names {
		if child == name {
			n++
		}
		n += countFiles(t, f, join(dir, child), name)
	}
	return n
}

// TestFoldersOfAdministrators: a folder that a patch only renames in keeps the
// mode that somebody has given it since.
func TestFoldersOfAdministrators(t *testing.T) {
	older, newer := oldTree(), newTree()
	m := machine(t, older)
	tg := target(m, &fsys.Meter{})
	tg.Unprivileged = false
	if err := apply(tg, older, newer); err != nil {
		t.Fatal(err)
	}
	if err := m.FS().Chmod("bin", 0o710); err != nil { // the patch changed its time only
		t.Fatal(err)
	}
	if err := rollback(tg); err != nil {
		t.Fatal(err)
	}
	if info, err := m.FS().Lstat("bin"); err != nil || info.Mode != 0o710 {
		t.Errorf("mode %04o, %v", info.Mode, err)
	}
	// One whose mode the patch did change counts as modified.
	if err := m.FS().Chmod("bin", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := apply(tg, older, newer); err != nil {
		t.Fatal(err)
	}
	if err := m.FS().Chmod("etc", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := rollback(tg); failure.Of(err) != failure.Refused || !strings.Contains(err.Error(), `"etc"`) {
		t.Errorf("got %v", err)
	}
}

// TestFreeIsCut: giving up rollback copies is finished by the next run.
func TestFreeIsCut(t *testing.T) {
	older, newer := oldTree(), newTree()
	applied := func() *fsys.Mem {
		m := machine(t, older)
		if err := apply(target(m, &fsys.Meter{}), older, newer); err != nil {
			t.Fatal(err)
		}
		m.SyncAll()
		return m
	}
	after := snapshot(t, applied().FS())
	for k := 1; ; k++ {
		m := applied()
		meter := &fsys.Meter{CrashAt: k}
		tg := target(m, meter)
		if err := Free(tg, transactions(t, tg.State)[0], "asked for"); err == nil {
			break
		}
		for _, p := range policies(k) {
			cut := m.Crash(p)
			tg := target(cut, &fsys.Meter{})
			if _, err := Recover(tg); err != nil {
				t.Fatalf("step %d, %v: %v", k, p, err)
			}
			tx := transactions(t, tg.State)[0]
			if got := snapshot(t, cut.FS()); got != after {
				t.Fatalf("step %d, %v: %s", k, p, firstDifference(got, after))
			}
			if tx.Active() {
				if err := Revert(context.Background(), tg, tx, 1); err != nil {
					t.Fatalf("step %d, %v: kept, and cannot be taken back: %v", k, p, err)
				}
			}
		}
	}
}

// renumbered is a file system that gave its inodes new numbers at a mount.
type renumbered struct{ fsys.FS }

func (r renumbered) Lstat(name string) (fsys.Info, error) {
	info, err := r.FS.Lstat(name)
	info.Ino += 1_000_003
	return info, err
}

func (r renumbered) Open(name string) (fsys.File, error) {
	f, err := r.FS.Open(name)
	return renumberedFile{f}, err
}

type renumberedFile struct{ fsys.File }

func (r renumberedFile) Stat() (fsys.Info, error) {
	info, err := r.File.Stat()
	info.Ino += 1_000_003
	return info, err
}

// TestNewInodeNumbers: where the numbers are others after a power cut, recovery
// goes by content, and so does a rollback.
func TestNewInodeNumbers(t *testing.T) {
	older, newer := oldTree(), newTree()
	for _, s := range scenarios(t) {
		t.Run(s.name, func(t *testing.T) {
			steps := s.clean(t)
			for k := 1; k <= steps; k += 5 * stride() {
				m := s.fresh(t)
				s.kind.set(m)
				meter := &fsys.Meter{CrashAt: k}
				_ = s.run(target(m, meter))
				for _, p := range policies(k)[:4] {
					cut := m.Crash(p)
					tg := target(cut, &fsys.Meter{})
					tg.Root = renumbered{tg.Root}
					if _, err := Recover(tg); err != nil {
						t.Fatalf("step %d, %v: %v", k, p, err)
					}
					s.check(t, cut, fmt.Sprintf("step %d, %v, new numbers", k, p))
				}
			}
		})
	}
	m := machine(t, older)
	if err := apply(target(m, &fsys.Meter{}), older, newer); err != nil {
		t.Fatal(err)
	}
	tg := target(m, &fsys.Meter{})
	tg.Root = renumbered{tg.Root}
	if err := rollback(tg); err != nil {
		t.Fatal(err)
	}
	if got, want := snapshot(t, m.FS()), snapshot(t, machine(t, older).FS()); got != want {
		t.Fatal(firstDifference(got, want))
	}
}

// TestAnotherWriterAndAPowerCut lets something else change a path at a step and
// cuts the power at the next, in apply and in rollback, written in several ways.
// What was written is under some name afterwards, and recovery never gives up.
func TestAnotherWriterAndAPowerCut(t *testing.T) {
	const precious = "precious, written by another"
	ways := map[string]func(f fsys.FS) error{
		"renamed over": func(f fsys.FS) error { return fsys.WriteFile(f, "bin/fw", []byte(precious), 0o755) },
		"in place": func(f fsys.FS) error {
			w, err := f.Append("bin/fw")
			if err != nil {
				return err
			}
			_, err = w.Write([]byte(precious))
			return errors.Join(err, w.Sync(), w.Close())
		},
		"a link": func(f fsys.FS) error {
			return errors.Join(f.Symlink(precious, "bin/link"), f.Rename("bin/link", "bin/fw", fsys.Replace))
		},
	}
	for _, s := range scenarios(t) {
		if strings.HasPrefix(s.name, "failing") {
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			steps := s.clean(t)
			for way, write := range ways {
				for k := 1; k < steps; k += stride() {
					m := s.fresh(t)
					s.kind.set(m)
					inner, wrote, instant := m.FS(), false, false
					meter := &fsys.Meter{CrashAt: k + 1, Before: func(step int, op, name string) {
						if step == k {
							wrote = write(inner) == nil
							// Where names cannot be exchanged, a file that is put at a path
							// between the last look at it and the rename over it is lost:
							// such a file system has no call that could tell.
							instant = s.kind == noExchange && op == "rename" && strings.Contains(name, "bin/fw")
						}
					}}
					_ = s.run(target(m, meter))
					where := fmt.Sprintf("%s at step %d", way, k)
					if !wrote {
						t.Fatalf("%s: not written", where)
					}
					cut := m.Crash(fsys.Policy{Keep: fsys.KeepAll})
					if _, err := Recover(target(cut, &fsys.Meter{})); err != nil {
						t.Fatalf("%s: recovering: %v", where, err)
					}
					if !instant && !held(t, cut.FS(), precious) {
						t.Fatalf("%s: what another wrote is gone", where)
					}
				}
			}
		})
	}
}

// held looks for content, or a link to it, in every visible file of bin.
func held(t *testing.T, f fsys.FS, content string) bool {
	t.Helper()
	names, err := f.ReadDir("bin")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if to, err := f.Readlink("bin/" + name); err == nil && to == content {
			return true
		}
		if b, err := fsys.ReadFile(f, "bin/"+name, 1<<20); err == nil && strings.Contains(string(b), content) {
			return true
		}
	}
	return false
}

// TestEditAfterRestore: a file that is edited after it was restored, while
// nothing could be written down, does not stop the next recovery.
func TestEditAfterRestore(t *testing.T) {
	older, newer := oldTree(), newTree()
	m := cutInCommit(t, older, newer)
	full := &fsys.Meter{FailAt: 1, Err: syscall.ENOSPC, Sticky: true}
	tg := Target{Root: m.FS(), State: state.New(fsys.Watch(m.Sub(stateDir), full)), Now: time.Now, Log: slog.New(slog.DiscardHandler)}
	if _, err := Recover(tg); failure.Of(err) != failure.Failed || err == nil {
		t.Fatalf("got %v", err)
	}
	if err := fsys.WriteFile(m.FS(), "bin/fw", []byte("edited"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Recover(target(m, &fsys.Meter{})); err != nil {
		t.Fatal(err)
	}
	if b, err := fsys.ReadFile(m.FS(), "bin/fw", 100); err != nil || string(b) != "edited" {
		t.Fatalf("%q, %v", b, err)
	}
}
