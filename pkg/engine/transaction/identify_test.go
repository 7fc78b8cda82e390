package transaction

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// In a copy of a tree, restored from a backup say, the numbers of inodes are others, and
// may by chance be each other's: what a slot holds is told by what is in it.
func TestIdentifyInACopy(t *testing.T) {
	dir := t.TempDir()
	root, err := fsys.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	write := func(name, text string) (*manifest.Entry, fsys.Info) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		info, err := root.Lstat(name)
		if err != nil {
			t.Fatal(err)
		}
		e, err := live(root, name, info)
		if err != nil {
			t.Fatal(err)
		}
		e.Digest = digest.Of([]byte(text))
		return e, info
	}
	was, wasInfo := write("was", "one\n")
	is, isInfo := write("is", "other\n")
	for _, renumbers := range []bool{false, true} {
		x := &Tx{Target: Target{Root: root}, plan: &journal.Plan{Tops: []journal.PlanTop{{Path: ".", Renumbers: renumbers}}}}
		for _, c := range []struct {
			what     string
			old, new uint64
		}{{"as recorded", wasInfo.Ino, isInfo.Ino}, {"the other way round", isInfo.Ino, wasInfo.Ino}, {"others", 1, 2}} {
			step := &journal.Step{Do: journal.Swap, Old: was, New: is, OldInode: c.old, NewInode: c.new}
			if got, err := x.identify("was", wasInfo, step); err != nil || got != oldSide {
				t.Errorf("%s: the old one is %v, %v", c.what, got, err)
			}
			if got, err := x.identify("is", isInfo, step); err != nil || got != newSide {
				t.Errorf("%s: the new one is %v, %v", c.what, got, err)
			}
		}
		// What was changed since is told by its number alone.
		step := &journal.Step{Do: journal.Swap, Old: was, New: is, OldInode: wasInfo.Ino, NewInode: isInfo.Ino}
		_, edited := write("is", "edited\n")
		if got, err := x.identify("is", edited, step); err != nil || got != newSide {
			t.Errorf("edited: %v, %v", got, err)
		}
		is, isInfo = write("is", "other\n")
	}
}
