package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/relkit/relkit/pkg/format/record"
	"github.com/relkit/relkit/pkg/relkittest"
)

// killedBuild starts a build that hangs in a step, kills relkit there, and answers
// the record that the next run makes of it; that run builds what is normal.
func killedBuild(t *testing.T, p *project, lines int, args ...string) *record.Build {
	t.Helper()
	cmd := p.relkit(append([]string{"build"}, args...)...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pids := p.waitFor("pids", lines)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	for end := time.Now().Add(10 * time.Second); len(alive(pids)) > 0 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	if left := alive(pids); len(left) > 0 {
		t.Errorf("%d of %d processes are left", len(left), len(pids))
	}
	p.write("fine", "")
	if b := p.record(0); b.Number != 2 || b.IsTry() || b.Repro != nil {
		t.Errorf("%+v", b)
	}
	data, err := os.ReadFile(filepath.Join(p.dir, "state/builds/fw/000001/build.json"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := record.DecodeBuild(data)
	if err != nil || b.Status != record.BuildInterrupted || !strings.Contains(b.Error, "was killed") {
		t.Fatalf("%v: %+v", err, b)
	}
	return b
}

// A try build that is killed is one still, and the next build has nothing of it.
func TestKilledTry(t *testing.T) {
	p := newProject(t, family+"[[builder.step]]\nname = \"see\"\nsh = \"cat in; ! test -e new\"\n", map[string]string{"in": "one\n"})
	p.write("my.diff", "--- a/in\n+++ b/in\n@@ -1 +1 @@\n-one\n+two\n--- /dev/null\n+++ b/new\n@@ -0,0 +1 @@\n+x\n")
	b := killedBuild(t, p, 4, "--patch", "my.diff")
	if !b.IsTry() || p.sh("cat state/builds/fw/000001/try/01-fw.diff") != p.sh("cat my.diff") {
		t.Errorf("%+v", b)
	}
	if got := p.sh("ls state/builds/fw; readlink state/builds/fw/last"); got != "000001\n000002\nlast\nlast-good\n000002\n" {
		t.Errorf("%q", got)
	}
	if log, err := p.relkit("build", "--log", "fw/2/see").Output(); err != nil || !strings.Contains(string(log), "\none\n") {
		t.Errorf("%v: %s", err, log)
	}
}

// Killed in its second half, a build leaves no process and no mount.
func TestKilledSecondBuild(t *testing.T) {
	relkittest.Need(t, "disorderfs", "unshare", "faketime")
	relkittest.NeedRoot(t)
	const again = "[[builder.step]]\nname = \"make\"\nsh = \"umask 022; mkdir -p out; cp in out/x; if [ \\\"$TZ\\\" = UTC ]; then touch $HOME/fine; elif ! test -e $HOME/once; then rm -f $HOME/fine; touch $HOME/once; fi\"\n"
	p := newProject(t, again+family+"[builder.artifacts]\npaths = [\"out/*\"]\n", map[string]string{"in": "one\n"})
	killedBuild(t, p, 4, "--repro")
	mounts, err := os.ReadFile("/proc/mounts")
	if err != nil || strings.Contains(string(mounts), p.dir) {
		t.Errorf("%v, mounted: %s", err, mounts)
	}
	if got := p.sh("pgrep -f '[d]isorderfs.*" + p.dir + "' || true"); got != "" {
		t.Errorf("disorderfs runs still: %s", got)
	}
	// What killed it is gone: it can be built twice.
	if b := p.record(0, "--repro"); b.Repro == nil || b.Repro.Result != record.ReproSame {
		t.Errorf("%+v", b)
	}
}
