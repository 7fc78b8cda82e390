package golden

import (
	"fmt"
	"io"
	"testing"

	"github.com/relkit/relkit/pkg/format/archive"
	"github.com/relkit/relkit/pkg/relkittest"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

type counting struct{ *relkittest.HeapGrowth }

func (counting) Start(int64, string) {}
func (g counting) Add(n int64) {
	if n > 0 { // once a file, for its content is short
		g.Count()
	}
}
func (counting) Done() {}

// TestMemoryPerEntry streams 20,000 files, half of them hard links to a name in
// another folder: what is held grows by the first names of their groups alone.
func TestMemoryPerEntry(t *testing.T) {
	const pairs, most = 10_000, 300
	m := fsys.NewMem()
	fs := m.FS()
	for _, dir := range []string{"a", "b"} {
		if err := fs.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for i := range pairs {
		name := fmt.Sprintf("some-file-of-usual-length-%06d", i)
		if err := fsys.WriteFile(fs, "a/"+name, []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := fs.Link("a/"+name, "b/"+name); err != nil {
			t.Fatal(err)
		}
		if i%500 == 499 { // or the changes not yet synced take their time
			m.SyncAll()
		}
	}
	heap := &relkittest.HeapGrowth{From: pairs / 10, To: pairs}
	opts := options("")
	opts.Progress = counting{heap}
	packed, err := archive.Pack(io.Discard, 1)
	if err != nil {
		t.Fatal(err)
	}
	s := &sender{root: fs, opts: &opts, out: archive.NewWriter(packed), buf: make([]byte, smallFile+1)}
	if err := s.tree(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if limit := int64(pairs*most + 1<<20); !heap.Done || heap.Bytes > limit {
		t.Errorf("%d bytes more after %d files, want at most %d", heap.Bytes, pairs, limit)
	}
}

// TestPackingMemory packs 64 MiB by many jobs: what the packer takes, windows,
// tables and blocks under way, is bounded whatever is asked for.
func TestPackingMemory(t *testing.T) {
	before := relkittest.Heap()
	w, err := archive.Pack(io.Discard, 64)
	if err != nil {
		t.Fatal(err)
	}
	block := make([]byte, 1<<20)
	most := int64(0)
	for i := range 64 {
		for j := range block {
			block[j] = byte(j*j>>8 ^ i*j>>4)
		}
		if _, err := w.Write(block); err != nil {
			t.Fatal(err)
		}
		most = max(most, relkittest.Heap()-before)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if most > 96<<20 || most < 1<<20 {
		t.Errorf("packing takes %d MB", most>>20)
	}
	t.Logf("packing takes %d MB", most>>20)
}
