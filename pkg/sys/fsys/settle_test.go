package fsys_test

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"

	"github.com/relkit/relkit/pkg/relkittest"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// TestSettleFS: what has been settled is there for a reader that replays no
// journal, as a boot loader is, while the file system is mounted; and it can be
// written afterwards.
func TestSettleFS(t *testing.T) {
	relkittest.NeedRoot(t)
	readers := map[string]func(image string) *exec.Cmd{
		"ext4": func(image string) *exec.Cmd { return exec.Command("debugfs", "-R", "cat boot/kernel", image) },
		"xfs": func(image string) *exec.Cmd {
			return exec.Command("xfs_db", "-r", "-c", "path /boot/kernel", "-c", "print core.size", image)
		},
	}
	for kind, reader := range readers {
		t.Run(kind, func(t *testing.T) {
			relkittest.Need(t, reader("").Args[0])
			image := relkittest.MakeImage(t, kind, map[string]int64{"ext4": 64, "xfs": 320}[kind])
			dir, _ := relkittest.MountImage(t, kind, image)
			f, err := fsys.Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if err := fsys.MkdirAll(f, "boot", 0o755); err != nil {
				t.Fatal(err)
			}
			content := bytes.Repeat([]byte("kernel "), 1000)
			if err := fsys.WriteFile(f, "boot/kernel", content, 0o644); err != nil {
				t.Fatal(err)
			}
			if err := f.SettleFS("boot"); err != nil {
				t.Fatal(err)
			}
			// The loop device writes to the image through the host's page cache.
			out, err := reader(image).Output()
			if err != nil || !bytes.Equal(out, content) && !strings.Contains(string(out), "core.size = 7000") {
				t.Errorf("read without the journal: %d bytes, %v", len(out), err)
			}
			if err := fsys.WriteFile(f, "boot/more", nil, 0o644); err != nil {
				t.Errorf("writing afterwards: %v", err)
			}
		})
	}
}
