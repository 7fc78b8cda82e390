package build

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/relkit/relkit/pkg/sys/process"
)

// A log is lines, zstd-packed as they come. Each is the seconds since the step
// began, what it is, and the text as the program wrote it:
//
//	0.000 r $ make -j2
//	0.104 o cc -c a.c
//	0.317 e a.c:3: warning: unused variable
//	0.402 r exit status 0
const (
	logOutput byte = 'o' // standard output
	logError  byte = 'e' // standard error
	logRelkit byte = 'r' // relkit itself
)

const (
	logExt = ".log.zst"
	// maxLogLine is where a line without an end is broken, in bytes.
	maxLogLine = 64 << 10
	// flushEvery is how old what a reader of a running step's log misses may be.
	flushEvery = time.Second
	// tailLines is how much of a failed step's log a person is shown.
	tailLines = 25
)

// stepLog writes the log of a step. It is safe for concurrent use.
type stepLog struct {
	mu   sync.Mutex
	f    *os.File
	z    *zstd.Encoder
	part [2]partLine // of standard output and standard error
	tail [][]byte
	// named are the tests that failed, a line each.
	named [][]byte
	// live, where set, gets each line of the program too.
	live func(line []byte)
	// watch, where set, makes matched true when a line of the program matches;
	// both are touched only between two programs, and by Output.
	watch   *regexp.Regexp
	matched bool

	dirty bool
	err   error
	stop  chan struct{}
	done  chan struct{}
}

// partLine is a line that has no end yet.
type partLine struct {
	at   time.Duration
	text []byte
}

func newStepLog(path string, live func([]byte)) (*stepLog, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return nil, err
	}
	z, err := zstd.NewWriter(f, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1),
		zstd.WithWindowSize(256<<10), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	l := &stepLog{f: f, z: z, live: live, stop: make(chan struct{}), done: make(chan struct{})}
	go l.flusher()
	return l, nil
}

// flusher makes what was written visible to readers now and then.
func (l *stepLog) flusher() {
	defer close(l.done)
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	for {
		select {
		case <-l.stop:
			return
		case <-tick.C:
			l.mu.Lock()
			if l.dirty {
				l.fail(l.z.Flush())
				l.dirty = false
			}
			l.mu.Unlock()
		}
	}
}

func (l *stepLog) fail(err error) {
	if l.err == nil && err != nil {
		l.err = fmt.Errorf("writing the log: %w", err)
	}
}

// Output takes a piece of the program's output; an error ends the program.
func (l *stepLog) Output(o process.Output) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	stream, p := logOutput, &l.part[0]
	if o.Stderr {
		stream, p = logError, &l.part[1]
	}
	for data := o.Data; len(data) > 0; {
		if len(p.text) == 0 {
			p.at = o.Elapsed
		}
		end := bytes.IndexByte(data, '\n')
		if end < 0 {
			p.text = append(p.text, data...)
			data = nil
		} else {
			p.text = append(p.text, data[:end]...)
			data = data[end+1:]
		}
		if end >= 0 || len(p.text) >= maxLogLine {
			l.line(stream, p.at, p.text)
			p.text = p.text[:0]
		}
	}
	return l.err
}

// Note writes a line of relkit's own.
func (l *stepLog) Note(at time.Duration, format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rest()
	l.line(logRelkit, at, fmt.Appendf(nil, format, args...))
}

// rest writes lines that never got an end.
func (l *stepLog) rest() {
	for i, stream := range []byte{logOutput, logError} {
		if p := &l.part[i]; len(p.text) > 0 {
			l.line(stream, p.at, p.text)
			p.text = p.text[:0]
		}
	}
}

func (l *stepLog) line(stream byte, at time.Duration, text []byte) {
	b := fmt.Appendf(nil, "%10.3f %c ", at.Seconds(), stream)
	b = append(append(b, text...), '\n')
	_, err := l.z.Write(b)
	l.fail(err)
	l.dirty = true
	if stream == logRelkit {
		return
	}
	l.matched = l.matched || l.watch != nil && l.watch.Match(text)
	l.tail = append(l.tail, bytes.Clone(text[:min(len(text), 4<<10)]))
	if len(l.tail) > tailLines {
		l.tail = l.tail[1:]
	}
	if l.live != nil {
		l.live(text)
	}
}

// Tail is the last lines of the program's output.
func (l *stepLog) Tail() [][]byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.tail
}

// Close finishes the log.
func (l *stepLog) Close() error {
	close(l.stop)
	<-l.done
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rest()
	l.fail(l.z.Close())
	l.fail(l.f.Close())
	return l.err
}

// LogLine is a line of a step's log.
type LogLine struct {
	Seconds string
	// Stream is stdout, stderr or relkit.
	Stream string
	Text   []byte
	// Raw is the line as the log has it, its end included.
	Raw []byte
}

// readLog passes on the lines of a log. The end of a log that is being written,
// or whose writer was killed, is cut off in silence: it may be within a line.
func readLog(r io.Reader, line func(LogLine) error) error {
	z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(64<<20), zstd.WithDecoderLowmem(true))
	if err != nil {
		return fmt.Errorf("reading the log: %w", err)
	}
	defer z.Close()
	return logLines(z, line)
}
