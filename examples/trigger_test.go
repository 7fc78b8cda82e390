package examples_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/relkit/relkit/pkg/relkittest"
)

const triggered = `[project]
name = "fw"
state = "state"
keep = { builds = 1 }
[[source]]
name = "fw"
vcs = "git"
url = "fw.git"
branch = "main"
stable = "1s"
[[builder]]
name = "fw"
sources = ["fw"]
step = [{ name = "all", run = ["cat", "in"] }]
[[schedule]]
name = "commit"
on = "change"
`

// TestCrontabAndPostReceive pushes to a repository with the hook, and runs the
// lines of the crontab as cron does.
func TestCrontabAndPostReceive(t *testing.T) {
	relkittest.Need(t, "git")
	bin, dir := buildRelkit(t), t.TempDir()
	sh := func(command string) string { t.Helper(); return shell(t, dir, bin, "set -e; "+command) }
	write := func(name, text string, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	write("relkit.toml", triggered, 0o644)
	sh("git init -q --bare -b main fw.git; git clone -q fw.git wc 2>/dev/null; cd wc; git checkout -q -b main; git config user.name x; git config user.email x@example.com")
	hook := strings.NewReplacer("/usr/local/bin/relkit", bin+"/relkit", "/srv/fw/", dir+"/").Replace(read(t, "post-receive"))
	write("fw.git/hooks/post-receive", hook, 0o755)
	var lines []string // what cron runs
	for line := range strings.Lines(read(t, "crontab")) {
		if f := strings.Fields(line); len(f) > 6 && f[5] == "relkit" {
			lines = append(lines, strings.ReplaceAll(strings.Join(f[5:], " "), "/srv/fw/", dir+"/"))
		}
	}
	if len(lines) != 2 {
		t.Fatalf("the crontab has the lines %q", lines)
	}
	for n, text := range []string{"one", "two"} {
		sh("cd wc; echo " + text + " >in; git add in; git commit -q -m " + text + "; git push -q origin main")
		if pending, err := os.ReadFile(dir + "/state/pending.json"); err != nil || !strings.Contains(string(pending), strings.TrimSpace(sh("git -C wc rev-parse HEAD"))) {
			t.Errorf("the push was not noted: %v, %s", err, pending)
		}
		sh("sleep 1.1")
		for _, line := range lines {
			if out := sh(line); out != "" {
				t.Errorf("%s: cron mails %q", line, out)
			}
		}
		if got := sh("relkit build --log fw/last/all"); !strings.Contains(got, text) {
			t.Errorf("build %d: %q", n+1, got)
		}
	}
	if got := sh("ls state/builds/fw"); got != "000002\nlast\nlast-good\n" {
		t.Errorf("left are %q", got)
	}
}
