package tree

import (
	"fmt"
	"testing"

	"github.com/relkit/relkit/pkg/relkittest"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// TestMemoryPerLink captures 12,000 pairs of hard links as far apart as can be:
// while the first names pass, a group takes no more than was set aside for it, and the
// second names have all that the first had.
func TestMemoryPerLink(t *testing.T) {
	const pairs, most = 12_000, 64
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
	digests := make([][32]byte, 0, pairs)
	for e, err := range Capture(t.Context(), fs, Options{Jobs: 1, ahead: 64}) {
		if err != nil {
			t.Fatal(err)
		}
		heap.Count()
		switch {
		case e.Link == 0:
		case e.Path[0] == 'a':
			digests = append(digests, e.Digest)
			if e.Link != len(digests) {
				t.Fatalf("%q is of group %d, want %d", e.Path, e.Link, len(digests))
			}
		case digests[e.Link-1] != e.Digest || e.Size == 0:
			t.Fatalf("%q is not what the first name of group %d was", e.Path, e.Link)
		}
	}
	if limit := int64(pairs*most + 1<<18); len(digests) != pairs || !heap.Done || heap.Bytes > limit {
		t.Errorf("%d groups, %d bytes more, want %d and at most %d", len(digests), heap.Bytes, pairs, limit)
	}
	t.Logf("%d bytes more", heap.Bytes)
}
