package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/relkittest"
	"github.com/relkit/relkit/pkg/sys/fsys"
	"github.com/relkit/relkit/pkg/sys/tree"
)

// zooBox is a folder with the zoo and the tool.
type zooBox struct {
	*testing.T
	dir, zoo, tool string
}

// sh runs a script in the folder, with $ZOO and relkit in $PATH, and returns
// what it says on stderr.
func (b *zooBox) sh(script string) string {
	b.Helper()
	cmd := exec.Command("sh", "-ec", script)
	cmd.Dir = b.dir
	cmd.Env = append(os.Environ(), "ZOO="+b.zoo, "LC_ALL=C", "PATH="+filepath.Dir(b.tool)+":"+os.Getenv("PATH"))
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	if err := cmd.Run(); err != nil {
		b.Fatalf("%s: %v\n%s%s", script, err, &out, &stderr)
	}
	return stderr.String()
}

// alike compares two trees, by relkit and by rsync.
func (b *zooBox) alike(what, want, got string) {
	b.Helper()
	for d, err := range tree.Compare(b.entries(want), b.entries(got)) {
		b.Errorf("%s: %v %v", what, d, err)
	}
	cmd := exec.Command("rsync", "-aHAXnic", "--delete", "--exclude=/.relkit", want+"/", got+"/")
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		b.Errorf("%s: rsync would change (%v):\n%s", what, err, out)
	}
}

func (b *zooBox) entries(dir string) tree.Entries {
	b.Helper()
	root, err := fsys.Open(dir)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { root.Close() })
	return tree.Capture(b.Context(), root, tree.Options{})
}

