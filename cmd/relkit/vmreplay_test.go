//go:build vm

package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/relkit/relkit/pkg/engine/state"
	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/relkittest"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// replayRounds is how often the guest of TestVMReplayPatch changes its tree
// and takes it back.
const replayRounds = 2

// TestVMReplayPatch records each write and flush of the disk of a machine that
// applies a patch, applies one whose check fails, and takes patches back. The
// power then fails before every flush of that record: once with the writes since
// the flush before lost, and once with a random choice of them done. Each time
// the disk is mounted and recovered, and holds the old tree or the new one, the
// version.json and the audit log that go with it, and whatever relkit had
// reported as done by then. At every third point the recovery is killed first.
//
// RELKIT_TEST_POINTS bounds the points looked at on each file system.
func TestVMReplayPatch(t *testing.T) {
	relkittest.NeedRoot(t)
	b := newKillBox(t)
	total, kinds := 0, 0
	for _, fs := range relkittest.FileSystems() {
		t.Run(fs.Kind, func(t *testing.T) {
			kinds++
			base, log := b.record(t, fs)
			for _, loose := range []bool{false, true} {
				total += b.replay(t, fs.Kind, base, log, loose)
			}
		})
	}
	t.Logf("%d points on all file systems", total)
	if total < 500 && kinds == len(relkittest.FileSystems()) && !t.Failed() && os.Getenv("RELKIT_TEST_POINTS") == "" {
		t.Errorf("%d points are too few to tell", total)
	}
}

// reportSize is the bytes behind the file system where the guest says how many
// changes relkit has reported as done.
const reportSize = 512

