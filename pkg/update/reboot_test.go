package update

import (
	"os"
	"path/filepath"
	"testing"
)

func TestWriteRebootRequired(t *testing.T) {
	dir := t.TempDir()
	who := filepath.Join(dir, "reboot-required.pkgs")
	if err := os.WriteFile(who, []byte("linux-base\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, patch := range []string{"fw-1-2", "fw-1-2", "fw-2-3"} {
		if err := writeRebootRequired(dir, patch); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(who)
	if want := "linux-base\nrelkit: fw-1-2\nrelkit: fw-2-3\n"; err != nil || string(b) != want {
		t.Errorf("got %q, %v; want %q", b, err, want)
	}
	if _, err := os.Stat(filepath.Join(dir, "reboot-required")); err != nil {
		t.Error(err)
	}
}
