// Package source is where what is built comes from: one driver for each version
// control system, which runs the system's own client on the machine that builds.
package source

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/relkit/relkit/pkg/build/worker"
	"github.com/relkit/relkit/pkg/config"
	"github.com/relkit/relkit/pkg/sys/process"
)

// Revision is one state of a source.
type Revision struct {
	// ID is what the system calls it, or what relkit does where it has no name for it.
	ID string
	// Branch is the branch that it was looked for on; "" where there is none.
	Branch string
}

// Change is one step from a revision to the next.
type Change struct {
	ID, Author, Email string
	Time              time.Time
	Subject           string
}

// Driver is a source of one kind. repo is a folder on the host that the driver
// alone uses, from build to build: what it keeps there makes fetching cheap.
type Driver interface {
	// Head asks the source for its newest revision; of its default branch where branch is "".
	Head(ctx context.Context, branch string) (Revision, error)
	// Fetch brings a revision that Head answered into repo.
	Fetch(ctx context.Context, repo string, rev Revision) error
	// Resolve brings the revision that a person names into repo and answers its ID.
	Resolve(ctx context.Context, repo, name string) (string, error)
	// Checkout puts a revision that was fetched into repo's tree. Clean removes
	// everything that is not the revision's.
	Checkout(ctx context.Context, repo, id string, clean bool) error
	// Private names the files and folders of a tree that are the system's own,
	// which an export leaves out.
	Private() []string

	// Time is when a revision was made, Count how many there are up to it.
	Time(ctx context.Context, repo, id string) (time.Time, error)
	Count(ctx context.Context, repo, id string) (int, error)
	// Changes lists what came after from, up to to, newest first, at most most of
	// them; none where from is not known.
	Changes(ctx context.Context, repo, from, to string, most int) ([]Change, error)
	// Touched lists the paths in which two revisions differ; known is false where
	// that cannot be told.
	Touched(ctx context.Context, repo, from, to string) (paths []string, known bool, err error)
}

// Host is a machine that a driver works on: a worker.Session.
type Host interface {
	Run(ctx context.Context, job process.Job) (process.Result, error)
	worker.Files
}

// Open answers the driver for a source at a URL, or a path that is absolute. env is
// the environment of the client's programs.
func Open(src config.Source, url string, host Host, env []string, memory Memory) (Driver, error) {
	secrets := config.Secrets(url)
	switch src.VCS {
	case "git":
		return &git{tool{host, env, secrets}, url}, nil
	case "svn":
		return newSVN(tool{host, env, secrets}, url), nil
	case "hg":
		// HGPLAIN: as scripts want it, whatever the user's hgrc says. HGRCSKIPREPO: what
		// a step has written into .hg/hgrc names programs to run, as hooks.
		return &hg{tool{host, append(slices.Clone(env), "HGPLAIN=1", "HGRCSKIPREPO=1"), secrets}, url}, nil
	case "file":
		return &files{pristine{tool{host, env, secrets}}, url, memory, src.Name}, nil
	case "tar":
		return &archive{pristine{tool{host, env, secrets}}, url, src.SHA256}, nil
	}
	return nil, fmt.Errorf("vcs %q is not supported by this version", src.VCS)
}

// Supported tells whether there is a driver for a kind of source.
func Supported(vcs string) bool {
	return slices.Contains([]string{"git", "svn", "hg", "file", "tar"}, vcs)
}

const (
	// pollTimeout bounds asking a repository for its head.
	pollTimeout = 2 * time.Minute
	// quietTimeout bounds the silence of a program that fetches or checks out.
	quietTimeout = 30 * time.Minute
	// maxAnswer bounds what is kept of a program's output, in bytes.
	maxAnswer = 64 << 20
)

// tool runs programs on a host and answers what they print.
type tool struct {
	host Host
	env  []string
	// secrets are the words that no error may hold.
	secrets []string
}

// output runs a program; an error holds the end of what it said.
func (t *tool) output(ctx context.Context, dir string, limit time.Duration, argv ...string) ([]byte, error) {
	var out, errOut bytes.Buffer
	res, err := t.host.Run(ctx, process.Job{Argv: argv, Dir: dir, Env: t.env, Timeout: limit, Idle: quietTimeout, Output: func(o process.Output) error {
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
		return nil, &toolError{name: argv[0], result: res, said: strings.TrimSpace(errOut.String()), secrets: t.secrets}
	}
	return out.Bytes(), nil
}

// toolError is a program that ran and failed.
type toolError struct {
	name   string
	result process.Result
	said   string
	// secrets are not in Error.
	secrets []string
}

// Error is what a program said, without the secrets of URLs, which svn(1) and
// others repeat.
func (e *toolError) Error() string {
	text := e.name + ": " + e.result.String()
	if e.said != "" {
		lines := slices.DeleteFunc(strings.Split(e.said, "\n"), func(l string) bool {
			// git's advice would take the place of what is wrong.
			return strings.TrimSpace(l) == "" || l == "Please make sure you have the correct access rights" || l == "and the repository exists."
		})
		text += ": " + strings.Join(lines[max(0, len(lines)-3):], "; ")
	}
	return config.Hide(text, e.secrets)
}

// Copy copies a tree on a host, everything about it.
func Copy(ctx context.Context, host Host, env []string, from, to string) error {
	t := tool{host: host, env: env}
	_, err := t.output(ctx, "/", 0, "cp", "-a", "--", from, to)
	return err
}
