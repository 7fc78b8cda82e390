//go:build vm

package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/relkit/relkit/pkg/relkittest"
	"github.com/relkit/relkit/pkg/sys/boot"
)

// bootForever is what a guest does at each boot whose power may be cut anywhere:
// confirm, else take back, else apply; then boot again.
const bootForever = `
relkit=/var/lib/relkit/boot/relkit
echo "relkit-guest: up $(uname -r) $(sed 's/.*relkit.boot=/entry /; t; s/.*/entry rest/' /proc/cmdline)"
if [ "$look" ]; then sync; poweroff -f; fi
if $relkit patch-apply -q --confirm 2>/dev/null; then
	echo "relkit-guest: confirmed"
elif grep -q '"version":"2"' /var/lib/relkit/version.json 2>/dev/null; then
	$relkit patch-rollback -q && echo "relkit-guest: withdrawn"
else
	$relkit patch-apply -q --insecure-unsigned p.rkp && echo "relkit-guest: armed"
fi
sync
reboot -f
`

// TestVMBootCuts cuts the power of a machine that patches its own kernel and libc
// at random moments, its boots and GRUB's among them; each time it boots again by
// itself, and its tree is the old one or the new one. RELKIT_TEST_CUTS bounds them.
func TestVMBootCuts(t *testing.T) {
	b := newBootBox(t)
	cuts := 10
	if n, err := strconv.Atoi(os.Getenv("RELKIT_TEST_CUTS")); err == nil {
		cuts = n
	}
	// A round (apply, boot, confirm, take back) is measured, so that cuts fall
	// everywhere in it on a machine of any speed.
	start := time.Now()
	m := relkittest.BootDisk(t, relkittest.VM{Disks: []string{b.disk}, Memory: 768}, bootForever, map[string]string{"p.rkp": b.patch})
	m.WaitFor("relkit-guest: armed", guestTime)
	m.WaitFor("relkit-guest: confirmed", guestTime)
	m.WaitFor("relkit-guest: withdrawn", guestTime)
	m.WaitFor("relkit-guest: armed", guestTime)
	// The next boot goes on where the cut was, so short times reach all of it too.
	round := min(time.Since(start), 5*time.Minute)
	m.Kill()
	ends := map[bool]int{}
	for cut := range cuts {
		b.look(t, fmt.Sprintf("cut %d", cut), ends)
		m := relkittest.BootDisk(t, relkittest.VM{Disks: []string{b.disk}, Memory: 768}, bootForever, map[string]string{"p.rkp": b.patch})
		after := time.Duration(rand.Int64N(int64(round)))
		time.Sleep(after)
		m.Kill()
		t.Logf("cut %d: %v after the start, of %v a round", cut, after.Round(time.Second), round.Round(time.Second))
	}
	b.look(t, "the last cut", ends)
	t.Logf("old %d times, new %d times", ends[false], ends[true])
}

// look boots the machine and holds its tree against the two.
func (b *bootBox) look(t *testing.T, where string, ends map[bool]int) {
	t.Helper()
	m := relkittest.BootDisk(t, relkittest.VM{Disks: []string{b.disk}}, "look=1\n"+bootForever, nil)
	m.WaitFor("relkit-guest: up ", guestTime)
	m.WaitOff(guestTime)
	withGuest(t, b.disk, b.oldKernel.Image, func(dir string, _ *boot.Setup) {
		got := managedOf(t, dir)
		if got != b.old && got != b.new {
			t.Fatalf("%s: neither old nor new: %s", where, firstDifference(b.old, got))
		}
		kernel := "up " + b.oldVer
		if got == b.new {
			kernel = "up " + b.newV
		}
		ends[got == b.new]++
		if !strings.Contains(m.Console(), kernel) {
			t.Errorf("%s: want %q; console:\n%s", where, kernel, m.Console())
		}
	})
}

