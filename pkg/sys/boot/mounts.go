package boot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/relkit/relkit/pkg/sys/fsys"
)

// mount mounts what fstab(5) has at these places below the root and is not
// mounted: the initramfs mounts the root, and perhaps /usr, and a change may be
// about /boot, too. It returns what takes it away again; the system that starts
// then checks and mounts it in its own way.
func (s *Setup) mount(places []string) (undo func() error, err error) {
	var done []string
	undo = func() error {
		var errs []error
		for _, at := range slices.Backward(done) {
			if err := unix.Unmount(at, 0); err != nil {
				errs = append(errs, fmt.Errorf("unmounting %s: %w", at, err))
			}
		}
		return errors.Join(errs...)
	}
	places = slices.Clone(places)
	slices.Sort(places) // what lies above comes first
	table := ""
	for _, place := range places {
		at := filepath.Join(s.o.Dir, place)
		if mounted, err := isMount(at); err != nil || mounted {
			if err != nil {
				return undo, err
			}
			continue
		}
		if table == "" {
			b, err := fsys.ReadFile(s.root, "etc/fstab", maxSetup)
			if err != nil {
				return undo, err
			}
			table = string(b)
		}
		source, kind, data, ok := entryOf(table, place)
		if !ok {
			continue // no mount point by itself: a subvolume, say
		}
		if err := unix.Mount(device(source), at, kind, 0, data); err != nil {
			return undo, fmt.Errorf("mounting %s at %s: %w", source, at, err)
		}
		done = append(done, at)
	}
	return undo, nil
}

// isMount tells whether a folder is a mount point, by the device of what is above it.
func isMount(dir string) (bool, error) {
	var in, above unix.Stat_t
	if err := unix.Stat(dir, &in); err != nil {
		return false, &os.PathError{Op: "stat", Path: dir, Err: err}
	}
	if err := unix.Stat(filepath.Dir(dir), &above); err != nil {
		return false, &os.PathError{Op: "stat", Path: filepath.Dir(dir), Err: err}
	}
	return in.Dev != above.Dev, nil
}

// entryOf is fstab's entry for a place below the root; of its options only those
// that say which part of a file system is meant are kept.
func entryOf(table, place string) (source, kind, data string, ok bool) {
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		if len(f) < 3 || strings.HasPrefix(f[0], "#") || strings.Trim(fstabUnescape.Replace(f[1]), "/") != place || f[2] == "swap" {
			continue
		}
		var kept []string
		if len(f) > 3 {
			for o := range strings.SplitSeq(f[3], ",") {
				if strings.HasPrefix(o, "subvol=") || strings.HasPrefix(o, "subvolid=") {
					kept = append(kept, o)
				}
			}
		}
		return fstabUnescape.Replace(f[0]), f[2], strings.Join(kept, ","), true
	}
	return "", "", "", false
}

// fstabUnescape undoes what fstab(5) and getmntent(3) write for blanks.
var fstabUnescape = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)

// device is the device of a source, by the links that udev makes.
func device(source string) string {
	key, value, ok := strings.Cut(source, "=")
	if !ok {
		return source
	}
	return "/dev/disk/by-" + strings.ToLower(key) + "/" + strings.Trim(value, `"`)
}
