package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/relkit/relkit/pkg/relkittest"
)

// largeSize is more than 32 bits hold.
const largeSize = 1<<32 + 1<<26 + 5

// largeBlocks are what a large file of holes has, offset to bytes: at both ends
// and on either side of 4 GiB.
var largeBlocks = map[int64]string{0: "head", 1<<32 - 3: "across", largeSize - 4: "tail"}

func makeLarge(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for at, text := range largeBlocks {
		if _, err := f.WriteAt([]byte(text), at); err != nil {
			t.Fatal(err)
		}
	}
}

// largeDigest is what the file has by crypto/sha256 alone.
func largeDigest() string {
	h, zeros := sha256.New(), make([]byte, 1<<20)
	at := int64(0)
	for _, next := range []int64{0, 1<<32 - 3, largeSize - 4} {
		for at < next {
			n := min(next-at, int64(len(zeros)))
			h.Write(zeros[:n])
			at += n
		}
		h.Write([]byte(largeBlocks[next]))
		at += int64(len(largeBlocks[next]))
	}
	return hex.EncodeToString(h.Sum(nil))
}

// TestLargeSparseFile takes a file of more than 4 GiB, nearly all of it holes, by
// way of a stream, of its folder and of GNU tar: each image has its size, digest
// and content, and its holes.
func TestLargeSparseFile(t *testing.T) {
	relkittest.Need(t, "tar", "sh")
	tool, dir := buildTool(t), t.TempDir()
	root := filepath.Join(dir, "root")
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	makeLarge(t, filepath.Join(root, "large"))
	var wg sync.WaitGroup
	want := ""
	wg.Go(func() { want = largeDigest() })
	for name, script := range map[string]string{
		"stream": `"$0" prepareclient --root root -o - | "$0" getimage --no-owner --store store - stream`,
		"folder": `"$0" getimage --no-owner --store store root folder`,
		"tar":    `tar --sparse --numeric-owner -C root -cf - . | "$0" getimage --no-owner --store store - tar`,
	} {
		cmd := exec.Command("sh", "-c", script, tool)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
	wg.Wait()
	for _, name := range []string{"stream", "folder", "tar"} {
		image := filepath.Join(dir, "store", name, "1")
		text, err := os.ReadFile(filepath.Join(image, "manifest.mtree"))
		if line := fmt.Sprintf(" size=%d sha256digest=%s\n", int64(largeSize), want); err != nil || !strings.Contains(string(text), line) {
			t.Errorf("%s: want %q: %v\n%s", name, line, err, text)
		}
		checkLarge(t, filepath.Join(image, "tree", "large"))
	}
}

func checkLarge(t *testing.T, path string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Error(err)
		return
	}
	defer f.Close()
	for at, text := range largeBlocks {
		got := make([]byte, len(text))
		if _, err := f.ReadAt(got, at); err != nil || !bytes.Equal(got, []byte(text)) {
			t.Errorf("%s at %d: %q, %v", path, at, got, err)
		}
	}
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if st := info.Sys().(*syscall.Stat_t); st.Size != largeSize || st.Blocks*512 > 1<<20 {
		t.Errorf("%s: %d bytes in %d on the disk", path, st.Size, st.Blocks*512)
	}
}
