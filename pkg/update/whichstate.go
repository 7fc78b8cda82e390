package update

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/relkit/relkit/pkg/engine/state"
	"github.com/relkit/relkit/pkg/engine/transaction"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/journal"
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

// rightState refuses a state folder that does not exist, and tells of one that
// knows of nothing, where the tree was patched from another.
func (m *machine) rightState(path string) error {
	f, err := fsys.Open(path)
	exists := err == nil
	if exists {
		defer f.Close()
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) || exists && knows(f) {
		return nil // opening it says what is wrong
	}
	other := m.otherState(path)
	if other == "" {
		return nil
	}
	if exists {
		m.opt.Log.Warn(fmt.Sprintf("the state folder %q knows of no patch, and this tree was patched from %q", path, other))
		return nil
	}
	flags := Options{Root: m.opt.Root, State: other}
	return failure.WithHint(failure.Errorf(failure.Usage, "the state folder %q does not exist, and this tree was patched from %q", path, other),
		"relkit patch-rollback%s --list  # is what was done to it; mkdir -p %s, where a second state is meant", flags.flags(), failure.Word(path))
}

// otherState is a state folder other than path that this tree was patched from, ""
// where none is known.
func (m *machine) otherState(path string) string {
	candidates := []string{filepath.Join(m.opt.Root, DefaultState)}
	if b, err := fsys.ReadFile(m.root, stateMark, maxMark); err == nil {
		if mark := strings.TrimSuffix(string(b), "\n"); mark != "" && !filepath.IsAbs(mark) {
			candidates = append(candidates, filepath.Join(m.opt.Root, mark))
		} else if mark != "" {
			candidates = append(candidates, mark)
		}
	}
	for _, other := range candidates {
		if filepath.Clean(other) == filepath.Clean(path) {
			continue
		}
		f, err := fsys.Open(other)
		if err != nil {
			continue
		}
		found := knows(f)
		_ = f.Close() // it was only read
		if found {
			return other
		}
	}
	return ""
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
