package transaction

import (
	"context"
	"strings"
	"testing"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// TestRefusedPlaces: what cannot be changed is refused before anything is touched,
// with its reason, also when it is met on the way back.
func TestRefusedPlaces(t *testing.T) {
	for _, c := range []struct {
		name   string
		kind   fsKind
		change func(older, newer spec)
		set    func(*fsys.Mem)
		want   string
	}{
		{"immutable file", "", nil, func(m *fsys.Mem) { m.SetFlags("boot/kernel", true, false) }, "boot/kernel: is immutable"},
		{"immutable folder", "", nil, func(m *fsys.Mem) { m.SetFlags("boot/EFI", true, false) }, "boot/EFI: is immutable"},
		{"immutable top, where slots go", "", nil, func(m *fsys.Mem) { m.SetFlags("boot", true, false) }, "boot: is immutable"},
		{"append-only file to be removed", "", nil, func(m *fsys.Mem) { m.SetFlags("boot/old", false, true) }, "boot/old: is append-only"},
		{"swap", "", nil, func(m *fsys.Mem) { m.SetSwap("boot/kernel") }, "boot/kernel: is a swap file in use"},
		{"other project", project, nil, func(m *fsys.Mem) { m.SetProject("boot/kernel", 7, false) }, "boot/kernel: is of quota project 7, its folder of 42"},
		{"top of a project", "", nil, func(m *fsys.Mem) { m.SetProject("boot/gone/deep", 9, true) }, "boot/gone/deep: is the top of quota project 9"},
		{"one file by two mounts", bound, func(older, newer spec) {
			older["behind"], newer["behind"] = dir(0o755), dir(0o755)
			older["behind/kernel"], newer["behind/kernel"] = file(0o644, "kernel 1"), file(0o644, "kernel 2!")
		}, func(*fsys.Mem) {}, `is the same file as`},
		{"link on vfat", vfat, func(_, newer spec) { newer["boot/link"] = symlink("kernel") }, func(*fsys.Mem) {}, "boot/link: would be a link, which vfat cannot hold"},
		{"pipe on vfat", vfat, func(_, newer spec) { newer["boot/pipe"] = fifo() }, func(*fsys.Mem) {}, "boot/pipe: would be a fifo, which vfat cannot hold"},
		{"hard links on vfat", vfat, func(_, newer spec) {
			newer["boot/l1"], newer["boot/l2"] = file(0o644, "l").linked(3), file(0o644, "l").linked(3)
		}, func(*fsys.Mem) {}, "boot/l1: would be a hard link"},
		{"case pair on vfat", vfat, func(_, newer spec) { newer["boot/Readme"], newer["boot/README"] = file(0o644, "a"), file(0o644, "b") }, func(*fsys.Mem) {}, "in the case of letters only"},
		{"name on vfat", vfat, func(_, newer spec) { newer["boot/a:b"] = file(0o644, "a") }, func(*fsys.Mem) {}, "boot/a:b: has a name that vfat cannot hold"},
		{"dot on vfat", vfat, func(_, newer spec) { newer["boot/a."] = file(0o644, "a") }, func(*fsys.Mem) {}, "boot/a.: has a name that ends in a dot"},
		{"hard links on overlayfs", overlayFS, func(older, newer spec) {
			older["boot/l1"], older["boot/l2"] = file(0o644, "l").linked(3), file(0o644, "l").linked(3)
			newer["boot/l1"], newer["boot/l2"] = file(0o644, "m").linked(3), file(0o644, "m").linked(3)
		}, func(*fsys.Mem) {}, "boot/l1: is a hard link on an overlayfs without index=on"},
	} {
		t.Run(c.name, func(t *testing.T) {
			older, newer := bootOld(), bootNew()
			if c.change != nil {
				c.change(older, newer)
				older.finish()
				newer.finish()
			}
			build := older
			if c.kind == bound {
				build = bootOld() // what is bound is there by both names
			}
			m := placed(t, build, c.kind)
			c.set(m)
			before := snapshot(t, m.FS())
			meter := &fsys.Meter{}
			entries, _ := older.diff(newer)
			s, err := Look(context.Background(), target(m, meter).Root, entries, Options{})
			if failure.Of(err) != failure.Refused || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, %+v; want %q", err, s, c.want)
			}
			if meter.Count() != 0 || snapshot(t, m.FS()) != before {
				t.Fatalf("looking changed something: %d steps", meter.Count())
			}
		})
	}
}

// TestCaseOnFAT: a new name that is there in other letters is not taken for new.
func TestCaseOnFAT(t *testing.T) {
	older, newer := bootOld(), bootNew()
	newer["boot/KERNEL"] = newer["boot/kernel"]
	delete(newer, "boot/kernel")
	newer.finish()
	m := placed(t, older, vfat)
	entries, _ := older.diff(newer)
	s, err := Look(context.Background(), m.FS(), entries, Options{})
	if err != nil || len(s.Mismatches) == 0 || !strings.Contains(s.Mismatches[0].Why, `is there as "kernel"`) {
		t.Fatalf("%v, %+v", err, s)
	}
}

// TestRefusedBack: a rollback is refused for the same reasons, and goes once they are gone.
func TestRefusedBack(t *testing.T) {
	older, newer := bootOld(), bootNew()
	m := placed(t, older, "")
	tg := target(m, &fsys.Meter{})
	if err := apply(tg, older, newer); err != nil {
		t.Fatal(err)
	}
	m.SetFlags("boot/new", true, false)
	m.SetFlags("bin", true, false)
	err := rollback(tg)
	if failure.Of(err) != failure.Refused || !strings.Contains(err.Error(), "2 places cannot be changed") || !strings.Contains(failure.Hint(err), "chattr -i -- /bin /boot/new") {
		t.Fatalf("%v, hint %s", err, failure.Hint(err))
	}
	m.SetFlags("boot/new", false, false)
	m.SetFlags("bin", false, false)
	if err := rollback(tg); err != nil {
		t.Fatal(err)
	}
}
