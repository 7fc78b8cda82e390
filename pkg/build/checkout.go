package build

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/relkit/relkit/pkg/format/record"
)

// tree is a source in a builder's work folder.
type tree struct {
	git    *git
	source record.BuildSource
	// dir is where the steps find it; repo is the repository it comes from: the
	// same, or for copy and export one beside it.
	dir, repo string
	changes   []record.BuildChange
}

// treeDirs are the folders of a source below a builder's work folder.
func treeDirs(work, source, checkout string) (dir, repo string) {
	dir = filepath.Join(work, source)
	if checkout == "copy" || checkout == "export" {
		return dir, filepath.Join(work, ".pristine", source)
	}
	return dir, dir
}

// checkOut makes the tree that the steps work in:
//
//	incremental  the commit's files, and whatever earlier builds left beside them
//	clean        the commit's files alone
//	copy         a fresh copy of a clean tree, .git included
//	export       the same without .git
func (t *tree) checkOut(ctx context.Context) error {
	mode := t.source.Checkout
	if err := t.git.checkout(ctx, t.repo, t.source.Revision, mode != "incremental"); err != nil {
		return fmt.Errorf("checking out source %q: %w", t.source.Name, err)
	}
	if t.dir == t.repo {
		return nil
	}
	if err := removeAll(t.dir); err != nil {
		return fmt.Errorf("checking out source %q: %w", t.source.Name, err)
	}
	if _, err := t.git.tool.output(ctx, "/", 0, "cp", "-a", "--", t.repo, t.dir); err != nil {
		return fmt.Errorf("copying source %q: %w", t.source.Name, err)
	}
	if mode == "export" {
		return removeGit(t.dir)
	}
	return nil
}

// removeGit removes .git, a folder or the file of a submodule, everywhere below dir.
func removeGit(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Name() != ".git" {
			return err
		}
		if err := removeAll(path); err != nil || !d.IsDir() {
			return err
		}
		return fs.SkipDir
	})
}

// removeAll is os.RemoveAll that also removes what a build has made read-only,
// as module caches are.
func removeAll(dir string) error {
	err := os.RemoveAll(dir)
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	werr := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			return os.Chmod(path, 0o700)
		}
		return nil
	})
	return errors.Join(werr, os.RemoveAll(dir))
}
