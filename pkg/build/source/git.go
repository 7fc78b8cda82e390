package source

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/relkit/relkit/pkg/config"
	"github.com/relkit/relkit/pkg/failure"
)

// git is the driver of git repositories: it runs the real git.
type git struct {
	tool
	url string
}

// shown is the URL as records and errors may have it.
func (g *git) shown() string { return config.Redact(g.url) }

// gitArgv is a git that runs no hook of anybody, leaves housekeeping alone and
// leaves no file of git LFS out, whatever .lfsconfig and a user's ~/.gitconfig say.
func gitArgv(args ...string) []string {
	return append([]string{"git", "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "gc.auto=0", "-c", "maintenance.auto=false", "-c", "advice.detachedHead=false",
		"-c", "lfs.fetchinclude=", "-c", "lfs.fetchexclude="}, args...)
}

func (g *git) run(ctx context.Context, dir string, args ...string) (string, error) {
	out, err := g.output(ctx, dir, 0, gitArgv(args...)...)
	return strings.TrimSuffix(string(out), "\n"), err
}

var fullHash = regexp.MustCompile(`^([0-9a-f]{40}|[0-9a-f]{64})$`)

// Head asks the repository for the newest commit of a branch; of its default
// branch, and that branch's name, where branch is "".
func (g *git) Head(ctx context.Context, branch string) (Revision, error) {
	ref := "HEAD"
	if branch != "" {
		ref = "refs/heads/" + branch
	}
	out, err := g.output(ctx, "/", pollTimeout, gitArgv("ls-remote", "--symref", "--", g.url, ref)...)
	if err != nil {
		return Revision{}, err
	}
	head := symbolic(out, ref, branch)
	switch {
	case head.ID != "":
		return head, nil
	case branch == "":
		return Revision{}, fmt.Errorf("repository %q has no commit on its default branch", g.shown())
	}
	return Revision{}, g.noBranch(ctx, branch)
}

// symbolic reads what git ls-remote --symref says of a ref.
func symbolic(out []byte, ref, branch string) Revision {
	head := Revision{Branch: branch}
	for line := range strings.Lines(string(out)) {
		value, what, _ := strings.Cut(strings.TrimSpace(line), "\t")
		if what != ref {
			continue
		}
		if target, ok := strings.CutPrefix(value, "ref: refs/heads/"); ok {
			head.Branch = target
		} else if fullHash.MatchString(value) {
			head.ID = value
		}
	}
	return head
}

// noBranch is the error of a branch that was deleted, renamed, or never there: it
// names the default branch, which it may be called now.
func (g *git) noBranch(ctx context.Context, branch string) error {
	err := failure.Errorf(failure.Usage, "repository %q has no branch %q", g.shown(), branch)
	out, lerr := g.output(ctx, "/", pollTimeout, gitArgv("ls-remote", "--symref", "--", g.url, "HEAD")...)
	if head := symbolic(out, "HEAD", ""); lerr == nil && head.Branch != "" {
		return failure.Errorf(failure.Usage, "%w: its default branch is %q", err, head.Branch)
	}
	return err
}

// prepare makes repo a repository whose origin is the source.
func (g *git) prepare(ctx context.Context, repo string) error {
	ours, err := g.isOurs(ctx, repo)
	if err != nil {
		return err
	}
	if !ours {
		// What stands there is no repository of ours, or a git init that was cut short.
		if err := g.host.Remove(ctx, repo); err != nil {
			return err
		}
		if err := g.host.Mkdir(ctx, repo); err != nil {
			return err
		}
		if _, err := g.run(ctx, repo, "init", "-q", "--template="); err != nil {
			return err
		}
	}
	// git leaves these when it is killed; the builder's lock says that nobody uses them.
	var locks []string
	for _, name := range []string{"index.lock", "shallow.lock", "config.lock", "HEAD.lock"} {
		locks = append(locks, path.Join(repo, ".git", name))
	}
	if err := g.host.Remove(ctx, locks...); err != nil {
		return err
	}
	return g.trust(ctx, repo)
}

// Private is what git keeps for itself in a tree.
func (g *git) Private() []string { return []string{".git"} }

