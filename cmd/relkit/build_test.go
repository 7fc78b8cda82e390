package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/relkit/relkit/pkg/format/record"
	"github.com/relkit/relkit/pkg/relkittest"
)

const gitConfig = "[user]\nname = A U Thor\nemail = a@example.com\n[init]\ndefaultBranch = main\n"

// TestBuildScript runs testdata/build/*.txtar: relkit build as a user types it,
// with the project of examples/build in $WORK/checksum.
func TestBuildScript(t *testing.T) {
	relkittest.Need(t, "git", "gcc", "make", "sha256sum", "zstd", "svn", "hg", "ssh-keygen")
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/build",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("HOME", e.WorkDir)
			e.Setenv("GIT_CONFIG_NOSYSTEM", "1")
			if err := os.CopyFS(filepath.Join(e.WorkDir, "checksum"), os.DirFS("../../examples/build")); err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(e.WorkDir, ".gitconfig"), []byte(gitConfig), 0o644)
		},
		Condition: missing,
		Cmds:      map[string]func(*testscript.TestScript, bool, []string){"exits": cmdExits, "smtpd": cmdMailServer},
	})
}

// cmdMailServer is "smtpd DIR": it starts a mail server, at $SMTP, that puts what
// it takes into DIR as 1.txt and so on.
func cmdMailServer(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: smtpd dir")
	}
	dir := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(dir, 0o755))
	address, stop, err := relkittest.MailServer(relkittest.MailOptions{Dir: dir})
	ts.Check(err)
	ts.Defer(stop)
	ts.Setenv("SMTP", address)
}

// project is a repository and a relkit.toml for the tests that need Go.
type project struct {
	t   *testing.T
	dir string
}

func newProject(t *testing.T, builder string, files map[string]string) *project {
	t.Helper()
	relkittest.Need(t, "git")
	p := &project{t, t.TempDir()}
	p.write(".gitconfig", gitConfig)
	p.write("relkit.toml", "[project]\nname = \"fw\"\nstate = \"state\"\n[[source]]\nname = \"fw\"\nvcs = \"git\"\nurl = \"repo\"\n"+
		"[[builder]]\nname = \"fw\"\nsources = [\"fw\"]\n"+builder)
	p.sh("mkdir -p repo && cd repo && git init -q .")
	for name, text := range files {
		p.write("repo/"+name, text)
	}
	p.sh("cd repo && git add -A && git commit -q --allow-empty -m one")
	return p
}

func (p *project) write(name, text string) {
	p.t.Helper()
	file := filepath.Join(p.dir, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		p.t.Fatal(err)
	}
}

