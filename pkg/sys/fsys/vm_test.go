//go:build vm

package fsys

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/relkittest"
)

// vmKinds are the file systems that machines have, with the modules that
// Debian's kernel needs for them and the least size of an image.
var vmKinds = []struct {
	kind    string
	modules []string
	mib     int64
}{{"ext4", nil, 64}, {"xfs", []string{"xfs"}, 320}, {"btrfs", []string{"btrfs"}, 320}}

// TestVMConformance runs this package's tests on each file system under Debian 12's
// Linux 6.1, which has openat2 and neither fchmodat2 nor setxattrat.
func TestVMConformance(t *testing.T) {
	program := relkittest.StaticTest(t, "")
	for _, fs := range vmKinds {
		t.Run(fs.kind, func(t *testing.T) {
			image := relkittest.MakeImage(t, fs.kind, fs.mib)
			m := relkittest.StartVM(t, relkittest.VM{
				Init: `
mount -t ` + fs.kind + ` /dev/vda /mnt || exit
TMPDIR=/mnt fsys.test -test.short
status=$?
umount /mnt && exit $status`,
				Files: map[string]string{"/bin/fsys.test": program}, Disks: []string{image}, Modules: fs.modules,
			})
			m.Wait(5 * time.Minute)
			relkittest.CheckImage(t, fs.kind, image)
		})
	}
}

// TestVMPowerCut cuts the power of a machine that writes one file again and
// again: the file is always one that was written, whole, and never an older one
// than WriteFile has returned for. The disk is carried from cut to cut.
func TestVMPowerCut(t *testing.T) {
	cuts := 4
	if n, err := strconv.Atoi(os.Getenv("RELKIT_TEST_CUTS")); err == nil {
		cuts = n
	}
	program := relkittest.StaticTest(t, "vm")
	for _, fs := range vmKinds {
		t.Run(fs.kind, func(t *testing.T) {
			image := relkittest.MakeImage(t, fs.kind, fs.mib)
			seed := uint64(time.Now().UnixNano())
			random := rand.New(rand.NewPCG(seed, 3))
			t.Logf("seed %d", seed)
			for cut := range cuts {
				m := relkittest.StartVM(t, relkittest.VM{
					Init:  "mount -t " + fs.kind + " /dev/vda /mnt && FSYS_TEST_WRITE=/mnt fsys.test -test.run '^TestVMWriter$'",
					Files: map[string]string{"/bin/fsys.test": program}, Disks: []string{image}, Modules: fs.modules,
				})
				m.WaitFor("wrote 1\r\n", 2*time.Minute)
				time.Sleep(time.Duration(random.IntN(1500)) * time.Millisecond)
				m.Kill()
				dir, unmount := relkittest.MountImage(t, fs.kind, image)
				last := lastWrote(t, m.Console())
				got := checkWritten(t, filepath.Join(dir, "file"))
				if got < last || got > last+1 {
					t.Errorf("cut %d: %d is there, WriteFile had returned for %d", cut, got, last)
				}
				unmount()
				relkittest.CheckImage(t, fs.kind, image)
				t.Logf("cut %d: after %d files, %d is there", cut, last, got)
			}
		})
	}
}

// lastWrote is the number of the last whole "wrote N" line.
func lastWrote(t *testing.T, console string) int {
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

func checkWritten(t *testing.T, name string) int {
	t.Helper()
	data, err := os.ReadFile(name)
	must(t, err)
	first, _, _ := bytes.Cut(data, []byte("\n"))
	n, err := strconv.Atoi(string(first))
	must(t, err)
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
