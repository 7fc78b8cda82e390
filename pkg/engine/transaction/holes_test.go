package transaction

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// holeTrees are two trees with holes: in a file of which only the metadata
// change, in one that changes, and in a new one, at its begin and at its end.
func holeTrees() (older, newer spec) {
	hole := strings.Repeat("\x00", fsys.MinHole+5000)
	older = spec{
		".": dir(0o755), "boot": dir(0o755),
		"moved": file(0o600, "moved"+hole+"on"),
		"disk":  file(0o600, "disk"),
	}.finish()
	newer = spec{
		".": dir(0o755), "boot": dir(0o755),
		"moved": file(0o644, "moved"+hole+"on"),
		"disk":  file(0o600, "disk"+hole+"disk"+hole),
		"void":  file(0o600, hole+"void"),
	}.finish()
	return older, newer
}

func holeScenarios(t *testing.T) []scenario {
	older, newer := holeTrees()
	before, after := snapshot(t, machine(t, older).FS()), snapshot(t, machine(t, newer).FS())
	return []scenario{
		{"apply", likeExt4, func(t *testing.T) *fsys.Mem { return machine(t, older) }, nil,
			func(t Target) error { return apply(t, older, newer) }, before, after, journal.Version{}, version2},
		{"rollback", likeExt4, func(t *testing.T) *fsys.Mem {
			m := machine(t, older)
			if err := apply(target(m, &fsys.Meter{}), older, newer); err != nil {
				t.Fatal(err)
			}
			m.SyncAll()
			return m
		}, nil, rollback, after, before, version2, version1},
	}
}

// TestCrashWithHoles cuts the power, and makes a step fail, everywhere in a
// patch of files with holes: their lengths and their bytes are old or new.
func TestCrashWithHoles(t *testing.T) {
	for _, s := range holeScenarios(t) {
		t.Run(s.name, func(t *testing.T) {
			steps, points := s.clean(t), 0
			for k := 1; k <= steps; k += stride() {
				points += s.crashAt(t, k)
				s.faultAt(t, k, syscall.ENOSPC)
			}
			t.Logf("%d steps, %d crash points", steps, points)
		})
	}
}

// TestHolesTakeNoRoom: long zeros are staged as holes, whether they come from
// the patch or from the file itself, and the room that is asked for is that of
// the rest. A patch that promises holes it does not have fills the disk, and
// leaves the tree as it was.
func TestHolesTakeNoRoom(t *testing.T) {
	hole := strings.Repeat("\x00", 8<<20)
	older := spec{".": dir(0o755), "boot": dir(0o755), "a": file(0o600, "a"+hole)}.finish()
	newer := spec{".": dir(0o755), "boot": dir(0o755), "a": file(0o644, "a"+hole), "b": file(0o600, hole+"b"+hole)}.finish()
	noise := strings.Repeat("noise", len(newer["b"].content)/5+1)[:len(newer["b"].content)]
	lie := spec{".": dir(0o755), "boot": dir(0o755), "a": file(0o644, "a"+hole), "b": file(0o600, noise)}.finish()
	for name, c := range map[string]struct {
		tree  spec
		holes int64
		want  failure.Kind
	}{
		"told":     {newer, 16 << 20, 0},
		"not told": {newer, 0, failure.Refused},
		"a lie":    {lie, 16 << 20, failure.Failed},
	} {
		t.Run(name, func(t *testing.T) {
			m := fsys.NewMem()
			m.Mount("boot")
			m.Sub(stateDir)
			f := m.FS()
			older.build(t, f)
			if err := f.Unlink("a"); err != nil {
				t.Fatal(err)
			}
			w, err := fsys.CreateSparse(f, "a", 0o600)
			if err == nil {
				_, err = w.Write([]byte(older["a"].content))
			}
			if err != nil || w.Close() != nil {
				t.Fatal(err)
			}
			for _, path := range []string{"a", "."} {
				if err := f.SetModTime(path, older[path].ModTime); err != nil {
					t.Fatal(err)
				}
			}
			m.SyncAll()
			m.SetSpace(1 << 20)
			before := names(t, f)
			entries, segments := older.diff(c.tree)
			for i := range entries.Changes {
				if entries.Changes[i].Content >= 0 {
					entries.Changes[i].Holes = c.holes
				}
			}
			tg := target(m, &fsys.Meter{})
			_, err = Run(context.Background(), tg, entries, segments, begin(version1, version2), Options{})
			if c.want != 0 {
				if err == nil || failure.Of(err) != c.want {
					t.Fatalf("kind %d: %v", failure.Of(err), err)
				}
				if after := names(t, f); after != before {
					t.Errorf("was %s, is %s", before, after)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, path := range []string{"a", "b"} {
				info, err := f.Lstat(path)
				if err != nil || info.Size != c.tree[path].Size || info.Room > 64<<10 {
					t.Errorf("%q: %+v, %v", path, info, err)
				}
				if got, err := fsys.ReadFile(f, path, 1<<30); err != nil || string(got) != c.tree[path].content {
					t.Errorf("%q: came out changed, %v", path, err)
				}
			}
		})
	}
}

// names are the files at the top, with their sizes and modes.
func names(t *testing.T, f fsys.FS) string {
	t.Helper()
	all, err := f.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, name := range all {
		info, err := f.Lstat(name)
		if err != nil {
			t.Fatal(err)
		}
		if name != SlotsDir && name != stateDir {
			lines = append(lines, fmt.Sprint(name, " ", info.Size, " ", info.Mode))
		}
	}
	return strings.Join(lines, ", ")
}
