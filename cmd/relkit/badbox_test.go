package main

import (
	"archive/tar"
	"bytes"
	"crypto/ed25519"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// badBox is a machine, a patch for it that is signed and right, and what the
// machine is before and after it. Tests hand it patches that are wrong.
type badBox struct {
	dir   string
	patch []byte
	// old and new are the manifests of the two trees.
	old, new string
	// flags of patch-apply: the machine and who may sign.
	flags []string
}

// badTrees makes the folders old and new.
const badTrees = `
set -e
umask 022
mkdir -p old/bin old/etc old/var/lib old/gone
echo one >old/bin/fw; chmod 755 old/bin/fw; echo conf >old/etc/conf; echo g >old/gone/g; ln -s bin/fw old/run
find old -exec touch -h -d '2026-01-01 00:00:00.123456789Z' {} +
cp -a old new
echo two >new/bin/fw; mkdir new/lib; echo n >new/lib/n; ln -sf bin/fw2 new/run; rm -r new/gone
`

// treeTime is the time of all that badTrees makes.
var treeTime = time.Date(2026, 1, 1, 0, 0, 0, 123456789, time.UTC)

func newBadBox(t *testing.T) *badBox {
	t.Helper()
	b := &badBox{dir: memoryDir(t)}
	b.flags = []string{"--root", b.path("m"), "--allowed-signers", b.path("allowed")}
	b.sh(t, badTrees)
	writeKey(t, b.path("key"), b.path("allowed"), "release")
	b.tool(t, "patch-make", b.path("old"), b.path("new"), "--product", "fw", "--from-version", "1", "--to-version", "2",
		"--key", b.path("key"), "-o", b.path("p.rkp"))
	var err error
	if b.patch, err = os.ReadFile(b.path("p.rkp")); err != nil {
		t.Fatal(err)
	}
	b.old, b.new = manifestOf(t, b.path("old")), manifestOf(t, b.path("new"))
	b.fresh(t)
	return b
}

// memoryDir is a folder that goes with the test, in memory where there is such a
// place: these tests sync thousands of times.
func memoryDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "relkit-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// writeKey makes an SSH key and allows it to sign as a role.
func writeKey(t *testing.T, file, allowed, role string) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	line := role + " " + string(ssh.MarshalAuthorizedKey(key))
	if err := errors.Join(os.WriteFile(file, pem.EncodeToMemory(block), 0o600), os.WriteFile(allowed, []byte(line), 0o644)); err != nil {
		t.Fatal(err)
	}
}

func (b *badBox) path(name string) string { return filepath.Join(b.dir, name) }

func (b *badBox) sh(t *testing.T, script string) {
	t.Helper()
	cmd := exec.Command("sh", "-c", script)
	cmd.Dir = b.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// tool runs the tool, which must succeed.
func (b *badBox) tool(t *testing.T, args ...string) {
	t.Helper()
	if _, errs, status := runTool(t, "", nil, args...); status != 0 {
		t.Fatalf("relkit %q: status %d\n%s", args, status, errs)
	}
}

// fresh makes the machine anew.
func (b *badBox) fresh(t *testing.T) {
	t.Helper()
	b.sh(t, `chmod -R u+rwx m 2>/dev/null; rm -rf m && cp -a old m`)
}

// apply applies a patch, from a file or a pipe.
func (b *badBox) apply(t *testing.T, patch []byte, pipe bool, more ...string) (stderr string, status int) {
	t.Helper()
	stdin, operand := "", b.path("bad.rkp")
	if pipe {
		stdin, operand = string(patch), "-"
	} else if err := os.WriteFile(operand, patch, 0o600); err != nil {
		t.Fatal(err)
	}
	_, stderr, status = runTool(t, stdin, nil, slices.Concat([]string{"patch-apply"}, b.flags, more, []string{operand})...)
	return stderr, status
}

// refuses wants a patch to be refused with a status and a message that holds
// want, from a file and from a pipe, and the machine to stay as it was.
func (b *badBox) refuses(t *testing.T, what string, patch []byte, status int, want string, more ...string) {
	t.Helper()
	b.refused(t, what, patch, false, status, want, more...)
	b.refused(t, what, patch, true, status, want, more...)
}

func (b *badBox) refused(t *testing.T, what string, patch []byte, pipe bool, status int, want string, more ...string) {
	t.Helper()
	errs, got := b.apply(t, patch, pipe, more...)
	if got != status || !strings.Contains(errs, want) || !strings.Contains(errs, ": unchanged\n") {
		t.Errorf("%s (pipe %v): status %d, want %d and %q:\n%s", what, pipe, got, status, want, errs)
	}
	b.untouched(t, what)
}

// untouched holds the machine against the old tree, byte for byte, and wants
// nothing of relkit's in it but a state that says nothing is installed.
func (b *badBox) untouched(t *testing.T, what string) {
	t.Helper()
	if got := manifestOf(t, b.path("m")); got != b.old {
		t.Errorf("%s: the machine was changed:\n%s\nwas:\n%s", what, got, b.old)
		b.fresh(t)
	}
	slots, err := os.ReadDir(b.path("m/.relkit"))
	if len(slots) > 0 || err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s: slots are left: %v, %v", what, slots, err)
	}
	if _, err := os.Lstat(b.path("m/var/lib/relkit/version.json")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s: version.json is there", what)
	}
	// Without the state's audit log, which would grow; relkit itself has left
	// the times of the folders above alone.
	err = errors.Join(os.RemoveAll(b.path("m/var/lib/relkit")), os.RemoveAll(b.path("m/.relkit")),
		os.Chtimes(b.path("m/var/lib"), treeTime, treeTime), os.Chtimes(b.path("m"), treeTime, treeTime))
	if err != nil {
		t.Fatal(err)
	}
}

// member is one member of a patch: header, content and padding.
type member struct {
	name string
	// start, body and end are offsets in the patch.
	start, body, end int
	raw              []byte
}

// membersOf takes a patch apart, by another reader of tar than relkit's.
func membersOf(t *testing.T, patch []byte) []member {
	t.Helper()
	var all []member
	count := &counter{r: bytes.NewReader(patch)}
	for r := tar.NewReader(count); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		m := member{name: h.Name, start: count.n - 512, body: count.n}
		if _, err := io.Copy(io.Discard, r); err != nil {
			t.Fatal(err)
		}
		m.end = (count.n + 511) &^ 511
		m.raw = patch[m.start:m.end]
		all = append(all, m)
	}
	if n := len(all); n < 3 || all[n-1].end+1024 != len(patch) {
		t.Fatalf("%d members, the last ends at %d of %d", n, all[n-1].end, len(patch))
	}
	return all
}

// counter counts what is read.
type counter struct {
	r io.Reader
	n int
}

func (c *counter) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += n
	return n, err
}

// joined is a patch of members, with the blocks that end it.
func joined(all ...[]byte) []byte {
	return append(slices.Concat(all...), make([]byte, 1024)...)
}

// rawMember is a member as ustar (POSIX.1-1988) has it, of a type.
func rawMember(name string, kind byte, body []byte) []byte {
	h := make([]byte, 512)
	copy(h, name)
	copy(h[100:], "0000644\x000000000\x000000000\x00"+fmt.Sprintf("%011o", len(body))+"\x0000000000000\x00        "+string(kind))
	copy(h[257:], "ustar\x0000")
	copy(h[329:], "0000000\x000000000\x00")
	sum := 0
	for _, c := range h {
		sum += int(c)
	}
	copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
	h = append(h, body...)
	return append(h, make([]byte, -len(body)&511)...)
}
