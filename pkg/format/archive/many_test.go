package archive

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
)

// An archive of more names than are kept in mind is an error, not a matter of memory.
func TestForeignNames(t *testing.T) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for n := range 20 {
		if err := w.WriteHeader(&tar.Header{Name: fmt.Sprintf("d%d/f", n), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for most, want := range map[int]string{42: "", 41: "", 40: `member "d19/f": more than 40 names`, 1: "more than 1 names"} {
		f := NewForeign(bytes.NewReader(b.Bytes()))
		f.most = most
		var err error
		for err == nil {
			_, err = f.Next()
		}
		if want == "" && err != io.EOF || want != "" && !strings.Contains(err.Error(), want) {
			t.Errorf("at most %d: %v, want %q", most, err, want)
		}
	}
}
