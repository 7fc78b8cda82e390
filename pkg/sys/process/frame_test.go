package process

import (
	"bytes"
	"testing"
	"time"
)

// FuzzReadFrame: what another machine sends is refused or a frame that is written
// the same again; nothing is kept beside the buffer.
func FuzzReadFrame(f *testing.F) {
	var b bytes.Buffer
	w := &frameWriter{w: &b}
	for kind, text := range map[byte]string{frameStdout: "some output\n", frameResult: "{}", frameBeat: ""} {
		if err := w.write(kind, 1500*time.Millisecond, []byte(text)); err != nil {
			f.Fatal(err)
		}
	}
	f.Add(b.Bytes())
	f.Add([]byte("o\x00\x00\x00\x00\x00\x00\x00\x01\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		buf := make([]byte, maxPayload+1)
		r := bytes.NewReader(data)
		for {
			start := len(data) - r.Len()
			kind, at, payload, err := readFrame(r, buf)
			if err != nil {
				return
			}
			var again bytes.Buffer
			if err := (&frameWriter{w: &again}).write(kind, at, payload); err != nil {
				t.Fatal(err)
			}
			was := data[start : len(data)-r.Len()]
			// Times that no time.Duration holds come back as the longest there is.
			if !bytes.Equal(again.Bytes(), was) && at < 1<<62 {
				t.Errorf("%q came back as %q", was, again.Bytes())
			}
		}
	})
}
