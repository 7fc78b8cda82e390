package ui

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// Row is one line of a Table.
type Row struct {
	Name, What string
	// State decides where a row stands when there are more than the terminal has lines.
	State RowState
	// Since is when it began; a row that has ended shows Took instead.
	Since time.Time
	Took  time.Duration
}

// RowState is how far what a row stands for is.
type RowState int

// The states, the most worth seeing first.
const (
	Running RowState = iota
	Failed
	Waiting
	Succeeded
)

// drawEvery is how often a table is drawn.
const drawEvery = 200 * time.Millisecond

// Table shows things that go on side by side, a line each, below what is
// written. It is safe for concurrent use.
type Table struct {
	c    *Console
	mu   sync.Mutex
	rows []Row
	stop chan struct{}
	done chan struct{}
}

// Table shows a table of rows until Done; nil where the console shows no bar, or
// shows one already. A nil Table takes what it is told and shows nothing.
func (c *Console) Table(rows []Row) *Table {
	if c.opt.Mode != Auto || !c.opt.Terminal {
		return nil
	}
	t := &Table{c: c, rows: rows, stop: make(chan struct{}), done: make(chan struct{})}
	c.mu.Lock()
	taken := c.front != nil
	if !taken {
		c.front = t
	}
	c.mu.Unlock()
	if taken {
		return nil
	}
	go t.draw()
	return t
}

// Set replaces a row.
func (t *Table) Set(i int, r Row) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rows[i] = r
}

// Done takes the table away.
func (t *Table) Done() {
	if t == nil {
		return
	}
	t.c.mu.Lock()
	mine := t.c.front == t
	if mine {
		t.c.front = nil
	}
	t.c.mu.Unlock()
	if !mine {
		return
	}
	close(t.stop)
	<-t.done
}

func (t *Table) draw() {
	defer close(t.done)
	tick := time.NewTicker(drawEvery)
	defer tick.Stop()
	for {
		t.paint()
		select {
		case <-t.stop:
			t.c.mu.Lock()
			_ = t.c.erase() // a terminal that has gone away shows no table
			t.c.mu.Unlock()
			return
		case <-tick.C:
		}
	}
}

func (t *Table) paint() {
	width, height := t.c.size()
	lines := t.lines(width, height)
	t.c.mu.Lock()
	defer t.c.mu.Unlock()
	// One write, or it flickers.
	if _, err := io.WriteString(t.c.w, t.c.erasing()+strings.Join(lines, "\n")); err == nil {
		t.c.drawn = len(lines)
	}
}

// lines are the table as it is now: as many rows as leave room for what is
// written above, and a line that counts them all.
func (t *Table) lines(width, height int) []string {
	t.mu.Lock()
	rows := append([]Row(nil), t.rows...)
	t.mu.Unlock()
	now := t.c.opt.Now()
	var n [Succeeded + 1]int
	name := 0
	for _, r := range rows {
		n[r.State]++
		name = max(name, utf8.RuneCountInString(r.Name))
	}
	name = min(name, width/2)
	room := max(height-3, 1)
	var lines []string
	for state := Running; state <= Succeeded; state++ {
		for _, r := range rows {
			if r.State != state || len(lines) == room {
				continue
			}
			lines = append(lines, t.line(r, name, width, now))
		}
	}
	total := fmt.Sprintf("%d running, %d failed, %d waiting, %d done", n[Running], n[Failed], n[Waiting], n[Succeeded])
	return append(lines, cut(total, width-1))
}

func (t *Table) line(r Row, name, width int, now time.Time) string {
	took := ""
	switch {
	case r.State == Running && !r.Since.IsZero():
		took = clock(now.Sub(r.Since))
	case r.Took > 0:
		took = clock(r.Took)
	}
	text := cut(fmt.Sprintf("%-*s %8s  %s", name, cut(oneLine(r.Name), name), took, oneLine(r.What)), width-1)
	if r.State == Failed {
		text = t.c.Bold(text)
	}
	return text
}

// clock is a time as 1:02 or 1:02:03.
func clock(d time.Duration) string {
	s := int(max(d, 0).Seconds())
	if s >= 3600 {
		return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
	}
	return fmt.Sprintf("%d:%02d", s/60, s%60)
}

// cut shortens text to some columns.
func cut(text string, columns int) string {
	if utf8.RuneCountInString(text) <= columns {
		return text
	}
	r := []rune(text)
	return string(r[:max(columns-1, 0)]) + "…"
}
