package serve

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// MaxReport bounds one report in bytes.
const MaxReport = 1 << 20

// Intake writes each document that is posted to it as one line of
// DIR/YYYY-MM-DD.jsonl (the day in UTC), and answers when the line is on disk.
type Intake struct {
	dir string
	now func() time.Time
	log *slog.Logger

	mu sync.Mutex // one line at a time
}

// NewIntake makes the folder where missing. now is the clock.
func NewIntake(dir string, now func() time.Time, log *slog.Logger) (*Intake, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	return &Intake{dir: dir, now: now, log: log}, nil
}

// ServeHTTP takes one JSON document: 204 when it is kept, 4xx with the reason
// when it is not one, 500 when it cannot be kept.
func (in *Intake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if e := r.Header.Get("Content-Encoding"); e != "" && e != "identity" {
		http.Error(w, fmt.Sprintf("content encoding %q is not accepted: send it plain", e), http.StatusUnsupportedMediaType)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxReport))
	var tooLong *http.MaxBytesError
	switch {
	case errors.As(err, &tooLong):
		http.Error(w, fmt.Sprintf("the report is longer than %d bytes", MaxReport), http.StatusRequestEntityTooLarge)
		return
	case err != nil:
		http.Error(w, "the report did not come whole", http.StatusBadRequest)
		return
	}
	line, err := oneLine(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if err := in.keep(line); err != nil {
		in.log.Error("a report is lost", "error", err)
		http.Error(w, "the report cannot be kept", http.StatusInternalServerError)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// oneLine checks that body is one JSON object with a schema, and writes it
// without line breaks.
func oneLine(body []byte) ([]byte, error) {
	var head struct {
		Schema string `json:"schema"`
	}
	err := json.Unmarshal(body, &head)
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &syntax):
		return nil, fmt.Errorf("offset %d: the report is not one JSON document: %w", syntax.Offset, err)
	case err != nil || head.Schema == "":
		return nil, errors.New(`the report is no JSON object with a "schema" field`)
	}
	var b bytes.Buffer
	if err := json.Compact(&b, body); err != nil {
		return nil, err
	}
	b.WriteByte('\n')
	return b.Bytes(), nil
}

// keep appends a line, durably. What a full disk cuts short is taken back, so
// that the next line starts on a line of its own. The file is opened anew for
// each: it may have been rotated away.
func (in *Intake) keep(line []byte) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	name := filepath.Join(in.dir, in.now().UTC().Format(time.DateOnly)+".jsonl")
	f, err := os.OpenFile(name, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	size, err := endLine(f)
	if err == nil {
		err = appendSynced(f, line, size)
	}
	if err == nil && size == 0 {
		err = syncDir(in.dir)
	}
	return errors.Join(err, f.Close())
}

func appendSynced(f *os.File, line []byte, size int64) error {
	_, err := f.Write(line)
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		return errors.Join(err, f.Truncate(size))
	}
	return nil
}

// endLine ends a line that a crash has torn, and returns the file's size.
func endLine(f *os.File) (size int64, err error) {
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return 0, err
	}
	last := make([]byte, 1)
	if _, err := f.ReadAt(last, info.Size()-1); err != nil || last[0] == '\n' {
		return info.Size(), err
	}
	_, err = f.Write([]byte("\n"))
	return info.Size() + 1, err
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
