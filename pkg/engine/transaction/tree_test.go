package transaction

import (
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/relkit/relkit/pkg/engine/state"
	"github.com/relkit/relkit/pkg/format/delta"
	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/format/patch"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// spec is a tree in words: entries by path, and the content of the files.
type spec map[string]*node

type node struct {
	manifest.Entry
	content string
}

func file(mode uint32, content string) *node {
	return &node{Entry: manifest.Entry{Kind: manifest.File, Mode: mode}, content: content}
}
func dir(mode uint32) *node {
	return &node{Entry: manifest.Entry{Kind: manifest.Dir, Mode: mode}}
}
func symlink(target string) *node {
	return &node{Entry: manifest.Entry{Kind: manifest.Symlink, Mode: 0o777, Target: target}}
}
func fifo() *node { return &node{Entry: manifest.Entry{Kind: manifest.FIFO, Mode: 0o600}} }

func (n *node) linked(group int) *node      { n.Link = group; return n }
func (n *node) at(sec int64) *node          { n.ModTime = manifest.Time{Sec: sec, Nsec: 5}; return n }
func (n *node) owner(uid, gid uint32) *node { n.UID, n.GID = uid, gid; return n }
func (n *node) xattr(name, value string) *node {
	n.Xattrs = append(n.Xattrs, manifest.Xattr{Name: name, Value: []byte(value)})
	return n
}

// finish fills in what follows from path and content.
func (s spec) finish() spec {
	for path, n := range s {
		n.Path = path
		if n.ModTime == (manifest.Time{}) {
			n.ModTime = manifest.Time{Sec: 1_600_000_000, Nsec: 123456789}
		}
		if n.Kind == manifest.File {
			n.Size, n.Digest = int64(len(n.content)), digest.Of([]byte(n.content))
		}
	}
	return s
}

func (s spec) paths() []string {
	var paths []string
	for p := range s {
		paths = append(paths, p)
	}
	slices.SortFunc(paths, manifest.Compare)
	return paths
}

// oldTree and newTree differ in every way a path can: content, metadata, kind,
// link groups, presence; "boot" is a second file system.
func oldTree() spec {
	return spec{
		".":           dir(0o755),
		"bin":         dir(0o755),
		"bin/fw":      file(0o4755, strings.Repeat("old firmware ", 40)).owner(3, 4),
		"bin/same":    file(0o755, "same"),
		"bin/touched": file(0o755, "touched").at(100),
		"boot":        dir(0o755),
		"boot/kernel": file(0o644, "kernel 1"),
		"boot/old":    file(0o644, "boot old"),
		"empty":       file(0o644, ""),
		"etc":         dir(0o755),
		"etc/conf":    file(0o644, "conf").xattr("user.note", "a"),
		"etc/was":     file(0o644, "a file that becomes a link"),
		"gone":        dir(0o700),
		"gone/a":      file(0o600, "gone a"),
		"gone/sub":    dir(0o555).at(77),
		"gone/sub/b":  symlink("../a"),
		"lib":         dir(0o755),
		"lib/a":       file(0o644, "linked").linked(1),
		"lib/b":       file(0o644, "linked").linked(1),
		"lib/c":       file(0o644, "alone"),
		"lib/so":      symlink("so.1"),
		"dirsym":      dir(0o755),
		"dirsym/d":    dir(0o755),
		"dirsym/d/f":  file(0o644, "in a folder that becomes a link"),
		"symdir":      symlink("etc"),
		"turn":        dir(0o755),
		"turn/x":      file(0o644, "child of a folder that becomes a file"),
		"turn/y":      dir(0o755),
		"turn/y/z":    file(0o644, "grandchild"),
		"unturn":      file(0o644, "a file that becomes a folder"),
		"zdir":        dir(0o755),
		"zdir/keep":   file(0o644, "not named by the patch"),
	}.finish()
}

func newTree() spec {
	return spec{
		".":           dir(0o755),
		"bin":         dir(0o755).at(1_700_000_000),
		"bin/fw":      file(0o4755, strings.Repeat("new firmware ", 50)).owner(3, 4),
		"bin/same":    file(0o755, "same"),
		"bin/touched": file(0o755, "touched").at(200),
		"bin/twin1":   file(0o644, "twins"),
		"bin/twin2":   file(0o600, "twins"),
		"boot":        dir(0o755),
		"boot/kernel": file(0o644, "kernel 2!"),
		"boot/new":    file(0o644, "boot new"),
		"empty":       file(0o640, ""),
		"etc":         dir(0o750).owner(1, 2),
		"etc/conf":    file(0o640, "conf").xattr("user.note", "b").xattr("user.zz", "c"),
		"etc/was":     symlink("conf"),
		"etc/pipe":    fifo(),
		"lib":         dir(0o755),
		"lib/a":       file(0o644, "linked anew").linked(1),
		"lib/b":       file(0o644, "no longer linked"),
		"lib/c":       file(0o644, "linked anew").linked(1),
		"lib/so":      symlink("so.2"),
		"lib/so.2":    file(0o755, "shared object"),
		"new":         dir(0o711),
		"new/deep":    dir(0o500).at(55),
		"new/deep/f":  file(0o400, "deep"),
		"dirsym":      symlink("etc"),
		"symdir":      dir(0o755),
		"symdir/d":    dir(0o755),
		"symdir/d/f":  file(0o644, "in a folder that was a link"),
		"turn":        file(0o644, "a file now"),
		"unturn":      dir(0o755),
		"unturn/n":    dir(0o755),
		"unturn/n/o":  file(0o644, "nested"),
		"unturn/g":    file(0o644, "inside"),
		"zdir":        dir(0o755),
		"zdir/keep":   file(0o644, "not named by the patch"),
	}.finish()
}

// build makes the tree in f, its times last.
func (s spec) build(t testing.TB, f fsys.FS) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	groups := map[int]string{}
	for _, path := range s.paths() {
		n := s[path]
		if first, ok := groups[n.Link]; ok && n.Link != 0 {
			must(f.Link(first, path))
			continue
		}
		groups[n.Link] = path
		if _, err := f.Lstat(path); err != nil {
			switch n.Kind {
			case manifest.File:
				must(fsys.WriteFile(f, path, []byte(n.content), 0o600))
			case manifest.Dir:
				must(f.Mkdir(path, 0o700))
			case manifest.Symlink:
				must(f.Symlink(n.Target, path))
			default:
				must(f.Mknod(path, n.Kind, 0o600, n.Major, n.Minor))
			}
		}
	}
	paths := s.paths()
	slices.Reverse(paths)
	for _, path := range paths {
		info, err := f.Lstat(path)
		must(err)
		must(setMetadata(f, path, info, &s[path].Entry, false))
	}
}

