package fsys

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/relkit/relkit/pkg/format/manifest"
)

// tree is a file system as name to content; folders as "/", symlinks as "-> target".
func tree(t testing.TB, f FS) map[string]string {
	t.Helper()
	all := map[string]string{}
	var walk func(dir string)
	walk = func(dir string) {
		names, err := f.ReadDir(dir)
		must(t, err)
		for _, base := range names {
			name := join(dir, base)
			switch i := lstat(t, f, name); i.Kind {
			case manifest.Dir:
				all[name] = "/"
				walk(name)
			case manifest.Symlink:
				target, err := f.Readlink(name)
				must(t, err)
				all[name] = "-> " + target
			default:
				all[name] = get(t, f, name)
			}
		}
	}
	walk(".")
	return all
}

func show(m map[string]string) string {
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(m)) {
		fmt.Fprintf(&b, "%s=%q ", k, m[k])
	}
	return strings.TrimSpace(b.String())
}

// synced is WriteFile's content without its name.
func synced(t testing.TB, f FS, name, content string) {
	t.Helper()
	must(t, writeSynced(f, name, 0o644, func(w io.Writer) error { _, err := io.WriteString(w, content); return err }))
}

// TestCrashKeepsWhatIsSynced: what is left with nothing unsynced kept, worked
// out by hand from the manual pages.
func TestCrashKeepsWhatIsSynced(t *testing.T) {
	cases := []struct {
		name string
		do   func(t *testing.T, f FS) // on a durable old="old", dir/, dir/in="in"
		want string
	}{
		{"nothing synced", func(t *testing.T, f FS) {
			put(t, f, "new", "x")
			must(t, f.Unlink("old"), f.Mkdir("d2", 0755), f.Rename("dir/in", "in", Replace))
		}, `dir="/" dir/in="in" old="old"`},
		{"content without its name", func(t *testing.T, f FS) {
			synced(t, f, "new", "x")
		}, `dir="/" dir/in="in" old="old"`},
		{"a name without its content", func(t *testing.T, f FS) {
			put(t, f, "new", "x")
			must(t, f.SyncDir("."))
		}, `dir="/" dir/in="in" new="" old="old"`},
		{"content and name", func(t *testing.T, f FS) {
			synced(t, f, "new", "x")
			must(t, f.SyncDir("."))
		}, `dir="/" dir/in="in" new="x" old="old"`},
		{"content after the name", func(t *testing.T, f FS) {
			put(t, f, "new", "x")
			must(t, f.SyncDir("."), f.SyncFile("new"))
		}, `dir="/" dir/in="in" new="x" old="old"`},
		{"only the first half synced", func(t *testing.T, f FS) {
			w, err := f.Append("old")
			must(t, err)
			_, err = io.WriteString(w, "+1")
			must(t, err, w.Sync())
			_, err = io.WriteString(w, "+2")
			must(t, err, w.Close())
		}, `dir="/" dir/in="in" old="old+1"`},
		{"truncation unsynced", func(t *testing.T, f FS) {
			must(t, f.Truncate("old", 0))
		}, `dir="/" dir/in="in" old="old"`},
		{"replaced by rename without fsync of the folder", func(t *testing.T, f FS) {
			synced(t, f, "tmp", "new")
			must(t, f.Rename("tmp", "old", Replace))
		}, `dir="/" dir/in="in" old="old"`},
		{"WriteFile", func(t *testing.T, f FS) {
			must(t, WriteFile(f, "old", []byte("new"), 0600))
		}, `dir="/" dir/in="in" old="new"`},
		{"replaced by rename without fsync of the file", func(t *testing.T, f FS) {
			put(t, f, "tmp", "new")
			must(t, f.Rename("tmp", "old", Replace), f.SyncDir("."))
		}, `dir="/" dir/in="in" old=""`},
		{"rename over two folders, the new one synced", func(t *testing.T, f FS) {
			must(t, f.Rename("old", "dir/old", Replace), f.SyncDir("dir"))
		}, `dir="/" dir/in="in" dir/old="old"`},
		{"rename over two folders, the old one synced", func(t *testing.T, f FS) {
			must(t, f.Rename("old", "dir/old", Replace), f.SyncDir("."))
		}, `dir="/" dir/in="in" dir/old="old"`},
		{"exchange over two folders, one synced", func(t *testing.T, f FS) {
			must(t, f.Rename("old", "dir/in", Exchange), f.SyncDir("dir"))
		}, `dir="/" dir/in="old" old="in"`},
		{"exchange twice, synced between", func(t *testing.T, f FS) {
			must(t, f.Rename("old", "dir/in", Exchange), f.SyncDir("dir"), f.Rename("old", "dir/in", Exchange))
		}, `dir="/" dir/in="old" old="in"`},
		{"an exchange brings the name of what it exchanges", func(t *testing.T, f FS) {
			synced(t, f, "dir/new", "new")
			must(t, f.Rename("dir/new", "old", Exchange), f.SyncDir("."))
		}, `dir="/" dir/in="in" dir/new="old" old="new"`},
		{"names in a folder that has none", func(t *testing.T, f FS) {
			must(t, f.Mkdir("d2", 0755))
			synced(t, f, "d2/x", "x")
			must(t, f.SyncDir("d2"))
		}, `dir="/" dir/in="in" old="old"`},
		{"a move into a folder brings the folder", func(t *testing.T, f FS) {
			must(t, f.Mkdir("d2", 0755), f.Mkdir("d2/d3", 0755), f.Rename("old", "d2/d3/old", Replace), f.SyncDir("d2/d3"))
		}, `d2="/" d2/d3="/" d2/d3/old="old" dir="/" dir/in="in"`},
		{"a removed folder brings the removal of what was in it", func(t *testing.T, f FS) {
			must(t, f.Unlink("dir/in"), f.Rmdir("dir"), f.SyncDir("."))
		}, `old="old"`},
		{"a removed folder brings the moves out of it", func(t *testing.T, f FS) {
			must(t, f.Mkdir("d2", 0755), f.SyncFS("."), f.Rename("dir/in", "d2/in", Replace), f.Rmdir("dir"), f.SyncDir("."))
		}, `d2="/" d2/in="in" old="old"`},
		{"one folder synced, not the other", func(t *testing.T, f FS) {
			put(t, f, "a", "")
			put(t, f, "dir/b", "")
			must(t, f.SyncDir("dir"))
		}, `dir="/" dir/b="" dir/in="in" old="old"`},
		{"a hard link's name", func(t *testing.T, f FS) {
			must(t, f.Link("old", "dir/second"), f.SyncDir("dir"), f.Unlink("old"))
		}, `dir="/" dir/in="in" dir/second="old" old="old"`},
		{"an unlinked file's second name", func(t *testing.T, f FS) {
			must(t, f.Link("old", "dir/second"), f.Unlink("old"), f.SyncFS("."))
		}, `dir="/" dir/in="in" dir/second="old"`},
		{"a symlink comes with its name", func(t *testing.T, f FS) {
			must(t, f.Symlink("old", "l"), f.SyncDir("."))
		}, `dir="/" dir/in="in" l="-> old" old="old"`},
		{"syncfs", func(t *testing.T, f FS) {
			put(t, f, "new", "x")
			must(t, f.Mkdir("d2", 0755), f.Rename("old", "d2/o", NoReplace), f.SyncFS("dir/in"))
		}, `d2="/" d2/o="old" dir="/" dir/in="in" new="x"`},
		{"same name, again and again", func(t *testing.T, f FS) {
			synced(t, f, "n", "1")
			must(t, f.Unlink("n"))
			synced(t, f, "n", "2")
			must(t, f.SyncDir("."), f.Unlink("n"))
			synced(t, f, "n", "3")
		}, `dir="/" dir/in="in" n="2" old="old"`},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			m := settled(t)
			f := m.FS()
			c.do(t, f)
			if got := show(tree(t, m.Crash(Policy{}).FS())); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			if got, now := show(tree(t, m.Crash(Policy{Keep: KeepAll}).FS())), show(tree(t, f)); got != now {
				t.Errorf("keeping all: got %s, want %s", got, now)
			}
		})
	}
}

