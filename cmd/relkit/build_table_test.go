package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestBuildTableOnARealTerminal: what runs side by side is shown a line each, and
// nothing of that is left when it has ended.
func TestBuildTableOnARealTerminal(t *testing.T) {
	dir := t.TempDir()
	text := "[project]\nname = \"fw\"\nstate = \"state\"\n[[worker]]\nname = \"here\"\nslots = 2\n"
	for _, name := range []string{"good", "bad"} {
		text += "[[builder]]\nname = \"" + name + "\"\n[[builder.step]]\nname = \"wait\"\nsh = 'sleep 1; [ $RELKIT_BUILDER = good ]'\n"
	}
	if err := os.WriteFile(filepath.Join(dir, "relkit.toml"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		flag  string
		table bool
	}{{"--keep-going", true}, {"--verbose", false}, {"--progress=never", false}} {
		var out bytes.Buffer
		shown, status := onTerminal(t, nil, func(cmd *exec.Cmd, tty *os.File) {
			cmd.Args[0], cmd.Dir, cmd.Stdout, cmd.Stderr = "relkit", dir, &out, tty
		}, "build", "--keep-going", c.flag)
		if status != 3 || strings.Count(out.String(), "\n") != 2 {
			t.Errorf("%s: status %d, printed %q", c.flag, status, &out)
		}
		if got := strings.Contains(shown, "2 running, 0 failed, 0 waiting, 0 done"); got != c.table {
			t.Errorf("%s: the terminal showed %q", c.flag, shown)
		}
		if c.table && (!strings.Contains(shown, "1/1 wait") || strings.Contains(shown[strings.LastIndex(shown, "\x1b[K"):], "running")) {
			t.Errorf("%s: the terminal showed %q", c.flag, shown)
		}
	}
}
