package transaction

import (
	"slices"

	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// labelXattr is given by the kernel's policy, not by a patch that does not name it.
const labelXattr = "security.selinux"

// setMetadata gives name, which info describes, the owner, extended attributes,
// mode and modification time of e, changing only what differs. The owner comes
// first, since chown clears the set-id bits and capabilities, and the time last.
// open keeps a folder searchable and writable for its owner while it is filled.
func setMetadata(f fsys.FS, name string, info fsys.Info, e *manifest.Entry, open bool) error {
	if info.UID != e.UID || info.GID != e.GID {
		if err := f.Chown(name, e.UID, e.GID); err != nil {
			return err
		}
		var err error
		if info, err = f.Lstat(name); err != nil {
			return err
		}
	}
	if err := setXattrs(f, name, e.Xattrs); err != nil {
		return err
	}
	return setModeAndTime(f, name, info, e, open)
}

func setModeAndTime(f fsys.FS, name string, info fsys.Info, e *manifest.Entry, open bool) error {
	mode := e.Mode
	if open {
		mode |= 0o700
	}
	if e.Kind != manifest.Symlink && info.Mode != mode {
		if err := f.Chmod(name, mode); err != nil {
			return err
		}
	}
	if info.ModTime != e.ModTime {
		return f.SetModTime(name, e.ModTime)
	}
	return nil
}

// setFolder gives the folder of a Meta step the metadata of e, one of its sides:
// of a folder that stays a folder only what the two sides differ in, and the
// time, which renames in it have moved. The rest may be an administrator's.
func setFolder(f fsys.FS, step *journal.Step, info fsys.Info, e *manifest.Entry, opened bool) error {
	o, n := step.Old, step.New
	if o == nil || n == nil {
		return setMetadata(f, e.Path, info, e, false)
	}
	want := *e
	if o.UID == n.UID && o.GID == n.GID {
		want.UID, want.GID = info.UID, info.GID
	}
	if o.Mode == n.Mode && !(opened && info.Mode == e.Mode|0o700) {
		want.Mode = info.Mode
	}
	if slices.EqualFunc(o.Xattrs, n.Xattrs, sameXattr) && want.UID == info.UID && want.GID == info.GID {
		return setModeAndTime(f, e.Path, info, &want, false)
	}
	return setMetadata(f, e.Path, info, &want, false)
}

func isLabel(x manifest.Xattr) bool { return x.Name == labelXattr }

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
		if _, extra := values[x.Name]; extra && !isLabel(x) {
			if err := f.RemoveXattr(name, x.Name); err != nil {
				return err
			}
		}
	}
	return nil
}