// settled is a machine that holds, durably, what the cases start from.
func settled(t testing.TB) *Mem {
	m := NewMem()
	f := m.FS()
	put(t, f, "old", "old")
	must(t, f.Mkdir("dir", 0755))
	put(t, f, "dir/in", "in")
	m.SyncAll()
	return m
}

func TestCrashAndAttributes(t *testing.T) {
	m := settled(t)
	f := m.FS()
	must(t, f.Symlink("x", "link"))
	m.SyncAll()
	when := manifest.Time{Sec: 5, Nsec: 6}
	for _, name := range []string{"old", "dir", "link"} {
		must(t, f.SetModTime(name, when), f.Chown(name, 7, 7))
	}
	must(t, f.Chmod("old", 0600), f.SetXattr("old", "user.x", []byte("1")), f.Chmod("dir", 0700))
	before := map[string]Info{}
	for _, name := range []string{"old", "dir", "link", "dir/in"} {
		before[name] = lstat(t, f, name)
	}
	c := m.Crash(Policy{}).FS()
	for _, name := range []string{"old", "dir", "link"} {
		if i := lstat(t, c, name); i.ModTime == when || i.UID != 0 {
			t.Errorf("unsynced attributes of %s survived: %+v", name, i)
		}
	}
	must(t, f.SyncFile("old"), f.SyncDir("dir"), f.SyncDir("."))
	c = m.Crash(Policy{}).FS()
	for _, name := range []string{"old", "dir", "dir/in"} {
		if i := lstat(t, c, name); i != before[name] {
			t.Errorf("%s: got %+v, want %+v", name, i, before[name])
		}
	}
	if attrs, err := c.Xattrs("old"); err != nil || len(attrs) != 1 {
		t.Errorf("attributes of a synced file: %v, %v", attrs, err)
	}
	if i := lstat(t, c, "link"); i.ModTime == when {
		t.Error("a symlink's time survived without SyncFS")
	}
	must(t, f.SyncFS("."))
	if i := lstat(t, m.Crash(Policy{}).FS(), "link"); i != before["link"] {
		t.Errorf("after SyncFS: got %+v, want %+v", i, before["link"])
	}
}

