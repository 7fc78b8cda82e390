package patchmake

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/relkit/relkit/pkg/engine/state"
	"github.com/relkit/relkit/pkg/engine/transaction"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/format/patch"
	"github.com/relkit/relkit/pkg/sys/fsys"
	"github.com/relkit/relkit/pkg/sys/tree"
)

// prove applies the patch to a copy of the old tree, compares, takes it back,
// and compares: all with the code that runs on the machine. A full patch is
// applied to an empty folder.
func (m *maker) prove(ctx context.Context, sealed *patch.Sealed) error {
	m.Progress.Start(m.old.size()+m.new.size(), "proving") // each is read once, from the copy
	defer m.Progress.Done()
	read, write := io.Pipe()
	go func() { write.CloseWithError(m.stream(write, sealed, nil)) }()
	// Closing the read side ends the writer, whatever happened.
	defer read.Close()
	p, err := patch.Open(read)
	if err != nil {
		return err
	}
	entries, err := p.Entries()
	if err != nil {
		return err
	}
	if err := m.proveApplied(ctx, p, entries); err != nil {
		return err
	}
	// To the end of the file, which the writer must have reached too.
	return p.Verify()
}

func (m *maker) proveApplied(ctx context.Context, p *patch.Reader, entries *patch.Entries) error {
	root, err := m.folder("tree")
	if err != nil {
		return err
	}
	defer root.Close()
	old, err := m.copyOld(ctx, root)
	if err != nil {
		return err
	}
	stateDir, err := m.folder("state")
	if err != nil {
		return err
	}
	defer stateDir.Close()
	t := transaction.Target{Root: root, State: state.New(stateDir), Now: func() time.Time { return m.Created }, Log: m.Log, Unprivileged: !fsys.Privileged()}
	tx, err := transaction.Run(ctx, t, entries, p, journal.Record{Patch: p.ID(), PatchID: p.Header().ID},
		transaction.Options{Jobs: m.Jobs, Full: p.Header().Full})
	if err != nil {
		return fmt.Errorf("applying: %w", err)
	}
	if err := m.same(ctx, root, m.new); err != nil {
		return fmt.Errorf("after applying: %w", err)
	}
	if err := transaction.Revert(ctx, t, tx, m.Jobs); err != nil {
		return fmt.Errorf("rolling back: %w", err)
	}
	if err := m.same(ctx, root, old); err != nil {
		return fmt.Errorf("after rolling back: %w", err)
	}
	return nil
}

// copyOld fills the folder with the old tree, and answers what is in it now.
func (m *maker) copyOld(ctx context.Context, root fsys.FS) (*side, error) {
	if m.old != nil {
		items := tree.Source(m.old.root, list(m.old.entries))
		if err := tree.Restore(ctx, root, items, tree.RestoreOptions{NoSync: true}); err != nil {
			return nil, fmt.Errorf("copying %q: %w", m.old.name, err)
		}
		return m.old, nil
	}
	empty := &side{name: "an empty folder", root: root}
	return empty, empty.read(ctx, m.scope, m.Jobs, nil, m.Progress.Add)
}

// same holds that a tree is the one that was captured.
func (m *maker) same(ctx context.Context, root fsys.FS, want *side) error {
	got, d, err := capture(ctx, root, m.scope, m.Jobs, nil, m.Progress.Add)
	if err != nil {
		return err
	}
	if d == want.digest {
		return nil
	}
	return failure.Errorf(failure.Failed, "the tree is %s, want %s as %q was read: %s", d, want.digest, want.name, firstDifference(got, want.entries))
}

// firstDifference names a place where two trees differ.
func firstDifference(got, want []manifest.Entry) string {
	for d, err := range tree.Compare(list(want), list(got)) {
		if err == nil {
			return d.String()
		}
	}
	return "hard links"
}

func list(all []manifest.Entry) tree.Entries {
	return func(yield func(*manifest.Entry, error) bool) {
		for i := range all {
			e := all[i]
			if !yield(&e, nil) {
				return
			}
		}
	}
}

// folder makes an empty folder in the scratch folder and opens it.
func (m *maker) folder(name string) (fsys.FS, error) {
	dir := filepath.Join(m.scratch.dir, name)
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	return fsys.Open(dir)
}
