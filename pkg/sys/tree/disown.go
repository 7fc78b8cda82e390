package tree

import (
	"strings"

	"github.com/relkit/relkit/pkg/format/manifest"
)

// Disown makes another's tree one that uid may restore without being root:
// everything belongs to uid and gid, and what only root can make is left out,
// devices and attributes but user.* and the POSIX ACLs. note hears of that; nil
// does not want to.
func Disown(items Items, uid, gid uint32, note func(path, why string)) Items {
	if note == nil {
		note = func(string, string) {}
	}
	return func(yield func(*Item, error) bool) {
		devices := map[string]bool{}
		for it, err := range items {
			if err != nil {
				yield(it, err)
				return
			}
			if devices[it.LinkTo] || it.LinkTo == "" && (it.Kind == manifest.CharDev || it.Kind == manifest.BlockDev) {
				devices[it.Path] = true
				note(it.Path, "only root can make a device")
				continue
			}
			e := *it.Entry
			e.UID, e.GID, e.Xattrs = uid, gid, ownXattrs(&e, note)
			it.Entry = &e
			if !yield(it, nil) {
				return
			}
		}
	}
}

// ownXattrs are those that the owner of a file may set.
func ownXattrs(e *manifest.Entry, note func(path, why string)) []manifest.Xattr {
	var own []manifest.Xattr
	for _, x := range e.Xattrs {
		if strings.HasPrefix(x.Name, "user.") || strings.HasPrefix(x.Name, "system.posix_acl_") {
			own = append(own, x)
		} else {
			note(e.Path, "only root can set its "+x.Name)
		}
	}
	return own
}
