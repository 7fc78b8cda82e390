package transaction

import (
	"context"
	"fmt"
	"testing"

	"github.com/relkit/relkit/pkg/sys/fsys"
)

// TestForetold: what a look at the older of two transactions says of the tree that
// the newer one's rollback leaves is what a look at that tree says. The newer has
// config files, the older none.
func TestForetold(t *testing.T) {
	etc := func(more spec) spec {
		s := spec{".": dir(0o755), "etc": dir(0o755)}
		for path, n := range more {
			s[path] = n
		}
		return s.finish()
	}
	write := func(path string) func(fsys.FS) error {
		return func(f fsys.FS) error { return fsys.WriteFile(f, path, []byte("mine"), 0o644) }
	}
	chmod := func(f fsys.FS) error { return f.Chmod("etc/f", 0o600) }
	file1, file2, file3 := etc(spec{"etc/f": file(0o644, "1")}), etc(spec{"etc/f": file(0o644, "2")}), etc(spec{"etc/f": file(0o644, "3")})
	folder := etc(spec{"etc/d": dir(0o755), "etc/d/e": dir(0o755), "etc/d/e/f": file(0o644, "1")})
	other := etc(spec{"etc/d": dir(0o755), "etc/d/e": dir(0o755), "etc/d/e/g": file(0o644, "3")})
	for _, c := range []struct {
		name                 string
		first, second, third spec
		change               func(fsys.FS) error
		on                   OnModified
		refused              bool
	}{
		{"nothing", file1, file2, file3, func(fsys.FS) error { return nil }, "", false},
		{"mode", file1, file2, file3, chmod, "", true},
		{"mode, keep", file1, file2, file3, chmod, OnModifiedKeep, true},
		{"mode, replace", file1, file2, file3, chmod, OnModifiedReplace, false},
		{"content", file1, file2, file3, write("etc/f"), "", true},
		{"folder", folder, etc(nil), other, func(fsys.FS) error { return nil }, "", false},
		{"config file in a new folder", folder, etc(nil), other, write("etc/d/e/g"), "", true},
		{"config file in a new folder, replace", folder, etc(nil), other, write("etc/d/e/g"), OnModifiedReplace, true},
		{"other file in a new folder, replace", folder, etc(nil), other, write("etc/d/e/h"), OnModifiedReplace, true},
		{"other file in a new folder, keep", folder, etc(nil), other, write("etc/d/e/h"), OnModifiedKeep, true},
		{"new version beside a config file", etc(nil), file2, file3, write("etc/f"), "", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := fsys.NewMem()
			m.Sub(stateDir)
			c.first.build(t, m.FS())
			tg, ctx := target(m, &fsys.Meter{}), context.Background()
			for _, step := range []struct {
				from, to spec
				config   []string
			}{{c.first, c.second, nil}, {c.second, c.third, []string{"etc/**"}}} {
				entries, segments := step.from.diff(step.to)
				if _, err := Run(ctx, tg, entries, segments, begin(version1, version2), Options{ConfigFiles: step.config}); err != nil {
					t.Fatal(err)
				}
			}
			if err := c.change(m.FS()); err != nil {
				t.Fatal(err)
			}
			all := transactions(t, tg.State)
			newer, err := OpenRollback(ctx, tg, all[1], RollbackOptions{OnModified: c.on})
			if err != nil || newer.Refused() {
				t.Fatal(err, newer.Modified)
			}
			foretold, err := OpenRollback(ctx, tg, all[0], RollbackOptions{After: []*Rollback{newer}})
			if err != nil {
				t.Fatal(err)
			}
			if err := newer.Commit(begin(version1, version2), nil); err != nil {
				t.Fatal(err)
			}
			is, err := OpenRollback(ctx, tg, all[0], RollbackOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if words(foretold) != words(is) || is.Refused() != c.refused {
				t.Errorf("foretold %s, is %s, refused %t", words(foretold), words(is), is.Refused())
			}
		})
	}
}

// words are what a rollback has found.
func words(r *Rollback) string { return fmt.Sprint(r.Modified, r.Deviations) }
