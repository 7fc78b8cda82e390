package relkittest

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"
)

// FileSystem is a kind that machines have, with the modules that Debian's kernel
// needs for it.
type FileSystem struct {
	Kind    string
	Modules []string
	MiB     int64 // least size of an image
}

// FileSystems are those that relkit is proved on.
func FileSystems() []FileSystem {
	return []FileSystem{{"ext4", nil, 64}, {"xfs", []string{"xfs"}, 320}, {"btrfs", []string{"btrfs"}, 320}}
}

// PowerCuts cuts the power of a virtual machine at random moments while it
// changes a disk, and looks at the disk after each cut.
type PowerCuts struct {
	// Init is the guest's script; the disk is mounted at /mnt when it begins. It
	// says Marker when the changes begin, and goes on for longer than Within.
	Init   string
	Marker string
	// Within bounds the random time between Marker and the cut.
	Within time.Duration
	// Files are put into the guest, as in VM.
	Files map[string]string
	// MiB is the size of the disk; 0 is the least.
	MiB int64
	// Prepare fills the disk, mounted at dir, once; nil for an empty one.
	Prepare func(t testing.TB, dir string)
	// Check looks at the disk after a cut, mounted at dir, with the journal of the
	// file system replayed. What it leaves is what the next boot finds.
	Check func(t testing.TB, dir, console string)
}

// Run makes the cuts on one kind of file system, RELKIT_TEST_CUTS of them if that
// is set; the disk is carried from cut to cut, and the file system's own checker
// must find it whole each time. It needs root.
func (p PowerCuts) Run(t *testing.T, fs FileSystem, cuts int) {
	t.Helper()
	NeedRoot(t)
	if n, err := strconv.Atoi(os.Getenv("RELKIT_TEST_CUTS")); err == nil {
		cuts = n
	}
	image := MakeImage(t, fs.Kind, max(fs.MiB, p.MiB))
	if p.Prepare != nil {
		dir, unmount := MountImage(t, fs.Kind, image)
		p.Prepare(t, dir)
		unmount()
	}
	for cut := range cuts {
		m := StartVM(t, VM{
			Init:  "mount -t " + fs.Kind + " /dev/vda /mnt || exit\n" + p.Init,
			Files: p.Files, Disks: []string{image}, Modules: fs.Modules,
		})
		m.WaitFor(p.Marker, 2*time.Minute)
		after := time.Duration(rand.Int64N(int64(p.Within) + 1))
		time.Sleep(after)
		m.Kill()
		dir, unmount := MountImage(t, fs.Kind, image)
		p.Check(t, dir, m.Console())
		unmount()
		CheckImage(t, fs.Kind, image)
		if t.Failed() {
			t.Fatalf("cut %d, %v after %q; console:\n%s", cut, after, p.Marker, m.Console())
		}
	}
}
