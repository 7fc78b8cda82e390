package source

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/relkit/relkit/pkg/failure"
)

// maxNamed is how many files an error names.
const maxNamed = 3

// prepareLarge makes dir's checkouts get the files that git LFS keeps elsewhere,
// and tells whether the revision has some: without it a build would find pointers
// in their place.
func (g *git) prepareLarge(ctx context.Context, dir, revision string) (bool, error) {
	_, err := g.run(ctx, dir, "grep", "-q", "-e", "filter=lfs", revision, "--", ":(glob)**/.gitattributes")
	var failed *toolError
	switch {
	case errors.As(err, &failed) && failed.said == "": // status 1: nothing was found
		return false, nil
	case err != nil:
		return false, err
	}
	_, err = g.run(ctx, dir, "lfs", "install", "--local", "--force", "--skip-repo")
	if errors.As(err, &failed) && strings.Contains(failed.said, "not a git command") {
		err = fmt.Errorf("repository %q keeps files in git LFS, and this worker has no git-lfs: %w", g.shown(), err)
		return true, failure.WithHint(err, "apt-get install git-lfs  # on the worker")
	}
	return true, err
}

// fillLarge gets the files of which a checkout has only the pointer: those of a
// submodule, which was checked out before git LFS was prepared for it, and those
// that became large by a change of .gitattributes alone. What is a pointer still
// is an error.
func (g *git) fillLarge(ctx context.Context, dir string) error {
	left, err := g.pointers(ctx, dir)
	if err != nil || len(left) == 0 {
		return err
	}
	var paths []string
	for _, name := range left {
		paths = append(paths, path.Join(dir, name))
	}
	if err := g.host.Remove(ctx, paths...); err != nil {
		return err
	}
	// Not git lfs pull, which wants whatever looks like a pointer.
	if _, err := g.run(ctx, dir, "checkout", "-q", "--force"); err != nil {
		return largeError(err)
	}
	if left, err = g.pointers(ctx, dir); err == nil && len(left) > 0 {
		err = fmt.Errorf("repository %q: git LFS left the pointers of %d files in their place: %q", g.shown(), len(left), left[:min(len(left), maxNamed)])
	}
	return err
}

// pointers lists the files of a checkout that are to be large and are pointers.
func (g *git) pointers(ctx context.Context, dir string) ([]string, error) {
	out, err := g.run(ctx, dir, "lfs", "ls-files")
	if err != nil {
		return nil, err
	}
	var list []string
	for line := range strings.Lines(out) { // "4d7a214614 - NAME", "*" for what is whole
		if f := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 3); len(f) == 3 && f[1] == "-" {
			list = append(list, f[2])
		}
	}
	if len(list) == 0 {
		return nil, nil
	}
	// A file of pointer's text that no attribute makes large is what it is.
	if out, err = g.run(ctx, dir, "ls-files", "-z", "--", ":(attr:filter=lfs)"); err != nil {
		return nil, err
	}
	large := strings.Split(out, "\x00")
	return slices.DeleteFunc(list, func(name string) bool { return !slices.Contains(large, name) }), nil
}

// largeError leaves out of what git LFS says what hides the reason.
func largeError(err error) error {
	var failed *toolError
	if !errors.As(err, &failed) || !strings.Contains(failed.said, "lfs") {
		return err
	}
	lines := slices.DeleteFunc(strings.Split(failed.said, "\n"), func(l string) bool {
		return strings.TrimSpace(l) == "" || strings.HasPrefix(l, "Errors logged to ") || strings.HasPrefix(l, "Use `git lfs logs last`") ||
			strings.HasPrefix(l, "error: external filter ") || strings.HasPrefix(l, "Downloading ")
	})
	failed.said = strings.Join(lines, "\n")
	return err
}
