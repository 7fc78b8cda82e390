package examples_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/relkit/relkit/pkg/relkittest"
)

var (
	changing = regexp.MustCompile(`[0-9.]+(ms|µs|s)\b`)
	crontab  = regexp.MustCompile(`^([-*/,0-9]+ +){5}`) // the time of a crontab's line
	running  = regexp.MustCompile(`\nsha256 of what runs: ([0-9a-f]{64}); of what was built, in build\.json: ([0-9a-f]{64})\n$`)
)

// TestDemo runs the demo as `make demo` does, and holds the README's first
// session to what it prints, line by line.
func TestDemo(t *testing.T) {
	relkittest.Need(t, "git", "gcc", "make", "curl", "ssh-keygen", "javac")
	bin := buildRelkit(t)
	tmp := t.TempDir()
	demo := exec.Command("sh", "demo.sh")
	demo.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "TMPDIR="+tmp, "GIT_CONFIG_NOSYSTEM=1")
	out, err := demo.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	sums := running.FindSubmatch(out)
	if sums == nil || !bytes.Equal(sums[1], sums[2]) {
		t.Errorf("the demo does not end with what runs being what was built:\n%s", out)
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
		t.Errorf("the demo leaves %v, %v", left, err)
	}
	printed := map[string]bool{}
	for line := range strings.Lines(string(out)) {
		printed[changing.ReplaceAllString(line, "TIME")] = true
	}
	for line := range strings.Lines(firstSession(t)) {
		if !printed[changing.ReplaceAllString(line, "TIME")] {
			t.Errorf("the README shows, and the demo does not print: %s", line)
		}
	}
}

// firstSession is the first shell session of the README.
func firstSession(t *testing.T) string {
	t.Helper()
	_, rest, ok := strings.Cut(read(t, "../README.md"), "```console\n")
	session, _, ended := strings.Cut(rest, "```\n")
	if !ok || !ended || !strings.HasPrefix(session, "$ relkit ") {
		t.Fatal("the README does not begin with a session")
	}
	return session
}

// TestManualExamples holds the commands of every page's examples to the shell's
// syntax and to the flags that the commands have.
func TestManualExamples(t *testing.T) {
	pages, err := filepath.Glob("../man/*.[1-9]")
	if err != nil || len(pages) == 0 {
		t.Fatalf("%v, %v", pages, err)
	}
	commands := 0
	for _, page := range pages {
		_, examples, ok := strings.Cut(read(t, page), "\n.Sh EXAMPLES\n")
		if !ok {
			continue
		}
		examples, _, _ = strings.Cut(examples, "\n.Sh ")
		for _, block := range regexp.MustCompile(`(?s)\.Bd -literal[^\n]*\n(.*?)\.Ed`).FindAllStringSubmatch(examples, -1) {
			text := strings.NewReplacer(`\e`, `\`, `\(dq`, `"`, `\(aq`, "'", `\&`, "").Replace(block[1])
			if !strings.Contains(text, "relkit ") || strings.HasPrefix(text, "[") || strings.Contains(text, "#relkit ") {
				continue // a file, not a command
			}
			var lines []string
			for line := range strings.Lines(text) {
				line = strings.TrimPrefix(line, "$ ")
				lines = append(lines, crontab.ReplaceAllString(line, ""))
			}
			checkCommand(t, page, strings.Join(lines, ""))
			commands++
		}
	}
	if commands < 10 {
		t.Errorf("only %d examples found", commands)
	}
}
