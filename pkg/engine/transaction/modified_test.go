package transaction

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/format/patch"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// one is a tree with one file, at etc/f; a nil node leaves it out.
func one(n *node) spec {
	s := spec{".": dir(0o755), "etc": dir(0o755)}
	if n != nil {
		s["etc/f"] = n
	}
	return s.finish()
}

// found is a tree in words: "path=content" of the files below etc.
func found(t *testing.T, f fsys.FS) string {
	t.Helper()
	names, err := f.ReadDir("etc")
	if err != nil {
		t.Fatal(err)
	}
	var words []string
	for _, name := range names {
		b, err := fsys.ReadFile(f, "etc/"+name, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		info, err := f.Lstat("etc/" + name)
		if err != nil {
			t.Fatal(err)
		}
		words = append(words, fmt.Sprintf("%s=%s:%o", name, b, info.Mode))
	}
	return strings.Join(words, " ")
}

// TestModified goes through every way in which a file can have been changed on
// the machine and by the patch, applies, and takes it back.
func TestModified(t *testing.T) {
	a, b, mine := file(0o644, "a"), file(0o644, "b"), file(0o644, "mine")
	for _, c := range []struct {
		name           string
		old, new, live *node
		config         bool
		on             OnModified
		want           string // the tree afterwards
		outcome        journal.Outcome
		refused        string
	}{
		{"config as it came", a, b, a, true, "", "f=b:644", "", ""},
		{"config as it will be", a, b, b, true, "", "f=b:644", "", ""},
		{"config as it will be, of another mode", a, b, file(0o600, "b"), true, "", "f=b:600", "", ""},
		{"config changed by both", a, b, mine, true, "", "f=mine:644 f.relkit-new=b:644", journal.Kept, ""},
		{"config changed by both, keep", a, b, mine, true, OnModifiedKeep, "f=mine:644 f.relkit-new=b:644", journal.Kept, ""},
		{"config changed by both, replace", a, b, mine, true, OnModifiedReplace, "f=b:644", "", ""},
		{"config of another mode", a, b, file(0o600, "a"), true, "", "f=b:600", "", ""},
		{"config of another owner", a, b, file(0o644, "a").owner(7, 8), true, "", "f=b:644", "", ""},
		{"config changed, patch changes its mode", a, file(0o640, "a"), mine, true, "", "f=mine:644", journal.Kept, ""},
		{"config changed, patch removes it", a, nil, mine, true, "", "f=mine:644", journal.KeptRemoved, ""},
		{"config of another mode, patch removes it", a, nil, file(0o600, "a"), true, "", "", "", ""},
		{"config deleted", a, b, nil, true, "", "", journal.StaysDeleted, ""},
		{"config deleted, replace", a, b, nil, true, OnModifiedReplace, "f=b:644", "", ""},
		{"config deleted, patch removes it", a, nil, nil, true, "", "", "", ""},
		{"config created by both", nil, b, mine, true, "", "f=mine:644 f.relkit-new=b:644", journal.Kept, ""},
		{"config created by both alike", nil, b, b, true, "", "f=b:644", "", ""},

		{"file changed", a, b, mine, false, "", "", "", "content was changed"},
		{"file changed, abort", a, b, mine, false, OnModifiedAbort, "", "", "content was changed"},
		{"file changed, keep", a, b, mine, false, OnModifiedKeep, "f=mine:644 f.relkit-new=b:644", journal.Kept, ""},
		{"file changed, replace", a, b, mine, false, OnModifiedReplace, "f=b:644", "", ""},
		{"file of another mode", a, b, file(0o600, "a"), false, "", "", "", "mode is 0600, not 0644"},
		{"file changed, patch changes its mode, replace", a, file(0o640, "a"), mine, false, OnModifiedReplace, "", "", "does not carry its content"},
		{"file changed, patch changes its mode, keep", a, file(0o640, "a"), mine, false, OnModifiedKeep, "f=mine:644", journal.Kept, ""},
		{"file changed, patch removes it, keep", a, nil, mine, false, OnModifiedKeep, "f=mine:644", journal.KeptRemoved, ""},
		{"file changed, patch removes it, replace", a, nil, mine, false, OnModifiedReplace, "", "", ""},
		{"file deleted", a, b, nil, false, "", "", "", "does not exist"},
		{"file deleted, keep", a, b, nil, false, OnModifiedKeep, "", journal.StaysDeleted, ""},
		{"file deleted, replace", a, b, nil, false, OnModifiedReplace, "f=b:644", "", ""},
		{"file created by both", nil, b, mine, false, "", "", "", "exists and the patch would create it"},
		{"file created by both, replace", nil, b, mine, false, OnModifiedReplace, "f=b:644", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			entries, segments := one(c.old).diff(one(c.new))
			m := fsys.NewMem()
			m.Sub(stateDir)
			one(c.live).build(t, m.FS())
			before := snapshot(t, m.FS())
			tg := target(m, &fsys.Meter{})
			o := Options{OnModified: c.on}
			if c.config {
				o.ConfigFiles = []string{"etc/*"}
			}
			s, err := Look(context.Background(), tg.Root, entries, o)
			if err != nil {
				t.Fatal(err)
			}
			if c.refused != "" {
				if len(s.Mismatches) != 1 || !strings.Contains(s.Mismatches[0].Why, c.refused) {
					t.Fatalf("mismatches %v, want %q", s.Mismatches, c.refused)
				}
				return
			}
			if len(s.Mismatches) > 0 {
				t.Fatalf("mismatches %v", s.Mismatches)
			}
			switch {
			case c.outcome == "" && len(s.Deviations) > 0, c.outcome != "" && (len(s.Deviations) != 1 || s.Deviations[0].Outcome != c.outcome):
				t.Fatalf("deviations %v, want %q", s.Deviations, c.outcome)
			}
			x, err := Begin(tg, s, begin(version1, version2))
			if err == nil {
				err = x.Stage(context.Background(), segments)
			}
			if err == nil {
				err = x.Commit()
			}
			if err == nil {
				err = x.Finish()
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := found(t, m.FS()); got != c.want {
				t.Errorf("after applying: %s, want %s", got, c.want)
			}
			if err := rollback(tg); err != nil {
				t.Fatal(err)
			}
			if got := snapshot(t, m.FS()); got != before {
				t.Errorf("after rolling back: %s", firstDifference(got, before))
			}
		})
	}
}

// A second patch meets the file that was kept at the first: the version beside it
// is the newer one then, and a rollback brings the older one back.
func TestModifiedTwice(t *testing.T) {
	a, b, c := one(file(0o644, "a")), one(file(0o644, "b")), one(file(0o644, "c"))
	m := fsys.NewMem()
	m.Sub(stateDir)
	one(file(0o644, "mine")).build(t, m.FS())
	o := Options{ConfigFiles: []string{"etc/f"}}
	for _, step := range [][2]spec{{a, b}, {b, c}, {b, c}} {
		entries, segments := step[0].diff(step[1])
		if _, err := Run(context.Background(), target(m, &fsys.Meter{}), entries, segments, begin(version1, version2), o); err != nil {
			t.Fatal(err)
		}
	}
	if got := found(t, m.FS()); got != "f=mine:644 f.relkit-new=c:644" {
		t.Fatalf("%s", got)
	}
	// Its owner merges the two and removes the new one: that is in nobody's way.
	if err := m.FS().Unlink("etc/f.relkit-new"); err != nil {
		t.Fatal(err)
	}
	all := transactions(t, target(m, &fsys.Meter{}).State)
	slices.Reverse(all)
	for i, want := range []string{"f=mine:644", "f=mine:644 f.relkit-new=b:644", "f=mine:644"} {
		tg := target(m, &fsys.Meter{})
		if err := Revert(context.Background(), tg, all[i], 1); err != nil {
			t.Fatal(err)
		}
		if got := found(t, m.FS()); got != want {
			t.Fatalf("rollback %d: %s, want %s", i, got, want)
		}
	}
}

// What its owner has written into the new version is kept by a rollback.
func TestModifiedNewVersionEdited(t *testing.T) {
	entries, segments := one(file(0o644, "a")).diff(one(file(0o644, "b")))
	m := fsys.NewMem()
	m.Sub(stateDir)
	one(file(0o644, "mine")).build(t, m.FS())
	tg := target(m, &fsys.Meter{})
	if _, err := Run(context.Background(), tg, entries, segments, begin(version1, version2), Options{ConfigFiles: []string{"etc"}}); err != nil {
		t.Fatal(err)
	}
	if err := fsys.WriteFile(m.FS(), "etc/f.relkit-new", []byte("half merged"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := rollback(tg); err != nil {
		t.Fatal(err)
	}
	if got := found(t, m.FS()); got != "f=mine:644 f.relkit-new.relkit-saved=half merged:644" {
		t.Fatal(got)
	}
}

// Of a full patch nobody can tell whether a config file is as it came: it stays.
func TestModifiedFull(t *testing.T) {
	older := spec{".": dir(0o755), "etc": dir(0o755), "etc/app": dir(0o700), "etc/app/conf": file(0o600, "mine"), "bin": file(0o755, "local")}.finish()
	newer := spec{".": dir(0o755), "etc": dir(0o755), "etc/app": dir(0o755), "etc/app/conf": file(0o644, "new"), "etc/app/gone": file(0o644, "g"), "bin": file(0o755, "new")}.finish()
	entries, segments := spec{}.diff(newer)
	for _, on := range []OnModified{"", OnModifiedReplace} {
		m := fsys.NewMem()
		m.Sub(stateDir)
		older.build(t, m.FS())
		before := snapshot(t, m.FS())
		tg := target(m, &fsys.Meter{})
		segments.given = 0
		o := Options{Full: true, ConfigFiles: []string{"etc/**"}, Deleted: map[string]bool{"etc/app/gone": true}, OnModified: on}
		if _, err := Run(context.Background(), tg, entries, segments, begin(version1, version2), o); err != nil {
			t.Fatal(err)
		}
		want := map[string]string{"etc/app/conf": "mine", "etc/app/conf.relkit-new": "new", "etc/app/gone": "", "bin": "new"}
		if on == OnModifiedReplace {
			want = map[string]string{"etc/app/conf": "new", "etc/app/conf.relkit-new": "", "bin": "new"}
		}
		for path, content := range want {
			if b, err := fsys.ReadFile(m.FS(), path, 1<<10); string(b) != content || (err == nil) != (content != "") {
				t.Errorf("%s %q: %q, %v, want %q", on, path, b, err, content)
			}
		}
		if err := rollback(tg); err != nil {
			t.Fatal(err)
		}
		if got := snapshot(t, m.FS()); got != before {
			t.Errorf("%s after rolling back: %s", on, firstDifference(got, before))
		}
	}
}

// Hard links: all names of a file that was changed share its fate.
func TestModifiedLinks(t *testing.T) {
	tree := func(content string) spec {
		return spec{".": dir(0o755), "etc": dir(0o755), "etc/a": file(0o644, content).linked(1), "etc/b": file(0o644, content).linked(1)}.finish()
	}
	live := tree("old")
	live["etc/b"] = file(0o644, "mine")
	live["etc/a"] = file(0o644, "old")
	live.finish()
	entries, segments := tree("old").diff(tree("new"))
	for on, want := range map[OnModified]string{
		OnModifiedKeep:    "a=old:644 a.relkit-new=new:644 b=mine:644 b.relkit-new=new:644",
		OnModifiedReplace: "a=new:644 b=new:644",
	} {
		m := fsys.NewMem()
		m.Sub(stateDir)
		live.build(t, m.FS())
		before := snapshot(t, m.FS())
		tg := target(m, &fsys.Meter{})
		segments.given = 0
		if _, err := Run(context.Background(), tg, entries, segments, begin(version1, version2), Options{OnModified: on}); err != nil {
			t.Fatal(err)
		}
		if got := found(t, m.FS()); got != want {
			t.Errorf("%s: %s, want %s", on, got, want)
		}
		if err := rollback(tg); err != nil {
			t.Fatal(err)
		}
		if got := snapshot(t, m.FS()); got != before {
			t.Errorf("%s after rolling back: %s", on, firstDifference(got, before))
		}
	}
}

// The places where a new version cannot be put are refused before anything is touched.
func TestModifiedNoPlace(t *testing.T) {
	older := spec{".": dir(0o755), "etc": dir(0o755), "etc/f": file(0o644, "a")}.finish()
	newer := spec{".": dir(0o755), "etc": dir(0o755), "etc/f": file(0o644, "b"), "etc/f.relkit-new": file(0o644, "strange")}.finish()
	live := spec{".": dir(0o755), "etc": dir(0o755), "etc/f": file(0o644, "mine")}.finish()
	inTheWay := spec{".": dir(0o755), "etc": dir(0o755), "etc/f": file(0o644, "mine"), "etc/f.relkit-new": dir(0o755)}.finish()
	for want, c := range map[string][2]spec{"is in the patch": {newer, live}, "is a dir": {one(file(0o644, "b")), inTheWay}} {
		entries, _ := older.diff(c[0])
		m := fsys.NewMem()
		c[1].build(t, m.FS())
		s, err := Look(context.Background(), m.FS(), entries, Options{ConfigFiles: []string{"etc/f"}})
		if err != nil || len(s.Mismatches) != 1 || !strings.Contains(s.Mismatches[0].Why, want) {
			t.Errorf("%v, %v, want %q", s.Mismatches, err, want)
		}
	}
}

// A base that was changed is refused, and told as what a full patch would not mind.
func TestModifiedBase(t *testing.T) {
	older := spec{".": dir(0o755), "a": file(0o644, "base"), "b": file(0o644, "other")}.finish()
	newer := spec{".": dir(0o755), "a": file(0o644, "base"), "b": file(0o644, "base")}.finish()
	entries, _ := older.diff(newer)
	for i := range entries.Changes {
		if entries.Changes[i].Path() == "b" {
			entries.Changes[i].Content, entries.Changes[i].Base = -1, 0
		}
	}
	entries.Bases = []patch.Base{{Path: "a", Size: 4, Digest: older["a"].Digest}}
	m := fsys.NewMem()
	older["a"] = file(0o644, "BASE")
	older.finish().build(t, m.FS())
	s, err := Look(context.Background(), m.FS(), entries, Options{OnModified: OnModifiedReplace})
	if err != nil || len(s.Mismatches) != 1 || s.Mismatches[0].Path != "a" || !s.NeedsFull {
		t.Fatalf("%+v, %v", s.Mismatches, err)
	}
	if _, err := Begin(target(m, &fsys.Meter{}), s, begin(version1, version2)); failure.Of(err) != failure.Refused {
		t.Fatal(err)
	}
}
