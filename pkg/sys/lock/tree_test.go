package lock

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/relkit/relkit/pkg/failure"
)

// A tree is locked under any of its names, leaves nothing in it, and two trees
// do not meet.
func TestTree(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	l, err := Tree(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Tree(link); failure.Of(err) != failure.Busy {
		t.Fatalf("by another name: %v", err)
	}
	other, err := Tree(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Release(); err != nil {
		t.Fatal(err)
	}
	if err := l.Release(); err != nil {
		t.Fatal(err)
	}
	if l, err = Tree(link); err != nil {
		t.Fatal(err)
	}
	if err := l.Release(); err != nil {
		t.Fatal(err)
	}
	if names, err := os.ReadDir(dir); err != nil || len(names) != 0 {
		t.Fatalf("left %v, %v", names, err)
	}
}
