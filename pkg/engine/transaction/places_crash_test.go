package transaction

import (
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// The second file system of the trees, "boot", as those that are not like ext4.
const (
	vfat      fsKind = "vfat"
	oldVFAT   fsKind = "vfat without exchange"
	readOnly  fsKind = "read-only"
	overlayFS fsKind = "overlay"
	oldLayers fsKind = "overlay without exchange"
	bound     fsKind = "bound"
	project   fsKind = "project"
)

// bootOld and bootNew differ in every way that a /boot on vfat can.
func bootOld() spec {
	return spec{
		".":                dir(0o755),
		"bin":              dir(0o755),
		"bin/fw":           file(0o755, "firmware 1"),
		"boot":             dir(0o755),
		"boot/kernel":      file(0o644, "kernel 1"),
		"boot/touched":     file(0o644, "touched").at(100),
		"boot/old":         file(0o600, "boot old"),
		"boot/EFI":         dir(0o755),
		"boot/EFI/grub":    file(0o644, "loader 1"),
		"boot/gone":        dir(0o700),
		"boot/gone/a":      file(0o644, "gone a"),
		"boot/gone/deep":   dir(0o755).at(78),
		"boot/gone/deep/b": file(0o644, "gone b"),
		"boot/turn":        dir(0o755),
		"boot/turn/x":      file(0o644, "in a folder that becomes a file"),
		"boot/unturn":      file(0o644, "a file that becomes a folder"),
		"boot/stays":       file(0o644, "not named"),
	}.finish()
}

func bootNew() spec {
	return spec{
		".":              dir(0o755),
		"bin":            dir(0o755),
		"bin/fw":         file(0o755, "firmware 2"),
		"boot":           dir(0o755),
		"boot/kernel":    file(0o600, "kernel 2!"),
		"boot/touched":   file(0o644, "touched").at(201),
		"boot/new":       file(0o4755, "boot new").owner(7, 8).xattr("user.note", "a"),
		"boot/EFI":       dir(0o700),
		"boot/EFI/grub":  file(0o644, "loader 2"),
		"boot/EFI/deb":   dir(0o750),
		"boot/EFI/deb/x": file(0o644, "x"),
		"boot/turn":      file(0o644, "a file now"),
		"boot/unturn":    dir(0o711),
		"boot/unturn/g":  file(0o644, "inside"),
		"boot/stays":     file(0o644, "not named"),
	}.finish()
}

// placed is a machine with a tree, its "boot" of a kind.
func placed(t *testing.T, tree spec, kind fsKind) *fsys.Mem {
	t.Helper()
	m := fsys.NewMem()
	switch kind {
	case bound:
		m.Bind("behind", "boot")
	case project:
		m.Sub("boot")
	default:
		m.Mount("boot")
	}
	m.Sub(stateDir)
	if kind == project {
		m.SetProject("boot", 42, true)
	}
	tree.build(t, m.FS())
	if kind == bound {
		// Seen twice, changed by one of the names.
		if err := m.FS().SetModTime("behind", tree["boot"].ModTime); err != nil {
			t.Fatal(err)
		}
		if err := m.FS().SetModTime(".", tree["."].ModTime); err != nil {
			t.Fatal(err)
		}
	}
	m.SyncAll()
	switch kind {
	case vfat, oldVFAT:
		m.SetFAT("boot")
	case overlayFS, oldLayers:
		m.SetOverlay("boot")
	case readOnly:
		m.SetBootReadOnly("boot")
	}
	m.SetNoExchange(kind == oldVFAT || kind == oldLayers)
	m.SetNoLink(kind == oldVFAT)
	return m
}

func placeScenarios(t *testing.T, kind fsKind) []scenario {
	older, newer := bootOld(), bootNew()
	before, after := snapshot(t, placed(t, older, kind).FS()), snapshot(t, placed(t, newer, kind).FS())
	fresh := func(t *testing.T) *fsys.Mem { return placed(t, older, kind) }
	applied := func(t *testing.T) *fsys.Mem {
		m := fresh(t)
		if err := apply(target(m, &fsys.Meter{}), older, newer); err != nil {
			t.Fatal(err)
		}
		m.SyncAll()
		return m
	}
	return []scenario{
		{"apply " + string(kind), kind, fresh, nil, func(t Target) error { return apply(t, older, newer) },
			before, after, journal.Version{}, version2},
		{"failing check " + string(kind), kind, fresh, nil, func(t Target) error {
			if err := undone(t, older, newer); failure.Of(err) != failure.Restored {
				return err
			}
			return nil
		}, before, before, journal.Version{}, journal.Version{}},
		{"rollback " + string(kind), kind, applied, nil, rollback, after, before, version2, version1},
		{"staged and committed apart " + string(kind), kind, fresh, nil, func(t Target) error {
			_, err := committedLater(t, older, newer, false)
			return err
		}, before, after, journal.Version{}, version2},
		{"applied again " + string(kind), kind, func(t *testing.T) *fsys.Mem {
			m := applied(t)
			if err := rollback(target(m, &fsys.Meter{})); err != nil {
				t.Fatal(err)
			}
			m.SyncAll()
			return m
		}, nil, again, before, after, version1, version2},
		{"freed " + string(kind), kind, applied, nil, func(t Target) error {
			j, err := newest(t)
			if err == nil {
				err = Free(t, j, "asked for")
			}
			return err
		}, after, after, version2, version2},
	}
}

var placeKinds = []fsKind{vfat, oldVFAT, readOnly, overlayFS, oldLayers, bound, project}

// TestPlacesCrashAtEveryStep is TestCrashAtEveryStep with a /boot on vfat, by a
// kernel with and without exchanges there; on a read-only file system, which is
// read-only again after each recovery; on overlayfs; on a bind mount; and in a
// folder with a quota project.
func TestPlacesCrashAtEveryStep(t *testing.T) {
	var points atomic.Int64
	t.Run("", func(t *testing.T) {
		for _, kind := range placeKinds {
			for i, s := range placeScenarios(t, kind) {
				t.Run(s.name, func(t *testing.T) {
					t.Parallel()
					steps := s.clean(t)
					for k := 1 + i; k <= steps; k += placeStride() {
						points.Add(int64(s.crashAt(t, k)))
					}
					t.Logf("%d steps", steps)
				})
			}
		}
	})
	t.Logf("%d crash points", points.Load())
}

// TestPlacesFaultAtEveryStep is TestFaultAtEveryStep on the same.
func TestPlacesFaultAtEveryStep(t *testing.T) {
	for _, kind := range placeKinds {
		for _, s := range placeScenarios(t, kind) {
			if s.name == "failing check "+string(kind) || s.name == "freed "+string(kind) {
				continue
			}
			t.Run(fmt.Sprint(s.name), func(t *testing.T) {
				t.Parallel()
				steps := s.clean(t)
				for k := 1; k <= steps; k += placeStride() {
					s.faultAt(t, k, syscall.EIO)
				}
			})
		}
	}
}

// placeStride leaves most steps out, unless RELKIT_TEST_EVERY_STEP is set.
func placeStride() int {
	if os.Getenv("RELKIT_TEST_EVERY_STEP") != "" {
		return 1
	}
	return 7 * stride()
}