// TestVMBootReplay records every write and flush of the disk of a machine that
// patches its own kernel, modules, libc and systemd, confirms and takes it back.
// The power then fails before every flush: what GRUB, which replays no journal,
// finds then is whole, and the boots that follow, hook and all, end in the old
// tree or the new one. RELKIT_TEST_POINTS bounds the points looked at.
func TestVMBootReplay(t *testing.T) {
	b := newBootBox(t)
	// Copies of the disk are reflinks there.
	relkittest.Need(t, "mkfs.xfs", "debugfs")
	dir, _ := relkittest.MountImage(t, "xfs", relkittest.MakeImage(t, "xfs", 12<<10))
	t.Setenv("TMPDIR", dir)
	base, log := filepath.Join(dir, "base.raw"), filepath.Join(dir, "log")
	for _, to := range []string{base, filepath.Join(dir, "disk.raw")} {
		if out, err := exec.Command("cp", "--sparse=always", b.disk, to).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	b.disk = filepath.Join(dir, "disk.raw")
	m := relkittest.BootDisk(t, relkittest.VM{Disks: []string{b.disk}, Memory: 768, WriteLog: log}, "last=rolled-back\n"+bootSteps, map[string]string{"p.rkp": b.patch})
	m.WaitFor("relkit-guest: rolled-back", 2*guestTime)
	m.WaitOff(guestTime)
	total := 0
	for _, loose := range []bool{false, true} {
		chosen := chosenPoints(t, base, log)
		looked, news := 0, 0
		points := relkittest.Replay(t, base, log, loose, 1, func(point int, image string) {
			if !chosen(point) {
				return
			}
			looked++
			if b.bootOn(t, image, fmt.Sprintf("loose %v, point %d", loose, point)) {
				news++
			}
		})
		total += looked
		t.Logf("loose %v: %d points, %d of them looked at, %d of them new", loose, points, looked, news)
	}
	if total < 500 && !t.Failed() && os.Getenv("RELKIT_TEST_POINTS") == "" {
		t.Errorf("%d points are too few to tell", total)
	}
}

// bootOn does what the boots after a cut do, and tells whether the tree is new.
func (b *bootBox) bootOn(t *testing.T, image, where string) bool {
	t.Helper()
	b.checkGRUB(t, image, where)
	for range 5 {
		again := false
		withGuest(t, image, b.oldKernel.Image, func(dir string, s *boot.Setup) {
			st, err := s.State()
			if err != nil {
				t.Fatalf("%s: %v", where, err)
			}
			entry := st.Chosen
			if entry == boot.Keep {
				entry = boot.Test
			}
			cmd := exec.Command(filepath.Join(dir, "var/lib/relkit/boot/relkit"), "boot", "--run", "--root", dir)
			cmd.Env = append(os.Environ(), "RELKIT_CMDLINE="+guestArgs+" relkit.boot="+string(entry))
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("%s: %v\n%s", where, err, stderr.Bytes())
			}
			again = strings.Contains(string(out), "reboot")
		})
		if !again {
			break
		}
	}
	isNew := false
	withGuest(t, image, b.oldKernel.Image, func(dir string, s *boot.Setup) {
		got := managedOf(t, dir)
		isNew = got == b.new
		if !isNew && got != b.old {
			t.Fatalf("%s: neither old nor new: %s", where, firstDifference(b.old, got))
		}
	})
	return isNew
}

// checkGRUB reads the disk as GRUB does, without the journal: where its word is
// another than rest, the kernel of that entry is there, whole.
func (b *bootBox) checkGRUB(t *testing.T, image, where string) {
	t.Helper()
	cat := func(name string) []byte {
		t.Helper()
		out, err := exec.Command("debugfs", "-c", "-R", "cat "+name, image+"?offset=1048576").Output()
		if err != nil {
			t.Fatalf("%s: reading %s: %v", where, name, err)
		}
		return out
	}
	env := string(cat("boot/grub/relkit/grubenv"))
	entry := ""
	switch {
	case len(env) != 1024:
		t.Fatalf("%s: grubenv has %d bytes", where, len(env))
	case strings.Contains(env, "relkit_boot=rest"):
		return
	case strings.Contains(env, "relkit_boot=good"):
		entry = "good"
	case strings.Contains(env, "relkit_boot=test"), strings.Contains(env, "relkit_boot=keep"):
		entry = "test"
	default:
		t.Fatalf("%s: grubenv is %q", where, env)
	}
	config := string(cat("boot/grub/relkit/" + entry + ".cfg"))
	pair := sha256.Sum256(append(cat("boot/grub/relkit/"+entry+"/vmlinuz"), cat("boot/grub/relkit/"+entry+"/initrd")...))
	if !strings.Contains(config, "relkit.boot="+entry) || !b.kernels[pair] {
		t.Fatalf("%s: the word says %s, and GRUB reads %q and a kernel that is neither old nor new", where, entry, config)
	}
}
