package build

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/record"
	"github.com/relkit/relkit/pkg/sys/process"
)

const (
	// pollTimeout bounds asking a repository for its head.
	pollTimeout = 2 * time.Minute
	// quietTimeout bounds the silence of a program that fetches or checks out.
	quietTimeout = 30 * time.Minute
	// maxAnswer bounds what is kept of a program's output, in bytes.
	maxAnswer = 64 << 20
)

// tool runs programs under a supervisor and answers what they print.
type tool struct {
	sup *process.Supervisor
	env []string
}

// output runs a program; an error holds the end of what it said.
func (t *tool) output(ctx context.Context, dir string, limit time.Duration, argv ...string) ([]byte, error) {
	var out, errOut bytes.Buffer
	res, err := t.sup.Run(ctx, process.Job{Argv: argv, Dir: dir, Env: t.env, Timeout: limit, Idle: quietTimeout, Output: func(o process.Output) error {
		b := &out
		if o.Stderr {
			b = &errOut
		}
		if b.Len()+len(o.Data) > maxAnswer {
			return fmt.Errorf("%s printed more than %d bytes", argv[0], maxAnswer)
		}
		b.Write(o.Data)
		return nil
	}})
	if err != nil {
		return nil, fmt.Errorf("running %s: %w", argv[0], err)
	}
	if !res.OK() {
		return nil, &toolError{name: argv[0], result: res, said: strings.TrimSpace(errOut.String())}
	}
	return out.Bytes(), nil
}

// toolError is a program that ran and failed.
type toolError struct {
	name   string
	result process.Result
	said   string
}

func (e *toolError) Error() string {
	text := e.name + ": " + e.result.String()
	if e.said != "" {
		lines := strings.Split(e.said, "\n")
		text += ": " + strings.Join(lines[max(0, len(lines)-3):], "; ")
	}
	return text
}

// git is the driver of git repositories: it runs the real git.
type git struct {
	tool *tool
	url  string
}

// gitArgv is a git that runs no hook of anybody and leaves housekeeping alone.
func gitArgv(args ...string) []string {
	return append([]string{"git", "-c", "core.hooksPath=/dev/null", "-c", "gc.auto=0", "-c", "maintenance.auto=false", "-c", "advice.detachedHead=false"}, args...)
}

func (g *git) run(ctx context.Context, dir string, args ...string) (string, error) {
	out, err := g.tool.output(ctx, dir, 0, gitArgv(args...)...)
	return strings.TrimSuffix(string(out), "\n"), err
}

var fullHash = regexp.MustCompile(`^([0-9a-f]{40}|[0-9a-f]{64})$`)

// head asks the repository for the newest commit of a branch; of its default
// branch, and that branch's name, where branch is "".
func (g *git) head(ctx context.Context, branch string) (revision, name string, err error) {
	ref := "HEAD"
	if branch != "" {
		ref = "refs/heads/" + branch
	}
	out, err := g.tool.output(ctx, "/", pollTimeout, gitArgv("ls-remote", "--symref", "--", g.url, ref)...)
	if err != nil {
		return "", "", err
	}
	name = branch
	for line := range strings.Lines(string(out)) {
		value, what, _ := strings.Cut(strings.TrimSpace(line), "\t")
		if what != ref {
			continue
		}
		if target, ok := strings.CutPrefix(value, "ref: refs/heads/"); ok {
			name = target
		} else if fullHash.MatchString(value) {
			revision = value
		}
	}
	switch {
	case revision != "":
		return revision, name, nil
	case branch == "":
		return "", "", fmt.Errorf("repository %q has no commit on its default branch", g.url)
	}
	return "", "", failure.Errorf(failure.Usage, "repository %q has no branch %q", g.url, branch)
}

