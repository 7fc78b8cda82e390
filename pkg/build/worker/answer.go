package worker

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
)

// ErrAnswer is of a worker that answers what no relkit does: it is not what it
// says it is, and nothing else that it answers can be trusted.
var ErrAnswer = errors.New("it is not to be trusted")

const (
	// maxInfos and maxInfoBytes bound an answer that is kept whole.
	maxInfos     = 1 << 20
	maxInfoBytes = 256 << 20
	// maxPath is the length of a path that Linux takes, in bytes.
	maxPath = 4096
)

// distrust is the error of an answer.
func (f remoteFiles) distrust(format string, args ...any) error {
	return fmt.Errorf("worker %q answers %s: %w", f.name, fmt.Sprintf(format, args...), ErrAnswer)
}

// checkInfo refuses a description that no file has.
func (f remoteFiles) checkInfo(i Info) error {
	switch isLink := i.Mode&fs.ModeSymlink != 0; {
	case i.Size < 0:
		return f.distrust("with the size %d of %q", i.Size, i.Path)
	case isLink && i.Target == "" || !isLink && i.Target != "" || len(i.Target) > maxPath || strings.ContainsRune(i.Target, 0):
		return f.distrust("with the target %q of %q, %v", i.Target, i.Path, i.Mode)
	}
	return nil
}

// checkFound refuses a path that is not one of what lies below the root and was
// looked for. Paths are names of files that this machine makes, too.
func (f remoteFiles) checkFound(pattern, name string) error {
	if name == "" || name == "." || len(name) > maxPath || path.IsAbs(name) || path.Clean(name) != name ||
		name == ".." || strings.HasPrefix(name, "../") || strings.ContainsRune(name, 0) {
		return f.distrust("with the path %q", name)
	}
	if !Match(pattern, name) && !matchFolder(pattern, name) {
		return f.distrust("with the path %q, which %q does not match", name, pattern)
	}
	return nil
}
