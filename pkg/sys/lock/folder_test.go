package lock

import (
	"os"
	"testing"

	"github.com/relkit/relkit/pkg/failure"
)

// A folder is locked once, leaves nothing in it, and is free again afterwards.
func TestFolder(t *testing.T) {
	dir := t.TempDir()
	for range 2 {
		l, err := Folder(dir)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Folder(dir); failure.Of(err) != failure.Busy {
			t.Fatalf("second lock: %v", err)
		}
		if err := l.Release(); err != nil {
			t.Fatal(err)
		}
	}
	names, err := os.ReadDir(dir)
	if err != nil || len(names) != 0 {
		t.Fatalf("left %v, %v", names, err)
	}
}
