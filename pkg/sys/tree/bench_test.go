package tree

import (
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/relkit/relkit/pkg/relkittest"
)

// benchTree is a folder of 30,000 files in 1,500 folders, 1.0 GB: the sizes are
// those of an operating system's, many small and a few large. Where
// RELKIT_BENCH_TREE names a folder it is that one, made at the first run.
func benchTree(b *testing.B) string {
	b.Helper()
	dir := os.Getenv("RELKIT_BENCH_TREE")
	if dir == "" {
		dir = filepath.Join(b.TempDir(), "tree")
	}
	if _, err := os.Stat(dir); err == nil {
		return dir
	}
	r := rand.New(rand.NewPCG(1, 2))
	data := make([]byte, 4<<20)
	for i := range data {
		data[i] = byte(r.Uint32())
	}
	for d := range 1500 {
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

// BenchmarkCapture writes the manifest; scripts/bench-tree.sh runs it in turns
// with BenchmarkSHA256Sum.
func BenchmarkCapture(b *testing.B) {
	root := open(b, benchTree(b))
	for b.Loop() {
		if _, err := WriteManifest(io.Discard, Capture(b.Context(), root, Options{})); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSHA256Sum is what a shell does for less: digests alone.
func BenchmarkSHA256Sum(b *testing.B) {
	relkittest.Need(b, "find", "xargs", "sha256sum")
	dir := benchTree(b)
	script := fmt.Sprintf("find . -type f -print0 | xargs -0 -P%d sha256sum >/dev/null", runtime.GOMAXPROCS(0))
	for b.Loop() {
		cmd := exec.Command("sh", "-c", script)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			b.Fatalf("%v\n%s", err, out)
		}
	}
}
