package main

import (
	"io"
	"os"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// output is a file being written: it appears whole at Commit or, after Abort or
// with neither, not at all.
type output interface {
	io.Writer
	Commit() error
	Abort() error
}

// create makes an output for -o NAME; "-" is standard output, which must not be
// a terminal where the data are binary.
func (e *env) create(name string, mode os.FileMode, binary bool) (output, error) {
	if name != "-" {
		return fsys.NewAtomic(name, mode)
	}
	if binary && e.IsTerminal(e.Stdout) {
		return nil, failure.WithHint(failure.Errorf(failure.Usage, "standard output is a terminal, and the data are binary"),
			"-o FILE writes a file; a pipe does as well")
	}
	return stream{e.Stdout}, nil
}

// stream is standard output as an output: nothing to commit, nothing to undo.
type stream struct{ io.Writer }

func (s stream) Write(p []byte) (int, error) {
	n, err := s.Writer.Write(p)
	return n, writing(err)
}
func (stream) Commit() error { return nil }
func (stream) Abort() error  { return nil }
