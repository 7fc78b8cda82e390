package ui

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"math"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// lockedBuffer is a terminal that may be looked at while a bar draws on it.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestNoProgressWhereNobodyLooks(t *testing.T) {
	for _, opt := range []Options{{}, {Mode: Never, Terminal: true}, {Mode: Auto}} {
		var out bytes.Buffer
		p := NewConsole(&out, opt).Progress(Bytes)
		p.Start(10, "copying")
		p.Add(10)
		p.Done()
		if out.Len() > 0 {
			t.Errorf("%+v: got %q", opt, &out)
		}
	}
}

func TestJSONProgress(t *testing.T) {
	var out bytes.Buffer
	now := time.Unix(1000, 0)
	c := NewConsole(&out, Options{Mode: JSON, Now: func() time.Time { return now }})
	p := c.Progress(Bytes)
	p.Start(100, `copying "x"`)
	for range 40 {
		p.Add(1)
		now = now.Add(100 * time.Millisecond)
	}
	now = now.Add(time.Second)
	p.Done()
	p.Done() // twice is once
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 5 {
		t.Fatalf("4 seconds and an end are %d lines:\n%s", len(lines), &out)
	}
	var e event
	if err := json.Unmarshal([]byte(lines[4]), &e); err != nil {
		t.Fatal(err)
	}
	// 10 a second for 4 seconds, then nothing for 2, which weighs as much.
	want := event{Schema: "relkit.progress/v1", What: `copying "x"`, Unit: Bytes, Done: 40, Total: 100, PerSecond: e.PerSecond, SecondsLeft: e.SecondsLeft, Finished: true}
	if e != want || e.PerSecond < 5 || e.PerSecond > 8 {
		t.Errorf("got %+v, want %+v", e, want)
	}
	if e.SecondsLeft == nil || math.Abs(*e.SecondsLeft-60/e.PerSecond) > 0.1 {
		t.Errorf("at %v a second 60 more take %v seconds", e.PerSecond, *e.SecondsLeft)
	}
	if strings.Contains(lines[0], "per_second") || !strings.Contains(lines[2], `"done":21,"total":100,"per_second":10.5,"seconds_left":7.5`) {
		t.Errorf("the first line claims a rate, or the third tells another:\n%s\n%s", lines[0], lines[2])
	}
}

func TestJSONProgressIsOneLineASecondInAll(t *testing.T) {
	var out lockedBuffer
	now := time.Unix(1000, 0)
	c := NewConsole(&out, Options{Mode: JSON, Now: func() time.Time { return now }})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				p := c.Progress(Items)
				p.Start(0, "x")
				p.Add(1)
				p.Done()
			}
		})
	}
	wg.Wait()
	if n := strings.Count(out.String(), "\n"); n != 1 {
		t.Errorf("got %d lines within one instant:\n%s", n, out.String())
	}
}

func TestBarOnATerminal(t *testing.T) {
	var out lockedBuffer
	c := NewConsole(&out, Options{Mode: Auto, Terminal: true, Size: func() (int, int) { return 60, 0 }})
	p := c.Progress(Bytes)
	p.Start(1<<20, "copying\x1b[31m")
	p.Add(1 << 19)
	waitFor(t, &out, "50%")
	NewLogger(c, slog.LevelInfo).Info("in between")
	p.Add(1 << 18)
	waitFor(t, &out, "75%")
	p.Done()
	got := out.String()
	if !strings.Contains(got, "\r\x1b[Krelkit: in between\n") {
		t.Errorf("the note is not on a line of its own: %q", got)
	}
	if strings.Contains(got, "\x1b[31m") || !strings.Contains(got, `copying\x1b[31m`) {
		t.Errorf("an escape sequence reached the terminal: %q", got)
	}
	for _, draw := range strings.Split(got, "\r") {
		if n := len([]rune(regexp.MustCompile(`\x1b\[[0-9;]*[mK]`).ReplaceAllString(draw, ""))); n >= 60 && !strings.Contains(draw, "\n") {
			t.Errorf("a bar of %d columns would wrap at 60: %q", n, draw)
		}
	}
	last := got[strings.LastIndex(strings.TrimRight(got, "\r"), "\r")+1:]
	if strings.TrimSpace(regexp.MustCompile(`\x1b\[[0-9;]*m`).ReplaceAllString(last, "")) != "" {
		t.Errorf("the bar stays: %q", last)
	}
}

