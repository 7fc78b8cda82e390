package relkittest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Zoo makes a folder with every kind of entry and every awkward value that the
// running user and the file system allow, and returns its path: names that are
// not UTF-8, times before 1970 and after 2038, hard links, a sparse file, ACLs
// and user attributes; as root also devices, other owners, set-id bits with
// capabilities, and trusted attributes.
func Zoo(t testing.TB) string {
	t.Helper()
	z := zoo{t: t, dir: filepath.Join(t.TempDir(), "zoo")}
	z.folder(".")
	z.folder("etc")
	z.file("etc/hostname", "golden\n", 0o644)
	z.file("etc/empty", "", 0o600)
	z.symlink("usr/share/zoneinfo/UTC", "etc/localtime")
	z.symlink("/nowhere/at all\n", "dangling")
	z.folder("a")
	z.file("a-b", "sorts after a/x", 0o640)
	z.file("a/x", strings.Repeat("block of text\n", 1<<14), 0o755)
	z.link("a/x", "z-linked")
	z.link("a/x", "a/y")
	z.symlink("x", "sym1")
	z.link("sym1", "sym2")
	z.file("blank tab\tnewline\n#*?[\\=\x7f\xff", "odd name", 0o644)
	z.file(strings.Repeat("n", 255), "longest name", 0o644)
	z.file(strings.Repeat("d", 200)+"-é", "not ASCII", 0o644)
	deep := "deep"
	for range 12 {
		z.folder(deep)
		deep += "/" + strings.Repeat("p", 40)
	}
	z.file(deep, "a path over 255 bytes", 0o644)
	z.sparse("sparse", 8<<20)
	z.check(unix.Mkfifo(z.path("fifo"), 0o620))
	z.check(os.Chmod(z.path("a"), 0o777|os.ModeSticky))
	z.folder("empty-folder")
	z.file("read-only", "r", 0o400)
	z.xattr("a/x", "user.comment", "one\x00two")
	z.xattr("etc", "user.empty", "")
	// One ACL entry for user 1 beside the usual three, and the mask (linux/posix_acl_xattr.h).
	z.xattr("etc/hostname", "system.posix_acl_access", acl)
	z.xattr("etc", "system.posix_acl_default", acl)
	if os.Geteuid() == 0 {
		z.asRoot()
	}
	z.times()
	return z.dir
}

const acl = "\x02\x00\x00\x00" +
	"\x01\x00\x06\x00\xff\xff\xff\xff" + "\x02\x00\x04\x00\x01\x00\x00\x00" + "\x04\x00\x04\x00\xff\xff\xff\xff" +
	"\x10\x00\x04\x00\xff\xff\xff\xff" + "\x20\x00\x04\x00\xff\xff\xff\xff"

type zoo struct {
	t   testing.TB
	dir string
}

func (z zoo) path(name string) string { return filepath.Join(z.dir, name) }

func (z zoo) check(err error) {
	z.t.Helper()
	if err != nil {
		z.t.Fatal(err)
	}
}

func (z zoo) folder(name string) { z.check(os.MkdirAll(z.path(name), 0o755)) }

func (z zoo) file(name, content string, mode os.FileMode) {
	z.t.Helper()
	z.check(os.WriteFile(z.path(name), []byte(content), 0o600))
	z.check(os.Chmod(z.path(name), mode))
}

func (z zoo) symlink(target, name string) { z.check(os.Symlink(target, z.path(name))) }

// link gives the inode itself another name, a symlink's too.
func (z zoo) link(old, name string) {
	z.check(unix.Linkat(unix.AT_FDCWD, z.path(old), unix.AT_FDCWD, z.path(name), 0))
}

func (z zoo) sparse(name string, size int64) {
	z.file(name, "begins with data", 0o644)
	z.check(os.Truncate(z.path(name), size))
}

// xattr sets an attribute, where the file system has any.
func (z zoo) xattr(name, attr, value string) {
	z.t.Helper()
	err := unix.Lsetxattr(z.path(name), attr, []byte(value), 0)
	if err == unix.EOPNOTSUPP {
		z.t.Logf("no %s on this file system", attr)
		return
	}
	z.check(err)
}

// asRoot adds what only root can make. Devices are refused in some containers.
func (z zoo) asRoot() {
	if err := unix.Mknod(z.path("null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))); err != nil {
		z.t.Logf("no devices here: %v", err)
	} else {
		z.check(unix.Mknod(z.path("disk"), unix.S_IFBLK|0o660, int(unix.Mkdev(259, 70000))))
	}
	z.file("owned", "not ours", 0o664)
	z.check(os.Chown(z.path("owned"), 1234, 4294967294))
	z.check(os.Lchown(z.path("dangling"), 7, 8))
	z.file("setid", "suid", 0o755)
	z.check(os.Chown(z.path("setid"), 7, 7))
	z.check(os.Chmod(z.path("setid"), 0o755|os.ModeSetuid|os.ModeSetgid))
	z.xattr("setid", "security.capability", "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")
	z.xattr("empty-folder", "trusted.note", "x")
}

// times gives every name a time of its own; folders last.
func (z zoo) times() {
	var names []string
	z.check(filepath.WalkDir(z.dir, func(path string, _ os.DirEntry, err error) error {
		names = append(names, path)
		return err
	}))
	for i := len(names) - 1; i >= 0; i-- {
		when := time.Unix(1700000000+int64(i), int64(i)*1001)
		switch i % 5 {
		case 1:
			when = time.Unix(-1, 500000000)
		case 3:
			when = time.Date(2040, 2, 3, 4, 5, 6, 123456789, time.UTC)
		}
		ts := unix.NsecToTimespec(when.UnixNano())
		z.check(unix.UtimesNanoAt(unix.AT_FDCWD, names[i], []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW))
	}
}
