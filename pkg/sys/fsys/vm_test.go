//go:build vm

package fsys

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/relkittest"
)

// TestVMConformance runs this package's tests on each file system under Debian 12's
// Linux 6.1, which has openat2 and neither fchmodat2 nor setxattrat.
func TestVMConformance(t *testing.T) {
	program := relkittest.StaticTest(t, "")
	for _, fs := range relkittest.FileSystems() {
		t.Run(fs.Kind, func(t *testing.T) {
			image := relkittest.MakeImage(t, fs.Kind, fs.MiB)
			m := relkittest.StartVM(t, relkittest.VM{
				Init: `
mount -t ` + fs.Kind + ` /dev/vda /mnt || exit
TMPDIR=/mnt fsys.test -test.short
status=$?
umount /mnt && exit $status`,
				Files: map[string]string{"/bin/fsys.test": program}, Disks: []string{image}, Modules: fs.Modules,
			})
			m.Wait(5 * time.Minute)
			relkittest.CheckImage(t, fs.Kind, image)
		})
	}
}

// TestVMPowerCut cuts the power of a machine that writes one file again and
// again: the file is always one that was written, whole, and never an older one
// than WriteFile has returned for.
func TestVMPowerCut(t *testing.T) {
	program := relkittest.StaticTest(t, "vm")
	cuts := relkittest.PowerCuts{
		Init:   "FSYS_TEST_WRITE=/mnt fsys.test -test.run '^TestVMWriter$'",
		Marker: "wrote 1\r\n",
		Within: 1500 * time.Millisecond,
		Files:  map[string]string{"/bin/fsys.test": program},
		Check: func(t testing.TB, dir, console string) {
			last, got := lastWrote(t, console), checkWritten(t, filepath.Join(dir, "file"))
			if got < last || got > last+1 {
				t.Errorf("%d is there, WriteFile had returned for %d", got, last)
			}
			t.Logf("after %d files, %d is there", last, got)
		},
	}
	for _, fs := range relkittest.FileSystems() {
		t.Run(fs.Kind, func(t *testing.T) { cuts.Run(t, fs, 4) })
	}
}

// TestVMReplay cuts the power before every flush of the disk, with the writes since
// the flush before lost, and then with a random choice of them done: the file is
// always one that was written, whole, and never older than at an earlier flush.
func TestVMReplay(t *testing.T) {
	program := relkittest.StaticTest(t, "vm")
	for _, fs := range relkittest.FileSystems() {
		t.Run(fs.Kind, func(t *testing.T) {
			relkittest.NeedRoot(t)
			base := relkittest.MakeImage(t, fs.Kind, fs.MiB)
			disk, log := filepath.Join(t.TempDir(), "disk.raw"), filepath.Join(t.TempDir(), "log")
			data, err := os.ReadFile(base)
			must(t, err, os.WriteFile(disk, data, 0600))
			m := relkittest.StartVM(t, relkittest.VM{
				Init:  "mount -t " + fs.Kind + " /dev/vda /mnt && FSYS_TEST_WRITE=/mnt fsys.test -test.run '^TestVMWriter$'",
				Files: map[string]string{"/bin/fsys.test": program}, Disks: []string{disk}, Modules: fs.Modules, WriteLog: log,
			})
			m.WaitFor("wrote 20\r\n", 3*time.Minute)
			m.Kill()
			var durable []int // at each point, with what is not flushed lost
			for _, loose := range []bool{false, true} {
				points := relkittest.Replay(t, base, log, loose, 1, func(point int, image string) {
					got := fileOn(t, fs.Kind, image)
					if !loose {
						durable = append(durable, got)
					}
					if got < durable[point] || point > 0 && got < durable[point-1] {
						t.Errorf("point %d, loose %v: %d is there, %d was durable", point, loose, got, durable[point])
					}
				})
				t.Logf("loose %v: %d points, %d at the end", loose, points, durable[points-1])
				if points < 20 || durable[points-1] < 20 {
					t.Errorf("%d points for 20 files, %d at the end", points, durable[points-1])
				}
			}
		})
	}
}

// fileOn is the number of the file on an image, 0 before there is one.
func fileOn(t *testing.T, kind, image string) int {
	t.Helper()
	dir, unmount := relkittest.MountImage(t, kind, image)
	defer unmount()
	name := filepath.Join(dir, "file")
	if _, err := os.Lstat(name); errors.Is(err, os.ErrNotExist) {
		return 0
	}
	return checkWritten(t, name)
}

// lastWrote is the number of the last whole "wrote N" line.
func lastWrote(t testing.TB, console string) int {
	t.Helper()
	n := 0
	for line := range strings.Lines(console) {
		if text, ok := strings.CutPrefix(line, "wrote "); ok && strings.HasSuffix(text, "\n") {
			v, err := strconv.Atoi(strings.TrimSpace(text))
			must(t, err)
			n = v
		}
	}
	return n
}

// written is the content of the nth file: of a length of its own.
func written(n int) []byte {
	return bytes.Repeat(fmt.Appendf(nil, "%d\n", n), 1+n*7919%5000)
}

func checkWritten(t testing.TB, name string) int {
	t.Helper()
	data, err := os.ReadFile(name)
	must(t, err)
	first, _, _ := bytes.Cut(data, []byte("\n"))
	n, err := strconv.Atoi(string(first))
	if err != nil {
		t.Fatalf("%d bytes are there that nobody wrote: %.20q", len(data), data)
	}
	if !bytes.Equal(data, written(n)) {
		t.Fatalf("file %d is not what was written: %d bytes", n, len(data))
	}
	return n
}

// TestVMWriter is what TestVMPowerCut runs in the guest.
func TestVMWriter(t *testing.T) {
	dir := os.Getenv("FSYS_TEST_WRITE")
	if dir == "" {
		return
	}
	f, err := Open(dir)
	must(t, err)
	for n := 1; ; n++ {
		must(t, WriteFile(f, "file", written(n), 0644))
		must(t, f.SetModTime("file", manifest.Time{Sec: int64(n)})) // something that is pending at the cut
		fmt.Printf("wrote %d\n", n)
	}
}
