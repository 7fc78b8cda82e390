package ui

import (
	"encoding/json"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

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
	barKnown   pb.ProgressBarTemplate = `{{string . "what"}} {{bar . "[" "=" ">" " " "]"}} {{percent . "%3.0f%%"}} {{counters . }} {{speed . "%s/s" "?/s"}} {{rtime . "%s left"}}`
	barNarrow  pb.ProgressBarTemplate = `{{string . "what"}} {{bar . "[" "=" ">" " " "]"}} {{percent . "%3.0f%%"}} {{speed . "%s/s" "?/s"}} {{rtime . "%s left"}}`
	barUnknown pb.ProgressBarTemplate = `{{string . "what"}} {{counters . "%[2]s" "%[1]s"}} {{speed . "%s/s" "?/s"}} {{etime . }}`
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
	width, _ := t.c.size()
	tmpl := barKnown
	switch {
	case total <= 0:
		tmpl, total = barUnknown, 0
	case width < 80:
		tmpl = barNarrow
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
	t.c.front, t.c.drawn = nil, 0
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
	// The rate, smoothed, as of told, when it was that many units.
	rate     float64
	told     time.Time
	toldDone int64
}

// event is one line of --progress json.
type event struct {
	Schema string `json:"schema"`
	What   string `json:"what"`
	Unit   Unit   `json:"unit"`
	Done   int64  `json:"done"`
	Total  int64  `json:"total,omitempty"`
	// PerSecond is how many units a second were done lately, and SecondsLeft
	// how long the rest takes at that rate; absent where nobody knows.
	PerSecond   float64  `json:"per_second,omitempty"`
	SecondsLeft *float64 `json:"seconds_left,omitempty"`
	// Finished marks the last line of a phase.
	Finished bool `json:"finished,omitempty"`
}

func (t *jsonTask) Start(total int64, what string) {
	t.Done()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.done.Store(0)
	t.total, t.what, t.active = max(total, 0), what, true
	t.rate, t.told, t.toldDone = 0, t.c.opt.Now(), 0
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

// measure is the rate in units a second: that since the line before, with the
// rates before weighing as much as it does, so that it neither jumps nor lags.
func (t *jsonTask) measure(done int64) float64 {
	now := t.c.opt.Now()
	span := now.Sub(t.told).Seconds()
	if span <= 0 {
		return round(t.rate)
	}
	lately := float64(done-t.toldDone) / span
	if t.rate > 0 {
		lately = (t.rate + lately) / 2
	}
	t.rate, t.told, t.toldDone = max(lately, 0), now, done
	return round(t.rate)
}

// round keeps one digit: more would claim to know.
func round(f float64) float64 { return math.Round(f*10) / 10 }

// write prints the line if it is time for one; t.mu is held.
func (t *jsonTask) write(finished bool) {
	if !t.c.timeForJSON() {
		return
	}
	e := event{Schema: "relkit.progress/v1", What: t.what, Unit: t.unit, Done: t.done.Load(), Total: t.total, Finished: finished}
	e.PerSecond = t.measure(e.Done)
	if e.Total > 0 && e.PerSecond > 0 {
		left := round(float64(max(e.Total-e.Done, 0)) / e.PerSecond)
		e.SecondsLeft = &left
	}
	line, err := json.Marshal(e)
	if err != nil {
		panic(fmt.Sprintf("ui: encoding progress: %v", err)) // the type holds nothing that can fail
	}
	// A reader that has gone away is no reason to stop the job.
	_, _ = t.c.Write(append(line, '\n'))
}
