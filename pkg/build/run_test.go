package build

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/record"
	"github.com/relkit/relkit/pkg/sys/lock"
)

func TestBusy(t *testing.T) {
	b := newBench(t, builder("true", "", ""), nil)
	s := state{b.path("state")}
	if err := s.prepare("fw"); err != nil {
		t.Fatal(err)
	}
	l, err := lock.Try(s.lockFile("fw"))
	if err != nil {
		t.Fatal(err)
	}
	if err := b.run(); failure.Of(err) != failure.Busy || len(b.built) > 0 {
		t.Errorf("%v", err)
	}
	if err := l.Release(); err != nil {
		t.Fatal(err)
	}
	b.must()
}

func TestCanceled(t *testing.T) {
	b := newBench(t, builder("echo started; sleep 1000", "", ""), nil)
	ctx, cancel := context.WithCancel(t.Context())
	b.opt.Verbose = true
	b.opt.Show = func(string, string) { cancel() }
	p, err := Open(b.path("relkit.toml"), "")
	if err != nil {
		t.Fatal(err)
	}
	cells, err := p.Plan(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Run(ctx, cells, b.opt); err != context.Canceled {
		t.Errorf("%v", err)
	}
	r, err := p.state.load("fw", 1)
	if err != nil || r.Status != record.BuildInterrupted || r.Steps[0].Reason != "canceled" || r.Steps[0].Exit != nil {
		t.Errorf("%v, %+v", err, r)
	}
}

func TestManyRunsAtOnce(t *testing.T) {
	var builders string
	for i := range 4 {
		builders += fmt.Sprintf("[[builder]]\nname = \"b%d\"\n[[builder.step]]\nname = \"a\"\nrun = [\"true\"]\n", i)
	}
	b := newBench(t, builders, nil)
	b.opt.Log, b.opt.Show, b.opt.KeepGoing, b.opt.Jobs = nil, nil, true, 2
	var mu sync.Mutex
	seen := map[string]bool{}
	b.opt.Done = func(r *record.Build, _ string) error {
		mu.Lock()
		defer mu.Unlock()
		key := fmt.Sprintf("%s/%d", r.Builder, r.Number)
		if seen[key] {
			t.Errorf("%s was built twice", key)
		}
		seen[key] = true
		return nil
	}
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			p, err := Open(b.path("relkit.toml"), "")
			if err != nil {
				t.Error(err)
				return
			}
			cells, err := p.Plan(nil)
			if err != nil {
				t.Error(err)
				return
			}
			for range 3 {
				if err := p.Run(t.Context(), cells, b.opt); err != nil && failure.Of(err) != failure.Busy {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	p, _ := Open(b.path("relkit.toml"), "")
	events, bad, err := p.History("")
	if err != nil || bad != 0 || len(events) != len(seen) || len(seen) < 4 {
		t.Errorf("%d builds, %d in the history, %d bad lines, %v", len(seen), len(events), bad, err)
	}
	for i := range 4 {
		numbers, _ := p.state.numbers(fmt.Sprintf("b%d", i))
		if len(numbers) == 0 || numbers[len(numbers)-1] != len(numbers) {
			t.Errorf("numbers %v", numbers)
		}
	}
}

func TestStopAndKeepGoing(t *testing.T) {
	b := newBench(t, "[[builder]]\nname = \"a\"\n[[builder.step]]\nname = \"a\"\nrun = [\"false\"]\n"+
		"[[builder]]\nname = \"b\"\n[[builder.step]]\nname = \"a\"\nrun = [\"true\"]\n", nil)
	b.opt.Jobs = 1
	if err := b.run(); failure.Of(err) != failure.No || len(b.built) != 1 {
		t.Errorf("%v, %d built", err, len(b.built))
	}
	b.opt.KeepGoing = true
	if err := b.run(); failure.Of(err) != failure.No || len(b.built) != 2 {
		t.Errorf("%v, %d built", err, len(b.built))
	}
	// One that cannot be had says more than one that failed.
	b.write("relkit.toml", b.read("relkit.toml")+"[[source]]\nname = \"no\"\nvcs = \"git\"\nurl = \"nowhere\"\n[[builder]]\nname = \"c\"\nsources = [\"no\"]\n[[builder.step]]\nname = \"a\"\nrun = [\"true\"]\n")
	if err := b.run(); failure.Of(err) != failure.Failed || len(b.built) != 2 || !strings.Contains(err.Error(), "build a/3 failed") {
		t.Errorf("%v, %d built", err, len(b.built))
	}
}

func TestSlotsAreShared(t *testing.T) {
	step := "[[builder.step]]\nname = \"a\"\nsh = \"echo {slots}\"\n"
	b := newBench(t, "[[builder]]\nname = \"a\"\n"+step+"[[builder]]\nname = \"b\"\n"+step, nil)
	if err := b.run(); err != nil || b.log("a/1") != "2\n" || b.log("b/1") != "2\n" {
		t.Errorf("%v, %q, %q", err, b.log("a/1"), b.log("b/1"))
	}
	b.must("a")
	if got := b.log("a/2"); got != "4\n" {
		t.Errorf("%q", got)
	}
}

// TestCountingLocks: of six builders that use a lock of two slots, two build at a time.
func TestCountingLocks(t *testing.T) {
	text := "[[lock]]\nname = \"jtag\"\nslots = 2\n[[lock]]\nname = \"board\"\nslots = 6\n"
	for i := range 6 {
		locks := []string{`["jtag", "board"]`, `["board", "jtag"]`}[i%2]
		text += fmt.Sprintf("[[builder]]\nname = \"b%d\"\nlocks = %s\n[[builder.step]]\nname = \"a\"\n"+
			"sh = 'mkdir \"$HOME/in-$RELKIT_BUILDER\"; set -- \"$HOME\"/in-*; echo $#; sleep 0.2; rmdir \"$HOME/in-$RELKIT_BUILDER\"'\n", i, locks)
	}
	b := newBench(t, text, nil)
	b.write("relkit.toml", strings.Replace(b.read("relkit.toml"), "slots = 4", "slots = 6", 1))
	if err := b.run(); err != nil {
		t.Fatal(err)
	}
	together := false
	for i := range 6 {
		switch got := b.log(fmt.Sprintf("b%d/1", i)); got {
		case "1\n":
		case "2\n":
			together = true
		default:
			t.Errorf("b%d saw %q builds at a time", i, got)
		}
	}
	if !together {
		t.Error("the second slot was never used")
	}
	s := state{b.path("state")}
	var held []*lock.Lock
	for n := range 2 {
		l, err := lock.Try(s.dir + fmt.Sprintf("/locks/@jtag.%d", n))
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, l)
	}
	p, err := Open(b.path("relkit.toml"), "")
	if err != nil {
		t.Fatal(err)
	}
	cells, err := p.Plan([]string{"b0"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := p.Run(ctx, cells, b.opt); err != context.DeadlineExceeded {
		t.Errorf("waiting for a lock: %v", err)
	}
	for _, l := range held {
		if err := l.Release(); err != nil {
			t.Error(err)
		}
	}
	b.must("b0")
}

// counter is a Progress.
type counter struct {
	mu          sync.Mutex
	total, done int64
	ended       bool
}

func (c *counter) Start(total int64, _ string) { c.total = total }
func (c *counter) Done()                       { c.ended = true }
func (c *counter) Add(n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done += n
}

func TestProgressCountsSteps(t *testing.T) {
	step := "[[builder.step]]\nname = \"%s\"\nrun = [\"%s\"]\n"
	b := newBench(t, "[[builder]]\nname = \"a\"\n"+fmt.Sprintf(step, "x", "false")+fmt.Sprintf(step, "y", "true")+
		"[[builder]]\nname = \"b\"\n"+fmt.Sprintf(step, "x", "true"), nil)
	c := &counter{}
	b.opt.Progress, b.opt.KeepGoing = c, true
	if err := b.run(); failure.Of(err) != failure.No || c.total != 3 || c.done != 3 || !c.ended {
		t.Errorf("%v, %d of %d, %v", err, c.done, c.total, c.ended)
	}
}
