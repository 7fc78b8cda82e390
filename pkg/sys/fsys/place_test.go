package fsys

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/relkittest"
)

// bothPlaces are a tree by the kernel and one in memory, with the same places in
// both: a second file system at "second", a folder bound at "bound", "fixed" with
// the immutable flag, "grows" with the append-only flag. The folder is the first's.
func bothPlaces(t *testing.T) (map[string]FS, string) {
	relkittest.NeedRoot(t)
	relkittest.Need(t, "mount", "umount", "chattr")
	dir, unmount := relkittest.MountImage(t, "ext4", relkittest.MakeImage(t, "ext4", 64))
	t.Cleanup(unmount)
	run := func(args ...string) {
		t.Helper()
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	run("mkdir", "second", "bound", "real")
	run("mount", "-t", "tmpfs", "tmpfs", "second")
	t.Cleanup(func() { run("umount", "second") })
	run("mount", "--bind", "real", "bound")
	t.Cleanup(func() { run("umount", "bound") })
	run("sh", "-c", "touch fixed grows plain && chattr +i fixed && chattr +a grows && mkdir frozen && touch frozen/in && chattr +i frozen")
	t.Cleanup(func() { run("chattr", "-i", "-a", "fixed", "grows", "frozen") })
	real, err := Open(dir)
	must(t, err)
	t.Cleanup(func() { real.Close() })
	m := NewMem()
	m.Mount("second")
	m.Bind("real", "bound")
	f := m.FS()
	for _, name := range []string{"fixed", "grows", "plain"} {
		put(t, f, name, "")
	}
	must(t, f.Mkdir("frozen", 0755))
	put(t, f, "frozen/in", "")
	m.SetFlags("fixed", true, false)
	m.SetFlags("grows", false, true)
	m.SetFlags("frozen", true, false)
	return map[string]FS{"real": real, "memory": f}, dir
}

// TestPlace: what Place and Mount say, and the errors that follow, are alike on
// the kernel's file systems and in memory.
func TestPlace(t *testing.T) {
	both, _ := bothPlaces(t)
	for name, f := range both {
		t.Run(name, func(t *testing.T) {
			place := func(name string) Place {
				p, err := f.Place(name)
				must(t, err)
				return p
			}
			root := place(".")
			for _, c := range []struct {
				name string
				own  bool // a mount of its own
				want Place
			}{
				{"plain", false, Place{}}, {"real", false, Place{}},
				{"second", true, Place{MountPoint: true}}, {"bound", true, Place{MountPoint: true}},
				{"fixed", false, Place{Immutable: true}}, {"grows", false, Place{AppendOnly: true}}, {"frozen/in", false, Place{}},
			} {
				got := place(c.name)
				if (got.Mount != root.Mount) != c.own || got.Mount == 0 {
					t.Errorf("%s: mount %d, the root's is %d", c.name, got.Mount, root.Mount)
				}
				if got.Mount = 0; got != c.want {
					t.Errorf("%s: got %+v, want %+v", c.name, got, c.want)
				}
			}
			if lstat(t, f, "bound").Dev != lstat(t, f, "real").Dev || !lstat(t, f, "bound").SameInode(lstat(t, f, "real")) {
				t.Error("a bind mount is another file system")
			}
			put(t, f, "bound/x", "x")
			want(t, "seen by both names", visible(f, "real/x"), 0)
			want(t, "rename across a bind mount", f.Rename("bound/x", "real/y", Replace), unix.EXDEV)
			want(t, "link across a bind mount", f.Link("bound/x", "real/y"), unix.EXDEV)
			want(t, "rename a mount point", f.Rename("bound", "other", Replace), unix.EBUSY)
			for _, name := range []string{"fixed", "grows", "frozen/in"} {
				want(t, "rename "+name, f.Rename(name, "other", Replace), unix.EPERM)
				want(t, "rename over "+name, f.Rename("plain", name, Replace), unix.EPERM)
				want(t, "exchange "+name, f.Rename("plain", name, Exchange), unix.EPERM)
				want(t, "unlink "+name, f.Unlink(name), unix.EPERM)
			}
			want(t, "chmod", f.Chmod("fixed", 0600), unix.EPERM)
			want(t, "utimens", f.SetModTime("grows", manifest.Time{Sec: 5}), unix.EPERM)
			want(t, "create", f.Mkdir("frozen/new", 0755), unix.EPERM)
			want(t, "link", f.Link("fixed", "fixed2"), unix.EPERM)
			_, err := f.Append("fixed")
			want(t, "write", err, unix.EPERM)
		})
	}
}

func visible(f FS, name string) error { _, err := f.Lstat(name); return err }

// TestRemount makes a file system read-only and writable, on a mount of its own and
// on one more of the same, and finds it as it was.
func TestRemount(t *testing.T) {
	both, dir := bothPlaces(t)
	for name, f := range both {
		t.Run(name, func(t *testing.T) {
			ro := func() ReadOnly { m, err := f.Mount("second"); must(t, err); return m.ReadOnly }
			put(t, f, "second/file", "x")
			if ro() != (ReadOnly{}) {
				t.Fatalf("at first: %+v", ro())
			}
			w, err := f.Append("second/file")
			must(t, err)
			want(t, "with a writer", f.Remount("second", ReadOnly{FileSystem: true}), unix.EBUSY)
			must(t, w.Close())
			for _, to := range []ReadOnly{{FileSystem: true}, {}, {Mount: true, FileSystem: true}, {}, {Mount: true}} {
				must(t, f.Remount("second", to))
				if ro() != to {
					t.Errorf("got %+v, want %+v", ro(), to)
				}
				errno := unix.Errno(0)
				if to.Any() {
					errno = unix.EROFS
				}
				want(t, "change", f.SetModTime("second/file", manifest.Time{Sec: 7}), errno)
			}
			must(t, f.Remount("second", ReadOnly{}))
		})
	}
	// Other options stay as they are.
	for _, args := range [][]string{{"-t", "tmpfs", "-o", "nosuid,nodev,noexec,size=1m,mode=0711", "tmpfs"}} {
		at := filepath.Join(dir, "real")
		if out, err := exec.Command("mount", append(args, at)...).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		defer func() { must(t, exec.Command("umount", at).Run()) }()
		before := options(t, at)
		must(t, both["real"].Remount("real", ReadOnly{Mount: true, FileSystem: true}), both["real"].Remount("real", ReadOnly{}))
		if after := options(t, at); after != before {
			t.Errorf("the options were %s, are %s", before, after)
		}
	}
	want(t, "not a mount", both["real"].Remount("plain", ReadOnly{Mount: true}), unix.EINVAL)
}

func options(t *testing.T, at string) string {
	t.Helper()
	table, err := os.ReadFile("/proc/self/mountinfo")
	must(t, err)
	fd, err := unix.Open(at, unix.O_PATH, 0)
	must(t, err)
	defer unix.Close(fd)
	var st unix.Statx_t
	must(t, unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &st))
	for line := range strings.Lines(string(table)) {
		if id, rest, _ := strings.Cut(line, " "); id == strconv.FormatUint(st.Mnt_id, 10) {
			return rest
		}
	}
	t.Fatalf("%s is no mount", at)
	return ""
}

