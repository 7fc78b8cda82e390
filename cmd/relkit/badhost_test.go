package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/relkit/relkit/pkg/format/delta"
	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/relkittest"
)

// A device that whoever applies the patch may not make.
func TestDeviceWithoutRight(t *testing.T) {
	relkittest.NeedRoot(t)
	relkittest.Need(t, "setpriv")
	b := newBadBox(t)
	tool := b.path("relkit")
	b.sh(t, "chmod 755 . && cp "+buildTool(t)+" relkit && chmod 755 relkit")
	for _, c := range []struct {
		who  string
		uid  uint32
		args []string
	}{
		{"root without CAP_MKNOD", 0, []string{"setpriv", "--bounding-set=-mknod", "--inh-caps=-mknod"}},
		{"nobody", 65534, nil},
	} {
		for _, kind := range []string{"char", "block"} {
			text := strings.Replace(side('+', "dev", kind, " device=native,1,3"), "uid=0 gid=0", fmt.Sprintf("uid=%d gid=%d", c.uid, c.uid), 1)
			if err := os.WriteFile(b.path("bad.rkp"), forgery{text: text}.patch(t), 0o644); err != nil {
				t.Fatal(err)
			}
			b.sh(t, fmt.Sprintf("chown -hR %d:%d m", c.uid, c.uid))
			b.old = manifestOf(t, b.path("m"))
			args := append(c.args, tool, "patch-apply", "--root", b.path("m"), "--insecure-unsigned", b.path("bad.rkp"))
			cmd := exec.Command(args[0], args[1:]...)
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: c.uid, Gid: c.uid}}
			out, err := cmd.CombinedOutput()
			status := cmd.ProcessState.ExitCode()
			if err == nil || status != 4 && status != 1 || !strings.Contains(string(out), `"dev"`) || !strings.Contains(string(out), "operation not permitted") {
				t.Errorf("%s, %s device: status %d\n%s", c.who, kind, status, out)
			}
			b.untouched(t, c.who+" "+kind)
		}
	}
}

// full is a box whose machine lies on a small file system of its own, beside a
// file "room" that takes the rest of it.
func full(t *testing.T, kind string) *badBox {
	t.Helper()
	relkittest.NeedRoot(t)
	b := newBadBox(t)
	var dir string
	if kind == "tmpfs" {
		relkittest.Need(t, "mount", "umount")
		dir = t.TempDir()
		b.sh(t, "mount -t tmpfs -o size=4m,nr_inodes=400 tmpfs "+dir)
		t.Cleanup(func() { b.sh(t, "umount "+dir) })
	} else {
		var unmount func()
		dir, unmount = relkittest.MountImage(t, kind, relkittest.MakeImage(t, kind, 16))
		t.Cleanup(unmount)
	}
	b.sh(t, "rm -rf m && cp -a old "+dir+"/m && ln -s "+dir+"/m m && ln -s "+dir+" disk")
	b.flags[1] = filepath.Join(dir, "m")
	return b
}

// fill leaves about so many bytes free.
func (b *badBox) fill(t *testing.T, free int) {
	t.Helper()
	b.sh(t, fmt.Sprintf(`cd disk && rm -f room && head -c "$(($(stat -f -c '%%a * %%S' .) - %d))" /dev/zero >room && sync -f room`, free))
}

func big(path string, size int) (string, []byte) {
	body := []byte(strings.Repeat("x", size))
	return side('+', path, "file", fmt.Sprintf(" size=%d sha256digest=%s content=0", size, digest.Of(body).Hex())), body
}

// fillAll is a shell command that leaves not a byte of the disk.
const fillAll = `cat /dev/zero >"$RELKIT_ROOT/../room2" 2>/dev/null`

// The disk is full, or becomes so while the patch is staged, checked or taken back.
func TestFullDisk(t *testing.T) {
	for _, kind := range []string{"tmpfs", "ext4"} {
		t.Run(kind, func(t *testing.T) {
			b := full(t, kind)
			text, body := big("big", 1<<20)
			f := forgery{text: text, segments: []forgedSegment{{delta.Raw, body, 1 << 20}}}
			b.fill(t, 512<<10)
			b.refuses(t, "no room", f.patch(t), 4, "staging takes 1048576", "--insecure-unsigned")
			if kind == "tmpfs" {
				many := ""
				for i := range 500 {
					many += empty(fmt.Sprintf("many%03d", i))
				}
				b.refuses(t, "no inodes", forgery{text: many}.patch(t), 4, "inodes free", "--insecure-unsigned")
			}

			b.fill(t, 2<<20)
			patch := f.patch(t)
			var errs bytes.Buffer
			e := testEnv("", nil, io.Discard, &errs)
			e.Stdin = io.MultiReader(bytes.NewReader(patch[:len(patch)-1<<19]), then(func() { b.fill(t, 0) }), bytes.NewReader(patch[len(patch)-1<<19:]))
			status := run(t.Context(), e, append(append([]string{"relkit", "patch-apply", "--insecure-unsigned"}, b.flags...), "-"))
			if status != 1 || !strings.Contains(errs.String(), "no space left on device\nrelkit: target") || !strings.Contains(errs.String(), ": unchanged\n") {
				t.Errorf("filled while staging: status %d\n%s", status, &errs)
			}
			b.untouched(t, "filled while staging")

			b.fill(t, 2<<20)
			out, status := b.checked(t, fillAll+"; false")
			if status != 7 || !strings.Contains(out, ": restored\n") {
				t.Errorf("filled by a check that fails: status %d\n%s", status, out)
			}
			b.sh(t, "rm disk/room2")
			b.untouched(t, "filled by a check that fails")
			b.filledAndPassed(t)
		})
	}
}