// TestCrashPrefix: the states of an in-order crash are those the machine went
// through, and with enough seeds all of them.
func TestCrashPrefix(t *testing.T) {
	m := settled(t)
	f := m.FS()
	states := map[string]bool{show(tree(t, f)): true}
	seen := map[string]bool{}
	steps := []func() error{
		func() error { return f.Mkdir("d2", 0755) },
		func() error { return f.Rename("old", "d2/old", Replace) },
		func() error { return f.Rename("dir/in", "d2/old", Exchange) },
		func() error { return f.Unlink("dir/in") },
		func() error { return f.Rmdir("dir") },
		func() error { return f.Symlink("there", "l") },
	}
	for _, step := range steps {
		must(t, step())
		states[show(tree(t, f))] = true
	}
	for seed := range uint64(200) {
		got := show(tree(t, m.Crash(Policy{KeepPrefix, seed}).FS()))
		if !states[got] {
			t.Fatalf("seed %d: a state the machine never was in: %s", seed, got)
		}
		seen[got] = true
	}
	if len(seen) != len(states) {
		t.Errorf("%d of %d states were seen in 200 crashes", len(seen), len(states))
	}
}

func TestCrashTearsWrites(t *testing.T) {
	m := settled(t)
	f := m.FS()
	w, err := f.Append("old")
	must(t, err)
	_, err = io.WriteString(w, "+first")
	must(t, err, w.Sync())
	_, err = io.WriteString(w, "+second")
	must(t, err, w.Close())
	for _, keep := range []Keep{KeepPrefix, KeepSubset} {
		seen := map[string]bool{}
		for seed := range uint64(300) {
			got := get(t, m.Crash(Policy{keep, seed}).FS(), "old")
			if !strings.HasPrefix(got, "old+first") {
				t.Fatalf("%v: a synced write is gone: %q", keep, got)
			}
			tail := got[len("old+first"):]
			if !strings.HasPrefix("+second", tail) && tail != strings.Repeat("\x00", 7) {
				t.Fatalf("%v: neither a beginning nor zeros: %q", keep, tail)
			}
			seen[tail] = true
		}
		for _, tail := range []string{"", "+second", "+se"} {
			if !seen[tail] {
				t.Errorf("%v: 300 crashes and no tail %q", keep, tail)
			}
		}
		if keep == KeepSubset && !seen[strings.Repeat("\x00", 7)] {
			t.Error("300 crashes and never zeros")
		}
	}
}

