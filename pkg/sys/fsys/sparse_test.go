package fsys

import (
	"bytes"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"testing/iotest"

	"golang.org/x/sys/unix"
)

// sparsely writes content in pieces of any size, and answers what is there then.
func sparsely(t *testing.T, f FS, name string, content []byte, random *rand.Rand) Info {
	t.Helper()
	w, err := CreateSparse(f, name, 0o600)
	must(t, err)
	for rest := content; len(rest) > 0; {
		n := min(1+random.IntN(100_000), len(rest))
		got, err := w.Write(rest[:n])
		if err != nil || got != n {
			t.Fatalf("%q: %d of %d bytes written, %v", name, got, n, err)
		}
		rest = rest[n:]
	}
	must(t, w.Close())
	got, err := ReadFile(f, name, 1<<30)
	must(t, err)
	if !bytes.Equal(got, content) {
		t.Fatalf("%q: content came back changed", name)
	}
	info, err := f.Lstat(name)
	must(t, err)
	return info
}

// TestSparseWriter: holes of all places and sizes read as what they were, and
// take no room; short runs of zeros, and all of a swap area, are written.
func TestSparseWriter(t *testing.T) {
	real, err := Open(t.TempDir())
	must(t, err)
	defer real.Close()
	data := bytes.Repeat([]byte{7}, 10_000)
	zero := func(n int) []byte { return make([]byte, n) }
	swap := func(page int) []byte {
		b := zero(1 << 20)
		copy(b[page-10:], "SWAPSPACE2")
		return b
	}
	cat := func(all ...[]byte) []byte { return bytes.Join(all, nil) }
	for name, c := range map[string]struct {
		content []byte
		most    int64 // room in bytes; all of it and no less where 0
	}{
		"empty":      {nil, 0},
		"data":       {data, 0},
		"zeros":      {zero(5 << 20), 8192},
		"begin":      {cat(zero(1<<20), data), 24 << 10},
		"end":        {cat(data, zero(1<<20+5)), 24 << 10},
		"middle":     {cat(data, zero(1<<20), data, zero(MinHole+3*ZeroBlock), data), 64 << 10},
		"short":      {cat(data, zero(MinHole-2*ZeroBlock), data), 0},
		"swap":       {swap(4 << 10), 0},
		"swap arm64": {swap(64 << 10), 0},
		"no swap":    {swap(32 << 10), 96 << 10},
	} {
		for seed := range uint64(3) {
			random := rand.New(rand.NewPCG(seed, 1))
			for kind, f := range map[string]FS{"real": real, "memory": NewMem().FS()} {
				info := sparsely(t, f, name, c.content, random)
				if c.most > 0 && info.Room > c.most || c.most == 0 && info.Room < info.Size {
					t.Errorf("%s %q: %d bytes take %d, want at most %d", kind, name, info.Size, info.Room, c.most)
				}
				must(t, f.Unlink(name))
			}
		}
	}
}

// TestSparseWriterFaults makes each step fail: the error comes out, and Close
// leaves nothing open.
func TestSparseWriterFaults(t *testing.T) {
	content := append(append([]byte("a"), make([]byte, 1<<20)...), 'b')
	for k := 1; ; k++ {
		meter := &Meter{FailAt: k, Err: unix.ENOSPC}
		f := Watch(NewMem().FS(), meter)
		w, err := CreateSparse(f, "f", 0o600)
		if err == nil {
			_, err = w.Write(content)
			err = errors.Join(err, w.Close())
		}
		if meter.Count() < k {
			must(t, err)
			if k < 4 {
				t.Errorf("%d steps: no hole", k-1)
			}
			return
		}
		if !errors.Is(err, unix.ENOSPC) {
			t.Errorf("step %d: %v", k, err)
		}
	}
}

// TestMemRoom: holes take no room of a machine in memory until they are written.
func TestMemRoom(t *testing.T) {
	m := NewMem()
	f := m.FS()
	w, err := f.Create("f", 0o600)
	must(t, err, f.Truncate("f", 1<<20))
	m.SetSpace(10_000)
	_, err = w.Write(make([]byte, 6_000))
	must(t, err)
	if n, err := w.Write(make([]byte, 6_000)); n != 4_000 || !errors.Is(err, unix.ENOSPC) {
		t.Errorf("%d bytes, %v", n, err)
	}
	info, err := f.Lstat("f")
	if must(t, err, w.Close()); info.Room != 10_000 || info.Size != 1<<20 {
		t.Errorf("%+v", info)
	}
	must(t, f.Truncate("f", 3_000))
	if info, err = f.Lstat("f"); err != nil || info.Room != 3_000 {
		t.Errorf("%+v, %v", info, err)
	}
}

// TestNextData finds what is between holes, and WriteTo does not read them.
func TestNextData(t *testing.T) {
	dir := t.TempDir()
	out, err := os.Create(filepath.Join(dir, "f"))
	must(t, err)
	_, err = out.WriteAt([]byte("data"), 1<<30)
	must(t, err, out.Truncate(2<<30), out.Close())
	f, err := Open(dir)
	must(t, err)
	defer f.Close()
	folder, err := OpenFolder(f, ".")
	must(t, err)
	defer folder.Close()
	named, err := f.Open("f")
	must(t, err)
	held, err := folder.Open("f")
	must(t, err)
	for _, file := range []File{named, held} {
		from, to := NextData(file, 5)
		if from != 1<<30 || to <= from || to > 1<<30+1<<20 {
			t.Errorf("data from %d to %d", from, to)
		}
		if from, to := NextData(file, to); from != math.MaxInt64 || to != from {
			t.Errorf("more data from %d to %d", from, to)
		}
		n, err := io.Copy(io.Discard, file)
		if err != nil || n != 2<<30 {
			t.Errorf("%d bytes copied, %v", n, err)
		}
		must(t, file.Close())
	}
	plain := sparsely(t, f, "plain", []byte("plain"), rand.New(rand.NewPCG(1, 1)))
	file, err := f.Open("plain")
	must(t, err)
	defer file.Close()
	if from, to := NextData(file, 2); from != 2 || to < plain.Size {
		t.Errorf("data from %d to %d", from, to)
	}
	if b, err := io.ReadAll(iotest.OneByteReader(file)); err != nil || string(b) != "plain" {
		t.Errorf("%q, %v", b, err)
	}
}
