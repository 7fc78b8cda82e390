package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/relkit/relkit/pkg/format/record"
)

// TestManyRelkitsAtOnce: 20 processes build 4 builders at the same time, and some
// of them are killed: no number is lost or given twice, the history can be read,
// and nothing stays locked. RELKIT_TEST_BUILDS is how many builds, 40 by default,
// and RELKIT_TEST_KILLS how many relkits are killed at least.
func TestManyRelkitsAtOnce(t *testing.T) {
	total := 40
	if n, err := strconv.Atoi(os.Getenv("RELKIT_TEST_BUILDS")); err == nil {
		total = n
	}
	kills, _ := strconv.Atoi(os.Getenv("RELKIT_TEST_KILLS"))
	p := &project{t, t.TempDir()}
	text := "[project]\nname = \"fw\"\nstate = \"state\"\n[[lock]]\nname = \"jtag\"\nslots = 2\n"
	for i := range 4 {
		text += fmt.Sprintf("[[builder]]\nname = \"b%d\"\nlocks = [\"jtag\"]\nstep = [{ name = \"a\", run = [\"true\"] }]\n", i)
	}
	p.write("relkit.toml", text)
	var mu sync.Mutex
	built, killed := 0, 0
	seen := map[string]bool{}
	one := func(kill bool) (enough bool) {
		cmd := p.relkit("build", "--json", "-q", "--keep-going", "-j", "4")
		var out bytes.Buffer
		cmd.Stdout = &out
		if err := cmd.Start(); err != nil {
			t.Error(err)
			return true
		}
		if kill {
			timer := time.AfterFunc(time.Duration(rand.IntN(300))*time.Millisecond, func() { _ = cmd.Process.Kill() })
			defer timer.Stop()
		}
		_ = cmd.Wait()
		mu.Lock()
		defer mu.Unlock()
		switch code := cmd.ProcessState.ExitCode(); code {
		case 0, 6: // done, or another is at it
		case -1:
			killed++
		default:
			t.Errorf("exit status %d", code)
		}
		for line := range strings.Lines(out.String()) {
			b, err := record.DecodeBuild([]byte(line))
			if err != nil {
				if cmd.ProcessState.ExitCode() != -1 {
					t.Error(err)
				}
				continue
			}
			key := fmt.Sprintf("%s/%d", b.Builder, b.Number)
			if seen[key] {
				t.Errorf("%s was built twice", key)
			}
			seen[key] = true
			built++
		}
		return built >= total && killed >= kills || t.Failed()
	}
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			for n := 0; !one(i%4 == 3 && n%2 == 1); n++ {
			}
		})
	}
	wg.Wait()
	before := built
	if one(false); t.Failed() { // puts in order what was killed
		return
	}
	if built != before+4 {
		t.Errorf("with all others gone, %d of 4 builders are built", built-before)
	}
	out, err := p.relkit("build", "--history", "--json").Output()
	if err != nil {
		t.Fatal(err)
	}
	next := map[string]int{}
	for line := range strings.Lines(string(out)) {
		ev, err := record.DecodeBuildEvent([]byte(line))
		if err != nil || ev.Number != next[ev.Builder]+1 {
			t.Fatalf("%v: %s after number %d", err, line, next[ev.Builder])
		}
		next[ev.Builder]++
		delete(seen, fmt.Sprintf("%s/%d", ev.Builder, ev.Number))
	}
	if len(seen) > 0 || len(next) != 4 {
		t.Errorf("not in the history: %v", seen)
	}
	t.Logf("%d builds, %d relkits killed", built, killed)
}