// The bar tells the rate and the time left, where there is room also how much
// there is in all; without a total, how long it has taken.
func TestBarTellsRateAndTimeLeft(t *testing.T) {
	for _, c := range []struct {
		width int
		total int64
		want  string
	}{
		{100, 8 << 20, `copying \[=+>? *\] +[0-9]+% [0-9.]+ [KM]iB / 8\.00 MiB [0-9.]+ [KMG]iB/s [0-9.]+m?s left`},
		{60, 8 << 20, `copying \[=*>? *\] +[0-9]+% [0-9.]+ [KMG]iB/s [0-9.]+m?s left`},
		{60, 0, `copying [0-9.]+ [KM]iB [0-9.]+ [KMG]iB/s [0-9.]+s`},
	} {
		var out lockedBuffer
		p := NewConsole(&out, Options{Mode: Auto, Terminal: true, Size: func() (int, int) { return c.width, 0 }}).Progress(Bytes)
		p.Start(c.total, "copying")
		pattern := regexp.MustCompile(c.want)
		for i := 0; i < 100 && !pattern.MatchString(out.String()); i++ {
			p.Add(64 << 10)
			time.Sleep(20 * time.Millisecond)
		}
		p.Done()
		if !pattern.MatchString(out.String()) {
			t.Errorf("%d columns: want %s in\n%q", c.width, c.want, out.String())
		}
	}
}

// Two jobs at once draw one bar, and the second may have the line afterwards.
func TestOneBarAtATime(t *testing.T) {
	var out lockedBuffer
	c := NewConsole(&out, Options{Mode: Auto, Terminal: true})
	first, second := c.Progress(Items), c.Progress(Items)
	first.Start(0, "first")
	second.Start(10, "second")
	second.Add(1)
	waitFor(t, &out, "first")
	first.Done()
	second.Done()
	if strings.Contains(out.String(), "second") {
		t.Errorf("two bars overwrite each other: %q", out.String())
	}
	second.Start(10, "second")
	waitFor(t, &out, "second")
	second.Done()
}

func waitFor(t *testing.T, out *lockedBuffer, text string) {
	t.Helper()
	for range 200 {
		if strings.Contains(out.String(), text) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("no %q in %q", text, out.String())
}

func TestLogger(t *testing.T) {
	var out bytes.Buffer
	log := NewLogger(&out, slog.LevelInfo)
	log.Debug("hidden")
	log.Info("wrote patch", "path", "a b", "bytes", 5, "empty", "", "err", errors.New(`no "x"`))
	log.Warn("two\nlines \x1b[0m", slog.Group("disk", "name", "sda"))
	log.With("step", "compile").WithGroup("g").Error("bad", "k", "\u202ev")
	want := `relkit: wrote patch path="a b" bytes=5 empty="" err="no \"x\""
relkit: warning: two\nlines \x1b[0m disk.name=sda
relkit: error: bad step=compile g.k="\u202ev"
`
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", &out, want)
	}
}

func TestVisible(t *testing.T) {
	if got, want := Visible("a\tb\x1b[2J\u009b1m\nü\xff"), `a\tb\x1b[2J\u009b1m`+"\nü\uFFFD"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestColor(t *testing.T) {
	for _, c := range []struct {
		terminal bool
		noColor  string
		term     string
		want     bool
	}{{true, "", "xterm", true}, {false, "", "xterm", false}, {true, "1", "xterm", false}, {true, "", "dumb", false}} {
		getenv := func(k string) string { return map[string]string{"NO_COLOR": c.noColor, "TERM": c.term}[k] }
		if got := WantsColor(c.terminal, getenv); got != c.want {
			t.Errorf("%+v: got %v", c, got)
		}
	}
	if got := NewConsole(nil, Options{Color: true}).Bold("x"); got != "\x1b[1mx\x1b[0m" {
		t.Errorf("got %q", got)
	}
	if got := NewConsole(nil, Options{}).Bold("x"); got != "x" {
		t.Errorf("got %q", got)
	}
}

func TestWhatIsNoTerminal(t *testing.T) {
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, stream := range []any{f, new(bytes.Buffer), nil} {
		if w, h := Size(stream); IsTerminal(stream) || w != 0 || h != 0 {
			t.Errorf("%T counts as a terminal", stream)
		}
	}
}

func TestStopTakesAwayAForgottenBar(t *testing.T) {
	var out lockedBuffer
	c := NewConsole(&out, Options{Mode: Auto, Terminal: true})
	p := c.Progress(Bytes)
	p.Start(10, "copying")
	waitFor(t, &out, "copying")
	c.Stop()
	c.Stop()
	if _, err := c.Write([]byte("relkit: failed\n")); err != nil {
		t.Fatal(err)
	}
	time.Sleep(300 * time.Millisecond) // longer than the bar's rhythm
	p.Add(1)
	p.Done()
	if !strings.HasSuffix(out.String(), "\rrelkit: failed\n") {
		t.Errorf("something follows: %q", out.String())
	}
}
