package fsys

import (
	"errors"
	"fmt"
	"io"
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/relkit/relkit/pkg/format/manifest"
)

// tempSuffix ends the names of files that are not complete yet.
const tempSuffix = ".relkit-tmp"

// tempName is the name in the same folder under which name is written first;
// a name too long for its affixes loses its end.
func tempName(name string) string {
	parent := manifest.Parent(name)
	base := name
	if parent != "." {
		base = name[len(parent)+1:]
	}
	base = "." + base[:min(len(base), 255-1-len(tempSuffix))] + tempSuffix
	return join(parent, base)
}

// join is base in the folder parent, "." the folder itself.
func join(parent, base string) string {
	switch {
	case base == ".":
		return parent
	case parent == ".":
		return base
	}
	return parent + "/" + base
}

// WriteFile makes name a regular file of this content and mode, durably: after a
// crash it is the old file or the new one. Two writers of one name must hold a lock.
func WriteFile(fsys FS, name string, data []byte, mode uint32) error {
	return WriteWith(fsys, name, mode, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// WriteWith is WriteFile of what write writes.
func WriteWith(fsys FS, name string, mode uint32, write func(io.Writer) error) error {
	temp := tempName(name)
	if err := fsys.Unlink(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	err := writeSynced(fsys, temp, mode, write)
	if err == nil {
		err = fsys.Rename(temp, name, Replace)
	}
	if err != nil {
		// Best effort: what stays is removed by the next WriteFile.
		_ = fsys.Unlink(temp)
		return err
	}
	return fsys.SyncDir(manifest.Parent(name))
}

func writeSynced(fsys FS, name string, mode uint32, write func(io.Writer) error) error {
	w, err := fsys.Create(name, mode)
	if err != nil {
		return err
	}
	if err = write(w); err == nil {
		err = w.Sync()
	}
	return errors.Join(err, w.Close())
}

// ReadFile is the content of a regular file of at most limit bytes; EFBIG above.
func ReadFile(fsys FS, name string, limit int64) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, pathError("read", name, fmt.Errorf("more than %d bytes: %w", limit, unix.EFBIG))
	}
	return data, nil
}

// MkdirAll makes name and the folders above it that are missing, durably.
// An existing folder keeps its mode.
func MkdirAll(fsys FS, name string, mode uint32) error {
	info, err := fsys.Lstat(name)
	if err == nil {
		if info.Kind != manifest.Dir {
			return pathError("mkdir", name, unix.ENOTDIR)
		}
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent := manifest.Parent(name)
	if err := MkdirAll(fsys, parent, mode); err != nil {
		return err
	}
	if err := fsys.Mkdir(name, mode); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return fsys.SyncDir(parent)
}

// maxDepth bounds RemoveAll; no folder of a valid name is deeper than 32768,
// and none that people make comes near this.
const maxDepth = 1000

// RemoveAll removes name and all below it, following nothing; a missing name is
// no error. It is not durable until a SyncDir of the parent.
func RemoveAll(fsys FS, name string) error { return removeAll(fsys, name, maxDepth) }

func removeAll(fsys FS, name string, depth int) error {
	if depth == 0 {
		return pathError("remove", name, fmt.Errorf("more than %d folders deep: %w", maxDepth, unix.ENAMETOOLONG))
	}
	info, err := fsys.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Kind != manifest.Dir {
		return ignoreMissing(fsys.Unlink(name))
	}
	names, err := fsys.ReadDir(name)
	if err != nil {
		return ignoreMissing(err)
	}
	for _, base := range names {
		if err := removeAll(fsys, join(name, base), depth-1); err != nil {
			return err
		}
	}
	return ignoreMissing(fsys.Rmdir(name))
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
