package process

import (
	"bufio"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// cgroup is a control group (cgroups(7), version 2) of a supervisor's processes:
// none of them gets out of it, and one write ends them all. It is there where the
// supervisor's own group may be written, which is root's case, and that of a user
// whose session has it delegated.
type cgroup struct{ dir *os.File }

// cgroupPrefix is before the cookie in the group's name.
const cgroupPrefix = "relkit-"

// newCgroup makes a group below the supervisor's own; nil where that cannot be had.
func newCgroup(cookie string) *cgroup {
	parent := ownCgroup()
	if parent == "" || cookie == "" {
		return nil
	}
	path := filepath.Join(parent, cgroupPrefix+cookie)
	if err := os.Mkdir(path, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil
	}
	dir, err := os.Open(path)
	if err != nil {
		return nil
	}
	c := &cgroup{dir}
	if _, err := os.Stat(filepath.Join(path, "cgroup.kill")); err != nil { // before Linux 5.14
		c.remove()
		return nil
	}
	return c
}

// ownCgroup is the folder of this process' group; "" where there is none.
func ownCgroup() string {
	root := cgroupRoot()
	b, err := os.ReadFile("/proc/self/cgroup")
	if root == "" || err != nil {
		return ""
	}
	for line := range strings.Lines(string(b)) {
		if path, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::"); ok {
			return filepath.Join(root, path)
		}
	}
	return ""
}

// cgroupRoot is where the second version is mounted; "" where it is not.
func cgroupRoot() string {
	f, err := os.Open("/proc/self/mounts")
	if err != nil {
		return ""
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if fields := strings.Fields(s.Text()); len(fields) > 2 && fields[2] == "cgroup2" && !strings.Contains(fields[1], `\`) {
			return fields[1]
		}
	}
	return ""
}

func (c *cgroup) write(name, value string) error {
	return os.WriteFile(filepath.Join(c.dir.Name(), name), []byte(value), 0)
}

// bound limits the memory of all its processes together, swap included.
func (c *cgroup) bound(bytes int64) error {
	if err := c.write("memory.max", strconv.FormatInt(bytes, 10)); err != nil {
		return err
	}
	if err := c.write("memory.swap.max", "0"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (c *cgroup) kill() { _ = c.write("cgroup.kill", "1") }

// remove removes the group once its last process is gone.
func (c *cgroup) remove() {
	for range 100 {
		if err := os.Remove(c.dir.Name()); err == nil || errors.Is(err, fs.ErrNotExist) {
			break
		}
		time.Sleep(2 * time.Millisecond)
	}
	c.dir.Close()
}

// killCgroup ends what is in the group of a supervisor that is gone.
func killCgroup(cookie string) {
	root := cgroupRoot()
	if root == "" {
		return
	}
	_ = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return nil // what cannot be read is another's
		}
		if d.Name() != cgroupPrefix+cookie {
			return nil
		}
		if dir, err := os.Open(path); err == nil {
			c := &cgroup{dir}
			c.kill()
			c.remove()
		}
		return fs.SkipAll
	})
}