// diff is the patch from s to n and its content as one raw segment.
func (s spec) diff(n spec) (*patch.Entries, *rawSegments) {
	changedGroup := func(a, b spec) map[int]bool {
		changed := map[int]bool{}
		for path, e := range a {
			if e.Link != 0 && (b[path] == nil || !e.Equal(&b[path].Entry)) {
				changed[e.Link] = true
			}
		}
		return changed
	}
	oldGroups, newGroups := changedGroup(s, n), changedGroup(n, s)
	all := spec{}
	for p, e := range s {
		all[p] = e
	}
	for p, e := range n {
		all[p] = e
	}
	entries, raw := &patch.Entries{}, &rawSegments{}
	offsets := map[string]int64{}
	for _, path := range all.paths() {
		o, w := s[path], n[path]
		if o != nil && w != nil && o.Equal(&w.Entry) && !oldGroups[o.Link] && !newGroups[w.Link] {
			continue
		}
		c := patch.Change{Content: -1, Base: -1}
		if o != nil {
			c.Old = &o.Entry
		}
		if w != nil {
			c.New = &w.Entry
			same := o != nil && o.Kind == manifest.File && o.Digest == w.Digest
			if w.Kind == manifest.File && w.Size > 0 && !same {
				if _, ok := offsets[w.content]; !ok {
					offsets[w.content] = int64(len(raw.content))
					raw.content = append(raw.content, w.content...)
				}
				c.Content = offsets[w.content]
			}
		}
		entries.Changes = append(entries.Changes, c)
	}
	return entries, raw
}

