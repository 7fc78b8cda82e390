package fsys

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"
	"testing/iotest"

	"golang.org/x/sys/unix"
)

// TestHolesAreZeros reads files with holes at either end and between, with
// buffers of many sizes, as the kernel gives them byte by byte.
func TestHolesAreZeros(t *testing.T) {
	dir := t.TempDir()
	f, err := Open(dir)
	must(t, err)
	defer f.Close()
	for name, at := range map[string][]int64{"hole": {}, "begin": {0}, "end": {3<<20 - 4}, "middle": {1 << 20, 2<<20 + 77}} {
		out, err := os.Create(filepath.Join(dir, name))
		must(t, err)
		for _, off := range at {
			_, err := out.WriteAt([]byte("data"), off)
			must(t, err)
		}
		must(t, out.Truncate(3<<20), out.Close())
		want, err := os.ReadFile(filepath.Join(dir, name))
		must(t, err)
		folder, err := OpenFolder(f, ".")
		must(t, err)
		for _, wrap := range []func(io.Reader) io.Reader{func(r io.Reader) io.Reader { return r }, iotest.HalfReader} {
			held, err := folder.Open(name)
			must(t, err)
			named, err := f.Open(name)
			must(t, err)
			for _, file := range []File{held, named} {
				got, err := io.ReadAll(wrap(file))
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("%s: got %d bytes, %v, want %d", name, len(got), err, len(want))
				}
				if n, err := file.Read(make([]byte, 9)); n != 0 || err != io.EOF {
					t.Errorf("%s: behind the end: %d, %v", name, n, err)
				}
				must(t, file.Close())
				if n, err := file.Read(make([]byte, 9)); n != 0 || err == nil || err == io.EOF {
					t.Errorf("%s: after Close: %d, %v", name, n, err)
				}
			}
		}
		must(t, folder.Close())
	}
}

// TestHolesAreNotRead: a terabyte of nothing is passed over in no time, and
// takes no room in the kernel's cache.
func TestHolesAreNotRead(t *testing.T) {
	dir := t.TempDir()
	out, err := os.Create(filepath.Join(dir, "f"))
	must(t, err, out.Truncate(1<<40), out.Close())
	var st unix.Stat_t
	must(t, unix.Stat(filepath.Join(dir, "f"), &st))
	if !sparse(&st) {
		t.Fatalf("not sparse: %d blocks", st.Blocks)
	}
	fd, err := unix.Open(filepath.Join(dir, "f"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(fd)
	h := &holes{fd: fd}
	must(t, h.seek())
	if h.data != 1<<40 || h.end != 1<<40 {
		t.Errorf("data from %d to %d, want none", h.data, h.end)
	}
}
