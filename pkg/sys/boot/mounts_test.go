package boot

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/relkit/relkit/pkg/relkittest"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// TestMount: what fstab has at a place that a change is about is there while the
// change is made, and not before or after.
func TestMount(t *testing.T) {
	relkittest.NeedRoot(t)
	relkittest.Need(t, "losetup")
	image := relkittest.MakeImage(t, "ext4", 16)
	out, err := exec.Command("losetup", "--find", "--show", image).Output()
	check(t, err)
	loop := strings.TrimSpace(string(out))
	t.Cleanup(func() { check(t, exec.Command("losetup", "--detach", loop).Run()) })
	dir := t.TempDir()
	check(t, os.MkdirAll(filepath.Join(dir, "boot"), 0o755), os.MkdirAll(filepath.Join(dir, "srv"), 0o755), os.MkdirAll(filepath.Join(dir, "etc"), 0o755),
		os.WriteFile(filepath.Join(dir, "etc/fstab"), []byte("# x\n/dev/none / ext4 ro 0 1\n"+loop+" /boot ext4 nodev 0 2\n"), 0o644))
	f, err := fsys.Open(dir)
	check(t, err)
	defer f.Close()
	s, err := Open(f, Options{Dir: dir, State: "var/lib/relkit"})
	check(t, err)
	run := func(script string) error {
		_, err := s.Run(t.Context(), RunOptions{Waits: true, Places: []string{"srv", "boot"}, Apply: []string{"/bin/sh", "-c", "cd " + dir + " && " + script + " && echo '{}'", "sh"}, Stderr: os.Stderr})
		return err
	}
	check(t, run("touch boot/there && ! [ -e srv/there ]"))
	if names, err := os.ReadDir(filepath.Join(dir, "boot")); err != nil || len(names) != 0 {
		t.Errorf("it stays mounted: %v, %v", names, err)
	}
	check(t, run("[ -e boot/there ]"))
	check(t, os.WriteFile(filepath.Join(dir, "etc/fstab"), []byte("UUID=0-0 /boot ext4 nodev 0 2\n"), 0o644))
	if err := run("touch never"); err == nil || !strings.Contains(err.Error(), "mounting UUID=0-0 at ") {
		t.Errorf("no such device: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "never")); err == nil {
		t.Error("changed without the file system it is about")
	}
}

func TestFstab(t *testing.T) {
	table := "LABEL=a\\040b /srv/my\\040data btrfs rw,subvol=@data,noatime 0 0\nPARTUUID=\"1-2\" /boot/efi vfat umask=0077 0 1\n/swap none swap sw\n"
	if source, kind, data, ok := entryOf(table, "srv/my data"); source != "LABEL=a b" || kind != "btrfs" || data != "subvol=@data" || !ok {
		t.Errorf("got %q, %q, %q, %v", source, kind, data, ok)
	}
	source, _, data, _ := entryOf(table, "boot/efi")
	if device(source) != "/dev/disk/by-partuuid/1-2" || data != "" || device("/dev/sda1") != "/dev/sda1" {
		t.Errorf("got %q, %q", device(source), data)
	}
	if _, _, _, ok := entryOf(table, "none"); ok {
		t.Error("swap is no place")
	}
}
