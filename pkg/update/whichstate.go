package update

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/relkit/relkit/pkg/engine/state"
	"github.com/relkit/relkit/pkg/engine/transaction"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// What was done to a tree, what can be taken back and how far its trust has come is
// in one state folder. A --state that is mistyped, or forgotten where the state lies
// elsewhere, would begin an empty one beside it, which knows of no patch, no trust
// document and no security floor. So the tree says where its state is: a name beside
// the slots, written once a patch stands. It says nothing that could be trusted: all
// it can do is to have a run refused.

// stateMark is the file that names the state of a tree: relative to the root where
// it lies below, so that a copy of the tree names its own.
const stateMark = transaction.SlotsDir + "/.state"

const maxMark = 8 << 10

// markState has the tree say where its state is. Where that cannot be written, the
// place where a state lies by default is still looked at.
func (m *machine) markState() {
	path, err := filepath.Abs(m.opt.statePath())
	if m.inside != "" {
		path = m.inside
	}
	if err != nil || m.opt.DryRun {
		return
	}
	if is, err := fsys.ReadFile(m.root, stateMark, maxMark); err == nil && string(is) == path+"\n" {
		return
	}
	if _, err := m.root.Lstat(transaction.SlotsDir); err != nil {
		return // nothing on this file system was changed
	}
	if err := fsys.WriteFile(m.root, stateMark, []byte(path+"\n"), 0o600); err != nil {
		m.opt.Log.Debug("the tree does not say where its state is", "err", err)
	}
}

// rightState refuses a state folder other than the one that this tree was patched
// from: one that does not exist, one that knows of nothing, and, where the tree itself
// names its state, also one that knows of another machine, or of less of this one. What the state that is
// passed over holds, a security floor and whom to trust among it, would not count.
func (m *machine) rightState(path string) error {
	f, err := fsys.Open(path)
	exists := err == nil
	if exists {
		defer f.Close()
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil // opening it says what is wrong
	}
	known := exists && knows(f)
	var other string
	standard := filepath.Join(m.opt.Root, DefaultState)
	if mark := m.markedState(); mark != "" && m.isOther(f, mark) && !(known && m.follows(f, mark)) {
		other = mark
	} else if !known && m.isOther(f, standard) {
		other = standard
	}
	if other == "" {
		return nil
	}
	flags := Options{Root: m.opt.Root, State: other}
	list := "relkit patch-rollback" + flags.flags() + " --list  # is what was done to it"
	switch {
	case !exists:
		return failure.WithHint(failure.Errorf(failure.Usage, "the state folder %q does not exist, and this tree was patched from %q", path, other),
			"%s; mkdir -p %s, where a second state is meant", list, failure.Word(path))
	case known:
		return failure.WithHint(failure.Errorf(failure.Usage, "the state folder %q is another's: this tree was patched from %q", path, other),
			"rm %s  # where that is no longer so; what was done to the tree: %s", failure.Word(filepath.Join(m.opt.Root, stateMark)), strings.TrimSuffix(list, "  # is what was done to it"))
	case !begun(f):
		return failure.WithHint(failure.Errorf(failure.Usage, "%q is no state folder, and this tree was patched from %q", path, other),
			"%s; mkdir -p an empty folder, where a second state is meant", list)
	}
	m.opt.Log.Warn(fmt.Sprintf("the state folder %q knows of no patch, and this tree was patched from %q", path, other))
	return nil
}

// begun tells whether a folder is empty, as mkdir(1) makes one for a state, or holds
// what relkit keeps in each.
func begun(f fsys.FS) bool {
	names, err := f.ReadDir(".")
	names = slices.DeleteFunc(names, func(name string) bool { return name == "lost+found" }) // of a new file system
	return err == nil && (len(names) == 0 || slices.Contains(names, "lock"))
}

// follows tells whether the state in f is that of this tree though the tree names the
// one at path, as where both were copied: it knows each transaction of the other
// whose slots are in the tree, and one at least; or all that the other has. Slots have
// random names, which nothing but a copy shares. One that is behind, as an old backup
// is, does not know of what came since, the security floor among it.
func (m *machine) follows(f fsys.FS, path string) bool {
	o, err := fsys.Open(path)
	if err != nil {
		return false
	}
	defer o.Close() // it was only read
	mine, err := state.New(f).Journals()
	if err != nil {
		return false
	}
	theirs, err := state.New(o).Journals()
	if err != nil {
		return false
	}
	slots := map[string]bool{}
	here := false
	for _, t := range mine {
		if len(t.Records) > 0 {
			slots[t.Slot()] = true
			here = here || m.hasSlot(t)
		}
	}
	all := true
	for _, t := range theirs {
		if len(t.Records) == 0 || slots[t.Slot()] {
			continue
		}
		if all = false; m.hasSlot(t) {
			return false
		}
	}
	return here || all && len(theirs) > 0
}

// hasSlot tells whether a slot folder of a transaction is in the tree.
func (m *machine) hasSlot(t *state.Transaction) bool {
	return slices.ContainsFunc(t.Records[0].Tops, func(top journal.Top) bool {
		path, err := manifest.Unescape(top.Path)
		if err == nil {
			_, err = m.root.Lstat(transaction.SlotDir(path, t.Slot()))
		}
		return err == nil
	})
}

// markedState is the state folder that the tree names, "" for none.
func (m *machine) markedState() string {
	b, err := fsys.ReadFile(m.root, stateMark, maxMark)
	mark := strings.TrimSuffix(string(b), "\n")
	switch {
	case err != nil || mark == "":
		return ""
	case filepath.IsAbs(mark):
		return mark
	}
	return filepath.Join(m.opt.Root, mark)
}

// isOther tells whether a state folder is there, knows of something, and is not f,
// under whatever name; f is nil for one that does not exist.
func (m *machine) isOther(f fsys.FS, path string) bool {
	o, err := fsys.Open(path)
	if err != nil {
		return false
	}
	defer o.Close() // it was only read
	if f != nil {
		a, aerr := f.Lstat(".")
		b, berr := o.Lstat(".")
		if aerr != nil || berr != nil || a.SameInode(b) {
			return false
		}
	}
	return knows(o)
}

// knows tells whether a state folder tells of a patch that was ever visible, of what
// is installed, or of whom to trust.
func knows(f fsys.FS) bool {
	if _, err := f.Lstat("trust"); err == nil {
		return true
	}
	s := state.New(f)
	if v, err := s.Version(); err != nil || v != (journal.Version{}) {
		return true
	}
	all, err := s.Transactions()
	for _, t := range all {
		if t.Find(journal.Applied) != nil || t.Find(journal.Awaiting) != nil || !t.Closed() {
			return true
		}
	}
	return err != nil
}
