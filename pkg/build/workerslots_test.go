package build

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/relkit/relkit/pkg/failure"
)

// crowd is six builders that may be built on one of two workers, a with one slot and
// b with two, each of which notes which others build there at the time.
func crowd(t *testing.T, on string) *bench {
	text := "[[worker]]\nname = \"a\"\nslots = 1\ntags = [\"x\"]\n[[worker]]\nname = \"b\"\nslots = 2\ntags = [\"x\"]\n"
	for i := range 6 {
		text += fmt.Sprintf("[[builder]]\nname = \"b%d\"\non = %q\n[[builder.step]]\nname = \"a\"\n"+
			"sh = 'in=\"$HOME/in-$RELKIT_WORKER-\"; mkdir \"$in$RELKIT_BUILDER\"; set -- \"$in\"*; echo $RELKIT_WORKER $#; sleep 0.3; rmdir \"$in$RELKIT_BUILDER\"'\n", i, on)
	}
	return newBench(t, text, nil)
}

// most is how many builds of a crowd there were at any time, by worker.
func (b *bench) most() map[string]string {
	b.t.Helper()
	most := map[string]string{}
	for i := range 6 {
		worker, n, ok := strings.Cut(strings.TrimSpace(b.log(fmt.Sprintf("b%d/1", i))), " ")
		if !ok {
			b.t.Errorf("b%d says %q", i, worker)
		}
		most[worker] = max(most[worker], n) // of one digit
	}
	return most
}

// No worker has more builds than slots at any time, and none that could have one idles.
func TestSlotsBoundEachWorker(t *testing.T) {
	for on, want := range map[string]string{"a": "map[a:1]", "b": "map[b:2]", "x": "map[a:1 b:2]"} {
		t.Run(on, func(t *testing.T) {
			b := crowd(t, on)
			if err := b.run(); err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprint(b.most()); got != want {
				t.Errorf("at most %s builds at a time, want %s", got, want)
			}
		})
	}
}

// So it is where six relkits run at once, each with a build of its own.
func TestSlotsBoundSeveralRelkits(t *testing.T) {
	for on, want := range map[string]string{"a": "map[a:1]", "x": "map[a:1 b:2]"} {
		t.Run(on, func(t *testing.T) {
			b := crowd(t, on)
			var wait sync.WaitGroup
			for i := range 6 {
				wait.Go(func() {
					// Locks are of open files: those of one process exclude each other too.
					p, err := Open(b.path("relkit.toml"), "")
					if err != nil {
						t.Error(err)
						return
					}
					cells, err := p.Plan([]string{fmt.Sprintf("b%d", i)})
					if err == nil {
						err = p.Run(t.Context(), cells, Options{})
					}
					if err != nil {
						t.Errorf("b%d: %v, %v", i, failure.Of(err), err)
					}
				})
			}
			wait.Wait()
			if got := fmt.Sprint(b.most()); got != want {
				t.Errorf("at most %s builds at a time, want %s", got, want)
			}
		})
	}
}