// TestProject: a folder that inherits its quota project takes in nothing of another.
func TestProject(t *testing.T) {
	relkittest.NeedRoot(t)
	relkittest.Need(t, "xfs_io")
	// ext4 has projects only where the kernel has quotas.
	dir, unmount := relkittest.MountImage(t, "xfs", relkittest.MakeImage(t, "xfs", 320))
	t.Cleanup(unmount)
	real, err := Open(dir)
	must(t, err)
	defer real.Close()
	m := NewMem()
	for name, f := range map[string]FS{"real": real, "memory": m.FS()} {
		t.Run(name, func(t *testing.T) {
			must(t, f.Mkdir("p", 0755))
			if name == "real" {
				if out, err := exec.Command("xfs_io", "-c", "chproj 42", "-c", "chattr +P", filepath.Join(dir, "p")).CombinedOutput(); err != nil {
					t.Fatalf("%v\n%s", err, out)
				}
			} else {
				m.SetProject("p", 42, true)
			}
			put(t, f, "out", "x")
			put(t, f, "p/in", "x")
			for name, want := range map[string]Place{".": {}, "out": {}, "p": {Project: 42, Inherits: true}, "p/in": {Project: 42}} {
				got, err := f.Place(name)
				must(t, err)
				got.Mount, got.MountPoint = 0, false
				if name == "p/in" {
					got.Inherits = false // ext4 gives files the flag, to no effect
				}
				if got != want {
					t.Errorf("%s: got %+v, want %+v", name, got, want)
				}
			}
			want(t, "in", f.Rename("out", "p/out", Replace), unix.EXDEV)
			want(t, "exchange", f.Rename("out", "p/in", Exchange), unix.EXDEV)
			want(t, "link", f.Link("out", "p/out"), unix.EXDEV)
			want(t, "out", f.Rename("p/in", "in", Replace), 0)
		})
	}
}

// TestSwapFile: an active swap file is known as one, by any of its names.
func TestSwapFile(t *testing.T) {
	relkittest.NeedRoot(t)
	relkittest.Need(t, "mkswap", "swapon")
	dir, unmount := relkittest.MountImage(t, "ext4", relkittest.MakeImage(t, "ext4", 64))
	t.Cleanup(unmount)
	file := filepath.Join(dir, "swap file")
	must(t, os.WriteFile(file, make([]byte, 1<<20), 0600))
	for _, args := range [][]string{{"mkswap", file}, {"swapon", file}} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	defer func() { must(t, exec.Command("swapoff", file).Run()) }()
	f, err := Open(dir)
	must(t, err)
	defer f.Close()
	put(t, f, "other", strings.Repeat("x", 1<<20))
	if p, err := f.Place("swap file"); err != nil || !p.Swap {
		t.Errorf("%+v, %v", p, err)
	}
	if p, err := f.Place("other"); err != nil || p.Swap {
		t.Errorf("%+v, %v", p, err)
	}
	want(t, "rename", f.Rename("swap file", "x", Replace), unix.EPERM)
}