// What was taken back lies in the way of the next patch: it is given up for its room
// once the patch is admitted, and by no patch that is refused.
func TestRoomOfWhatWasTakenBack(t *testing.T) {
	b := full(t, "tmpfs")
	kept := func() int {
		slots, err := os.ReadDir(b.path("m/.relkit"))
		if err != nil {
			t.Fatal(err)
		}
		return len(slots) - 1 // .state
	}
	of := func(path string) []byte {
		text, body := big(path, 1<<20)
		return forgery{text: text, segments: []forgedSegment{{delta.Raw, body, 1 << 20}}}.patch(t)
	}
	if errs, status := b.apply(t, of("big"), false, "--insecure-unsigned"); status != 0 {
		t.Fatal(errs)
	}
	b.tool(t, "patch-rollback", "--root", b.flags[1])
	b.fill(t, 512<<10)
	if errs, status := b.apply(t, of("other"), false); status != 5 || kept() != 1 {
		t.Fatalf("unsigned: status %d, %d kept\n%s", status, kept(), errs)
	}
	tooBig, body := big("toobig", 3<<20)
	errs, status := b.apply(t, forgery{text: tooBig, segments: []forgedSegment{{delta.Raw, body, 3 << 20}}}.patch(t), false, "--insecure-unsigned")
	if status != 4 || kept() != 1 || !strings.Contains(errs, "staging takes") {
		t.Fatalf("too big: status %d, %d kept\n%s", status, kept(), errs)
	}
	if errs, status := b.apply(t, of("other"), false, "--insecure-unsigned"); status != 0 || kept() != 1 {
		t.Fatalf("status %d, %d kept\n%s", status, kept(), errs)
	}
	out, _, _ := runTool(t, "", nil, "audit", "--state", b.path("m/var/lib/relkit"))
	if !strings.Contains(out, "its room is needed") {
		t.Error(out)
	}
}

// A disk that is full to the last byte keeps nobody from what brings the tree back, or
// makes room.
func TestWayOutOfAFullDisk(t *testing.T) {
	for _, kind := range []string{"tmpfs", "ext4"} {
		t.Run(kind, func(t *testing.T) {
			b := full(t, kind)
			for i, path := range []string{"one", "two"} {
				text, body := big(path, 1<<20)
				file := b.path(fmt.Sprintf("%d.rkp", i))
				if err := os.WriteFile(file, forgery{text: text, segments: []forgedSegment{{delta.Raw, body, 1 << 20}}}.patch(t), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			tool := append([]string{"patch-apply", "--insecure-unsigned"}, b.flags...)
			b.tool(t, append(tool, b.path("0.rkp"))...)
			b.sh(t, "cp -a disk/m before")
			for k := 20; ; k += 3 { // cut once the new file is there, which it is for longer than three steps
				cmd := exec.Command(buildTool(t), append(tool, b.path("1.rkp"))...)
				cmd.Env = append(os.Environ(), fmt.Sprintf("RELKIT_CRASH_AT=%d", k))
				if out, err := cmd.CombinedOutput(); err == nil {
					t.Fatalf("never cut with the new file there\n%s", out)
				}
				if _, err := os.Stat(b.path("m/two")); err == nil {
					break
				}
			}
			// A power cut keeps nothing of the process number that was never synced.
			b.sh(t, ": >m/var/lib/relkit/lock && cat /dev/zero >disk/room 2>/dev/null; test -s disk/room")
			root := b.flags[1]
			_, errs, _ := runTool(t, "", nil, "patch-apply", "--root", root, "--recover")
			if _, err := os.Stat(b.path("m/two")); err == nil {
				t.Fatalf("not taken back\n%s", errs)
			}
			if _, errs, status := runTool(t, "", nil, "patch-rollback", "--root", root); status != 0 {
				t.Fatalf("rollback: status %d\n%s", status, errs)
			}
			if _, err := os.Stat(b.path("m/one")); err == nil {
				t.Fatal("the rollback has left what the patch brought")
			}
			if _, errs, status := runTool(t, "", nil, "patch-rollback", "--root", root, "--prune", "--keep", "0"); status != 0 {
				t.Fatalf("prune: status %d\n%s", status, errs)
			}
			b.tool(t, "audit", "--root", root, "--verify")
			if out, _, _ := runTool(t, "", nil, "audit", "--root", root); !strings.Contains(out, " rolled-back ") {
				t.Error(out)
			}
		})
	}
}

// checked applies the patch with a check, as a process of its own: checks run
// below one that starts the tool anew.
func (b *badBox) checked(t *testing.T, check string) (stderr string, status int) {
	t.Helper()
	args := append([]string{"patch-apply", "--check", check}, b.flags...)
	cmd := exec.Command(buildTool(t), append(args, b.path("p.rkp"))...)
	out, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// filledAndPassed has a check fill the disk and pass: what is then to be written
// down fits, or the patch is taken back.
func (b *badBox) filledAndPassed(t *testing.T) {
	b.fill(t, 2<<20)
	out, status := b.checked(t, fillAll+"; true")
	got := manifestOf(t, b.path("m/"))
	if !(status == 0 && got == b.new || status == 7 && got == b.old && strings.Contains(out, ": restored\n")) {
		t.Errorf("filled by a check that passes: status %d\n%s\n%s", status, out, got)
	}
	b.sh(t, "rm disk/room2 disk/room")
	b.tool(t, "patch-apply", "--root", b.flags[1], "--recover")
	if again := manifestOf(t, b.path("m/")); again != got {
		t.Errorf("the next run changes it:\n%s\nwas:\n%s", again, got)
	}
	b.tool(t, "audit", "--verify", "--state", b.path("m/var/lib/relkit"))
}

// then is a reader that holds nothing and calls a function when it is come to.
type then func()

func (f then) Read([]byte) (int, error) { f(); return 0, io.EOF }
