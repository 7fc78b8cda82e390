// Package worker is the machine that a build runs on, for the time of the build:
// its supervisor, which runs programs, and its files. One session serves one
// build, from the checkout to the last artifact.
package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/relkit/relkit/pkg/config"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/sys/process"
)

// Session is a worker that is in use. It runs one thing at a time.
type Session struct {
	Files
	Description
	// Kind is how the worker is reached.
	Kind string
	// Dir is the folder for what belongs to the project on the worker.
	Dir string

	sup   *process.Supervisor
	close func() error // of sup, once
}

// Description says what machine a worker is.
type Description struct {
	// Host is its name, OS and Arch are as Go names them.
	Host string `json:"host"`
	OS   string `json:"os"`
	Arch string `json:"arch"`
	// CPUs is how many things it does at a time.
	CPUs int `json:"cpus"`
	// Home is the user's folder.
	Home string `json:"home"`
	// Env is what programs there find themselves in: PATH, HOME, USER and LOGNAME,
	// as far as the worker has them.
	Env map[string]string `json:"env"`
}

// environment are the variables of Description.Env.
var environment = []string{"PATH", "HOME", "USER", "LOGNAME"}

func describe(lookup func(string) (string, bool)) (Description, error) {
	host, err := os.Hostname()
	if err != nil {
		return Description{}, err
	}
	d := Description{Host: host, OS: runtime.GOOS, Arch: runtime.GOARCH, CPUs: runtime.NumCPU(), Env: map[string]string{}}
	for _, name := range environment {
		if v, ok := lookup(name); ok && v != "" {
			d.Env[name] = v
		}
	}
	d.Home = d.Env["HOME"]
	return d, nil
}

// Options of a session.
type Options struct {
	// Cookie names the session's processes for process.Sweep; "" makes one up.
	Cookie string
	// Dir is the project's folder on this machine, for a local worker without dir.
	Dir string
	// Project is a name for the project's folder below a worker's own, which
	// several machines and projects may use.
	Project string
	// Key says what the session is for. A worker ends an earlier session of the
	// same key: the one who starts this one knows that it is a left one.
	Key string
	// Trees is the folder of the build's trees below Dir; those beside it that no
	// build has used for long are removed. "" for a session that has none.
	Trees string
	// Slots is how many things the build does at a time; what Slurm is asked for.
	Slots int
	// LookupEnv is the caller's environment; nil is os.LookupEnv.
	LookupEnv func(string) (string, bool)
	// Heartbeat is the time between two signs of life on a link; 0 is process.Heartbeat.
	Heartbeat time.Duration
	// Patience is how long a call on another machine may be at a standstill before
	// the worker is given up; 0 is by the kind of call.
	Patience time.Duration
}

// patience is that of a call: one that goes through whole trees has nothing to say
// meanwhile, which may be minutes where they are on NFS; one that sends or takes files
// goes on all the time; the others look at or make a few.
func (o *Options) patience(call string) time.Duration {
	switch call {
	case "get", "put":
		return cmp.Or(o.Patience, 3*time.Minute)
	case "open", "folders", "remove", "remove-named", "find":
		return cmp.Or(o.Patience, 10*time.Minute)
	}
	return cmp.Or(o.Patience, time.Minute)
}

func (o *Options) env(name string) string {
	v, _ := o.LookupEnv(name)
	return v
}

// Open starts a session on a worker. An error of another machine wraps ErrUnreachable.
func Open(ctx context.Context, w config.Worker, o Options) (*Session, error) {
	if o.LookupEnv == nil {
		o.LookupEnv = os.LookupEnv
	}
	if o.Cookie == "" {
		o.Cookie = process.NewCookie()
	}
	if o.Heartbeat == 0 {
		o.Heartbeat = process.Heartbeat
	}
	if kind(w) == Local {
		return openLocal(w, o)
	}
	s, err := openRemote(ctx, w, o)
	if err != nil {
		return nil, failure.WithHint(fmt.Errorf("%w: %w", ErrUnreachable, err), "%s", failure.Hint(err))
	}
	return s, nil
}

func openLocal(w config.Worker, o Options) (*Session, error) {
	sup, err := process.Start(&process.Options{Cookie: o.Cookie})
	if err != nil {
		return nil, err
	}
	s := &Session{Files: localFiles{}, Kind: Local, Dir: o.Dir, sup: sup, close: sync.OnceValue(sup.Close)}
	if w.Dir != "" {
		s.Dir = filepath.Join(w.Dir, o.Project)
	}
	if o.Trees != "" {
		err = useTrees(filepath.Join(s.Dir, o.Trees))
	}
	if err == nil {
		s.Description, err = describe(o.LookupEnv)
	}
	if err != nil {
		return nil, errors.Join(err, sup.Close())
	}
	return s, nil
}

func openRemote(ctx context.Context, w config.Worker, o Options) (*Session, error) {
	l, err := reach(ctx, w, o, script(w.Dir, o.Cookie, o.Heartbeat))
	if err != nil {
		return nil, err
	}
	// To read all of relkit takes a while, in which the shell there starts.
	list, err := binaries()
	if err != nil {
		l.Kill()
		return nil, err
	}
	// A program that is gone already takes nothing; greet hears what it has said of it.
	_, _ = io.WriteString(l.In, table(list))
	// A Slurm job waits for its turn.
	dir, err := greet(ctx, l, o.Cookie, list, w.Slurm != nil)
	if err != nil {
		return nil, err
	}
	sup := process.Attach(l, o.Cookie, o.Heartbeat)
	sup.Name, sup.Patience = fmt.Sprintf("worker %q", w.Name), o.patience
	s := &Session{Kind: kind(w), Files: remoteFiles{sup, w.Name}, sup: sup, close: sync.OnceValue(func() error { return closeRemote(sup) })}
	var at opened
	if err := s.sup.Call(ctx, "open", openArgs{Dir: []byte(dir), Cookie: o.Cookie, Project: o.Project, Key: o.Key, Trees: []byte(o.Trees)}, nil, nil, &at); err != nil {
		return nil, errors.Join(err, s.sup.Close())
	}
	s.Description, s.Dir = at.Description, string(at.Dir)
	return s, nil
}

// IsLost tells whether err is the loss of a worker, of which what was built there
// knows nothing.
func IsLost(err error) bool {
	return errors.Is(err, ErrUnreachable) || errors.Is(err, process.ErrLost)
}

// Run runs a program on the worker, as process.Supervisor.Run does.
func (s *Session) Run(ctx context.Context, job process.Job) (process.Result, error) {
	return s.sup.Run(ctx, job)
}

// closeTimeout bounds the farewell.
const closeTimeout = 10 * time.Second

// Close ends the session and all that still runs in it. Where another has called
// it, it waits for that one's end.
func (s *Session) Close() error { return s.close() }

func closeRemote(sup *process.Supervisor) error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	_ = sup.Call(ctx, "close", pathArgs{}, nil, nil, nil) // what it leaves then, the next session finds
	return sup.Close()
}
