package process

import (
	"encoding/binary"
	"fmt"
	"io"
	"sync"
	"time"
)

// The supervisor reads requests, one JSON object a line, and answers in frames:
//
//	kind      1 byte: 'o' output, 'e' error output, 'r' result, 'b' a beat, which says nothing else
//	elapsed   8 bytes, big-endian: microseconds since the program started
//	length    4 bytes, big-endian: bytes of payload, at most maxPayload
//	payload   output as it came; for 'r' a Result (of a call a callResult) as JSON
//	end       1 byte: a line feed, for srun(1), which passes on whole lines only
const (
	frameStdout byte = 'o'
	frameStderr byte = 'e'
	frameResult byte = 'r'
	frameBeat   byte = 'b'

	headerSize = 13
	maxPayload = 64 << 10
)

// request is one line to the supervisor: a job or a call, the wish to end the
// one that runs, or a piece of the call's input, or its end, which may stand in the
// call itself, or a sign of life. What comes late, for another ID than that of what
// runs, is dropped.
type request struct {
	ID     uint64    `json:"id"`
	Job    *jobSpec  `json:"job,omitempty"`
	Call   *callSpec `json:"call,omitempty"`
	Cancel bool      `json:"cancel,omitempty"`
	Input  []byte    `json:"input,omitempty"`
	End    bool      `json:"end,omitempty"`
	Beat   bool      `json:"beat,omitempty"`
}

type jobSpec struct {
	Argv      []string      `json:"argv"`
	Root      string        `json:"root,omitempty"`
	Dir       string        `json:"dir,omitempty"`
	Env       []string      `json:"env,omitempty"`
	Timeout   time.Duration `json:"timeout_ns,omitempty"`
	Idle      time.Duration `json:"idle_ns,omitempty"`
	Grace     time.Duration `json:"grace_ns,omitempty"`
	MaxOutput int64         `json:"max_output_bytes,omitempty"`
	MaxMemory int64         `json:"max_memory_bytes,omitempty"`
	NoNetwork bool          `json:"no_network,omitempty"`
}

// frameWriter writes frames from several goroutines, each whole.
type frameWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (f *frameWriter) write(kind byte, elapsed time.Duration, payload []byte) error {
	if len(payload) > maxPayload {
		return fmt.Errorf("writing a frame of %d bytes: more than %d", len(payload), maxPayload)
	}
	b := make([]byte, headerSize, headerSize+len(payload)+1)
	b[0] = kind
	binary.BigEndian.PutUint64(b[1:], uint64(elapsed.Microseconds()))
	binary.BigEndian.PutUint32(b[9:], uint32(len(payload)))
	b = append(append(b, payload...), '\n')
	f.mu.Lock()
	defer f.mu.Unlock()
	_, err := f.w.Write(b)
	return err
}

// readFrame reads one frame into buf, which holds maxPayload+1 bytes; payload is a part of it.
func readFrame(r io.Reader, buf []byte) (kind byte, elapsed time.Duration, payload []byte, err error) {
	var h [headerSize]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return 0, 0, nil, err
	}
	n := binary.BigEndian.Uint32(h[9:])
	if n > maxPayload {
		return 0, 0, nil, fmt.Errorf("frame of %d bytes: more than %d", n, maxPayload)
	}
	if _, err := io.ReadFull(r, buf[:n+1]); err != nil {
		return 0, 0, nil, fmt.Errorf("frame cut short: %w", err)
	}
	if buf[n] != '\n' {
		return 0, 0, nil, fmt.Errorf("frame of %d bytes: it does not end there", n)
	}
	us := min(binary.BigEndian.Uint64(h[1:9]), uint64((1<<63-1)/int64(time.Microsecond)))
	return h[0], time.Duration(us) * time.Microsecond, buf[:n], nil
}
