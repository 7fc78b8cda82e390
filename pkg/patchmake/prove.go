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
	"github.com/relkit/relkit/pkg/format/delta"
	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/format/patch"
	"github.com/relkit/relkit/pkg/sys/fsys"
	"github.com/relkit/relkit/pkg/sys/tree"
)

// prove applies the patch to a copy of the old tree, compares, takes it back,
// and compares. A full patch has no old tree: it is unpacked and compared.
func (m *maker) prove(ctx context.Context, sealed *patch.Sealed) error {
	m.Progress.Start(0, "proving")
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
	if m.old == nil {
		err = m.proveFull(ctx, p, entries)
	} else {
		err = m.proveApplied(ctx, p, entries)
	}
	if err != nil {
		return err
	}
	// To the end of the file, which the writer must have reached too.
	return p.Verify()
}

// proveApplied has the machine's own engine do it.
func (m *maker) proveApplied(ctx context.Context, p *patch.Reader, entries *patch.Entries) error {
	root, err := m.folder("tree")
	if err != nil {
		return err
	}
	defer root.Close()
	if err := tree.Restore(ctx, root, tree.Source(m.old.root, list(m.old.entries)), tree.RestoreOptions{NoSync: true}); err != nil {
		return fmt.Errorf("copying %q: %w", m.old.name, err)
	}
	stateDir, err := m.folder("state")
	if err != nil {
		return err
	}
	defer stateDir.Close()
	t := transaction.Target{Root: root, State: state.New(stateDir), Now: func() time.Time { return m.Created }, Log: m.Log}
	tx, err := m.apply(ctx, t, p, entries)
	if err != nil {
		return fmt.Errorf("applying: %w", err)
	}
	if err := m.same(ctx, root, m.new); err != nil {
		return fmt.Errorf("after applying: %w", err)
	}
	back, err := transaction.OpenRollback(ctx, t, tx.Journal, m.Jobs)
	if err == nil {
		err = back.Commit(transaction.OnModifiedAbort, journal.Record{}, nil)
	}
	if err != nil {
		return fmt.Errorf("rolling back: %w", err)
	}
	if err := m.same(ctx, root, m.old); err != nil {
		return fmt.Errorf("after rolling back: %w", err)
	}
	return nil
}

func (m *maker) apply(ctx context.Context, t transaction.Target, p *patch.Reader, entries *patch.Entries) (*transaction.Tx, error) {
	survey, err := transaction.Look(ctx, t.Root, entries, transaction.Options{Jobs: m.Jobs})
	if err != nil {
		return nil, err
	}
	tx, err := transaction.Begin(t, survey, journal.Record{Patch: p.ID(), PatchID: p.Header().ID})
	if err != nil {
		return nil, err
	}
	if err := tx.Stage(ctx, p); err != nil {
		return nil, err
	}
	if err := tx.Commit(); err != nil {
		return nil, err
	}
	return tx, tx.Finish()
}

// proveFull unpacks all content and restores the tree from the entries.
func (m *maker) proveFull(ctx context.Context, p *patch.Reader, entries *patch.Entries) error {
	content, err := os.Create(filepath.Join(m.scratch.dir, "content"))
	if err != nil {
		return err
	}
	defer content.Close()
	noBase := func(n int) (io.ReaderAt, int64, error) { return nil, 0, fmt.Errorf("base %d in a full patch", n) }
	for {
		s, _, body, err := p.NextSegment()
		if err == io.EOF {
			break
		}
		if err == nil {
			err = delta.Decode(s.Method, body, s.Output, noBase, content)
		}
		if err != nil {
			return err
		}
	}
	root, err := m.folder("tree")
	if err != nil {
		return err
	}
	defer root.Close()
	if err := tree.Restore(ctx, root, items(entries, content), tree.RestoreOptions{NoSync: true}); err != nil {
		return err
	}
	return m.same(ctx, root, m.new)
}

// items are the new sides of all changes, with their content.
func items(entries *patch.Entries, content io.ReaderAt) tree.Items {
	return func(yield func(*tree.Item, error) bool) {
		first := map[int]string{}
		for i := range entries.Changes {
			c := &entries.Changes[i]
			it := &tree.Item{Entry: c.New}
			to, linked := first[c.New.Link]
			switch {
			case c.New.Link != 0 && linked:
				it.LinkTo = to
			case c.New.Kind == manifest.File:
				it.Content = func() (io.ReadCloser, error) {
					return io.NopCloser(io.NewSectionReader(content, max(0, c.Content), c.New.Size)), nil
				}
			}
			if it.LinkTo == "" {
				first[c.New.Link] = c.New.Path
			}
			if !yield(it, nil) {
				return
			}
		}
	}
}

// same holds that a tree is the one that was captured.
func (m *maker) same(ctx context.Context, root fsys.FS, want *side) error {
	got, d, err := capture(ctx, root, m.scope, m.Jobs, nil)
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
