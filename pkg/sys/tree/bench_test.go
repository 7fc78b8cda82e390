package tree

import (
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/relkittest"
)

// benchTree is a folder of files whose sizes are those of an operating system's,
// many small and a few large, 34 kB each on average: 1,000 files, or, where
// RELKIT_BENCH_TREE names a folder, 30,000 (1.0 GB) made there at the first run.
// scripts/bench-tree.sh does that.
func benchTree(b *testing.B) string {
	b.Helper()
	dir, folders := os.Getenv("RELKIT_BENCH_TREE"), 1500
	if dir == "" {
		dir, folders = filepath.Join(b.TempDir(), "tree"), 50
	}
	if _, err := os.Stat(dir); err == nil {
		return dir
	}
	r := rand.New(rand.NewPCG(1, 2))
	data := make([]byte, 4<<20)
	for i := range data {
		data[i] = byte(r.Uint32())
	}
	for d := range folders {
		sub := filepath.Join(dir, fmt.Sprintf("d%02d/e%03d", d%40, d))
		if err := os.MkdirAll(sub, 0o755); err != nil {
			b.Fatal(err)
		}
		for f := range 20 {
			size := int(min(34000*r.ExpFloat64()*r.ExpFloat64()*r.ExpFloat64(), float64(len(data))))
			if err := os.WriteFile(filepath.Join(sub, fmt.Sprint("file", f)), data[:size], 0o644); err != nil {
				b.Fatal(err)
			}
		}
	}
	return dir
}

// usage is the processor time and the most memory that this process, or its
// children, have taken.
func usage(b *testing.B, who int) (seconds, megabytes float64) {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(who, &u); err != nil {
		b.Fatal(err)
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9, float64(u.Maxrss) / 1e3
}

// measure runs what is measured and reports, beside the time that went by, the
// processor time, which other programs on the machine do not stretch.
func measure(b *testing.B, who int, run func()) {
	before, _ := usage(b, who)
	b.ResetTimer()
	for range b.N {
		run()
	}
	b.StopTimer()
	after, peak := usage(b, who)
	b.ReportMetric((after-before)*1e3/float64(b.N), "cpu-ms/op")
	b.ReportMetric(peak, "peak-MB")
}

func captured(b *testing.B, dir string, want int) {
	root := open(b, dir)
	measure(b, syscall.RUSAGE_SELF, func() {
		n := 0
		count := func(yield func(*manifest.Entry, error) bool) {
			for e, err := range Capture(b.Context(), root, Options{}) {
				n++
				if !yield(e, err) {
					return
				}
			}
		}
		if _, err := WriteManifest(io.Discard, count); err != nil {
			b.Fatal(err)
		}
		if n < want {
			b.Fatalf("%d entries, want %d", n, want)
		}
	})
}

// BenchmarkCapture writes the manifest; scripts/bench-tree.sh runs it in turns
// with BenchmarkSHA256Sum.
func BenchmarkCapture(b *testing.B) { captured(b, benchTree(b), 1000) }

// BenchmarkSHA256Sum is what a shell does for less: digests alone.
func BenchmarkSHA256Sum(b *testing.B) {
	relkittest.Need(b, "find", "xargs", "sha256sum")
	dir := benchTree(b)
	script := fmt.Sprintf("find . -type f -print0 | xargs -0 -P%d sha256sum >/dev/null", runtime.GOMAXPROCS(0))
	measure(b, syscall.RUSAGE_CHILDREN, func() {
		cmd := exec.Command("sh", "-c", script)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			b.Fatalf("%v\n%s", err, out)
		}
	})
}

// BenchmarkMany writes the manifest of a tree of many small files, a tenth of
// them hard-linked twice: 10,000 names, or a million where RELKIT_BENCH_MANY
// names a folder, made there at the first run. What counts is peak-MB.
func BenchmarkMany(b *testing.B) {
	dir, folders := os.Getenv("RELKIT_BENCH_MANY"), 1000
	if dir == "" {
		dir, folders = filepath.Join(b.TempDir(), "many"), 10
	}
	if _, err := os.Stat(dir); err != nil {
		for d := range folders {
			if err := manyFiles(filepath.Join(dir, fmt.Sprintf("folder-%04d", d)), 1000); err != nil {
				b.Fatal(err)
			}
		}
	}
	captured(b, dir, folders*1000)
}

func manyFiles(dir string, n int) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for f := range n {
		name := filepath.Join(dir, fmt.Sprintf("some-file-of-a-usual-length-%04d", f))
		var err error
		if f%10 == 1 {
			err = os.Link(fmt.Sprintf("%s-%04d", name[:len(name)-5], f-1), name)
		} else {
			err = os.WriteFile(name, []byte(name), 0o644)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
