package initrd

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/relkit/relkit/pkg/relkittest"
)

// cpio is an archive of files whose content is their name.
func cpio(names ...string) []byte {
	var b bytes.Buffer
	for i, name := range append(names, "TRAILER!!!") {
		data := name
		if name == "TRAILER!!!" {
			data = ""
		}
		fmt.Fprintf(&b, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\x00",
			i+1, 0o100755, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name)+1, 0, name)
		b.Write(make([]byte, -b.Len()&3))
		b.WriteString(data)
		b.Write(make([]byte, -b.Len()&3))
	}
	return b.Bytes()
}

func gzipped(b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	w.Write(b)
	w.Close()
	return out.Bytes()
}

func zstded(b []byte) []byte {
	w, _ := zstd.NewWriter(nil)
	return w.EncodeAll(b, nil)
}

func list(b []byte) (names []string, err error) {
	err = List(bytes.NewReader(b), func(name string) bool { names = append(names, name); return true })
	return names, err
}

func TestList(t *testing.T) {
	one, two := cpio("kernel/x86/microcode/GenuineIntel.bin"), cpio("init", "scripts/local-bottom/relkit")
	all := []string{"kernel/x86/microcode/GenuineIntel.bin", "init", "scripts/local-bottom/relkit"}
	padding := make([]byte, 512)
	for name, b := range map[string][]byte{
		"plain": slices.Concat(one, padding, two), "gzip": slices.Concat(one, gzipped(two)), "zstd": slices.Concat(one, padding, zstded(two)),
		"two of gzip": slices.Concat(gzipped(one), padding, gzipped(two)), "packed with padding": gzipped(slices.Concat(one, padding, two, padding)),
	} {
		if got, err := list(b); err != nil || !slices.Equal(got, all) {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
	if _, err := list([]byte("\xfd7zXZ\x00")); !errors.Is(err, ErrCompression) {
		t.Errorf("xz: %v", err)
	}
	for name, b := range map[string][]byte{"cut": two[:130], "no cpio": []byte("0707010000"), "cut gzip": gzipped(two)[:40], "cut zstd": zstded(two)[:20]} {
		if _, err := list(b); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	n := 0
	if err := List(bytes.NewReader(gzipped(two)), func(string) bool { n++; return false }); err != nil || n != 1 {
		t.Errorf("went on after false: %d, %v", n, err)
	}
}

// FuzzList: whatever the bytes are, little memory is used.
func FuzzList(f *testing.F) {
	f.Add(cpio("init"))
	f.Add(gzipped(cpio("init")))
	f.Add(zstded(cpio("init")))
	f.Fuzz(func(t *testing.T, b []byte) {
		relkittest.Allocates(t, 2*maxWindow, func() { // the window of zstd may be allocated twice
			names := 0
			_ = List(bytes.NewReader(b), func(string) bool { names++; return names < 1000 })
		})
	})
}
