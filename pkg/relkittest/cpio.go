package relkittest

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// cpio writes an initramfs archive: the "newc" format of cpio(5) and of the
// kernel's Documentation/driver-api/early-userspace/buffer-format.rst. Folders
// above a name are made as needed; the first error stays.
type cpio struct {
	w    io.Writer
	off  int64
	ino  int
	dirs map[string]bool
	err  error
}

func newCPIO(w io.Writer) *cpio { return &cpio{w: w, dirs: map[string]bool{".": true}} }

// The kinds of inode(7), as cpio writes them.
const (
	cpioDir     = 0o040000
	cpioFile    = 0o100000
	cpioSymlink = 0o120000
	cpioChar    = 0o020000
)

func (c *cpio) write(p []byte) {
	if c.err != nil {
		return
	}
	n, err := c.w.Write(p)
	c.off += int64(n)
	c.err = err
}

// pad fills up to a multiple of four.
func (c *cpio) pad() { c.write(make([]byte, (4-c.off%4)%4)) }

func (c *cpio) header(name string, mode uint32, size int64, major, minor uint32) {
	if size >= 1<<32 && c.err == nil {
		c.err = fmt.Errorf("writing initrd: %q has %d bytes, more than cpio can say", name, size)
	}
	c.ino++
	links, mtime := 1, 0
	c.write(fmt.Appendf(nil, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\x00",
		c.ino, mode, 0, 0, links, mtime, size, 0, 0, major, minor, len(name)+1, 0, name))
	c.pad()
}

// parents makes the folders above name.
func (c *cpio) parents(name string) {
	dir := path.Dir(name)
	if !c.dirs[dir] {
		c.dir(dir)
	}
}

func (c *cpio) dir(name string) {
	if c.dirs[name] {
		return
	}
	c.parents(name)
	c.dirs[name] = true
	c.header(name, cpioDir|0755, 0, 0, 0)
}

func (c *cpio) file(name string, mode uint32, data []byte) {
	c.parents(name)
	c.header(name, cpioFile|mode, int64(len(data)), 0, 0)
	c.write(data)
	c.pad()
}

func (c *cpio) symlink(name, target string) {
	c.parents(name)
	c.header(name, cpioSymlink|0777, int64(len(target)), 0, 0)
	c.write([]byte(target))
	c.pad()
}

func (c *cpio) char(name string, mode, major, minor uint32) {
	c.parents(name)
	c.header(name, cpioChar|mode, 0, major, minor)
}

// host adds a file or folder of the host, with its modes, as name.
func (c *cpio) host(name, from string) {
	err := filepath.WalkDir(from, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, p)
		if err != nil {
			return err
		}
		to := path.Join(name, rel)
		switch d.Type() {
		case fs.ModeDir:
			c.dir(to)
			return nil
		case fs.ModeSymlink:
			target, err := os.Readlink(p)
			if err == nil && p != from {
				c.symlink(to, target)
				return nil
			}
			if err != nil {
				return err
			}
		case 0:
		default:
			return fmt.Errorf("%q is neither file, folder nor symlink", p)
		}
		info, err := os.Stat(p)
		if err != nil {
			return err
		}
		data, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		c.file(to, uint32(info.Mode().Perm()), data)
		return nil
	})
	if err != nil && c.err == nil {
		c.err = fmt.Errorf("writing initrd: %w", err)
	}
}

// close ends the archive.
func (c *cpio) close() error {
	c.header("TRAILER!!!", 0, 0, 0, 0)
	return c.err
}

// sortedKeys makes what is written the same every time.
func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// inArchive is a guest's absolute path as cpio names it.
func inArchive(guest string) string { return strings.TrimPrefix(path.Clean("/"+guest), "/") }
