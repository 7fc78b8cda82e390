package fsys

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/relkit/relkit/pkg/format/manifest"
)

// TestNoWayOut: symlinks of every sort at every place but the last are refused,
// and what is outside the root stays as it is.
func TestNoWayOut(t *testing.T) {
	top := t.TempDir()
	outside, root := filepath.Join(top, "outside"), filepath.Join(top, "root")
	must(t, os.Mkdir(outside, 0755), os.Mkdir(root, 0755), os.WriteFile(filepath.Join(outside, "secret"), []byte("s"), 0600))
	f, err := Open(root)
	must(t, err)
	defer f.Close()
	must(t, f.Mkdir("d", 0755), f.Symlink(outside, "abs"), f.Symlink("../outside", "rel"), f.Symlink("../../outside", "d/up"),
		f.Symlink("/proc/self/root", "magic"), f.Symlink("d", "inner"))
	for _, via := range []string{"abs", "rel", "d/up", "magic", "inner"} {
		name := via + "/secret"
		for what, err := range map[string]error{
			"Lstat": second(f.Lstat(name)), "Open": second(f.Open(name)), "Create": second(f.Create(via+"/new", 0644)),
			"Unlink": f.Unlink(name), "Chmod": f.Chmod(name, 0777), "Xattrs": second(f.Xattrs(name)), "SetXattr": f.SetXattr(name, "user.x", nil),
			"Rename in": f.Rename("d", via+"/d", Replace), "Rename out": f.Rename(name, "stolen", Replace), "Link": f.Link(name, "stolen"),
			"Mkdir": f.Mkdir(via+"/d", 0755), "ReadDir": second(f.ReadDir(via + "/x")), "Chown": f.Chown(name, 1, 1), "Truncate": f.Truncate(name, 0),
			"SetModTime": f.SetModTime(name, manifest.Time{}), "Space": second(f.Space(name)), "SyncFS": f.SyncFS(name), "RemoveAll": RemoveAll(f, name),
		} {
			want(t, what+" via "+via, err, unix.ELOOP)
		}
		// The symlink itself is what a name ending in it means.
		must(t, f.SetModTime(via, manifest.Time{Sec: 9}))
		want(t, "chmod of "+via, f.Chmod(via, 0777), unix.EOPNOTSUPP)
		want(t, "listing "+via, second(f.ReadDir(via)), unix.ENOTDIR)
		must(t, RemoveAll(f, via))
	}
	info, err := os.Stat(filepath.Join(outside, "secret"))
	names, _ := os.ReadDir(outside)
	if err != nil || info.Mode() != 0600 || info.Size() != 1 || len(names) != 1 {
		t.Errorf("outside has changed: %v, %v, %v", info, err, names)
	}
}

// TestSymlinkRace: a folder that another process keeps swapping with a symlink
// to the outside never leads there.
func TestSymlinkRace(t *testing.T) {
	top := t.TempDir()
	outside, root := filepath.Join(top, "outside"), filepath.Join(top, "root")
	must(t, os.MkdirAll(filepath.Join(outside, "sub"), 0755), os.MkdirAll(filepath.Join(root, "d", "sub"), 0755), os.Symlink(outside, filepath.Join(root, "link")))
	f, err := Open(root)
	must(t, err)
	defer f.Close()
	stop := make(chan struct{})
	var swaps, inside, refused int
	var attacker sync.WaitGroup
	attacker.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				if unix.Renameat2(unix.AT_FDCWD, filepath.Join(root, "d"), unix.AT_FDCWD, filepath.Join(root, "link"), unix.RENAME_EXCHANGE) == nil {
					swaps++
				}
			}
		}
	})
	// As often as it takes to have met both, which on a busy machine is longer.
	for n := 0; n < 3000 || (inside == 0 || refused == 0) && n < 1_000_000; n++ {
		w, err := f.Create("d/sub/x", 0644)
		switch {
		case err == nil:
			inside++
			w.Close()
			f.Unlink("d/sub/x")
			f.Chmod("d/sub", 0700)
			f.SetXattr("d/sub", "user.x", []byte("1"))
		case errors.Is(err, unix.ELOOP):
			refused++
		case errors.Is(err, fs.ErrExist): // left when the Unlink met the symlink
			f.Unlink("d/sub/x")
		default:
			t.Fatal(err)
		}
	}
	close(stop)
	attacker.Wait()
	names, err := os.ReadDir(filepath.Join(outside, "sub"))
	must(t, err)
	info, err := os.Stat(filepath.Join(outside, "sub"))
	must(t, err)
	if len(names) != 0 || info.Mode().Perm() != 0755 {
		t.Fatalf("changes outside: %v, mode %v", names, info.Mode())
	}
	if n, _ := unix.Getxattr(filepath.Join(outside, "sub"), "user.x", nil); n > 0 {
		t.Fatal("an attribute outside")
	}
	if swaps == 0 || inside == 0 || refused == 0 {
		t.Errorf("no race: %d swaps, %d times inside, %d refused", swaps, inside, refused)
	}
}

