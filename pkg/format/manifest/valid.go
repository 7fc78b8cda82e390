package manifest

import (
	"fmt"
	"strings"
)

// Bounds of one entry, in bytes: those of Linux (XATTR_NAME_MAX,
// XATTR_LIST_MAX, XATTR_SIZE_MAX) and above them (PATH_MAX), but for the values
// together, which only some file systems bound.
const (
	maxTarget      = 1 << 16
	maxXattrName   = 255
	maxXattrNames  = 1 << 16
	maxXattrValue  = 1 << 16
	maxXattrValues = 1 << 20
)

// Validate tells why e cannot stand in a manifest: each kind has exactly the
// fields it needs, so that an entry has one written form. Symlinks have mode
// 0777, as Linux reports them.
func (e *Entry) Validate() error {
	if err := e.ValidateMeta(); err != nil {
		return err
	}
	if e.Kind == File && e.Digest.IsZero() {
		return fmt.Errorf("entry %q: a file needs a digest", e.Path)
	}
	return nil
}

// ValidateMeta is Validate for an entry whose content was not read yet: a file
// may lack its digest.
func (e *Entry) ValidateMeta() error {
	if !ValidPath(e.Path) {
		return fmt.Errorf("bad path %q", e.Path)
	}
	if TooDeep(e.Path) {
		return fmt.Errorf("entry %.40q…: more than %d folders deep", e.Path, MaxDepth)
	}
	if err := e.validate(); err != nil {
		return fmt.Errorf("entry %q: %w", e.Path, err)
	}
	return nil
}

func (e *Entry) validate() error {
	switch {
	case e.Kind == Unknown || e.Kind > FIFO:
		return fmt.Errorf("a %s cannot be kept", e.Kind)
	case e.Path == "." && e.Kind != Dir:
		return fmt.Errorf("the top of a tree is a dir, not a %s", e.Kind)
	case e.Mode > 0o7777:
		return fmt.Errorf("bad mode %#o", e.Mode)
	case e.Kind == Symlink && e.Mode != 0o777:
		return fmt.Errorf("a link has mode 0777, not %#o", e.Mode)
	case e.ModTime.Nsec < 0 || e.ModTime.Nsec >= 1e9:
		return fmt.Errorf("bad nanoseconds %d", e.ModTime.Nsec)
	case e.Link < 0 || e.Kind == Dir && e.Link != 0:
		return fmt.Errorf("bad hard-link group %d", e.Link)
	}
	if err := e.validateContent(); err != nil {
		return err
	}
	return e.validateXattrs()
}

func (e *Entry) validateContent() error {
	isFile, isLink, isDev := e.Kind == File, e.Kind == Symlink, e.Kind == CharDev || e.Kind == BlockDev
	switch {
	case isFile && e.Size < 0:
		return fmt.Errorf("bad size %d", e.Size)
	case !isFile && (e.Size != 0 || !e.Digest.IsZero()):
		return fmt.Errorf("a %s has no size and no digest", e.Kind)
	case isLink && (e.Target == "" || len(e.Target) > maxTarget || strings.IndexByte(e.Target, 0) >= 0):
		return fmt.Errorf("bad link target %q", e.Target)
	case !isLink && e.Target != "":
		return fmt.Errorf("a %s has no link target", e.Kind)
	case !isDev && (e.Major != 0 || e.Minor != 0):
		return fmt.Errorf("a %s has no device number", e.Kind)
	}
	return nil
}

func (e *Entry) validateXattrs() error {
	names, values := 0, 0
	for i, x := range e.Xattrs {
		switch {
		case x.Name == "" || len(x.Name) > maxXattrName || strings.IndexByte(x.Name, 0) >= 0:
			return fmt.Errorf("bad xattr name %q", x.Name)
		case len(x.Value) > maxXattrValue:
			return fmt.Errorf("xattr %q: %d bytes, at most %d", x.Name, len(x.Value), maxXattrValue)
		case i > 0 && e.Xattrs[i-1].Name >= x.Name:
			return fmt.Errorf("xattr %q is not after %q", x.Name, e.Xattrs[i-1].Name)
		}
		names += len(x.Name) + 1
		values += len(x.Value)
		if names > maxXattrNames || values > maxXattrValues {
			return fmt.Errorf("more than %d bytes of xattr names or %d of values", maxXattrNames, maxXattrValues)
		}
	}
	return nil
}
