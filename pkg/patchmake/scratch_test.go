package patchmake

import (
	"os"
	"path/filepath"
	"testing"
)

// TestScratch: what a killed run has left goes, what another one uses stays,
// and folders that shut their owner out are no obstacle.
func TestScratch(t *testing.T) {
	parent := filepath.Join(t.TempDir(), "odd [name]*")
	left := filepath.Join(parent, scratchPrefix+"left", "tree")
	if err := os.MkdirAll(filepath.Join(left, "in"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{filepath.Join(left, "in"), left} {
		if err := os.Chmod(dir, 0o500); err != nil {
			t.Fatal(err)
		}
	}
	one, err := makeScratch(parent)
	if err != nil {
		t.Fatal(err)
	}
	two, err := makeScratch(parent)
	if err != nil {
		t.Fatal(err)
	}
	names := func() int {
		all, err := os.ReadDir(parent)
		if err != nil {
			t.Fatal(err)
		}
		return len(all)
	}
	if n := names(); n != 2 {
		t.Errorf("%d folders, want the two in use", n)
	}
	for _, s := range []*scratch{one, two} {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	}
	if n := names(); n != 0 {
		t.Errorf("%d folders are left", n)
	}
}