func newZooBox(t *testing.T) *zooBox {
	t.Helper()
	relkittest.Need(t, "rsync", "tar", "setfacl", "setfattr")
	b := &zooBox{T: t, dir: t.TempDir(), zoo: relkittest.Zoo(t), tool: buildTool(t)}
	top, err := os.Stat(b.zoo)
	if err != nil {
		t.Fatal(err)
	}
	// As long as a name may be, and neither UTF-8 nor on one line.
	if err := os.WriteFile(filepath.Join(b.zoo, strings.Repeat("\xff\n\x01", 85)), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(b.zoo, top.ModTime(), top.ModTime()); err != nil {
		t.Fatal(err)
	}
	return b
}

// keepTime does something in a folder without moving its time.
func (b *zooBox) keepTime(dir string, do func() error) {
	b.Helper()
	info, err := os.Stat(dir)
	if err == nil {
		err = do()
	}
	if err == nil {
		err = os.Chtimes(dir, time.Time{}, info.ModTime())
	}
	if err != nil {
		b.Fatal(err)
	}
}

// TestZooBecomesAnImage takes the zoo through every way into the store, and it
// is there as it was, but for a socket, of which is told.
func TestZooBecomesAnImage(t *testing.T) {
	b := newZooBox(t)
	etc := filepath.Join(b.zoo, "etc")
	socket := filepath.Join(etc, "socket")
	for n, way := range []string{
		"relkit prepareclient --root $ZOO -o - | relkit getimage --store store - %s",
		"relkit getimage --store store --parent none $ZOO %s",
		"tar -C $ZOO --acls --xattrs --xattrs-include='*' --numeric-owner --format=pax --sparse -cf - . | relkit getimage --store store --parent none - %s",
	} {
		ref := fmt.Sprintf("zoo:%d", n+1)
		b.keepTime(etc, func() error { return syscall.Mknod(socket, syscall.S_IFSOCK|0o600, 0) })
		said := b.sh(fmt.Sprintf(way, ref))
		b.keepTime(etc, func() error { return os.Remove(socket) })
		if !strings.Contains(said, "socket") {
			t.Errorf("%s: nothing is said of the socket: %q", way, said)
		}
		b.sh("relkit getimage --store store --verify " + ref)
		b.alike(ref, b.zoo, filepath.Join(b.dir, "store/zoo", fmt.Sprint(n+1), "tree"))
	}
}

// TestZooIsPatched changes every kind of name in every way, patches one tree into
// the other, and takes it back.
func TestZooIsPatched(t *testing.T) {
	b := newZooBox(t)
	b.sh(`relkit getimage --store store $ZOO zoo:1
mkdir new box && cp -a $ZOO/. new && cp -a $ZOO/. box
cd new
printf 'changed' | dd of=sparse bs=1 seek=5000000 conv=notrunc status=none
mv etc/hostname etc/renamed; setfacl -m u:7:rwx etc/renamed; setfacl -k etc
setfattr -x user.comment a/x; setfattr -n user.new -v 0x00ff0a a/y
rm z-linked; cp -a a/x z-linked # of a group of three, one is alone
ln -f etc/empty linked-now; rm sym1; rm fifo; printf now-a-file >fifo
ln -sfn /elsewhere dangling; mkfifo -m 611 new-fifo; mkdir -m 3750 new-folder
chmod 1700 a; rmdir empty-folder; printf x >empty-folder; chmod 4711 read-only
ln -s "$(printf 'odd\n\377')" "$(printf 'new\n\377 name')"
touch -d '1960-01-01 00:00:00.987654321Z' etc/renamed; touch -h -d '2107-01-01 00:00:00.123456789Z' dangling
test ! -e null || { rm null disk; mknod -m 600 null b 7 300; }
test ! -e owned || { chown 4294967293:5 owned; setfattr -n trusted.x -v 1 owned; }
cd ..
relkit getimage --store store --parent none new zoo:2
relkit patch-make --store store zoo:1 zoo:2 -o zoo.rkp
relkit patch-apply zoo.rkp --root box --state state --insecure-unsigned`)
	b.alike("applied", filepath.Join(b.dir, "new"), filepath.Join(b.dir, "box"))
	b.sh("relkit patch-rollback --root box --state state")
	b.alike("taken back", b.zoo, filepath.Join(b.dir, "box"))
}

// TestZooWithoutRoot: a user who is not root is refused another's tree, and may
// have one of his own made of it.
func TestZooWithoutRoot(t *testing.T) {
	relkittest.NeedRoot(t)
	relkittest.Need(t, "setpriv")
	b := newZooBox(t)
	b.sh("relkit prepareclient --root $ZOO -o zoo.tar.zst -q; chmod 644 zoo.tar.zst; mkdir -m 777 free; mkdir tool; cp " + b.tool + " tool")
	for dir := b.dir; len(dir) > len(os.TempDir()); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	b.tool = filepath.Join(b.dir, "tool", "relkit")
	const nobody = "cd free; set +e; HOME=. setpriv --reuid 4321 --regid 4321 --clear-groups relkit getimage --store store ../zoo.tar.zst zoo:1 "
	said := b.sh(nobody + "; test $? = 4; test ! -e store/zoo/1")
	if !strings.Contains(said, "only root can make files of 0:0") || !strings.Contains(said, "--no-owner") {
		t.Errorf("refused with %q", said)
	}
	said = b.sh(nobody + "--no-owner || exit; setpriv --reuid 4321 --regid 4321 --clear-groups relkit getimage --store store --verify zoo:1")
	for _, what := range []string{"null", "disk", "security.capability", "trusted.note"} {
		if _, err := os.Lstat(filepath.Join(b.zoo, "null")); err == nil && !strings.Contains(said, what) {
			t.Errorf("nothing is said of %s: %q", what, said)
		}
	}
	for d, err := range tree.Compare(b.entries(b.zoo), b.entries(filepath.Join(b.dir, "free/store/zoo/1/tree"))) {
		if err != nil {
			t.Fatal(err)
		}
		fields := strings.Join(d.Fields, " ")
		isDevice := d.Old != nil && (d.Old.Kind == manifest.CharDev || d.Old.Kind == manifest.BlockDev)
		for _, own := range []string{"uid", "gid", "xattr:security.capability", "xattr:trusted.note"} {
			fields = strings.TrimSpace(strings.Replace(fields, own, "", 1))
		}
		if d.New == nil && !isDevice || d.New != nil && (isDevice || fields != "" || d.New.UID != 4321 || d.New.GID != 4321) {
			t.Errorf("%v (%v)", d, fields)
		}
	}
}