func (p *project) sh(script string) string {
	p.t.Helper()
	cmd := exec.Command("sh", "-ec", script)
	cmd.Dir, cmd.Env = p.dir, append(os.Environ(), "HOME="+p.dir, "GIT_CONFIG_NOSYSTEM=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		p.t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return string(out)
}

// relkit is a relkit to start: this test's program under another name.
func (p *project) relkit(args ...string) *exec.Cmd {
	cmd := &exec.Cmd{Path: "/proc/self/exe", Args: append([]string{"relkit"}, args...), Dir: p.dir,
		Env: append(os.Environ(), "HOME="+p.dir, "GIT_CONFIG_NOSYSTEM=1")}
	return cmd
}

// record is the only record that a run of relkit build --json prints.
func (p *project) record(wantStatus int, args ...string) *record.Build {
	p.t.Helper()
	var out, errs bytes.Buffer
	cmd := p.relkit(append([]string{"build", "--json"}, args...)...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	_ = cmd.Run()
	if got := cmd.ProcessState.ExitCode(); got != wantStatus {
		p.t.Fatalf("exit status %d, want %d\n%s", got, wantStatus, errs.String())
	}
	if !json.Valid(out.Bytes()) || bytes.Count(out.Bytes(), []byte("\n")) != 1 {
		p.t.Fatalf("not one line of JSON: %q\n%s", out.String(), errs.String())
	}
	b, err := record.DecodeBuild(out.Bytes())
	if err != nil {
		p.t.Fatal(err)
	}
	return b
}

// waitFor waits for lines of a file that a step writes and answers the numbers in it.
func (p *project) waitFor(name string, lines int) []int {
	p.t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		data, _ := os.ReadFile(filepath.Join(p.dir, name))
		if fields := strings.Fields(string(data)); len(fields) >= lines && bytes.HasSuffix(data, []byte("\n")) {
			var pids []int
			for _, f := range fields {
				pid, err := strconv.Atoi(f)
				if err != nil {
					p.t.Fatal(err)
				}
				pids = append(pids, pid)
			}
			return pids
		}
	}
	p.t.Fatalf("%s did not get %d lines", name, lines)
	return nil
}

// alive tells which of the processes still run.
func alive(pids []int) []int {
	var left []int
	for _, pid := range pids {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err == nil && !bytes.Contains(stat, []byte(") Z ")) {
			left = append(left, pid)
		}
	}
	return left
}

// family is a step that starts a plain child, a double fork, a process in a
// session of its own and one that ignores SIGTERM, and then hangs, unless $1 is
// there.
const family = `[[builder.step]]
name = "hang"
sh = '''
if [ -e "$HOME/fine" ]; then exit 0; fi
echo $$ >>"$HOME/pids"
sleep 1000 & echo $! >>"$HOME/pids"
(setsid sh -c 'echo $$ >>"$HOME/pids"; exec sleep 1000' &)
setsid sh -c 'trap "" TERM; (echo $$ >>"$HOME/pids"; while :; do sleep 0.05; done) &'
echo in the log
sleep 1000
'''
`

func TestKilledBuild(t *testing.T) {
	for _, c := range []struct {
		name   string
		signal syscall.Signal
		status int // of relkit; -1 for killed
		error  string
	}{
		{"kill -9", syscall.SIGKILL, -1, "was killed"},
		{"Ctrl-C", syscall.SIGINT, 130, "stopped by signal 2"},
		{"SIGTERM", syscall.SIGTERM, 143, "stopped by signal 15"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newProject(t, family, nil)
			cmd := p.relkit("build")
			var errs bytes.Buffer
			cmd.Stderr = &errs
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			pids := p.waitFor("pids", 4)
			// While it runs, nobody else builds it, and the log can be read.
			if out, err := p.relkit("build").CombinedOutput(); err == nil || !bytes.Contains(out, []byte("held by process")) {
				t.Errorf("%v: %s", err, out)
			} else if code := err.(*exec.ExitError).ExitCode(); code != 6 {
				t.Errorf("exit status %d, want 6", code)
			}
			if err := cmd.Process.Signal(c.signal); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait()
			if got := cmd.ProcessState.ExitCode(); got != c.status {
				t.Errorf("exit status %d, want %d\n%s", got, c.status, errs.String())
			}
			for end := time.Now().Add(10 * time.Second); len(alive(pids)) > 0 && time.Now().Before(end); {
				time.Sleep(time.Millisecond)
			}
			if left := alive(pids); len(left) > 0 {
				t.Errorf("%d of %d processes are left", len(left), len(pids))
			}
			p.write("fine", "")
			if b := p.record(0); b.Number != 2 {
				t.Errorf("%+v", b)
			}
			if log := p.sh("ls state/builds/fw"); log != "000001\n000002\nlast\nlast-good\n" {
				t.Errorf("%q", log)
			}
			data, err := os.ReadFile(filepath.Join(p.dir, "state/builds/fw/000001/build.json"))
			if err != nil {
				t.Fatal(err)
			}
			if b, err := record.DecodeBuild(data); err != nil || b.Status != record.BuildInterrupted || !strings.Contains(b.Error, c.error) {
				t.Errorf("%v: %+v", err, b)
			}
			if out, err := p.relkit("build", "--history", "-q").Output(); err != nil || strings.Count(string(out), "\n") != 2 || !strings.HasPrefix(string(out), "fw/1 interrupted ") {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}

// TestKilledAtAnyTime kills relkit at moments spread over a build: no number is
// lost or doubled, the history can be read, nothing stays locked or running.
func TestKilledAtAnyTime(t *testing.T) {
	p := newProject(t, "[[builder.step]]\nname = \"a\"\nsh = \"mkdir -p out; echo $$ >>$HOME/pids; sleep 0.02; echo x >out/x\"\n[builder.artifacts]\npaths = [\"out/*\"]\n", nil)
	start := time.Now()
	p.record(0)
	whole := time.Since(start)
	const kills = 30
	for i := range kills {
		cmd := p.relkit("build")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(whole * time.Duration(i) / kills)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	last := p.record(0)
	out, err := p.relkit("build", "--history", "--json").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	interrupted := 0
	for i, line := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		ev, err := record.DecodeBuildEvent([]byte(line))
		if err != nil || ev.Number != i+1 {
			t.Fatalf("line %d: %v: %s", i+1, err, line)
		}
		if ev.Status == record.BuildInterrupted {
			interrupted++
		}
		data, err := os.ReadFile(filepath.Join(p.dir, fmt.Sprintf("state/builds/fw/%06d/build.json", ev.Number)))
		if err != nil {
			t.Fatal(err)
		}
		if b, err := record.DecodeBuild(data); err != nil || b.Status != ev.Status {
			t.Errorf("%d: %v, %+v", ev.Number, err, b)
		}
	}
	if n := strings.Count(string(out), "\n"); n != last.Number {
		t.Errorf("%d lines of history for %d builds", n, last.Number)
	}
	if interrupted == 0 {
		t.Error("no kill hit a build")
	}
	if left := alive(p.waitFor("pids", 1)); len(left) > 0 {
		t.Errorf("%d steps still run", len(left))
	}
}

// TestKilledSupervisor: relkit notices, records an error and leaves nothing.
func TestKilledSupervisor(t *testing.T) {
	p := newProject(t, family, nil)
	cmd := p.relkit("build")
	var errs bytes.Buffer
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pids := p.waitFor("pids", 4)
	// The supervisor of the build, not that from which the source was asked, is the one with children.
	supervisor := 0
	for _, child := range strings.Fields(p.sh(fmt.Sprintf("cat /proc/%d/task/*/children", cmd.Process.Pid))) {
		if pid, err := strconv.Atoi(child); err == nil && strings.TrimSpace(p.sh("cat /proc/"+child+"/task/*/children")) != "" {
			supervisor = pid
		}
	}
	if supervisor == 0 {
		t.Fatal("relkit has no supervisor that runs something")
	}
	if err := syscall.Kill(supervisor, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if cmd.ProcessState.ExitCode() != 1 || !strings.Contains(errs.String(), "the supervisor was lost") {
		t.Errorf("%v: %s", cmd.ProcessState, errs.String())
	}
	if left := alive(pids); len(left) > 0 {
		t.Errorf("%d of %d processes are left", len(left), len(pids))
	}
	data, err := os.ReadFile(filepath.Join(p.dir, "state/builds/fw/000001/build.json"))
	if err != nil {
		t.Fatal(err)
	}
	if b, err := record.DecodeBuild(data); err != nil || b.Status != record.BuildError {
		t.Errorf("%v: %+v", err, b)
	}
}

// TestJavaBuild builds a class with javac, tests it with a main that writes
// JUnit XML, and keeps a jar of it.
func TestJavaBuild(t *testing.T) {
	relkittest.Need(t, "javac", "java", "jar")
	p := newProject(t, `
[[builder.step]]
name = "compile"
run = ["javac", "-d", "out/classes", "Adder.java", "AdderTest.java"]
[[builder.step]]
name = "unit"
run = ["java", "-cp", "out/classes", "AdderTest", "out/TEST-Adder.xml"]
tests = ["junit:out/TEST-*.xml"]
[[builder.step]]
name = "pack"
sh = "jar --create --file out/adder.jar --date=\"$(date -u -d @$SOURCE_DATE_EPOCH +%Y-%m-%dT%H:%M:%SZ)\" -C out/classes Adder.class"
[builder.artifacts]
paths = ["out/*.jar"]
`, map[string]string{
		"Adder.java": "class Adder { static int add(int a, int b) { return a + b; } }\n",
		"AdderTest.java": `import java.io.*;
class AdderTest {
	public static void main(String[] args) throws IOException {
		int got = Adder.add(2, 2);
		try (PrintWriter w = new PrintWriter(args[0], "ISO-8859-1")) {
			w.println("<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?>");
			w.println("<testsuite name=\"Adder\"><testcase classname=\"Adder\" name=\"f\u00fcnf ist zuviel\">");
			if (got != 4) w.println("<failure message=\"got " + got + "\"/>");
			w.println("</testcase></testsuite>");
		}
	}
}
`})
	first := p.record(0)
	if first.Tests == nil || first.Tests.Passed != 1 || len(first.Artifacts) != 1 || first.Artifacts[0].Path != "artifacts/out/adder.jar" {
		t.Fatalf("%+v", first)
	}
	if second := p.record(0, "--clean"); second.Artifacts[0].Digest != first.Artifacts[0].Digest {
		t.Error("the second jar differs from the first")
	}
	p.write("repo/Adder.java", "class Adder { static int add(int a, int b) { return a - b; } }\n")
	p.sh("cd repo && git commit -qam broken")
	broken := p.record(3, "--if-changed")
	if broken.Tests.Failed != 1 || len(broken.Tests.NewlyFailing) != 1 || broken.Tests.NewlyFailing[0] != "Adder.fünf ist zuviel" {
		t.Errorf("%+v", broken.Tests)
	}
	if good := p.sh("readlink state/builds/fw/last-good"); good != "000002\n" {
		t.Errorf("last-good is %q", good)
	}
}
