package health

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"github.com/relkit/relkit/pkg/format/octal"
)

// mount is one line of /proc/PID/mountinfo, proc_pid_mountinfo(5). Texts are
// raw bytes: the kernel's octal escapes are undone.
type mount struct {
	id, parent   int
	major, minor uint32
	// root is the folder of the file system that is seen at the mount point:
	// other than "/" for bind mounts and subvolumes.
	root, point string
	// options are those of this mount, super those of the file system.
	options  string
	optional []string
	fstype   string
	source   string
	super    string
}

// readOnly tells whether writing is refused here, be it by this mount or by
// the file system as a whole (as after an error with errors=remount-ro).
func (m *mount) readOnly() bool {
	return hasOption(m.options, "ro") || hasOption(m.super, "ro") || m.shutDown()
}

// shutDown tells whether the file system stopped itself after an error, in the
// words ext4 and others add to their options (Linux 6.15 and later).
func (m *mount) shutDown() bool {
	return hasOption(m.super, "emergency_ro") || hasOption(m.super, "shutdown")
}

// remote tells whether another machine or a program has to answer for the file
// system: what may never happen.
func (m *mount) remote() bool {
	return strings.Contains(m.source, ":") || strings.HasPrefix(m.source, "//") || strings.HasPrefix(m.fstype, "fuse") ||
		m.fstype == "9p" || m.fstype == "afs"
}

// hasOption tells whether a comma-separated list holds an option.
func hasOption(list, option string) bool {
	for o := range strings.SplitSeq(list, ",") {
		if o == option {
			return true
		}
	}
	return false
}

// parseMountinfo reads the whole of a mountinfo file.
func parseMountinfo(b []byte) ([]mount, error) {
	var mounts []mount
	for n := 1; len(b) > 0; n++ {
		line, rest, _ := bytes.Cut(b, []byte("\n"))
		b = rest
		m, err := parseMount(string(line))
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		mounts = append(mounts, m)
	}
	return mounts, nil
}

// parseMount reads one line. Fields are parted by single spaces, and may be
// empty: a mount made with an empty source has one.
func parseMount(line string) (mount, error) {
	var m mount
	f := strings.Split(line, " ")
	sep := -1
	for i := 6; i < len(f); i++ {
		if f[i] == "-" {
			sep = i
			break
		}
	}
	if sep < 0 || len(f) != sep+4 {
		return m, fmt.Errorf("bad mount %q", line)
	}
	var err error
	if m.id, err = parseID(f[0]); err != nil {
		return m, err
	}
	if m.parent, err = parseID(f[1]); err != nil {
		return m, err
	}
	if m.major, m.minor, err = parseDevice(f[2]); err != nil {
		return m, err
	}
	m.root, m.point = octal.Unescape(f[3]), octal.Unescape(f[4])
	m.options = octal.Unescape(f[5])
	m.optional = f[6:sep]
	m.fstype, m.source, m.super = octal.Unescape(f[sep+1]), octal.Unescape(f[sep+2]), octal.Unescape(f[sep+3])
	return m, nil
}

func parseID(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 31)
	if err != nil {
		return 0, fmt.Errorf("bad mount id %q", s)
	}
	return int(n), nil
}

// parseDevice reads MAJOR:MINOR.
func parseDevice(s string) (major, minor uint32, err error) {
	a, b, ok := strings.Cut(s, ":")
	x, err1 := strconv.ParseUint(a, 10, 32)
	y, err2 := strconv.ParseUint(b, 10, 32)
	if !ok || err1 != nil || err2 != nil {
		return 0, 0, fmt.Errorf("bad device %q", s)
	}
	return uint32(x), uint32(y), nil
}

// fstabEntry is one line of fstab(5).
type fstabEntry struct {
	source, point, fstype, options string
}

// readOnly tells what the line asks for: the last of ro and rw counts.
func (e *fstabEntry) readOnly() bool {
	ro := false
	for o := range strings.SplitSeq(e.options, ",") {
		switch o {
		case "ro":
			ro = true
		case "rw":
			ro = false
		}
	}
	return ro
}

// parseFstab reads an fstab(5). A line with fewer than three fields is passed
// over, as mount(8) does.
func parseFstab(b []byte) []fstabEntry {
	var entries []fstabEntry
	for line := range strings.SplitSeq(string(b), "\n") {
		f := strings.FieldsFunc(line, func(r rune) bool { return r == ' ' || r == '\t' || r == '\r' })
		if len(f) < 3 || strings.HasPrefix(f[0], "#") {
			continue
		}
		e := fstabEntry{source: octal.Unescape(f[0]), point: octal.Unescape(f[1]), fstype: f[2], options: "defaults"}
		if len(f) > 3 {
			e.options = f[3]
		}
		entries = append(entries, e)
	}
	return entries
}
