package transaction

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"unicode/utf8"

	"github.com/relkit/relkit/pkg/sys/fsys"
)

// TestCrashLongNames: names which have no room for a suffix stop no rollback, whatever
// is cut or fails: what is put beside a file loses the end of its name.
func TestCrashLongNames(t *testing.T) {
	kept, made := "etc/"+strings.Repeat("ä", 125)+"b", "etc/"+strings.Repeat("m", 255)
	older := spec{".": dir(0o755), "etc": dir(0o755), "boot": dir(0o755), kept: file(0o644, "kept 1")}.finish()
	newer := spec{".": dir(0o755), "etc": dir(0o755), "boot": dir(0o755), kept: file(0o644, "kept 2"), made: file(0o644, "made 2")}.finish()
	fresh := func(t *testing.T) *fsys.Mem {
		m := machine(t, older)
		entries, segments := older.diff(newer)
		_, err := Run(context.Background(), target(m, &fsys.Meter{}), entries, segments, begin(version1, version2), Options{ConfigFiles: []string{"etc/**"}})
		for _, path := range []string{kept, made} {
			err = errors.Join(err, fsys.WriteFile(m.FS(), path, []byte("mine"), 0o600))
		}
		// A rollback that fails leaves the time which the patch gave the folder.
		if err = errors.Join(err, m.FS().SetModTime("etc", newer["etc"].ModTime)); err != nil {
			t.Fatal(err)
		}
		m.SyncAll()
		return m
	}
	m := fresh(t)
	before := snapshot(t, m.FS())
	if err := rollback(target(m, &fsys.Meter{})); err != nil {
		t.Fatal(err)
	}
	after := snapshot(t, m.FS())
	old := "etc/" + strings.Repeat("ä", 122) + OldSuffix
	saved := "etc/" + strings.Repeat("m", 255-len(SavedSuffix)) + SavedSuffix
	for path, want := range map[string]string{kept: "mine", old: "kept 1", saved: "mine"} {
		if b, err := fsys.ReadFile(m.FS(), path, 1<<10); err != nil || string(b) != want || !utf8.ValidString(path) {
			t.Errorf("%q: %q, %v, want %q", path, b, err, want)
		}
	}
	s := &scenario{"rollback", likeExt4, fresh, nil, rollback, before, after, version2, version1}
	crashEverywhere(t, s, nil)
}

// TestFreeName: each name is free, and as long as it may be.
func TestFreeName(t *testing.T) {
	m := fsys.NewMem()
	x := &Tx{Target: target(m, &fsys.Meter{})}
	var names []string
	for _, path := range []string{"f", "f", strings.Repeat("n", 244), strings.Repeat("n", 244), strings.Repeat("n", 255), "\xff" + strings.Repeat("\xfe", 250)} {
		name, err := x.freeName(path, OldSuffix)
		if err == nil {
			err = fsys.WriteFile(m.FS(), name, nil, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	n, o := strings.Repeat("n", 244), OldSuffix
	want := []string{"f" + o, "f" + o + ".2", n + o, n[:242] + o + ".2", n[:242] + o + ".3", "\xff" + strings.Repeat("\xfe", 243) + o}
	if !slices.Equal(names, want) {
		t.Errorf("%q\nwant %q", names, want)
	}
}

// ecryptfs is a file system whose names have at most 143 bytes.
type ecryptfs struct{ fsys.FS }

func (f ecryptfs) Lstat(name string) (fsys.Info, error) {
	if len(name) > 143 {
		return fsys.Info{}, fmt.Errorf("lstat %s: %w", name, syscall.ENAMETOOLONG)
	}
	return f.FS.Lstat(name)
}

// TestFreeNameOfFileSystem: what the file system takes counts, not what a manifest does.
func TestFreeNameOfFileSystem(t *testing.T) {
	tg := target(fsys.NewMem(), &fsys.Meter{})
	tg.Root = ecryptfs{tg.Root}
	x, path := &Tx{Target: tg}, strings.Repeat("n", 143)
	if name, err := x.freeName(path, SavedSuffix); err != nil || name != path[:143-len(SavedSuffix)]+SavedSuffix {
		t.Error(name, err)
	}
}
