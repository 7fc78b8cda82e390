package build

import (
	"context"
	"fmt"
	"path"

	"github.com/relkit/relkit/pkg/build/source"
	"github.com/relkit/relkit/pkg/format/record"
)

// emptyDir is the folder of the steps of a builder without sources.
const emptyDir = ".empty"

// tree is a source in a builder's work folder on the worker.
type tree struct {
	source.Driver
	record record.BuildSource
	// dir is where the steps find it; repo is the repository it comes from: the
	// same, or for copy and export one beside it.
	dir, repo string
	changes   []record.BuildChange
}

// treeDirs are the folders of a source below a builder's work folder.
func treeDirs(work, name, checkout string) (dir, repo string) {
	dir = path.Join(work, name)
	if checkout == "copy" || checkout == "export" {
		return dir, path.Join(work, ".pristine", name)
	}
	return dir, dir
}

// checkOut makes the tree that the steps work in:
//
//	incremental  the revision's files, and whatever earlier builds left beside them
//	clean        the revision's files alone
//	copy         a fresh copy of a clean tree, .git included
//	export       the same without .git
func (j *job) checkOut(ctx context.Context, t *tree) error {
	mode := t.record.Checkout
	if err := t.Checkout(ctx, t.repo, t.record.Revision, mode != "incremental"); err != nil {
		return fmt.Errorf("checking out source %q: %w", t.record.Name, err)
	}
	if t.dir == t.repo {
		return nil
	}
	if err := j.on.Remove(ctx, t.dir); err != nil {
		return fmt.Errorf("checking out source %q: %w", t.record.Name, err)
	}
	if err := source.Copy(ctx, j.on, j.r.toolEnv(j.on), t.repo, t.dir); err != nil {
		return fmt.Errorf("copying source %q: %w", t.record.Name, err)
	}
	if mode == "export" && len(t.Private()) > 0 {
		return j.on.RemoveNamed(ctx, t.dir, t.Private()...)
	}
	return nil
}

// folders has the worker make an empty TMPDIR for the build, and an empty folder for
// the steps of a builder without sources. It is asked at once, while the beginning of
// the build is written down here; the answer is waited for by made.
func (j *job) folders(ctx context.Context) (made func() error) {
	j.tmp = path.Join(j.work, ".tmp")
	empty := []string{j.tmp}
	if len(j.trees) > 0 {
		j.cwd = j.trees[0].dir
	} else {
		// What an earlier build made there would be taken for what this one makes.
		j.cwd = path.Join(j.work, emptyDir)
		empty = append(empty, j.cwd)
	}
	done := make(chan error, 1)
	go func() { done <- j.on.Folders(ctx, empty, nil) }()
	return func() error { return <-done }
}
