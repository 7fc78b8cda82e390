package build

import (
	"io"

	"github.com/relkit/relkit/pkg/format/testresult"
	"github.com/relkit/relkit/pkg/sys/process"
)

// testStream reads test results while a step writes them to its standard
// output: the log keeps the text, this keeps the cases, and nothing in between
// grows with the output.
type testStream struct {
	format testresult.Format
	w      *io.PipeWriter
	done   chan struct{}
	// cases and err are the reader's, valid once done is closed.
	cases []testresult.Case
	err   error
}

func newTestStream(format testresult.Format) *testStream {
	r, w := io.Pipe()
	s := &testStream{format: format, w: w, done: make(chan struct{})}
	go func() {
		defer close(s.done)
		s.cases, s.err = testresult.Read(format, "", r)
		// A reader that gives up must not hold up the step.
		_ = r.Close() // of a pipe: always nil
	}()
	return s
}

// end is the end of the output.
func (s *testStream) end() {
	_ = s.w.Close() // of a pipe: always nil
	<-s.done
}

// tee passes a program's output on to next and its standard output to streams.
func tee(next func(process.Output) error, streams []*testStream) func(process.Output) error {
	if len(streams) == 0 {
		return next
	}
	return func(o process.Output) error {
		for _, s := range streams {
			if !o.Stderr {
				_, _ = s.w.Write(o.Data) // io.ErrClosedPipe where the reader has given up
			}
		}
		return next(o)
	}
}
