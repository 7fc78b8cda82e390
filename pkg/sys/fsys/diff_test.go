package fsys

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/relkit/relkit/pkg/format/manifest"
)

// TestDifferential does the same random things to the kernel's file system and
// to the one in memory: every answer and every state must be alike.
func TestDifferential(t *testing.T) {
	rounds, steps := 100, 300
	if testing.Short() {
		rounds = 8
	}
	for seed := range rounds {
		random := rand.New(rand.NewPCG(uint64(seed), 1))
		mem := NewMem()
		mem.SetLikeXFS(onXFS(t))
		r, m := openTemp(t), mem.FS()
		var log []string
		for range steps {
			act := randomAct(random)
			a, b := act.on(r), act.on(m)
			log = append(log, act.what+" = "+a)
			if a != b {
				t.Fatalf("seed %d: the kernel says %s, memory says %s, after\n%s", seed, a, b, strings.Join(log, "\n"))
			}
		}
		if a, b := dump(r), dump(m); a != b {
			t.Fatalf("seed %d: the kernel has\n%s\nmemory has\n%s\nafter\n%s", seed, a, b, strings.Join(log, "\n"))
		}
		must(t, r.Close())
	}
}

// onXFS tells whether the tests' temporary folder is on xfs.
func onXFS(t *testing.T) bool {
	t.Helper()
	var st unix.Statfs_t
	must(t, unix.Statfs(t.TempDir(), &st))
	return st.Type == unix.XFS_SUPER_MAGIC
}

type act struct {
	what string
	do   func(FS) (any, error)
}

func (a act) on(f FS) string {
	v, err := a.do(f)
	if err == nil {
		return fmt.Sprint(v)
	}
	var p *fs.PathError
	var e syscall.Errno
	if errors.As(err, &p) && errors.As(err, &e) {
		return fmt.Sprintf("%s %q %s", p.Op, p.Path, e.Error())
	}
	return err.Error()
}

// randomAct is one of everything on few names, so that they meet.
func randomAct(random *rand.Rand) act {
	name := func() string {
		parts := []string{"a", "b", "c"}
		n := parts[random.IntN(3)]
		for random.IntN(2) == 0 && len(n) < 7 {
			n += "/" + parts[random.IntN(3)]
		}
		if random.IntN(30) == 0 {
			return "."
		}
		return n
	}
	x, y, k := name(), name(), random.IntN(1000)
	does := func(what string, do func(FS) error) act {
		return act{what, func(f FS) (any, error) { return nil, do(f) }}
	}
	switch random.IntN(22) {
	case 0, 1, 2:
		return does("create "+x, func(f FS) error {
			w, err := f.Create(x, uint32(k)&0777)
			if err != nil {
				return err
			}
			_, err = w.Write(make([]byte, k))
			return errors.Join(err, w.Close())
		})
	case 3:
		return does("append "+x, func(f FS) error {
			w, err := f.Append(x)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(w, "%d", k)
			return errors.Join(err, w.Close())
		})
	case 4:
		return does("truncate "+x, func(f FS) error { return f.Truncate(x, int64(k)) })
	case 5, 6, 7:
		return does("mkdir "+x, func(f FS) error { return f.Mkdir(x, uint32(k)|0700) })
	case 8:
		return does("symlink "+x, func(f FS) error { return f.Symlink(y, x) })
	case 9:
		return does("fifo "+x, func(f FS) error { return f.Mknod(x, manifest.FIFO, uint32(k), 0, 0) })
	case 10, 11:
		return does("link "+x+" "+y, func(f FS) error { return f.Link(x, y) })
	case 12:
		return does("unlink "+x, func(f FS) error { return f.Unlink(x) })
	case 13:
		return does("rmdir "+x, func(f FS) error { return f.Rmdir(x) })
	case 14, 15, 16:
		mode := RenameMode(random.IntN(3))
		return does(mode.String()+" "+x+" "+y, func(f FS) error { return f.Rename(x, y, mode) })
	case 17:
		return does("chmod "+x, func(f FS) error { return f.Chmod(x, uint32(k)|0700) })
	case 18:
		return does("utimens "+x, func(f FS) error { return f.SetModTime(x, manifest.Time{Sec: int64(k), Nsec: int64(k)}) })
	case 19:
		return does("setxattr "+x, func(f FS) error { return f.SetXattr(x, "user."+y[:1], []byte(y)) })
	case 20:
		return does("removexattr "+x, func(f FS) error { return f.RemoveXattr(x, "user."+y[:1]) })
	default:
		return act{"readdir " + x, func(f FS) (any, error) { return f.ReadDir(x) }}
	}
}

// dump is a tree as text, all that two implementations must agree on.
func dump(f FS) string {
	var b strings.Builder
	var walk func(name string)
	first := map[uint64]string{}
	walk = func(name string) {
		i, err := f.Lstat(name)
		if err != nil {
			fmt.Fprintf(&b, "%s: %v\n", name, err)
			return
		}
		fmt.Fprintf(&b, "%s %v %04o", name, i.Kind, i.Mode)
		if i.ModTime.Sec < 1000 { // set, not from a clock
			fmt.Fprintf(&b, " %d.%09d", i.ModTime.Sec, i.ModTime.Nsec)
		}
		if i.Kind != manifest.Dir {
			if first[i.Ino] == "" {
				first[i.Ino] = name
			}
			fmt.Fprintf(&b, " links=%d size=%d first=%s", i.Links, i.Size, first[i.Ino])
		}
		attrs, err := f.Xattrs(name)
		fmt.Fprintf(&b, " %q %v", onlyUser(attrs), err)
		switch i.Kind {
		case manifest.File:
			data, err := ReadFile(f, name, 1<<20)
			fmt.Fprintf(&b, " %q %v\n", bytes.TrimRight(data, "\x00"), err)
		case manifest.Symlink:
			target, err := f.Readlink(name)
			fmt.Fprintf(&b, " -> %s %v\n", target, err)
		case manifest.Dir:
			names, err := f.ReadDir(name)
			fmt.Fprintf(&b, " %v\n", err)
			for _, n := range names {
				walk(join(name, n))
			}
		default:
			b.WriteByte('\n')
		}
	}
	walk(".")
	return b.String()
}