// rawSegments hands out content in two raw segments that cut a file in two.
type rawSegments struct {
	content []byte
	given   int
}

func (r *rawSegments) NextSegment() (patch.Segment, int64, []byte, error) {
	cut := len(r.content) / 2
	parts := [][]byte{r.content[:cut], r.content[cut:]}
	if r.given == len(parts) {
		return patch.Segment{}, 0, nil, io.EOF
	}
	b := parts[r.given]
	r.given++
	return patch.Segment{Method: delta.Raw, Length: int64(len(b)), Output: int64(len(b))}, int64(cut * (r.given - 1)), b, nil
}

// snapshot is the tree in mtree lines, relkit's own places left out.
func snapshot(t testing.TB, f fsys.FS) string {
	t.Helper()
	var b strings.Builder
	inodes := map[string]int{}
	counts := map[string]int{}
	var walk func(path string, visit func(string, fsys.Info))
	walk = func(path string, visit func(string, fsys.Info)) {
		info, err := f.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		visit(path, info)
		if info.Kind != manifest.Dir {
			return
		}
		names, err := f.ReadDir(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if child := join(path, name); name != SlotsDir && child != stateDir {
				walk(child, visit)
			}
		}
	}
	key := func(i fsys.Info) string { return fmt.Sprint(i.Dev, ".", i.Ino) }
	walk(".", func(_ string, info fsys.Info) { counts[key(info)]++ })
	walk(".", func(path string, info fsys.Info) {
		e, err := live(f, path, info)
		if err != nil {
			t.Fatal(err)
		}
		if e.Kind == manifest.File {
			content, err := fsys.ReadFile(f, path, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			e.Digest = digest.Of(content)
		}
		if e.Kind == manifest.Symlink {
			e.Mode = 0o777
		}
		if counts[key(info)] > 1 && e.Kind != manifest.Dir {
			if inodes[key(info)] == 0 {
				inodes[key(info)] = len(inodes) + 1
			}
			e.Link = inodes[key(info)]
		}
		b.Write(manifest.AppendEntry(nil, e))
	})
	return b.String()
}

const stateDir = "state"

// machine is a Mem with the old tree, durable, and an empty state beside it.
func machine(t testing.TB, tree spec) *fsys.Mem {
	t.Helper()
	m := fsys.NewMem()
	m.Mount("boot")
	state := m.Sub(stateDir)
	_ = state
	tree.build(t, m.FS())
	m.SyncAll()
	return m
}

// target watches both doors of a machine with one meter.
func target(m *fsys.Mem, meter *fsys.Meter) Target {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	return Target{
		Root:  fsys.Watch(m.FS(), meter),
		State: state.New(fsys.Watch(m.Sub(stateDir), meter)),
		Now:   func() time.Time { now = now.Add(time.Second); return now },
		Log:   slog.New(slog.DiscardHandler),
		// One kind of change more than as root: the steps are a superset.
		Unprivileged: true,
		Remount:      []string{"boot"},
	}
}

// firstDifference shows where two snapshots part.
func firstDifference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range max(len(g), len(w)) {
		var a, b string
		if i < len(g) {
			a = g[i]
		}
		if i < len(w) {
			b = w[i]
		}
		if a != b {
			return fmt.Sprintf("line %d:\n got %s\nwant %s", i+1, a, b)
		}
	}
	return "none"
}
