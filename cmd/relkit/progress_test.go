package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/relkit/relkit/pkg/relkittest"
)

// progressLine is a line of --progress json.
type progressLine struct {
	What        string
	Unit        string
	Done, Total int64
	PerSecond   float64  `json:"per_second"`
	SecondsLeft *float64 `json:"seconds_left"`
	Finished    bool
}

// runProgress runs relkit with --progress json under a clock that moves on by a
// second at each look, so that no line is held back, and returns the lines.
func runProgress(t *testing.T, args ...string) (lines []progressLine) {
	t.Helper()
	var out, errs bytes.Buffer
	e := testEnv("", nil, &out, &errs)
	now := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	clock := make(chan time.Time)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	go func() {
		for ; ; now = now.Add(time.Second) {
			select {
			case clock <- now:
			case <-ctx.Done():
				return
			}
		}
	}()
	e.Now = func() time.Time { return <-clock }
	if status := run(context.Background(), e, append(append([]string{"relkit"}, args...), "--progress", "json")); status != 0 {
		t.Fatalf("%q: status %d\n%s", args, status, &errs)
	}
	for _, l := range strings.Split(errs.String(), "\n") {
		var p progressLine
		if strings.Contains(l, `"relkit.progress/v1"`) {
			if err := json.Unmarshal([]byte(l), &p); err != nil {
				t.Fatal(err)
			}
			lines = append(lines, p)
		}
	}
	return lines
}

// TestCommandsShowProgress: whatever takes long says what it does and how far it
// is; where the end is known it is reached, and until then a time is named.
func TestCommandsShowProgress(t *testing.T) {
	relkittest.Need(t, "ssh-keygen")
	dir := t.TempDir()
	t.Chdir(dir)
	for name, data := range map[string]string{"old/a": "one", "old/b": strings.Repeat("0123456789\n", 3000)} {
		writeFile(t, name, data)
	}
	if out, err := exec.Command("sh", "-c", "cp -a old new && echo more >>new/b && head -c 200000 /dev/urandom >new/c && cp -a old m && ssh-keygen -q -t ed25519 -N '' -f key && echo \"release $(cat key.pub)\" >allowed").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, c := range []struct {
		args, phases string
	}{
		{"prepareclient --root old -o golden.tar.zst", "reading old"},
		{"getimage --store store old fw:1", "taking fw:1"},
		{"getimage --store store golden.tar.zst fw:2", "taking fw:2"},
		{"patch-make old new --product fw --from-version 1 --to-version 2 --key key -o p.rkp", "reading the trees|packing|proving"},
		{"distribute p.rkp --to dir:www", "pushing"},
		{"distribute p.rkp --to dir:www", "pushing"},
		{"patch-apply --root m --allowed-signers allowed p.rkp", "verifying p.rkp|staging fw-1-2"},
	} {
		t.Run(c.args, func(t *testing.T) {
			checkProgress(t, runProgress(t, strings.Fields(c.args)...), strings.Split(c.phases, "|"))
		})
	}
	out, errs, status := runTool(t, "", nil, "distribute", "p.rkp", "--to", "dir:www", "-n")
	if status != 0 {
		t.Fatal(errs)
	}
	ref := strings.TrimSpace(out)
	t.Run("fetch", func(t *testing.T) {
		lines := runProgress(t, "fetch", ref, "-o", "again.rkp")
		if len(lines) == 0 {
			t.Fatal("no progress")
		}
		checkProgress(t, lines, []string{lines[0].What})
	})
}

func checkProgress(t *testing.T, lines []progressLine, phases []string) {
	t.Helper()
	var seen []string
	rated := false
	for i, l := range lines {
		if !slices.Contains(seen, l.What) {
			seen = append(seen, l.What)
		}
		if l.Unit != "bytes" || l.Done < 0 || l.Total > 0 && l.Done > l.Total {
			t.Errorf("got %+v", l)
		}
		if l.Finished && l.Total > 0 && l.Done != l.Total {
			t.Errorf("%s ends at %d of %d", l.What, l.Done, l.Total)
		}
		if l.Finished && l.Done == 0 {
			t.Errorf("%s counts nothing: %+v", l.What, lines[max(0, i-1):i+1])
		}
		rated = rated || l.PerSecond > 0
		if l.Total > 0 && l.PerSecond > 0 && l.SecondsLeft == nil {
			t.Errorf("a rate, and no time left: %+v", l)
		}
	}
	if !slices.Equal(seen, phases) {
		t.Errorf("the phases are %q, want %q", seen, phases)
	}
	if !rated {
		t.Errorf("no line names a rate: %s", fmt.Sprint(lines))
	}
}

func writeFile(t *testing.T, name, data string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(data), 0o644); err != nil {
		t.Fatal(err)
	}
}
