package main

import (
	"io"
	"sync"
)

// hookWriter takes what hooks and checks print: standard error, and with
// --quiet a buffer that is shown when something fails.
func (e *env) hookWriter() io.Writer {
	if e.Quiet {
		return new(tailBuffer)
	}
	return e.Stderr
}

// hookOutput shows what was kept back, where there is an error.
func (e *env) hookOutput(w io.Writer, err error) error {
	if b, ok := w.(*tailBuffer); ok && err != nil {
		_, _ = e.Stderr.Write(b.data) // the error itself is what counts
	}
	return err
}

// tailBuffer keeps the last 64 KiB that were written to it.
type tailBuffer struct {
	mu   sync.Mutex
	data []byte
}

func (b *tailBuffer) Write(p []byte) (int, error) {
	const most = 64 << 10
	b.mu.Lock()
	defer b.mu.Unlock()
	b.data = append(b.data, p...)
	if len(b.data) > most {
		b.data = append([]byte(nil), b.data[len(b.data)-most:]...)
	}
	return len(p), nil
}
