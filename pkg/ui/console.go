// Package ui is how relkit speaks to a person: what goes to standard error.
//
// A Console is standard error with its manners: notes are whole lines that
// begin with "relkit: ", a progress bar is drawn on a terminal only and never
// through a note, and JSON Lines take its place where a program reads along.
package ui

import (
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"
)

// Mode says how progress is shown.
type Mode string

// The values of --progress.
const (
	Auto  Mode = "auto"  // a bar, on a terminal only
	Never Mode = "never" // nothing
	JSON  Mode = "json"  // JSON Lines, at most one a second
)

// Options of a Console; the zero value shows no progress and no colour.
type Options struct {
	Mode     Mode // "" is Never
	Terminal bool // w is a terminal
	Color    bool // escape sequences are welcome
	// Size is the terminal's width in columns and its height in lines; nil or 0
	// of either means 80 and 24.
	Size func() (width, height int)
	// Now is the clock of the JSON lines; nil is time.Now.
	Now func() time.Time
}

// Console is a writer for people. It is safe for concurrent use; every Write
// should be whole lines.
type Console struct {
	mu  sync.Mutex
	w   io.Writer
	opt Options
	// drawn is how many lines stand on the terminal that are drawn anew again and
	// again; the cursor is behind the last, where a line written now would be appended.
	drawn int
	// front is the task whose bar is on the terminal, or the table: one at a time.
	front interface{ Done() }
	// lastJSON is when the last line of JSON progress was written.
	lastJSON time.Time
}

// NewConsole makes a console that writes to w.
func NewConsole(w io.Writer, opt Options) *Console {
	if opt.Mode == "" {
		opt.Mode = Never
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	if opt.Size == nil {
		opt.Size = func() (int, int) { return 0, 0 }
	}
	return &Console{w: w, opt: opt}
}

// Write writes lines, over the bar or table if there is one, which draws itself anew.
func (c *Console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.erase(); err != nil {
		return 0, err
	}
	return c.w.Write(p)
}

// erase takes away what is drawn; c.mu is held.
func (c *Console) erase() error {
	if c.drawn == 0 {
		return nil
	}
	_, err := io.WriteString(c.w, c.erasing())
	c.drawn = 0
	return err
}

// erasing is what takes away what is drawn.
func (c *Console) erasing() string {
	if c.drawn == 0 {
		return ""
	}
	return "\r\x1b[K" + strings.Repeat("\x1b[1A\x1b[K", c.drawn-1)
}

// size is the terminal's.
func (c *Console) size() (width, height int) {
	width, height = c.opt.Size()
	if width <= 0 {
		width = 80
	}
	if height <= 0 {
		height = 24
	}
	return width, height
}

// barWriter is where the bar draws: the same stream under the same lock.
type barWriter struct{ c *Console }

func (b barWriter) Write(p []byte) (int, error) {
	b.c.mu.Lock()
	defer b.c.mu.Unlock()
	b.c.drawn = 1
	return b.c.w.Write(p)
}

// Bold is s in bold where colours are welcome, s itself elsewhere.
func (c *Console) Bold(s string) string {
	if !c.opt.Color {
		return s
	}
	return "\x1b[1m" + s + "\x1b[0m"
}

// IsTerminal tells whether f, a stream, is a terminal.
func IsTerminal(f any) bool {
	file, ok := f.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// Size is the width of the terminal f in columns and its height in lines, 0
// where it is none.
func Size(f any) (width, height int) {
	file, ok := f.(*os.File)
	if !ok {
		return 0, 0
	}
	width, height, err := term.GetSize(int(file.Fd()))
	if err != nil {
		return 0, 0
	}
	return width, height
}

// WantsColor tells whether escape sequences are welcome: on a terminal that is
// not a dumb one, unless NO_COLOR is set to something (https://no-color.org).
func WantsColor(terminal bool, getenv func(string) string) bool {
	return terminal && getenv("NO_COLOR") == "" && getenv("TERM") != "dumb"
}

// timeForJSON tells whether a progress line may be written now, and if so
// counts it as written.
func (c *Console) timeForJSON() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.opt.Now()
	if !c.lastJSON.IsZero() && now.Sub(c.lastJSON) < time.Second {
		return false
	}
	c.lastJSON = now
	return true
}

// Stop takes away a bar or table whose task was given up without Done, so that what is
// written next is the last thing to be seen.
func (c *Console) Stop() {
	c.mu.Lock()
	front := c.front
	c.mu.Unlock()
	if front != nil {
		front.Done()
	}
}
