package patchmake

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/relkit/relkit/pkg/format/delta"
	"github.com/relkit/relkit/pkg/format/patch"
)

// huge writes a file with holes that is longer than 32 bits count, with the
// pieces of content at their offsets.
func huge(t *testing.T, dir, name string, size int64, pieces map[int64][]byte) {
	t.Helper()
	path := filepath.Join(dir, name)
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	for off, b := range pieces {
		if _, err := f.WriteAt(b, off); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	at := time.Unix(1_600_000_000, 0)
	if err := os.Chtimes(path, at, at); err != nil {
		t.Fatal(err)
	}
	settle(t, dir)
}

// TestSparseAbove4GiB makes a patch of a file with holes whose data are behind
// the offsets that 32 bits hold, in the old file, in the new one and in the
// output; Make itself applies it, compares, takes it back and compares. What
// moved there is copied from the old file.
func TestSparseAbove4GiB(t *testing.T) {
	if testing.Short() {
		t.Log("not in short tests: the file is hashed nine times")
		return
	}
	const beyond = 4<<30 + 1<<20
	old, new := t.TempDir(), t.TempDir()
	data := []byte(noise(3, 2<<20))
	huge(t, old, "disk", beyond+8<<20, map[int64][]byte{beyond: data, 5 << 20: []byte("old")})
	huge(t, new, "disk", beyond+9<<20, map[int64][]byte{beyond + 1<<20 + 77: data, beyond + 8<<20: []byte("new"), 5 << 20: []byte("old")})
	o := Options{Old: old, New: new, Jobs: 2, Level: delta.Fast}
	o.Meta.Product, o.Meta.FromVersion, o.Meta.ToVersion = "fw", "1", "2"
	_, p, entries, b := mustRun(t, o)
	if len(b) > 1<<20 {
		t.Errorf("the patch has %d bytes", len(b))
	}
	var c patch.Change
	for _, c = range entries.Changes {
		if c.Path() == "disk" {
			break
		}
	}
	if want := int64(beyond + 9<<20); c.New == nil || c.New.Size != want || c.Holes < want-4<<20 || c.Holes >= want {
		t.Errorf("%+v", c)
	}
	file, err := os.Open(filepath.Join(old, "disk"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		t.Fatal(err)
	}
	bases := func(int) (io.ReaderAt, int64, error) { return file, info.Size(), nil }
	var d delta.Decoder
	defer d.Close()
	for {
		s, offset, body, err := p.NextSegment()
		if err == io.EOF {
			t.Fatal("nothing above 4 GiB is copied from the old file")
		}
		if err != nil {
			t.Fatal(err)
		}
		if offset < 4<<30 || s.Method != delta.Block {
			continue
		}
		var out bytes.Buffer
		if err := d.Decode(s.Method, body, s.Output, bases, &out); err != nil {
			t.Fatal(err)
		}
		at := beyond + 1<<20 + 77 - offset
		if got := out.Bytes()[at:]; !bytes.HasPrefix(got, data[:1000]) {
			t.Error("other bytes came out")
		}
		return
	}
}

func TestLongZeros(t *testing.T) {
	b := make([]byte, 300<<10)
	b[0], b[100<<10], b[160<<10] = 1, 1, 1
	for at, want := range map[int64]int64{0: 96<<10 + 136<<10, 4096: 96<<10 + 136<<10, 1: 96<<10 + 136<<10} {
		if got := longZeros(at, b); got > want || got < want-16<<10 {
			t.Errorf("at %d: %d bytes, want %d", at, got, want)
		}
	}
	if got := longZeros(0, b[:60<<10]); got != 0 {
		t.Errorf("a short run: %d bytes", got)
	}
}
