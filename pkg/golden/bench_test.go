package golden

import (
	"io"
	"os"
	"testing"
)

// BenchmarkWrite streams a real tree, RELKIT_BENCH_ROOT or /usr/share: bytes per
// second are those packed, not those read.
func BenchmarkWrite(b *testing.B) {
	root := os.Getenv("RELKIT_BENCH_ROOT")
	if root == "" {
		root = "/usr/share"
	}
	for b.Loop() {
		n := &count{}
		if err := Write(b.Context(), n, options(root)); err != nil {
			b.Fatal(err)
		}
		b.SetBytes(n.n)
	}
}

type count struct{ n int64 }

func (c *count) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}

var _ io.Writer = (*count)(nil)