func (g *git) has(ctx context.Context, repo, revision string) bool {
	_, err := g.run(ctx, repo, "cat-file", "-e", revision+"^{commit}")
	return err == nil
}

const (
	// fetched is the ref that holds what was fetched last: one for all branches, as
	// a branch "a" that is deleted may be followed by a branch "a/b".
	fetched = "refs/relkit/HEAD"
	// allTags makes the repository's tags those of the source, as git describe
	// wants them: some may have been set after their commits were fetched.
	allTags = "+refs/tags/*:refs/tags/*"
)

func (g *git) fetch(ctx context.Context, repo string, specs ...string) error {
	_, err := g.run(ctx, repo, append([]string{"fetch", "-q", "--prune", "--update-shallow", "--no-recurse-submodules", "origin"}, specs...)...)
	return err
}

// Fetch gets a commit that Head answered, with its history, and the tags.
func (g *git) Fetch(ctx context.Context, repo string, rev Revision) error {
	if err := g.prepare(ctx, repo); err != nil {
		return err
	}
	if g.has(ctx, repo, rev.ID) {
		return g.fetch(ctx, repo, allTags)
	}
	spec := "+HEAD:" + fetched
	if rev.Branch != "" {
		spec = "+refs/heads/" + rev.Branch + ":" + fetched
	}
	if err := g.fetch(ctx, repo, spec, allTags); err != nil {
		return err
	}
	if g.has(ctx, repo, rev.ID) {
		return nil
	}
	// The branch was rewound since Head looked.
	return g.fetch(ctx, repo, rev.ID)
}

// Resolve gets the commit that a person calls rev: a branch, a tag, or a hash
// that may be short.
func (g *git) Resolve(ctx context.Context, repo, rev string) (string, error) {
	if err := g.prepare(ctx, repo); err != nil {
		return "", err
	}
	if fullHash.MatchString(rev) && g.has(ctx, repo, rev) {
		return rev, nil
	}
	if err := g.fetch(ctx, repo, "+refs/heads/*:refs/relkit/heads/*", allTags); err != nil {
		return "", err
	}
	candidates := []string{"refs/relkit/heads/" + rev, "refs/tags/" + rev}
	if regexp.MustCompile(`^[0-9a-f]{4,64}$`).MatchString(rev) {
		candidates = append(candidates, rev)
	}
	for _, c := range candidates {
		if hash, err := g.run(ctx, repo, "rev-parse", "--verify", "-q", "--end-of-options", c+"^{commit}"); err == nil && fullHash.MatchString(hash) {
			return hash, nil
		}
	}
	if fullHash.MatchString(rev) { // on no branch; some servers hand it out nevertheless
		if err := g.fetch(ctx, repo, rev); err == nil && g.has(ctx, repo, rev) {
			return rev, nil
		}
	}
	return "", failure.Errorf(failure.Usage, "repository %q has no revision %q", g.shown(), rev)
}

// Time is when a commit was made.
func (g *git) Time(ctx context.Context, repo, revision string) (time.Time, error) {
	out, err := g.run(ctx, repo, "log", "-1", "--format=%ct", revision)
	if err != nil {
		return time.Time{}, err
	}
	n, err := strconv.ParseInt(out, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("git log: bad time %q", out)
	}
	return time.Unix(n, 0).UTC(), nil
}

// Count is the number of commits up to revision. A shallow repository has not all
// of them, and a number that is wrong would be a version that is.
func (g *git) Count(ctx context.Context, repo, revision string) (int, error) {
	if shallow, err := g.run(ctx, repo, "rev-parse", "--is-shallow-repository"); err != nil || shallow == "true" {
		return 0, errors.Join(err, fmt.Errorf("counting commits: repository %q is shallow", g.shown()))
	}
	out, err := g.run(ctx, repo, "rev-list", "--count", revision)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(out)
}