// prepare makes repo a repository whose origin is the source.
func (g *git) prepare(ctx context.Context, repo string) error {
	if _, err := os.Stat(filepath.Join(repo, ".git", "HEAD")); err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		// What stands there is no repository of ours, or a git init that was cut short.
		if err := removeAll(repo); err != nil {
			return err
		}
		if err := os.MkdirAll(repo, 0o755); err != nil {
			return err
		}
		if _, err := g.run(ctx, repo, "init", "-q", "--template="); err != nil {
			return err
		}
	}
	// git leaves these when it is killed; the builder's lock says that nobody uses them.
	for _, name := range []string{"index.lock", "shallow.lock", "config.lock", "HEAD.lock"} {
		if err := os.Remove(filepath.Join(repo, ".git", name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	// Relative URLs of submodules start from it.
	_, err := g.run(ctx, repo, "config", "remote.origin.url", g.url)
	return err
}

func (g *git) has(ctx context.Context, repo, revision string) bool {
	_, err := g.run(ctx, repo, "cat-file", "-e", revision+"^{commit}")
	return err == nil
}

// fetch gets a commit that head answered, with its history.
func (g *git) fetch(ctx context.Context, repo, branch, revision string) error {
	if err := g.prepare(ctx, repo); err != nil || g.has(ctx, repo, revision) {
		return err
	}
	spec := "+HEAD:refs/relkit/HEAD"
	if branch != "" {
		spec = "+refs/heads/" + branch + ":refs/relkit/heads/" + branch
	}
	if _, err := g.run(ctx, repo, "fetch", "-q", "--no-tags", "--no-recurse-submodules", "origin", spec); err != nil {
		return err
	}
	if g.has(ctx, repo, revision) {
		return nil
	}
	// The branch was rewound since head looked.
	_, err := g.run(ctx, repo, "fetch", "-q", "--no-tags", "--no-recurse-submodules", "origin", revision)
	return err
}

// resolve gets the commit that a person calls rev: a branch, a tag, or a hash
// that may be short.
func (g *git) resolve(ctx context.Context, repo, rev string) (string, error) {
	if err := g.prepare(ctx, repo); err != nil {
		return "", err
	}
	if fullHash.MatchString(rev) && g.has(ctx, repo, rev) {
		return rev, nil
	}
	_, err := g.run(ctx, repo, "fetch", "-q", "--no-recurse-submodules", "origin", "+refs/heads/*:refs/relkit/heads/*", "+refs/tags/*:refs/tags/*")
	if err != nil {
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
		if _, err := g.run(ctx, repo, "fetch", "-q", "--no-tags", "origin", rev); err == nil && g.has(ctx, repo, rev) {
			return rev, nil
		}
	}
	return "", failure.Errorf(failure.Usage, "repository %q has no revision %q", g.url, rev)
}

// time is when a commit was made.
func (g *git) time(ctx context.Context, repo, revision string) (time.Time, error) {
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

// count is the number of commits up to revision.
func (g *git) count(ctx context.Context, repo, revision string) (int, error) {
	out, err := g.run(ctx, repo, "rev-list", "--count", revision)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(out)
}

// maxChanges bounds the changes in a build's record.
const maxChanges = 100

// changes lists the commits after old up to now, newest first; none where old
// is not known here.
func (g *git) changes(ctx context.Context, repo, source, old, now string) ([]record.BuildChange, error) {
	if old == now || !g.has(ctx, repo, old) {
		return nil, nil
	}
	out, err := g.run(ctx, repo, "log", "-n", strconv.Itoa(maxChanges), "-z", "--format=%H%n%an%n%ae%n%ct%n%s", old+".."+now)
	if err != nil {
		return nil, err
	}
	var list []record.BuildChange
	for entry := range strings.SplitSeq(out, "\x00") {
		f := strings.SplitN(strings.TrimSuffix(entry, "\n"), "\n", 5)
		if len(f) < 4 {
			continue
		}
		sec, err := strconv.ParseInt(f[3], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("git log: bad time %q", f[3])
		}
		c := record.BuildChange{Source: source, Revision: f[0], Author: f[1], Email: f[2], Time: time.Unix(sec, 0).UTC()}
		if len(f) == 5 {
			c.Subject = f[4]
		}
		list = append(list, c)
	}
	return list, nil
}

// touched lists the paths in which two commits differ; ok is false where old is
// not known here.
func (g *git) touched(ctx context.Context, repo, old, now string) (paths []string, ok bool, err error) {
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

// checkout puts a commit and its submodules into repo's own tree. Clean removes
// everything that is not the commit's.
func (g *git) checkout(ctx context.Context, repo, revision string, clean bool) error {
	if _, err := g.run(ctx, repo, "checkout", "-q", "--force", "--detach", revision); err != nil {
		return err
	}
	if _, err := os.Lstat(filepath.Join(repo, ".gitmodules")); err == nil {
		if _, err := g.run(ctx, repo, "submodule", "--quiet", "sync", "--recursive"); err != nil {
			return err
		}
		if _, err := g.run(ctx, repo, "submodule", "--quiet", "update", "--init", "--recursive", "--force"); err != nil {
			return err
		}
		if clean {
			if _, err := g.run(ctx, repo, "submodule", "--quiet", "foreach", "--recursive", "git clean -dffxq"); err != nil {
				return err
			}
		}
	}
	if clean {
		_, err := g.run(ctx, repo, "clean", "-dffxq")
		return err
	}
	return nil
}
