package health

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/sys/fsys"
	"github.com/relkit/relkit/pkg/sys/lock"
)

// System is what collectors look at. Nothing else of the machine is read, so a
// test gives a tree of fixtures instead.
type System struct {
	// Tree holds the files of what is installed: etc, run, var.
	Tree fs.FS
	// Path is where Tree is seen from this process: "/", or the folder given as --root.
	Path string
	// Kernel holds proc and sys of the running kernel.
	Kernel fs.FS
	// OpenState opens the state folder, relkit's own, to read it; fs.ErrNotExist
	// where it is not there.
	OpenState func() (fsys.FS, error)
	// Working tells whether a relkit works on the machine now.
	Working func() (bool, error)
	// WriteState makes a file of the state folder, whole or not at all, and the
	// folder where it is not there.
	WriteState func(name string, data []byte) error
	// Statfs measures the file system at a path of this process. It may block
	// for ever (a network file system whose server is gone).
	Statfs func(path string) (Space, error)
	Now    func() time.Time
	// Random gives the bytes of report ids.
	Random io.Reader
	// Architecture is the machine's, in Go's words: amd64, arm64.
	Architecture string
	// Version is relkit's own.
	Version string
}

// Space is what statfs(2) says of a file system, in bytes and inodes.
type Space struct {
	Size, Free, Available uint64 // bytes; Available is what is left to ordinary users
	Inodes, InodesFree    uint64 // 0 where the file system has no fixed number
}

// Used is the share of the bytes in use, as df(1) computes it: what is reserved
// for root counts as neither used nor free. NaN never comes out.
func (s Space) Used() float64 {
	used := s.Size - min(s.Free, s.Size)
	if used+s.Available == 0 {
		return 0
	}
	return float64(used) / float64(used+s.Available)
}

// InodesUsed is the share of the inodes in use; ok is false where there is no
// fixed number of them.
func (s Space) InodesUsed() (share float64, ok bool) {
	if s.Inodes == 0 {
		return 0, false
	}
	return float64(s.Inodes-min(s.InodesFree, s.Inodes)) / float64(s.Inodes), true
}

// Host is this machine, with what is installed at root. Its state is in the
// folder state; "" is var/lib/relkit under root.
func Host(root, state, version string) (*System, io.Closer, error) {
	tree, closer, err := openTree(root)
	if err != nil {
		return nil, nil, err
	}
	if state == "" {
		state = filepath.Join(root, "var/lib/relkit")
	}
	return &System{
		Tree: tree, Path: root, Kernel: os.DirFS("/"),
		OpenState:  func() (fsys.FS, error) { return fsys.Open(state) },
		Working:    func() (bool, error) { return lock.Held(filepath.Join(state, lockFile)) },
		WriteState: func(name string, data []byte) error { return writeState(state, name, data) },
		Statfs:     statfs, Now: time.Now, Random: rand.Reader,
		Architecture: runtime.GOARCH, Version: version,
	}, closer, nil
}

// lockFile is held in the state folder by every relkit that changes the machine.
const lockFile = "lock"

// writeState writes under a name of its own first, so that two runs at once
// cannot mix: the later one stays.
func writeState(dir, name string, data []byte) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	f, err := fsys.NewAtomic(filepath.Join(dir, name), 0o600)
	if err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return errors.Join(err, f.Abort())
	}
	return f.Commit()
}

// openTree opens what is installed at root. A folder other than "/" is not
// trusted to hold links that stay inside, so names that lead out are errors.
func openTree(root string) (fs.FS, io.Closer, error) {
	if root == "/" {
		return os.DirFS("/"), io.NopCloser(nil), nil
	}
	r, err := os.OpenRoot(root)
	if err != nil {
		return nil, nil, failure.As(failure.Usage, fmt.Errorf("opening the root: %w", err))
	}
	return r.FS(), r, nil
}

// statfs is System.Statfs of this machine.
func statfs(path string) (Space, error) {
	var st unix.Statfs_t
	for {
		err := unix.Statfs(path, &st)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return Space{}, err
		}
		break
	}
	unit := uint64(st.Frsize)
	if unit == 0 {
		unit = uint64(st.Bsize)
	}
	return Space{
		Size: st.Blocks * unit, Free: st.Bfree * unit, Available: st.Bavail * unit,
		Inodes: st.Files, InodesFree: st.Ffree,
	}, nil
}

// readLimited is the contents of a file of at most limit bytes.
func readLimited(fsys fs.FS, name string, limit int64) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("reading %s: longer than %d bytes", name, limit)
	}
	return b, nil
}

// maxText is the longest of the one-line files of /proc, /sys and /etc, in bytes.
const maxText = 64 << 10

// readText is a one-line file as clean text.
func readText(fsys fs.FS, name string) (string, error) {
	b, err := readLimited(fsys, name, maxText)
	if err != nil {
		return "", err
	}
	return clean(string(b)), nil
}

// readUint is a file that holds one decimal number.
func readUint(fsys fs.FS, name string) (uint64, error) {
	s, err := readText(fsys, name)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("reading %s: bad number %q", name, s)
	}
	return n, nil
}

// maxValue is the longest text that a report repeats from the machine, in bytes.
const maxValue = 256

// clean makes text from the machine fit to be sent: the first line, without
// spaces around it, valid UTF-8, printable, at most maxValue bytes.
func clean(s string) string {
	s = strings.TrimLeft(s, " \t\r\n\x00")
	s, _, _ = strings.Cut(s, "\n")
	s = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, s)
	s = strings.TrimSpace(s)
	for len(s) > maxValue {
		_, size := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-size]
	}
	return strings.TrimSpace(s)
}

// parseUptime reads /proc/uptime: seconds since boot, and idle seconds.
func parseUptime(b []byte) (float64, error) {
	first, _, _ := strings.Cut(strings.TrimSpace(string(b)), " ")
	n, err := strconv.ParseFloat(first, 64)
	// The bound keeps out what ParseFloat reads besides decimals: NaN and Inf.
	if err != nil || !(n >= 0 && n < 1e12) {
		return 0, fmt.Errorf("bad uptime %q", first)
	}
	return n, nil
}

// parseOSRelease finds PRETTY_NAME in an os-release(5) file; "" for none.
func parseOSRelease(b []byte) string {
	for line := range strings.SplitSeq(string(b), "\n") {
		v, ok := strings.CutPrefix(strings.TrimSpace(line), "PRETTY_NAME=")
		if !ok {
			continue
		}
		if n := len(v); n >= 2 && (v[0] == '"' || v[0] == '\'') && v[n-1] == v[0] {
			quoted := v[0] == '"'
			v = v[1 : n-1]
			if quoted {
				v = strings.NewReplacer(`\"`, `"`, `\\`, `\`, `\$`, `$`, "\\`", "`").Replace(v)
			}
		}
		return clean(v)
	}
	return ""
}
