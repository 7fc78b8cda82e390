package boot

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/relkit/relkit/pkg/sys/fsys"
)

// readAt and writeAt are about a place that a boot loader's configuration names: a
// device of this machine, or a file of the tree.

func readAt(root fsys.FS, name string, off int64, size int) ([]byte, error) {
	b := make([]byte, size)
	var r io.ReaderAt
	var c io.Closer
	if isDevice(name) {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		r, c = f, f
	} else {
		f, err := root.Open(strings.TrimPrefix(name, "/"))
		if err != nil {
			return nil, err
		}
		r, c = f, f
	}
	defer c.Close()
	if _, err := r.ReadAt(b, off); err != nil {
		return nil, fmt.Errorf("reading %s at %#x: %w", name, off, err)
	}
	return b, nil
}

func writeAt(root fsys.FS, name string, off int64, b []byte) error {
	if isDevice(name) {
		f, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = f.WriteAt(b, off)
		if err == nil {
			err = f.Sync()
		}
		return errors.Join(err, f.Close())
	}
	// fsys writes from the beginning: what lies before off is written as it is.
	rel := strings.TrimPrefix(name, "/")
	before, err := readAt(root, name, 0, int(off))
	if err != nil && off > 0 {
		return err
	}
	w, err := root.Overwrite(rel)
	if err != nil {
		return err
	}
	_, err = w.Write(append(before, b...))
	if err == nil {
		err = w.Sync()
	}
	return errors.Join(err, w.Close())
}

func isDevice(name string) bool { return strings.HasPrefix(name, "/dev/") }
