package fsys

import (
	"testing"
)

// A held folder is the one that was at the name, wherever it is moved, through a
// Watch too; when it is released, the name is resolved anew.
func TestHold(t *testing.T) {
	r, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	f := Watch(r, &Meter{})
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(f.Mkdir("d", 0o700))
	must(f.Mkdir("e", 0o700))
	releaseE, err := Hold(f, "e")
	must(err)
	release, err := Hold(f, "d")
	must(err)
	again, err := Hold(f, "d")
	must(err)
	again() // holds nothing of its own
	must(f.Rename("d", "moved", NoReplace))
	must(f.Mkdir("d", 0o700))
	must(f.Mkdir("d/in", 0o700))
	if _, err := f.Lstat("moved/in"); err != nil {
		t.Errorf("the held folder was not worked in: %v", err)
	}
	releaseE()
	if _, err := f.Lstat("d/in"); err != nil {
		t.Errorf("releasing another folder released this one: %v", err)
	}
	release()
	if _, err := f.Lstat("d/in"); !IsAbsent(err) {
		t.Errorf("after the release: got %v, want that there is none", err)
	}
	if _, err := Hold(f, "nowhere"); !IsAbsent(err) {
		t.Errorf("got %v", err)
	}
}
