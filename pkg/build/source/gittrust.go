package source

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"strings"
)

// isOurs tells whether repo's .git is a repository that prepare made: a folder, and
// neither a link nor a file that leads to another repository, as worktrees have.
func (g *git) isOurs(ctx context.Context, repo string) (bool, error) {
	info, err := g.host.Stat(ctx, repo, ".git")
	if err == nil && !info[0].Mode.IsDir() {
		return false, nil
	}
	if err == nil {
		_, err = g.host.Stat(ctx, repo, ".git/HEAD")
	}
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// trust writes the configuration of a repository anew. The steps work in its tree,
// and programs that they note there (core.fsmonitor, core.sshCommand, filters,
// credential helpers, ...) would run when relkit next calls git, outside of a
// build's limits and with the keys of who calls. There are too many of them to
// name, so nothing is kept. What git lfs install and git submodule note is noted
// again by each checkout.
func (g *git) trust(ctx context.Context, repo string) error {
	dir := path.Join(repo, ".git")
	// With this file the configuration would be that of another folder.
	if err := g.host.Remove(ctx, path.Join(dir, "commondir")); err != nil {
		return err
	}
	// Relative URLs of submodules start from the origin.
	url := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(g.url)
	text := "[core]\n\trepositoryformatversion = 0\n\tbare = false\n\tlogallrefupdates = true\n[remote \"origin\"]\n\turl = \"" + url + "\"\n"
	return g.host.Put(ctx, path.Join(dir, "config"), 0o644, strings.NewReader(text))
}