// Changes lists the commits after old up to now, newest first; none where old
// is not known here.
func (g *git) Changes(ctx context.Context, repo, old, now string, most int) ([]Change, error) {
	if old == now || !g.has(ctx, repo, old) {
		return nil, nil
	}
	out, err := g.run(ctx, repo, "log", "-n", strconv.Itoa(most), "-z", "--format=%H%n%an%n%ae%n%ct%n%s", old+".."+now)
	if err != nil {
		return nil, err
	}
	var list []Change
	for entry := range strings.SplitSeq(out, "\x00") {
		f := strings.SplitN(strings.TrimSuffix(entry, "\n"), "\n", 5)
		if len(f) < 4 {
			continue
		}
		sec, err := strconv.ParseInt(f[3], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("git log: bad time %q", f[3])
		}
		c := Change{ID: f[0], Author: f[1], Email: f[2], Time: time.Unix(sec, 0).UTC()}
		if len(f) == 5 {
			c.Subject = f[4]
		}
		list = append(list, c)
	}
	return list, nil
}

// Touched lists the paths in which two commits differ; ok is false where old is
// not known here.
func (g *git) Touched(ctx context.Context, repo, old, now string) (paths []string, ok bool, err error) {
	if !g.has(ctx, repo, old) {
		return nil, false, nil
	}
	out, err := g.run(ctx, repo, "diff", "--name-only", "-z", "--no-renames", old, now)
	for p := range strings.SplitSeq(out, "\x00") {
		if p != "" {
			paths = append(paths, p)
		}
	}
	return paths, true, err
}

// Checkout puts a commit and its submodules into repo's own tree. Clean removes
// everything that is not the commit's.
func (g *git) Checkout(ctx context.Context, repo, revision string, clean bool) error {
	if err := g.trust(ctx, repo); err != nil { // steps may have run since it was fetched
		return err
	}
	large, err := g.prepareLarge(ctx, repo, revision)
	if err != nil {
		return err
	}
	if _, err := g.run(ctx, repo, "checkout", "-q", "--force", "--detach", revision); err != nil {
		return largeError(err)
	}
	if large {
		if err := g.fillLarge(ctx, repo); err != nil {
			return err
		}
	}
	if err := g.submodules(ctx, repo, clean); err != nil || !clean {
		return err
	}
	_, err = g.run(ctx, repo, "clean", "-dffxq")
	return err
}

// submodules checks out what a tree's .gitmodules names, and theirs in turn: level
// by level, since the URL of a module's own module may be another in the commit
// that the module is brought to.
func (g *git) submodules(ctx context.Context, repo string, clean bool) error {
	if _, err := g.host.Stat(ctx, repo, ".gitmodules"); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	// sync passes over what init has not noted.
	if _, err := g.run(ctx, repo, "submodule", "--quiet", "init"); err != nil {
		return err
	}
	if _, err := g.run(ctx, repo, "submodule", "--quiet", "sync"); err != nil {
		return err
	}
	if _, err := g.run(ctx, repo, "submodule", "--quiet", "update", "--init", "--force"); err != nil {
		return submoduleError(largeError(err))
	}
	modules, err := g.run(ctx, repo, "submodule", "--quiet", "foreach", `printf '%s\0' "$sm_path"`)
	if err != nil {
		return err
	}
	for name := range strings.SplitSeq(modules, "\x00") {
		if name == "" {
			continue
		}
		if err := g.submodule(ctx, path.Join(repo, name), clean); err != nil {
			return fmt.Errorf("submodule %q: %w", name, err)
		}
	}
	return nil
}

// submodule completes the tree of a module that is checked out.
func (g *git) submodule(ctx context.Context, dir string, clean bool) error {
	large, err := g.prepareLarge(ctx, dir, "HEAD")
	if err == nil && large {
		err = g.fillLarge(ctx, dir)
	}
	if err == nil {
		err = g.submodules(ctx, dir, clean)
	}
	if err == nil && clean {
		_, err = g.run(ctx, dir, "clean", "-dffxq")
	}
	return err
}

// submoduleError says what to do where git refuses the URL of a submodule that is
// a path: it trusts none that is not the user's own word (CVE-2022-39253).
func submoduleError(err error) error {
	var failed *toolError
	if errors.As(err, &failed) && strings.Contains(failed.said, "transport 'file' not allowed") {
		err = failure.WithHint(err, "git config --global protocol.file.allow always  # on the worker, where you trust every source")
	}
	return err
}
