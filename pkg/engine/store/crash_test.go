package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/sys/fsys"
	"github.com/relkit/relkit/pkg/sys/tree"
)

// crashBench is a store in memory, with one version on its disk, and the source
// of a second that shares files with it, changes, adds and drops some.
type crashBench struct {
	t        *testing.T
	lockDir  string
	one, two string
}

func newCrashBench(t *testing.T) *crashBench {
	b := &crashBench{t: t, lockDir: t.TempDir(),
		one: source(t, map[string]string{"same": "s", "changed": "1", "dropped": "d", "deep/er/same": "x"}),
		two: source(t, map[string]string{"same": "s", "changed": "2", "added/new": "n", "deep/er/same": "x"})}
	link(t, b.two, "same", "linked")
	// The lock is the host's, whatever holds the images.
	if err := os.Mkdir(filepath.Join(b.lockDir, "fw"), 0o755); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *crashBench) store(fs fsys.FS) *Store { return &Store{fs: fs, dir: b.lockDir} }

// machine is a host whose disk holds version 1.
func (b *crashBench) machine() *fsys.Mem {
	b.t.Helper()
	m := fsys.NewMem()
	mustPut(b.t, b.store(m.FS()), "fw", "", b.one)
	m.SyncAll()
	return m
}

// check holds that each version that shows is whole, and returns them.
func (b *crashBench) check(m *fsys.Mem) ([]string, error) {
	s := b.store(m.FS())
	versions, err := s.Versions("fw")
	if err != nil {
		return nil, err
	}
	for _, v := range versions {
		if err := whole(b.t, s, m, Ref{"fw", v}); err != nil {
			return nil, fmt.Errorf("version %s: %w", v, err)
		}
	}
	return versions, nil
}

func whole(t *testing.T, s *Store, m *fsys.Mem, r Ref) error {
	rec, err := s.Record(r)
	if err != nil {
		return err
	}
	f, err := m.FS().Open(r.dir() + "/" + ManifestName)
	if err != nil {
		return err
	}
	defer f.Close()
	d, _, err := digest.OfReader(f)
	if err != nil || d != rec.Tree {
		return fmt.Errorf("manifest %s, record %s, %w", d, rec.Tree, err)
	}
	g, err := m.FS().Open(r.dir() + "/" + ManifestName)
	if err != nil {
		return err
	}
	defer g.Close()
	got := tree.Capture(t.Context(), m.Sub(r.dir()+"/"+TreeName), tree.Options{State: everything})
	for diff, err := range tree.Compare(tree.ReadManifest(manifest.NewReader(g)), got) {
		if err != nil {
			return err
		}
		return errors.New(diff.String())
	}
	return nil
}

// TestPowerCutAtEveryStep cuts the power before each change that storing a
// second version makes, and keeps of what is not yet synced nothing, all, and
// random parts: the store has the versions it had or one more, each whole, and
// the next run succeeds.
func TestPowerCutAtEveryStep(t *testing.T) {
	b := newCrashBench(t)
	clean := &fsys.Meter{}
	mustPut(t, b.store(fsys.Watch(b.machine().FS(), clean)), "fw", "", b.two)
	policies := []fsys.Policy{{Keep: fsys.KeepNone}, {Keep: fsys.KeepAll}}
	for seed := range uint64(4) {
		policies = append(policies, fsys.Policy{Keep: fsys.KeepPrefix, Seed: seed}, fsys.Policy{Keep: fsys.KeepSubset, Seed: seed})
	}
	outcomes := map[int]int{}
	for k := 1; k <= clean.Count()+1; k++ {
		m := b.machine()
		_, err := put(t, b.store(fsys.Watch(m.FS(), &fsys.Meter{CrashAt: k})), "fw", "", b.two)
		if err == nil && k <= clean.Count() {
			t.Fatalf("step %d of %d: no error", k, clean.Count())
		}
		for _, p := range policies {
			after := m.Crash(p)
			versions, cerr := b.check(after)
			if cerr != nil || !slices.Equal(versions, []string{"1"}) && !slices.Equal(versions, []string{"1", "2"}) {
				t.Fatalf("step %d, keeping %s: versions %q, %v", k, p, versions, cerr)
			}
			if err == nil && len(versions) != 2 {
				t.Fatalf("step %d, keeping %s: what was stored is gone", k, p)
			}
			outcomes[len(versions)]++
			if _, err := put(t, b.store(after.FS()), "fw", "", b.two); err != nil {
				t.Fatalf("step %d, keeping %s: the next run: %v", k, p, err)
			}
			if _, err := b.check(after); err != nil {
				t.Fatalf("step %d, keeping %s: after the next run: %v", k, p, err)
			}
		}
	}
	if outcomes[1] == 0 || outcomes[2] == 0 {
		t.Errorf("only one outcome: %v", outcomes)
	}
	t.Logf("%d steps, outcomes %v", clean.Count(), outcomes)
}

// TestFaultAtEveryStep has each change fail: the version is stored whole or not
// at all, the rest of the run cleans up, and the next one succeeds.
func TestFaultAtEveryStep(t *testing.T) {
	b := newCrashBench(t)
	clean := &fsys.Meter{}
	mustPut(t, b.store(fsys.Watch(b.machine().FS(), clean)), "fw", "", b.two)
	for k := 1; k <= clean.Count(); k++ {
		m := b.machine()
		_, err := put(t, b.store(fsys.Watch(m.FS(), &fsys.Meter{FailAt: k, ShortWrite: true})), "fw", "", b.two)
		versions, cerr := b.check(m)
		if cerr != nil || len(versions) == 1 && err == nil {
			t.Fatalf("step %d: versions %q, %v, %v", k, versions, err, cerr)
		}
		if left := visible(t, b.store(m.FS()), "fw"); err != nil && len(versions) == 1 && !slices.Equal(left, []string{"1"}) {
			t.Errorf("step %d: left %q", k, left)
		}
		if _, err := put(t, b.store(m.FS()), "fw", "", b.two); err != nil {
			t.Fatalf("step %d: the next run: %v", k, err)
		}
		if _, err := b.check(m); err != nil {
			t.Fatalf("step %d: after the next run: %v", k, err)
		}
	}
}