// TestLongPath: a path longer than the kernel takes at once.
func TestLongPath(t *testing.T) {
	f := openTemp(t)
	defer f.Close()
	part := strings.Repeat("p", 250)
	name := part
	must(t, f.Mkdir(name, 0755))
	for len(name) < 10000 {
		name += "/" + part
		must(t, f.Mkdir(name, 0755))
	}
	put(t, f, name+"/file", "deep")
	if got := get(t, f, name+"/file"); got != "deep" {
		t.Errorf("got %q", got)
	}
	must(t, f.Symlink(".", name+"/l"))
	want(t, "through a symlink far down", second(f.Lstat(name+"/l/file")), unix.ELOOP)
	must(t, RemoveAll(f, part))
}

func TestOpenErrors(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	must(t, os.WriteFile(file, nil, 0644))
	want(t, "a missing folder", second(Open(filepath.Join(dir, "none"))), unix.ENOENT)
	want(t, "a file", second(Open(file)), unix.ENOTDIR)
	must(t, os.Symlink(dir, filepath.Join(dir, "self")))
	f, err := Open(filepath.Join(dir, "self")) // the root itself may be a symlink
	must(t, err)
	if !exists(f, "file") {
		t.Error("not the symlink's target")
	}
	must(t, f.Close())
}

// TestNoLeaks: neither calls that fail nor calls that work keep a descriptor.
func TestNoLeaks(t *testing.T) {
	count := func() int {
		names, err := os.ReadDir("/proc/self/fd")
		must(t, err)
		return len(names)
	}
	before := count()
	f := openTemp(t)
	kinds(t, f)
	for _, name := range []string{"dir/child", "dir", "link/x", "file/x", "none/x", "link", "fifo"} {
		f.Lstat(name)
		if r, err := f.Open(name); err == nil {
			r.Close()
		}
		if w, err := f.Append(name); err == nil {
			w.Close()
		}
		f.ReadDir(name)
		f.Readlink(name)
		f.Xattrs(name)
		f.Space(name)
		f.Truncate(name, 1)
		f.Chmod(name, 0755)
		f.Link(name, "dir/"+strings.ReplaceAll(name, "/", "_"))
		f.Rename(name, "none/x", Exchange)
		f.SyncFile(name)
		f.SyncDir(name)
		f.SyncFS(name)
	}
	must(t, f.Close())
	if after := count(); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

// TestConcurrent is for the race detector: one FS, many users.
func TestConcurrent(t *testing.T) {
	each(t, func(t *testing.T, f FS) {
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() {
				dir := string(rune('a' + i))
				err := errors.Join(MkdirAll(f, dir+"/x", 0755), WriteFile(f, dir+"/x/f", []byte(dir), 0644), f.Rename(dir+"/x", dir+"/y", NoReplace))
				if got := get(t, f, dir+"/y/f"); err != nil || got != dir {
					t.Errorf("got %q, %v", got, err)
				}
			})
		}
		all.Wait()
	})
}

func BenchmarkLstatDeep(b *testing.B) {
	f, err := Open(b.TempDir())
	must(b, err)
	defer f.Close()
	must(b, MkdirAll(f, "usr/share/doc/package", 0755))
	put(b, f, "usr/share/doc/package/copyright", "")
	for b.Loop() {
		if _, err := f.Lstat("usr/share/doc/package/copyright"); err != nil {
			b.Fatal(err)
		}
	}
}