// TestCrashSubset: a random choice loses early operations and keeps later ones,
// and never what depends on a lost one.
func TestCrashSubset(t *testing.T) {
	m := settled(t)
	f := m.FS()
	must(t, f.Mkdir("d2", 0755), f.Rename("old", "d2/old", Replace), f.Symlink("x", "l"), f.Unlink("dir/in"), f.Rmdir("dir"))
	seen := map[string]bool{}
	for seed := range uint64(300) {
		p := Policy{KeepSubset, seed}
		c := tree(t, m.Crash(p).FS())
		if again := tree(t, m.Crash(p).FS()); !maps.Equal(c, again) {
			t.Fatalf("%v gives two outcomes", p)
		}
		_, atOld := c["old"]
		_, atNew := c["d2/old"]
		if atOld == atNew {
			t.Fatalf("%v: a rename was half done: %s", p, show(c))
		}
		_, in := c["dir/in"]
		_, dir := c["dir"]
		if in && !dir {
			t.Fatalf("%v: a file without its folder", p)
		}
		seen[show(c)] = true
	}
	// d2 no, alone, or with old; l or not; dir with in, without, or not there.
	if len(seen) != 3*2*3 {
		t.Errorf("got %d outcomes, want 18", len(seen))
	}
}

// TestCrashOrders: pairs of changes of which the second never survives alone.
func TestCrashOrders(t *testing.T) {
	cases := []struct {
		name string
		do   func(f FS) error
		bad  func(f FS) bool
	}{
		{"moves that would tie a knot", func(f FS) error {
			return errors.Join(f.Mkdir("a", 0755), f.Mkdir("a/b", 0755), f.SyncFS("."),
				f.Rename("a/b", "x", Replace), f.Rename("a", "x/a", Replace))
		}, func(f FS) bool { return !exists(f, "a") && !exists(f, "x/a") }},
		{"new data where truncation has freed the old", func(f FS) error {
			w, err := f.Append("old")
			if err != nil {
				return err
			}
			defer w.Close()
			return errors.Join(f.Truncate("old", 0), second(io.WriteString(w, "N")))
		}, func(f FS) bool {
			data, _ := ReadFile(f, "old", 100)
			return !slices.Contains([]string{"old", "", "N", "\x00"}, string(data))
		}},
		{"attributes of one inode", func(f FS) error {
			return errors.Join(f.SetXattr("old", "user.1", nil), f.SetXattr("old", "user.2", nil))
		}, func(f FS) bool {
			attrs, _ := f.Xattrs("old")
			return hasXattr(attrs, "user.2") && !hasXattr(attrs, "user.1")
		}},
	}
	for _, c := range cases {
		m := settled(t)
		must(t, c.do(m.FS()))
		changed := false
		before := dump(settled(t).FS())
		for seed := range uint64(100) {
			f := m.Crash(Policy{KeepSubset, seed}).FS()
			if c.bad(f) {
				t.Fatalf("%s: seed %d left\n%s", c.name, seed, dump(f))
			}
			changed = changed || dump(f) != before
		}
		if !changed {
			t.Errorf("%s: nothing ever survived", c.name)
		}
	}
}

// TestCrashIsACopy: what either machine does later is not seen by the other, and
// inodes that nothing names take no room.
func TestCrashIsACopy(t *testing.T) {
	m := settled(t)
	f := m.FS()
	put(t, f, "nameless", strings.Repeat("x", 1000))
	must(t, f.SyncFile("nameless"))
	m.SetSpace(0)
	c := m.Crash(Policy{}).FS()
	if s, err := c.Space("."); err != nil || s.FreeBytes < 1000 {
		t.Errorf("after losing a file of 1000 bytes: %+v, %v", s, err)
	}
	must(t, f.Truncate("old", 1), f.Truncate("old", 3), f.Unlink("dir/in"))
	if got := show(tree(t, c)); got != `dir="/" dir/in="in" old="old"` {
		t.Errorf("the copy has become %s", got)
	}
	must(t, c.Truncate("old", 0), c.Unlink("dir/in"))
	if got := show(tree(t, m.Crash(Policy{}).FS())); got != `dir="/" dir/in="in" old="old"` {
		t.Errorf("the disk has become %s", got)
	}
}

