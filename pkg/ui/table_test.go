package ui

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestTableLines(t *testing.T) {
	now := time.Unix(1000, 0)
	c := NewConsole(&bytes.Buffer{}, Options{Mode: Auto, Terminal: true, Now: func() time.Time { return now }})
	table := &Table{c: c, rows: []Row{
		{Name: "fw", What: "success", State: Succeeded, Took: 3 * time.Second},
		{Name: "ui[cc=gcc]", What: "2/5 compile\x1b[2J", Since: now.Add(-75 * time.Second)},
		{Name: "lib", What: "waiting", State: Waiting},
		{Name: "doc", What: "failed: step \"spell\"", State: Failed, Took: 2 * time.Hour},
	}}
	got := strings.Join(table.lines(60, 24), "\n")
	want := strings.Join([]string{
		`ui[cc=gcc]     1:15  2/5 compile\x1b[2J`,
		`doc         2:00:00  failed: step "spell"`,
		`lib                  waiting`,
		`fw             0:03  success`,
		`1 running, 1 failed, 1 waiting, 1 done`,
	}, "\n")
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	// On a small terminal what runs is seen, and how many there are.
	if got := table.lines(20, 5); len(got) != 3 || !strings.HasPrefix(got[0], "ui[cc=gcc]") || got[2] != "1 running, 1 faile…" {
		t.Errorf("%q", got)
	}
}

// screen does what a terminal does with the sequences of a table.
type screen struct {
	mu    sync.Mutex
	lines []string
	row   int
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for text := string(p); text != ""; {
		if len(s.lines) <= s.row {
			s.lines = append(s.lines, "")
		}
		switch {
		case strings.HasPrefix(text, "\x1b[K"):
			s.lines[s.row], text = "", text[3:]
		case strings.HasPrefix(text, "\x1b[1A"):
			s.row, text = s.row-1, text[4:]
		case text[0] == '\r':
			text = text[1:]
		case text[0] == '\n':
			s.row, text = s.row+1, text[1:]
		default:
			s.lines[s.row], text = s.lines[s.row]+text[:1], text[1:]
		}
	}
	return len(p), nil
}

func TestTableOnATerminal(t *testing.T) {
	s := &screen{}
	c := NewConsole(s, Options{Mode: Auto, Terminal: true})
	table := c.Table([]Row{{Name: "a", State: Waiting, What: "waiting"}, {Name: "b", State: Waiting, What: "waiting"}})
	if table == nil {
		t.Fatal("no table")
	}
	if c.Table(nil) != nil {
		t.Error("two tables at once")
	}
	c.Progress(Items).Start(3, "beside") // shows nothing: the table is there
	for i := range 20 {
		table.Set(i%2, Row{Name: "a", What: fmt.Sprint("step ", i), Since: time.Now()})
		fmt.Fprintf(c, "note %d\n", i)
		table.paint()
	}
	table.Done()
	table.Done()
	fmt.Fprintln(c, "after")
	s.mu.Lock()
	defer s.mu.Unlock()
	var want []string
	for i := range 20 {
		want = append(want, fmt.Sprint("note ", i))
	}
	want = append(want, "after")
	if got := strings.TrimRight(strings.Join(s.lines, "\n"), "\n"); got != strings.Join(want, "\n") {
		t.Errorf("on the screen:\n%s", got)
	}
	var quiet *Table
	quiet.Set(0, Row{})
	quiet.Done()
	if NewConsole(s, Options{}).Table(nil) != nil {
		t.Error("a table where nobody looks")
	}
}
