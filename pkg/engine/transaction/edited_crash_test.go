package transaction

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

const edited = "precious, written by its owner"

// editors are the two ways in which a file is written: in place, and as a new
// file that is renamed over it.
var editors = map[string]func(fsys.FS) error{
	"in place": func(f fsys.FS) error {
		w, err := f.Append("etc/mode")
		if err != nil {
			return err
		}
		_, err = w.Write([]byte(edited))
		return errors.Join(err, w.Close())
	},
	"renamed over": func(f fsys.FS) error { return fsys.WriteFile(f, "etc/mode", []byte(edited), 0o600) },
}

// checkEdited holds that the edit has a visible name, and that the old side, where
// it is back, has the mode which its owner had given the new one.
func checkEdited(t *testing.T, f fsys.FS, where string) {
	t.Helper()
	names, err := f.ReadDir("etc")
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, name := range names {
		info, err := f.Lstat("etc/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if info.Kind != manifest.File {
			continue
		}
		b, err := fsys.ReadFile(f, "etc/"+name, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		found = found || strings.Contains(string(b), edited)
		if name == "mode" && string(b) == "mode 1" && info.Mode != 0o600 {
			t.Fatalf("%s: the mode that was given is lost: %04o", where, info.Mode)
		}
	}
	if !found {
		t.Fatalf("%s: the edit is nowhere: %q", where, names)
	}
}

// TestCrashEditedOwners cuts a rollback at every step, has the owner write a config
// file whose mode alone was changed when it was looked at, and recovers: undisturbed,
// and cut once more.
func TestCrashEditedOwners(t *testing.T) {
	for _, kind := range []fsKind{likeExt4, likeXFS, noExchange} {
		base := owned(t, kind)
		for how, edit := range editors {
			t.Run(string(kind)+" "+how, func(t *testing.T) {
				t.Parallel()
				for k := 1; ; k++ {
					m := base.Crash(fsys.Policy{Keep: fsys.KeepAll})
					kind.set(m)
					meter := &fsys.Meter{CrashAt: k}
					if err := rollback(target(m, meter)); !meter.Crashed() {
						if err != nil {
							t.Fatal(err)
						}
						return
					}
					for i, p := range policies(k)[:4] {
						cut := m.Crash(p)
						if err := edit(cut.FS()); err != nil {
							t.Fatal(err)
						}
						cut.SyncAll()
						recoverEdited(t, cut, k, i, fmt.Sprintf("step %d, kept %v", k, p))
					}
				}
			})
		}
	}
}

func recoverEdited(t *testing.T, cut *fsys.Mem, k, i int, where string) {
	t.Helper()
	again := cut.Crash(fsys.Policy{Keep: fsys.KeepAll})
	probe := &fsys.Meter{}
	if _, err := Recover(target(cut, probe)); err != nil {
		t.Fatalf("%s: %v", where, err)
	}
	checkEdited(t, cut.FS(), where)
	if probe.Count() == 0 {
		return
	}
	_, _ = Recover(target(again, &fsys.Meter{CrashAt: 1 + (k*7+i*13)%probe.Count()})) // it ends in the cut
	again = again.Crash(policies(k)[i])
	if _, err := Recover(target(again, &fsys.Meter{})); err != nil {
		t.Fatalf("%s, again: %v", where, err)
	}
	checkEdited(t, again.FS(), where+", again")
}

// TestEditedWhileTakenBack has the owner write that file at every step of a rollback.
// Where names cannot be exchanged, link(2) and rename(2) leave an instant in which a
// file that is renamed over the path is lost, which nothing can hold.
func TestEditedWhileTakenBack(t *testing.T) {
	for _, kind := range []fsKind{likeExt4, likeXFS} {
		base := owned(t, kind)
		for how, edit := range editors {
			for k := 1; ; k++ {
				m := base.Crash(fsys.Policy{Keep: fsys.KeepAll})
				kind.set(m)
				wrote := false
				err := rollback(target(m, &fsys.Meter{Before: func(step int, _, _ string) {
					if step == k {
						wrote = edit(m.FS()) == nil
					}
				}}))
				if !wrote {
					break
				}
				where := fmt.Sprintf("%s %s at step %d (%v)", kind, how, k, err)
				if f := failure.Of(err); err != nil && f != failure.Failed && f != failure.Restored && f != failure.Refused {
					t.Fatal(where)
				}
				checkEdited(t, m.FS(), where)
			}
		}
	}
}
