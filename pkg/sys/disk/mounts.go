package disk

import (
	"io/fs"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/relkit/relkit/pkg/format/machine"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/format/octal"
)

// Mounts reads proc/self/mounts below root: the file systems that are mounted
// from a device, with the room that space tells of each mount point. A mount
// point that is covered by a later mount is left out.
func Mounts(root fs.FS, space func(path string) (size, free int64, err error)) ([]machine.FileSystem, error) {
	b, err := fs.ReadFile(root, "proc/self/mounts")
	if err != nil {
		return nil, err
	}
	var all []machine.FileSystem
	at := map[string]int{}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 4 {
			continue
		}
		source, point := octal.Unescape(f[0]), octal.Unescape(f[1])
		if i, ok := at[point]; ok {
			all[i].Source = "" // covered
			delete(at, point)
		}
		if !strings.HasPrefix(source, "/") && f[2] != "zfs" {
			continue
		}
		m := machine.FileSystem{Source: manifest.Escape(source), MountPoint: manifest.Escape(point), Type: f[2], Options: f[3]}
		if size, free, err := space(point); err == nil {
			m.SizeBytes, m.FreeBytes = size, free
		}
		at[point] = len(all)
		all = append(all, m)
	}
	kept := all[:0]
	for _, m := range all {
		if m.Source != "" {
			kept = append(kept, m)
		}
	}
	return kept, nil
}

// Space is the size of the file system at a path, and what an ordinary user has
// free there, in bytes.
func Space(path string) (size, free int64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return 0, 0, err
	}
	return int64(st.Blocks) * st.Frsize, int64(st.Bavail) * st.Frsize, nil
}

// Fstab reads etc/fstab below root (fstab(5)): the last two fields may be missing.
func Fstab(root fs.FS) ([]machine.FstabLine, error) {
	b, err := fs.ReadFile(root, "etc/fstab")
	if err != nil {
		return nil, err
	}
	var all []machine.FstabLine
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 3 || strings.HasPrefix(f[0], "#") {
			continue
		}
		l := machine.FstabLine{Spec: f[0], File: f[1], Type: f[2], Options: "defaults"}
		if len(f) > 3 {
			l.Options = f[3]
		}
		if len(f) > 4 {
			l.Freq, _ = strconv.Atoi(f[4])
		}
		if len(f) > 5 {
			l.Pass, _ = strconv.Atoi(f[5])
		}
		all = append(all, l)
	}
	return all, nil
}
