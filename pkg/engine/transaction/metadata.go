package transaction

import (
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// labelXattr is given by the kernel's policy, not by a patch that does not name it.
const labelXattr = "security.selinux"

// setMetadata gives name the owner, extended attributes, mode and modification
// time of e, changing only what differs. The owner comes first, since chown
// clears the set-id bits and capabilities, and the time last. open keeps a
// folder searchable and writable for its owner while it is being filled.
func setMetadata(f fsys.FS, name string, e *manifest.Entry, open bool) error {
	info, err := f.Lstat(name)
	if err != nil {
		return err
	}
	if info.UID != e.UID || info.GID != e.GID {
		if err := f.Chown(name, e.UID, e.GID); err != nil {
			return err
		}
	}
	if err := setXattrs(f, name, e.Xattrs); err != nil {
		return err
	}
	if e.Kind != manifest.Symlink {
		mode := e.Mode
		if open {
			mode |= 0o700
		}
		// Read again: chown may have cleared bits.
		if info, err = f.Lstat(name); err != nil {
			return err
		}
		if info.Mode != mode {
			if err := f.Chmod(name, mode); err != nil {
				return err
			}
		}
	}
	if info.ModTime != e.ModTime {
		return f.SetModTime(name, e.ModTime)
	}
	return nil
}

// setXattrs makes want the extended attributes of name.
func setXattrs(f fsys.FS, name string, want []manifest.Xattr) error {
	have, err := f.Xattrs(name)
	if err != nil {
		return err
	}
	values := map[string]string{}
	for _, x := range have {
		values[x.Name] = string(x.Value)
	}
	for _, x := range want {
		if v, ok := values[x.Name]; !ok || v != string(x.Value) {
			if err := f.SetXattr(name, x.Name, x.Value); err != nil {
				return err
			}
		}
		delete(values, x.Name)
	}
	for _, x := range have {
		if _, extra := values[x.Name]; extra && x.Name != labelXattr {
			if err := f.RemoveXattr(name, x.Name); err != nil {
				return err
			}
		}
	}
	return nil
}