// TestVMReport is what says so in the guest: past the page cache and with no
// flush, so that it is in the record where it was said and makes nothing else durable.
func TestVMReport(t *testing.T) {
	done, err := strconv.Atoi(os.Getenv("RELKIT_TEST_REPORT"))
	if err != nil {
		return
	}
	block, err := unix.Mmap(-1, 0, reportSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	copy(block, strconv.Itoa(done))
	f, err := os.OpenFile("/dev/vda", os.O_WRONLY|unix.O_DIRECT, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	end, err := f.Seek(-reportSize, io.SeekEnd)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(block, end); err != nil {
		t.Fatal(err)
	}
}

// record runs the guest and returns its disk as it was, and what was written to it.
func (b *killBox) record(t *testing.T, fs relkittest.FileSystem) (base, log string) {
	base = relkittest.MakeImage(t, fs.Kind, fs.MiB)
	dir, unmount := relkittest.MountImage(t, fs.Kind, base)
	cmd := exec.Command("sh", "-c", `
cp -a old "$1/m" && cp p.rkp "$1/" && mkdir -p "$1/m/var/lib/relkit" &&
touch -h -d '2026-01-01 00:00:00.123456789Z' "$1/m/var/lib"`, "sh", dir)
	cmd.Dir = b.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	unmount()
	if err := os.Truncate(base, fs.MiB<<20+reportSize); err != nil {
		t.Fatal(err)
	}
	disk := filepath.Join(t.TempDir(), "disk.raw")
	if out, err := exec.Command("cp", "--sparse=always", base, disk).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	log = filepath.Join(t.TempDir(), "log")
	m := relkittest.StartVM(t, relkittest.VM{
		Init: fmt.Sprintf(`
mount -t %s /dev/vda /mnt || exit
done=0
report() {
	done=$((done + 1))
	RELKIT_TEST_REPORT=$done relkit.test -test.run '^TestVMReport$' >/dev/null || exit
}
apply() { relkit patch-apply -q --root /mnt/m --insecure-unsigned "$@" /mnt/p.rkp >/dev/null; }
for round in $(seq %d); do
	apply --check false
	[ $? = 7 ] || exit
	apply || exit
	report
	relkit patch-rollback -q --root /mnt/m >/dev/null || exit
	report
done
touch /mnt/end && sync # the record counts its entries at a flush
echo all is done`, fs.Kind, replayRounds),
		Files: map[string]string{"/bin/relkit": b.tool, "/bin/relkit.test": relkittest.StaticTest(t, "vm")},
		Disks: []string{disk}, Modules: fs.Modules, WriteLog: log,
	})
	m.WaitFor("all is done", 5*time.Minute)
	m.Kill()
	return base, log
}

// replay looks at the disk at each point and returns how many there were.
func (b *killBox) replay(t *testing.T, kind, base, log string, loose bool) int {
	chosen := chosenPoints(t, base, log)
	looked, reported := 0, 0
	points := relkittest.Replay(t, base, log, loose, 1, func(point int, image string) {
		if !chosen(point) {
			return
		}
		reported = reportOf(t, image)
		dir, unmount := relkittest.MountImage(t, kind, image)
		defer unmount()
		b.lookAt(t, filepath.Join(dir, "m"), fmt.Sprintf("%s, loose %v, point %d", kind, loose, point), point, reported)
		looked++
	})
	t.Logf("loose %v: %d points, %d of them looked at", loose, points, looked)
	if reported != 2*replayRounds && os.Getenv("RELKIT_TEST_POINTS") == "" {
		t.Errorf("loose %v: %d changes reported at the end, want %d", loose, reported, 2*replayRounds)
	}
	return looked
}

// chosenPoints tells of each point whether it is looked at: as many as
// RELKIT_TEST_POINTS says, evenly spread, the last among them.
func chosenPoints(t *testing.T, base, log string) func(int) bool {
	most, err := strconv.Atoi(os.Getenv("RELKIT_TEST_POINTS"))
	if err != nil {
		return func(int) bool { return true }
	}
	most = max(1, most/2) // loose or not
	all := relkittest.Replay(t, base, log, false, 1, func(int, string) {})
	return func(point int) bool { return all <= most || (point+1)*most/all != point*most/all }
}

// reportOf is the number of changes that the guest has reported as done.
func reportOf(t *testing.T, image string) int {
	f, err := os.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Seek(-reportSize, io.SeekEnd); err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	if text = bytes.TrimRight(text, "\x00"); len(text) == 0 {
		return 0
	}
	n, err := strconv.Atoi(string(text))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// lookAt recovers the machine m after a cut: old or new, and as its audit log
// says; of what was reported nothing is missing, and one more change at most is there.
func (b *killBox) lookAt(t *testing.T, m, where string, point, reported int) {
	t.Helper()
	here := filepath.Join(b.dir, "m")
	if err := os.Symlink(m, here); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(here)
	before := stateOf(t, m)
	if point%3 == 0 {
		if _, err := b.run(t, "RELKIT_CRASH_AT="+strconv.Itoa(1+point/3%20), "patch-apply", "--root", "m", "--recover"); err != nil && !killed(err) {
			t.Fatalf("%s: recovering: %v", where, err)
		}
	}
	b.check(t, where)
	changes, text := changesOf(t, m)
	want := b.old
	if changes%2 == 1 {
		want = b.new
	}
	if changes < reported || changes > reported+1 || manifestOf(t, m) != want {
		t.Fatalf("%s: %d changes reported; before the recovery:\n%s\nafter it:\n%s\ntree:\n%s", where, reported, before, text, manifestOf(t, m))
	}
}

// changesOf counts, in the audit log, the patches applied and taken back.
func changesOf(t *testing.T, m string) (int, string) {
	t.Helper()
	f, err := fsys.Open(filepath.Join(m, "var/lib/relkit"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines, _, err := state.New(f).Verify()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	var text strings.Builder
	for _, l := range lines {
		if slices.Contains([]journal.Event{journal.Applied, journal.RolledBack}, l.Event) {
			n++
		}
		fmt.Fprintf(&text, "%s %s %s\n", l.Transaction, l.Event, l.Reason)
	}
	return n, text.String()
}

// stateOf is the names below the state and the slots, for the message of a failure.
func stateOf(t *testing.T, m string) string {
	t.Helper()
	out, err := exec.Command("sh", "-c", `cd "$1" && find .relkit var/lib/relkit -printf '%p %s %i\n' 2>&1; cat var/lib/relkit/transactions/*/journal 2>&1`, "sh", m).CombinedOutput()
	if err != nil {
		return err.Error()
	}
	return string(out)
}
