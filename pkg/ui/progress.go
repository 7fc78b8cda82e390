package ui

import (
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/cheggaaa/pb/v3"
)

// Progress is how a long job says how far it is. It is safe for concurrent
// use. Start may be called again after Done for the next phase.
type Progress interface {
	// Start begins a phase of total units; 0 or less where nobody knows.
	Start(total int64, what string)
	Add(n int64)
	Done()
}

// Unit is what a Progress counts.
type Unit string

// The units.
const (
	Bytes Unit = "bytes"
	Items Unit = "items"
)

// Progress makes the progress of one task, as the console's mode has it.
func (c *Console) Progress(unit Unit) Progress {
	switch {
	case c.opt.Mode == JSON:
		return &jsonTask{c: c, unit: unit}
	case c.opt.Mode == Auto && c.opt.Terminal:
		return &barTask{c: c, unit: unit}
	}
	return silent{}
}

// Silent is a Progress that shows nothing.
func Silent() Progress { return silent{} }

type silent struct{}

func (silent) Start(int64, string) {}
func (silent) Add(int64)           {}
func (silent) Done()               {}

// barTask draws a bar on the terminal; where another task's bar is there
// already, it stays invisible, since two bars would overwrite each other.
type barTask struct {
	c    *Console
	unit Unit

	mu  sync.Mutex
	bar *pb.ProgressBar
}

const (
	barKnown   pb.ProgressBarTemplate = `{{string . "what"}} {{bar . "[" "=" ">" " " "]"}} {{percent . "%3.0f%%"}} {{counters . }} {{rtime . "%s left"}}`
	barUnknown pb.ProgressBarTemplate = `{{string . "what"}} {{counters . "%[2]s" "%[1]s"}} {{etime . }}`
)

func (t *barTask) Start(total int64, what string) {
	t.Done()
	t.c.mu.Lock()
	taken := t.c.front != nil
	if !taken {
		t.c.front = t
	}
	t.c.mu.Unlock()
	if taken {
		return
	}
	tmpl := barKnown
	if total <= 0 {
		tmpl, total = barUnknown, 0
	}
	width := t.c.opt.Width()
	if width <= 0 {
		width = 80
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.bar = tmpl.New(0).
		SetTotal(total).
		Set(pb.Terminal, true).
		Set(pb.Color, t.c.opt.Color).
		Set(pb.CleanOnFinish, true).
		Set(pb.Bytes, t.unit == Bytes).
		Set("what", oneLine(what)).
		SetWidth(width - 1).
		SetWriter(barWriter{t.c}).
		Start()
}

func (t *barTask) Add(n int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.bar != nil {
		t.bar.Add64(n)
	}
}

func (t *barTask) Done() {
	t.mu.Lock()
	bar := t.bar
	t.bar = nil
	t.mu.Unlock()
	if bar == nil {
		return
	}
	bar.Finish()
	t.c.mu.Lock()
	t.c.front, t.c.drawn = nil, false
	t.c.mu.Unlock()
}

// jsonTask writes a line when a second has passed since the last line of any
// task of the console, so at most one a second in all.
type jsonTask struct {
	c    *Console
	unit Unit

	done   atomic.Int64
	mu     sync.Mutex
	total  int64
	what   string
	active bool
}

// event is one line of --progress json.
type event struct {
	Schema string `json:"schema"`
	What   string `json:"what"`
	Unit   Unit   `json:"unit"`
	Done   int64  `json:"done"`
	Total  int64  `json:"total,omitempty"`
	// Finished marks the last line of a phase.
	Finished bool `json:"finished,omitempty"`
}

func (t *jsonTask) Start(total int64, what string) {
	t.Done()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.done.Store(0)
	t.total, t.what, t.active = max(total, 0), what, true
}

func (t *jsonTask) Add(n int64) {
	t.done.Add(n)
	if !t.mu.TryLock() {
		return // another goroutine is writing the line that this one would write
	}
	defer t.mu.Unlock()
	if t.active {
		t.write(false)
	}
}

func (t *jsonTask) Done() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.active {
		return
	}
	t.active = false
	t.write(true)
}

// write prints the line if it is time for one; t.mu is held.
func (t *jsonTask) write(finished bool) {
	if !t.c.timeForJSON() {
		return
	}
	line, err := json.Marshal(event{"relkit.progress/v1", t.what, t.unit, t.done.Load(), t.total, finished})
	if err != nil {
		panic(fmt.Sprintf("ui: encoding progress: %v", err)) // the type holds nothing that can fail
	}
	// A reader that has gone away is no reason to stop the job.
	_, _ = t.c.Write(append(line, '\n'))
}
