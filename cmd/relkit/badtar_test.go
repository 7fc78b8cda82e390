package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
)

// tarOf is an archive of empty files, by another writer than relkit's.
func tarOf(t *testing.T, names ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range names {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// sparse is an archive of one file of holes alone, as GNU tar 1.0 has it.
func sparse(size string) []byte {
	records := ""
	for _, r := range []string{"GNU.sparse.major=1", "GNU.sparse.minor=0", "GNU.sparse.name=holes", "GNU.sparse.realsize=" + size} {
		records += string(rune('0'+(len(r)+4)/10)) + string(rune('0'+(len(r)+4)%10)) + " " + r + "\n"
	}
	m := make([]byte, 512)
	copy(m, "1\n"+size+"\n0\n")
	return joined(rawMember("PaxHeaders/holes", 'x', []byte(records)), rawMember("GNUSparseFile.0/holes", '0', m))
}

// packed compresses an archive and, behind it, so many bytes of zeros.
func packed(t *testing.T, b []byte, zeros int64, pack func(io.Writer) (io.WriteCloser, error)) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := pack(&out)
	if err == nil {
		_, err = w.Write(b)
	}
	for block := make([]byte, 1<<20); err == nil && zeros > 0; zeros -= int64(len(block)) {
		_, err = w.Write(block)
	}
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// maxBombMemory bounds the writable memory of a getimage that is fed a bomb, in bytes.
const maxBombMemory = 512 << 20

// Archives that ask for more than there is: refused soon, in little memory, with
// nothing left in the store and the name free for a good one.
func TestTarBombs(t *testing.T) {
	tool, dir := buildTool(t), t.TempDir()
	zstdOf := func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) }
	gzipOf := func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriterLevel(w, gzip.BestSpeed) }
	good := tarOf(t, "bin/fw")
	for _, c := range []struct {
		what, want string
		status     int
		tar        []byte
	}{
		{"a size of 8 GiB, and no content", "unexpected EOF", 5, tarHeaderOf("a", 1<<33-1)},
		{"a sparse file of 16 TiB", `"holes" is 17592186044416 bytes long, and the store has `, 4, sparse("17592186044416")},
		{"a sparse file of 8 EiB", `"holes" is 9223372036854775807 bytes long, and the store has `, 4, sparse("9223372036854775807")},
		{"a sparse file of more", "header", 1, sparse("9223372036854775808")},
		{"30000 folders deep", "a path more than 512 folders deep", 1, tarOf(t, strings.Repeat("a/", 30000)+"x")},
		{"513 folders deep", "a path more than 512 folders deep", 1, tarOf(t, strings.Repeat("a/", 512)+"x")},
		{"a name of 1 MiB", "header field too long", 1, joined(rawMember("PaxHeaders/a", 'x', []byte("1048591 path="+strings.Repeat("a", 1<<20)+"\n")), rawMember("a", '0', nil))},
		{"a name of 300 bytes", "bad path", 1, tarOf(t, strings.Repeat("a", 300))},
		{"a path that leads out", "bad path", 1, tarOf(t, "../../x")},
		{"a name twice", "twice", 1, tarOf(t, "x", "x")},
		{"a file in a file", "not a folder", 1, tarOf(t, "x", "x/y")},
		{"1 GiB of zeros behind the end, zstd", "bytes behind the archive", 4, packed(t, good, 1<<30, zstdOf)},
		{"256 MiB of zeros behind the end, gzip", "bytes behind the archive", 4, packed(t, good, 1<<28, gzipOf)},
	} {
		file := filepath.Join(dir, "bad.tar")
		if err := os.WriteFile(file, c.tar, 0o600); err != nil {
			t.Fatal(err)
		}
		// The bound on memory is the kernel's: what getrusage(2) tells of a child
		// holds what the parent had when it forked.
		cmd := exec.Command("sh", "-c", `ulimit -d "$0" && exec "$@"`, strconv.Itoa(maxBombMemory>>10),
			tool, "getimage", "--no-owner", "--store", filepath.Join(dir, "store"), file, "fw")
		start := time.Now()
		out, err := cmd.CombinedOutput()
		took := time.Since(start)
		if err == nil || cmd.ProcessState.ExitCode() != c.status || !strings.Contains(string(out), c.want) || len(out) > 2000 {
			t.Errorf("%s: %v, want %d and %q\n%.2000s", c.what, err, c.status, c.want, out)
		}
		if took > 30*time.Second {
			t.Errorf("%s: %v", c.what, took)
		}
		names, err := os.ReadDir(filepath.Join(dir, "store/fw"))
		if err != nil || len(names) != 1 || names[0].Name() != ".lock" {
			t.Errorf("%s: %v is left, %v", c.what, names, err)
		}
	}
	file := filepath.Join(dir, "good.tar")
	if err := os.WriteFile(file, good, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(tool, "getimage", "--no-owner", "--store", filepath.Join(dir, "store"), file, "fw").CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
