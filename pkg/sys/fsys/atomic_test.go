package fsys

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestAtomicErrors: whatever fails, the message names the file that was asked for.
func TestAtomicErrors(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.rkp")
	a, err := NewAtomic(path, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(path, "in the way"), 0o755); err != nil {
		t.Fatal(err)
	}
	_, proc := NewAtomic("/proc/x.rkp", 0o644)
	for want, err := range map[string]error{"rename " + path + ": ": a.Commit(), "open /proc/x.rkp: ": proc} {
		if err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "relkit-tmp") {
			t.Errorf("got %v, want %q…", err, want)
		}
	}
	if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 1 {
		t.Errorf("left %v, %v", left, err)
	}
}
