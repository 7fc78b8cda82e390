package build

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/relkit/relkit/pkg/failure"
)

// TestFollow follows a build from before its first step to its end: nothing is
// missed, nothing comes twice.
func TestFollow(t *testing.T) {
	b := newBench(t, builder("for i in 1 2 3; do echo one $i; sleep 0.7; done", "", "[[builder.step]]\nname = \"second\"\nsh = \"echo two; sleep 1.5; echo end\"\n"), nil)
	p, err := Open(b.path("relkit.toml"), "")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- b.run() }()
	var got []string
	early := false
	for {
		err = p.Follow(t.Context(), "fw/last", func(l *StepLog, line LogLine) error {
			if line.Stream != "stdout" {
				return nil
			}
			got = append(got, l.Step+": "+string(line.Text))
			select {
			case <-done:
				done <- nil
			default:
				early = true
			}
			return nil
		})
		if failure.Of(err) != failure.Usage {
			break
		}
		time.Sleep(10 * time.Millisecond) // it has not begun
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	text := strings.Join(got, "\n")
	if want := "one 1|one 2|one 3|second: two|second: end"; !early || len(got) != 5 || !inOrder(text, strings.Split(want, "|")) {
		t.Errorf("early %v, got %s", early, text)
	}
	// A build that has ended is printed whole; a reader that has enough, or is told to stop, does.
	enough := errors.New("enough")
	if err := p.Follow(t.Context(), "fw/1", func(*StepLog, LogLine) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("got %v", err)
	}
}

// TestFollowIsCanceled ends while the build goes on.
func TestFollowIsCanceled(t *testing.T) {
	b := newBench(t, builder("echo started; sleep 3", "", ""), nil)
	p, err := Open(b.path("relkit.toml"), "")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- b.run() }()
	ctx, cancel := context.WithCancel(t.Context())
	for {
		err = p.Follow(ctx, "fw/last", func(_ *StepLog, line LogLine) error {
			if string(line.Text) == "started" {
				cancel()
			}
			return nil
		})
		if failure.Of(err) != failure.Usage {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// inOrder tells whether the parts stand in text one after the other.
func inOrder(text string, parts []string) bool {
	for _, p := range parts {
		_, rest, ok := strings.Cut(text, p)
		if !ok {
			return false
		}
		text = rest
	}
	return true
}