// TestCrashRandom: after any history and any crash the tree is whole: reading it
// all works, link counts are right, synced files have their content, and files
// that were never touched since are as they were.
func TestCrashRandom(t *testing.T) {
	for seed := range uint64(60) {
		random := rand.New(rand.NewPCG(seed, 2))
		m := settled(t)
		m.Mount("a") // where the random changes go, in part
		f := m.FS()
		for i := range 150 {
			randomAct(random).on(f)
			switch random.IntN(12) {
			case 0:
				f.SyncDir([]string{".", "a", "b", "c", "a/b", "b/a"}[random.IntN(6)])
			case 1:
				f.SyncFile([]string{"a/a", "b", "c", "b/b"}[random.IntN(4)])
			case 2:
				f.SyncFS([]string{".", "a"}[random.IntN(2)])
			}
			if i%10 != 0 {
				continue
			}
			p := Policy{Keep(random.IntN(4)), random.Uint64()}
			c := m.Crash(p)
			checkWhole(t, c, fmt.Sprintf("seed %d, step %d, %v", seed, i, p))
			if random.IntN(8) == 0 {
				m, f = c, c.FS() // go on from there
			}
		}
	}
}

func checkWhole(t *testing.T, m *Mem, when string) {
	t.Helper()
	if got := get(t, m.FS(), "dir/in"); got != "in" {
		t.Fatalf("%s: dir/in is %q", when, got)
	}
	if n := m.Pending(); n != 0 {
		t.Fatalf("%s: %d changes pending in a machine just started", when, n)
	}
	names := map[[2]uint64]uint64{}
	links := map[[2]uint64]Info{}
	f := m.FS()
	for name := range tree(t, f) {
		i := lstat(t, f, name)
		key := [2]uint64{i.Dev, i.Ino}
		if i.Kind == manifest.Dir {
			if names[key]++; names[key] > 1 {
				t.Fatalf("%s: two folders are one inode", when)
			}
			continue
		}
		if before, ok := links[key]; ok && before != i {
			t.Fatalf("%s: one inode, two sights: %+v and %+v", when, before, i)
		}
		names[key]++
		links[key] = i
	}
	for key, i := range links {
		if names[key] != i.Links {
			t.Fatalf("%s: inode %v has %d names and says %d", when, key, names[key], i.Links)
		}
	}
}

// TestInodes: an inode keeps its number over a crash, and a number that is
// durably free is given again.
func TestInodes(t *testing.T) {
	m := settled(t)
	f := m.FS()
	old := lstat(t, f, "old")
	c := m.Crash(Policy{}).FS()
	if !lstat(t, c, "old").SameInode(old) {
		t.Error("a crash renumbered an inode")
	}
	must(t, f.Unlink("old"))
	put(t, f, "early", "")
	if lstat(t, f, "early").Ino == old.Ino {
		t.Error("a number was given again before the file was durably gone")
	}
	must(t, f.SyncFS("."))
	put(t, f, "late", "")
	if lstat(t, f, "late").Ino != old.Ino {
		t.Error("a number durably free is not given again")
	}
}

func TestViews(t *testing.T) {
	m := NewMem()
	state := m.Sub("var/lib/relkit")
	put(t, state, "journal", "j")
	if got := get(t, m.FS(), "var/lib/relkit/journal"); got != "j" {
		t.Errorf("a view's file seen from the root: %q", got)
	}
	a, b := lstat(t, state, "."), lstat(t, m.FS(), "var/lib/relkit")
	if a != b {
		t.Errorf("a view's root is %+v and %+v", a, b)
	}
	must(t, m.FS().Unlink("var/lib/relkit/journal"), m.FS().Rename("var/lib", "lib", Replace))
	put(t, state, "again", "x")
	if got := get(t, m.FS(), "lib/relkit/again"); got != "x" {
		t.Error("a view does not follow its folder")
	}
	must(t, RemoveAll(m.FS(), "lib"))
	want(t, "a view whose folder is gone", second(state.Lstat(".")), 2)
}
