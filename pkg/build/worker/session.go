// Package worker is the machine that a build runs on, for the time of the build:
// its supervisor, which runs programs, and its files. One session serves one
// build, from the checkout to the last artifact.
package worker

import (
	"context"
	"os"
	"path/filepath"
	"runtime"

	"github.com/relkit/relkit/pkg/config"
	"github.com/relkit/relkit/pkg/sys/process"
)

// The kinds of worker.
const Local = "local"

// Session is a worker that is in use. It runs one thing at a time.
type Session struct {
	Files
	Description
	// Kind is how the worker is reached.
	Kind string
	// Dir is the folder for what belongs to the project on the worker.
	Dir string

	sup *process.Supervisor
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
}

func describe() (Description, error) {
	host, err := os.Hostname()
	if err != nil {
		return Description{}, err
	}
	home, _ := os.UserHomeDir() // "" says as much
	return Description{Host: host, OS: runtime.GOOS, Arch: runtime.GOARCH, CPUs: runtime.NumCPU(), Home: home}, nil
}

// Options of a session.
type Options struct {
	// Cookie names the session's processes for process.Sweep; "" makes one up.
	Cookie string
	// Dir is the project's folder on this machine, for a local worker without dir.
	Dir string
}

// Open starts a session on a worker.
func Open(_ context.Context, w config.Worker, o Options) (*Session, error) {
	sup, err := process.Start(&process.Options{Cookie: o.Cookie})
	if err != nil {
		return nil, err
	}
	s := &Session{Files: localFiles{}, Kind: Local, Dir: o.Dir, sup: sup}
	if w.Dir != "" {
		s.Dir = filepath.Clean(w.Dir)
	}
	if s.Description, err = describe(); err != nil {
		return nil, err
	}
	return s, nil
}

// Run runs a program on the worker, as process.Supervisor.Run does.
func (s *Session) Run(ctx context.Context, job process.Job) (process.Result, error) {
	return s.sup.Run(ctx, job)
}

// Close ends the session and all that still runs in it.
func (s *Session) Close() error { return s.sup.Close() }
