package build

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/record"
	"github.com/relkit/relkit/pkg/relkittest"
	"github.com/relkit/relkit/pkg/sys/lock"
	"github.com/relkit/relkit/pkg/sys/process"
)

func TestMain(m *testing.M) {
	process.Main()
	os.Exit(m.Run())
}

// bench is a repository, a relkit.toml beside it, and what a run said.
type bench struct {
	t     *testing.T
	dir   string
	opt   Options
	notes bytes.Buffer
	shown []string
	built []*record.Build
}

const head = `[project]
name = "fw"
state = "state"
version = "1.{count}"
[[source]]
name = "fw"
vcs = "git"
url = "repo"
branch = "main"
[[worker]]
name = "here"
slots = 4
tags = ["gcc", "clang"]
`

// newBench makes a repository with files and a relkit.toml of head and builders.
func newBench(t *testing.T, builders string, files map[string]string) *bench {
	t.Helper()
	relkittest.Need(t, "git")
	b := &bench{t: t, dir: t.TempDir()}
	t.Setenv("HOME", b.dir)
	t.Setenv("GIT_CONFIG_NOSYSTEM", "1")
	b.opt = Options{Version: "test", Log: slog.New(slog.NewTextHandler(&b.notes, nil)),
		Show: func(label, line string) { b.shown = append(b.shown, label+" "+line) },
		Done: func(r *record.Build, dir string) error {
			b.built = append(b.built, r)
			if dir != b.path("state/builds", r.Builder, fmt.Sprintf("%06d", r.Number)) {
				t.Errorf("%s/%d is in %s", r.Builder, r.Number, dir)
			}
			return nil
		}}
	b.write("relkit.toml", head+builders)
	b.git("init", "-q", "-b", "main", ".")
	b.commit(files)
	return b
}

func (b *bench) path(parts ...string) string {
	return filepath.Join(append([]string{b.dir}, parts...)...)
}

func (b *bench) write(name, text string) {
	b.t.Helper()
	if err := os.MkdirAll(filepath.Dir(b.path(name)), 0o755); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(b.path(name), []byte(text), 0o644); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) read(parts ...string) string {
	b.t.Helper()
	data, err := os.ReadFile(b.path(parts...))
	if err != nil {
		b.t.Fatal(err)
	}
	return string(data)
}

func (b *bench) git(args ...string) string {
	b.t.Helper()
	return gitIn(b.t, b.path("repo"), args...)
}

func gitIn(t *testing.T, dir string, args ...string) string {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("git", append([]string{"-c", "user.name=A U Thor", "-c", "user.email=a@example.com", "-c", "protocol.file.allow=always"}, args...)...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %q: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// commit commits files and answers the commit.
func (b *bench) commit(files map[string]string) string {
	b.t.Helper()
	for name, text := range files {
		b.write("repo/"+name, text)
	}
	b.git("add", "-A")
	b.git("commit", "-q", "--allow-empty", "-m", "change")
	return b.git("rev-parse", "HEAD")
}

// run builds; the builds that ended are in b.built.
func (b *bench) run(operands ...string) error {
	b.t.Helper()
	b.built, b.shown = nil, nil
	p, err := Open(b.path("relkit.toml"), "")
	if err != nil {
		return err
	}
	cells, err := p.Plan(operands)
	if err != nil {
		return err
	}
	return p.Run(b.t.Context(), cells, b.opt)
}

// must builds one builder, which must succeed.
func (b *bench) must(operands ...string) *record.Build {
	b.t.Helper()
	if err := b.run(operands...); err != nil {
		b.t.Fatalf("%v\n%s\n%s", err, strings.Join(b.shown, "\n"), b.notes.String())
	}
	if len(b.built) != 1 || b.built[0].Status != record.BuildSuccess {
		b.t.Fatalf("built %+v\n%s", b.built, b.notes.String())
	}
	return b.built[0]
}

// fails builds, which must answer no; the build is the one that failed.
func (b *bench) fails(want string) *record.Build {
	b.t.Helper()
	err := b.run()
	if failure.Of(err) != failure.No || err == nil || !strings.Contains(err.Error(), want) {
		b.t.Fatalf("got %v, want %s", err, want)
	}
	if len(b.built) != 1 || b.built[0].Status != record.BuildFailed {
		b.t.Fatalf("built %+v", b.built)
	}
	return b.built[0]
}

func (b *bench) link(name string) string {
	target, err := os.Readlink(b.path("state/builds/fw", name))
	if err != nil {
		return ""
	}
	return target
}

// log is the text of a step's log, without relkit's own lines.
func (b *bench) log(ref string) string {
	b.t.Helper()
	p, err := Open(b.path("relkit.toml"), "")
	if err != nil {
		b.t.Fatal(err)
	}
	logs, err := p.Logs(ref)
	if err != nil {
		b.t.Fatal(err)
	}
	var text strings.Builder
	for _, l := range logs {
		err := l.Lines(func(line LogLine) error {
			if line.Stream != "relkit" {
				fmt.Fprintf(&text, "%s\n", line.Text)
			}
			return nil
		})
		if err != nil {
			b.t.Fatal(err)
		}
	}
	return text.String()
}

// builder is a builder of one shell step, with more lines for the builder and the step.
func builder(sh, more, step string) string {
	return "[[builder]]\nname = \"fw\"\nsources = [\"fw\"]\n" + more + "\n[[builder.step]]\nname = \"all\"\nsh = '''" + sh + "'''\n" + step + "\n"
}

const artifact = "[builder.artifacts]\npaths = [\"out/**\"]\n"

func TestSuccess(t *testing.T) {
	b := newBench(t, builder(`mkdir -p "out/a b"; cp in out/x; chmod 755 out/x; echo y >'out/a b/y\z'; ln -s x out/l; touch -d 2001-02-03 out/old; mkdir -m 700 out/empty; mkdir out/closed; touch out/closed/f; chmod 4711 out/closed/f; chmod 555 out/closed`, `checkout = "copy"`, artifact), map[string]string{"in": "hello\n"})
	r := b.must()
	t.Cleanup(func() { // or t.TempDir could not remove them
		for _, dir := range []string{"state/work/fw/fw/out/closed", "state/builds/fw/000001/artifacts/out/closed"} {
			_ = os.Chmod(b.path(dir), 0o755)
		}
	})
	rev := b.git("rev-parse", "HEAD")
	if r.Number != 1 || r.Version != "1.1" || r.Sources[0].Revision != rev || r.Sources[0].Branch != "main" || r.Sources[0].Count != 1 || r.Reason != "asked" {
		t.Errorf("%+v", r)
	}
	dir := b.path("state/builds/fw/000001")
	onDisk, err := record.DecodeBuild([]byte(b.read("state/builds/fw/000001/build.json")))
	if err != nil || onDisk.Status != record.BuildSuccess {
		t.Errorf("%v, %+v", err, onDisk)
	}
	if b.link("last") != "000001" || b.link("last-good") != "000001" {
		t.Errorf("links %q, %q", b.link("last"), b.link("last-good"))
	}
	var got []string
	for _, a := range r.Artifacts {
		got = append(got, a.Path+" "+a.Mode+" "+a.Target)
	}
	want := []string{`artifacts/out/a\040b/y\134z 0644 `, `artifacts/out/closed/f 4711 `, `artifacts/out/l 0777 x`, `artifacts/out/old 0644 `, `artifacts/out/x 0755 `}
	if !slices.Equal(got, want) {
		t.Errorf("artifacts %q", got)
	}
	check := exec.Command("sha256sum", "--strict", "-c", "SHA256SUMS")
	check.Dir = dir
	if out, err := check.CombinedOutput(); err != nil || strings.Count(string(out), ": OK") != 4 {
		t.Errorf("sha256sum: %v\n%s", err, out)
	}
	epoch := time.Unix(r.SourceDateEpoch, 0)
	for name, want := range map[string]time.Time{"out/x": epoch, "out": epoch, "out/old": time.Date(2001, 2, 3, 0, 0, 0, 0, time.UTC)} {
		if info, err := os.Stat(filepath.Join(dir, "artifacts", name)); err != nil || !info.ModTime().Equal(want) {
			t.Errorf("%s: %v, want %v, %v", name, info.ModTime(), want, err)
		}
	}
	for name, want := range map[string]os.FileMode{"out/empty": os.ModeDir | 0o700, "out/closed": os.ModeDir | 0o555, "out/closed/f": os.ModeSetuid | 0o711} {
		if info, err := os.Stat(filepath.Join(dir, "artifacts", name)); err != nil || info.Mode() != want {
			t.Errorf("%s: %v, want %v, %v", name, info.Mode(), want, err)
		}
	}
	p, _ := Open(b.path("relkit.toml"), "")
	events, bad, err := p.History("fw")
	if err != nil || bad != 0 || len(events) != 1 || events[0].Revisions["fw"] != rev || events[0].Artifacts != 5 {
		t.Errorf("%v, %d, %+v", err, bad, events)
	}
	if _, err := os.Stat(filepath.Join(dir, runningFile)); err == nil {
		t.Error("the running mark is still there")
	}
	paths, err := Artifacts(r, dir)
	if err != nil || len(paths) != 5 || paths[0] != dir+`/artifacts/out/a b/y\z` {
		t.Errorf("%v, %q", err, paths)
	}
}

func TestEnvironment(t *testing.T) {
	t.Setenv("LEAK", "1")
	t.Setenv("RELKIT_STATE", "x")
	t.Setenv("https_proxy", "http://proxy:3128")
	b := newBench(t, builder(`env; cat; pwd; [ -d "$TMPDIR" ] && [ -z "$(ls "$TMPDIR")" ] && touch "$TMPDIR/left"`, `env = { A = "{builder}-{number}", HOME = "/h" }`, `env = { B = "{{x}}" }`), nil)
	b.opt.Set = map[string]string{"board.rev": "c 3"}
	for n := 1; n <= 2; n++ {
		r := b.must()
		env := map[string]string{}
		for line := range strings.Lines(b.log("fw/last")) {
			k, v, _ := strings.Cut(strings.TrimSpace(line), "=")
			env[k] = v
		}
		work := b.path("state/work/fw/fw")
		want := map[string]string{
			"PATH": os.Getenv("PATH"), "HOME": "/h", "LANG": "C.UTF-8", "TZ": "UTC", "TERM": "dumb", "SHELL": "/bin/sh", "CI": "true",
			"TMPDIR": b.path("state/work/fw/.tmp"), "SOURCE_DATE_EPOCH": fmt.Sprint(r.Sources[0].Time.Unix()), "https_proxy": "http://proxy:3128",
			"RELKIT_PROJECT": "fw", "RELKIT_BUILDER": "fw", "RELKIT_NUMBER": fmt.Sprint(n), "RELKIT_REASON": "asked", "RELKIT_WORKER": "here",
			"RELKIT_SLOTS": "4", "RELKIT_PROJECT_VERSION": "1.1", "RELKIT_REVISION": r.Sources[0].Revision, "RELKIT_BRANCH": "main",
			"RELKIT_SOURCE_FW": work, "RELKIT_SET_BOARD_REV": "c 3", "A": fmt.Sprintf("fw-%d", n), "B": "{x}", "PWD": work, work: "",
		}
		for _, k := range append(network, "USER", "LOGNAME") { // what the machine that tests has
			if v, ok := os.LookupEnv(k); ok {
				want[k] = v
			}
		}
		for k, v := range want {
			if got, ok := env[k]; !ok || got != v {
				t.Errorf("%s is %q (%v), want %q", k, got, ok, v)
			}
			delete(env, k)
		}
		delete(env, "RELKIT_SUPERVISOR")
		delete(env, "_")
		delete(env, "OLDPWD")
		delete(env, "SHLVL")
		if len(env) > 0 {
			t.Errorf("more than wanted: %q", env)
		}
	}
}

func TestFailingStep(t *testing.T) {
	b := newBench(t, "[[builder]]\nname = \"fw\"\nsources = [\"fw\"]\n"+
		"[[builder.step]]\nname = \"one\"\nsh = '''mkdir -p out; echo x >out/x; echo to be seen; echo so is this >&2; sh in'''\n"+
		"[[builder.step]]\nname = \"two\"\nrun = [\"true\"]\n"+artifact, map[string]string{"in": "exit 0"})
	b.must()
	b.commit(map[string]string{"in": "exit 3"})
	r := b.fails(`build fw/2 failed: step "one": exit status 3`)
	if *r.Steps[0].Exit != 3 || r.Steps[1].Status != record.BuildSkipped || r.Steps[1].Exit != nil || r.Steps[1].Log != "" || len(r.Artifacts) != 0 {
		t.Errorf("%+v", r.Steps)
	}
	if b.link("last") != "000002" || b.link("last-good") != "000001" {
		t.Errorf("links %q, %q", b.link("last"), b.link("last-good"))
	}
	if len(r.Changes) != 1 || r.Changes[0].Author != "A U Thor" || r.Changes[0].Email != "a@example.com" || r.Changes[0].Subject != "change" {
		t.Errorf("changes %+v", r.Changes)
	}
	if got := strings.Join(b.shown, "\n"); !strings.Contains(got, "fw/2: one to be seen") || !strings.Contains(got, "so is this") {
		t.Errorf("shown %q", got)
	}
	if _, err := os.Stat(b.path("state/builds/fw/000002/artifacts")); err == nil {
		t.Error("a failed build has artifacts")
	}
}

func TestProgramThatIsNotThereFailsTheBuild(t *testing.T) {
	b := newBench(t, "[[builder]]\nname = \"fw\"\n[[builder.step]]\nname = \"a\"\nrun = [\"no-such-compiler\"]\n", nil)
	if r := b.fails("no such program in PATH"); *r.Steps[0].Exit != 127 || r.Steps[0].Reason != "start" {
		t.Errorf("%+v", r.Steps[0])
	}
}

func TestGoOnAfterAFailedStep(t *testing.T) {
	b := newBench(t, "[[builder]]\nname = \"fw\"\n"+
		"[[builder.step]]\nname = \"lint\"\nrun = [\"false\"]\non_fail = \"continue\"\n"+
		"[[builder.step]]\nname = \"two\"\nrun = [\"true\"]\n"+
		"[[builder.step]]\nname = \"three\"\nrun = [\"false\"]\n"+
		"[[builder.step]]\nname = \"four\"\nrun = [\"true\"]\n", nil)
	r := b.fails(`step "lint": exit status 1`)
	var got []record.BuildStatus
	for _, s := range r.Steps {
		got = append(got, s.Status)
	}
	if !slices.Equal(got, []record.BuildStatus{"failed", "success", "failed", "skipped"}) {
		t.Errorf("%q", got)
	}
}

func summary(r *record.Build) string {
	n := r.Tests
	return fmt.Sprint(n.Total, n.Passed, n.Failed, n.Errored, n.Skipped, n.NewlyFailing, n.NewlyFixed)
}

func junitOf(cases string) string { return "<testsuite name=\"s\">" + cases + "</testsuite>" }

const (
	good = `<testcase classname="c" name="a"/>`
	bad  = `<testcase classname="c" name="a"><failure message="no"/></testcase>`
	more = `<testcase classname="c" name="b"/><testcase name="z"><skipped/></testcase>`
)

func TestTestsDecide(t *testing.T) {
	b := newBench(t, builder("mkdir -p out; cp in.xml out/TEST-a.xml", "", "tests = [\"junit:**/TEST-*.xml\"]"), map[string]string{"in.xml": junitOf(good + more)})
	r := b.must()
	if summary(r) != "3 2 0 0 1 [] []" {
		t.Error(summary(r))
	}
	b.commit(map[string]string{"in.xml": junitOf(bad + more)})
	r = b.fails(`step "all": 1 of 3 tests failed`)
	if summary(r) != "3 1 1 0 1 [s: c.a] []" || *r.Steps[0].Exit != 0 || r.Steps[0].Reason != "tests" {
		t.Error(summary(r), r.Steps[0])
	}
	if b.link("last-good") != "000001" {
		t.Error("last-good moved to a build whose tests failed")
	}
	if r = b.fails("tests failed"); len(r.Tests.NewlyFailing) != 0 {
		t.Errorf("still failing is not newly failing: %q", r.Tests.NewlyFailing)
	}
	b.commit(map[string]string{"in.xml": junitOf(good + more)})
	if r = b.must(); summary(r) != "3 2 0 0 1 [] [s: c.a]" {
		t.Error(summary(r))
	}
	tests, err := record.DecodeBuildTests([]byte(b.read("state/builds/fw/000002/tests.json")))
	if err != nil || len(tests.Tests) != 3 || tests.Tests[0].Status != "failed" || tests.Tests[0].Message != "no" || tests.Tests[0].File != "out/TEST-a.xml" {
		t.Errorf("%v, %+v", err, tests)
	}
}

func TestResultsThatAreNotThere(t *testing.T) {
	b := newBench(t, builder("sh in", "", "tests = [\"junit:TEST-*.xml\"]"), map[string]string{"in": "true"})
	b.fails("no test results match")
	b.commit(map[string]string{"in": "echo '<testsuite>' >TEST-a.xml"})
	b.fails(`test results "TEST-a.xml": reading JUnit XML: line 2: the file ends within`)
	b.commit(map[string]string{"in": "[ -e TEST-a.xml ] && grep -q name TEST-a.xml || echo '" + junitOf(good) + "' >TEST-a.xml"})
	b.must()
	// make builds nothing that is up to date: an incremental build shows the results that stand.
	if r := b.must(); r.Tests.Passed != 1 {
		t.Errorf("%+v", r.Tests)
	}
	p, _ := Open(b.path("relkit.toml"), "")
	logs, err := p.Logs("fw/4/all")
	if err != nil || len(logs) != 1 {
		t.Fatal(logs, err)
	}
	var said bool
	_ = logs[0].Lines(func(l LogLine) error {
		said = said || strings.Contains(string(l.Text), "1 of 1 result files are of an earlier build")
		return nil
	})
	if !said {
		t.Error("the log does not say that results are old")
	}
}

func TestCheckoutModes(t *testing.T) {
	b := newBench(t, "", map[string]string{"in": "1", ".gitignore": "left\n"})
	gitIn(t, b.path("sub"), "init", "-q", "-b", "main", ".")
	b.write("sub/s", "sub\n")
	gitIn(t, b.path("sub"), "add", "-A")
	gitIn(t, b.path("sub"), "commit", "-q", "-m", "sub")
	b.git("submodule", "--quiet", "add", b.path("sub"), "mod")
	b.commit(nil)
	b.write(".gitconfig", "[protocol \"file\"]\nallow = always\n")
	script := `cat in mod/s; [ -e left ] && echo left; [ -e other ] && echo other; [ -e mod/left ] && echo modleft; [ -e .git ] && echo dotgit; [ -e mod/.git ] && echo moddotgit; touch left other mod/left; echo changed >in`
	for _, c := range []struct{ mode, first, second string }{
		{"incremental", "1sub\ndotgit\nmoddotgit\n", "1sub\nleft\nother\nmodleft\ndotgit\nmoddotgit\n"},
		{"clean", "1sub\ndotgit\nmoddotgit\n", "1sub\ndotgit\nmoddotgit\n"},
		{"copy", "1sub\ndotgit\nmoddotgit\n", "1sub\ndotgit\nmoddotgit\n"},
		{"export", "1sub\n", "1sub\n"},
		{"incremental", "1sub\ndotgit\nmoddotgit\n", "1sub\nleft\nother\nmodleft\ndotgit\nmoddotgit\n"},
	} {
		b.write("relkit.toml", head+builder(script, `checkout = "`+c.mode+`"`, ""))
		b.opt.Clean = true
		b.must()
		if got := b.log("fw/last"); got != c.first {
			t.Errorf("%s, --clean: %q, want %q", c.mode, got, c.first)
		}
		b.opt.Clean = false
		b.must()
		if got := b.log("fw/last"); got != c.second {
			t.Errorf("%s, again: %q, want %q", c.mode, got, c.second)
		}
	}
}

func TestRevAndBranch(t *testing.T) {
	b := newBench(t, builder("cat in; echo {shortrev} {branch} {k}", "", ""), map[string]string{"in": "1"})
	b.opt.Set = map[string]string{"k": "v"}
	first := b.git("rev-parse", "HEAD")
	b.git("tag", "v1")
	b.commit(map[string]string{"in": "2"})
	b.git("checkout", "-q", "-b", "side/line")
	side := b.commit(map[string]string{"in": "3"})
	b.git("checkout", "-q", "main")
	for _, c := range []struct{ rev, branch, want string }{
		{"", "", "2"}, {first, "", "1"}, {first[:10], "", "1"}, {"v1", "", "1"}, {"side/line", "", "3"}, {"", "side/line", "3"}, {side, "main", "3"},
	} {
		b.opt.Rev, b.opt.Branch = c.rev, c.branch
		b.must()
		if got := b.log("fw/last"); !strings.HasPrefix(got, c.want) || !strings.HasSuffix(got, " v\n") {
			t.Errorf("%+v: %q", c, got)
		}
	}
	for _, c := range []struct{ rev, branch, want string }{{"nope", "", `has no revision "nope"`}, {"", "nope", `has no branch "nope"`}, {"--upload-pack=x", "", "has no revision"}} {
		b.opt.Rev, b.opt.Branch = c.rev, c.branch
		if err := b.run(); failure.Of(err) != failure.Usage || !strings.Contains(fmt.Sprint(err), c.want) || len(b.built) > 0 {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestIfChanged(t *testing.T) {
	b := newBench(t, builder("sh in", "", ""), map[string]string{"in": "true"})
	b.opt.IfChanged = true
	if r := b.must(); r.Reason != "change" {
		t.Errorf("the first build is for %q", r.Reason)
	}
	quiet := func(why string) {
		t.Helper()
		if err := b.run(); err != nil || len(b.built) != 0 || !strings.Contains(b.notes.String(), "fw: unchanged") {
			t.Errorf("%s: %v, %+v", why, err, b.built)
		}
		b.notes.Reset()
	}
	quiet("nothing changed")
	b.commit(map[string]string{"in": "false"})
	b.fails("exit status 1")
	quiet("a failed build is not repeated")
	b.opt.Force = true
	if r := b.fails("exit status 1"); r.Reason != "forced" {
		t.Errorf("forced is for %q", r.Reason)
	}
	b.opt.Force = false
	b.write("relkit.toml", strings.Replace(head, "branch", "important = [\"src/**\", \"in\"]\nignore = [\"src/doc/**\"]\nbranch", 1)+builder("sh in", "", ""))
	b.commit(map[string]string{"other": "1", "src/doc/x": "1"})
	quiet("nothing important changed")
	b.commit(map[string]string{"src/x": "1"})
	if r := b.fails("exit status 1"); len(r.Changes) != 2 {
		t.Errorf("changes %+v", r.Changes)
	}
	b.write("relkit.toml", strings.Replace(head, "branch", "stable = \"2m\"\nbranch", 1)+builder("sh in", "", ""))
	if err := b.run(); failure.Of(err) != failure.Usage || !strings.Contains(err.Error(), "relkit.toml:9:1: source \"fw\": stable is not supported") {
		t.Errorf("stable: %v", err)
	}
}

func TestUnreachableSourceIsInfrastructure(t *testing.T) {
	b := newBench(t, builder("true", "", ""), nil)
	if err := os.Rename(b.path("repo"), b.path("gone")); err != nil {
		t.Fatal(err)
	}
	err := b.run()
	if failure.Of(err) != failure.Failed || !strings.Contains(err.Error(), `builder fw: source "fw": git: exit status 128`) {
		t.Errorf("%v", err)
	}
	if n, _ := (state{b.path("state")}).numbers("fw"); len(n) != 0 {
		t.Errorf("builds %v", n)
	}
}

func TestLimits(t *testing.T) {
	for limit, want := range map[string]string{
		`time = "300ms"`: "timed out after", `idle = "200ms"`: "no output for too long", `log = "1K"`: "too much output",
	} {
		b := newBench(t, builder("for i in 1 2; do seq 1000; sleep 0.15; done; sleep 1000", "limits = { "+limit+" }", ""), nil)
		start := time.Now()
		b.fails(want)
		if d := time.Since(start); d > 5*time.Second {
			t.Errorf("%s: %v", limit, d)
		}
	}
}

func TestMatrix(t *testing.T) {
	b := newBench(t, builder("echo {cc} {os} $RELKIT_AXIS_CC", "matrix = { os = [\"a\", \"b\"], cc = [\"gcc\", \"clang\"] }\nexclude = [{ os = \"b\", cc = \"clang\" }]\non = \"{cc}\"", ""), nil)
	if err := b.run(); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, r := range b.built {
		names = append(names, r.Builder)
		if want := r.Matrix["cc"] + " " + r.Matrix["os"] + " " + r.Matrix["cc"] + "\n"; b.log(r.Builder+"/1") != want {
			t.Errorf("%s: %q", r.Builder, b.log(r.Builder+"/1"))
		}
	}
	slices.Sort(names)
	if !slices.Equal(names, []string{"fw[cc=clang,os=a]", "fw[cc=gcc,os=a]", "fw[cc=gcc,os=b]"}) {
		t.Errorf("%q", names)
	}
	if err := b.run("fw[os=a,cc=gcc]"); err != nil || len(b.built) != 1 || b.built[0].Builder != "fw[cc=gcc,os=a]" || b.built[0].Number != 2 {
		t.Errorf("%v, %+v", err, b.built)
	}
	if err := b.run("fw[cc=gcc]"); err != nil || len(b.built) != 2 {
		t.Errorf("%v, %+v", err, b.built)
	}
	for op, want := range map[string]string{"fw[os=b,cc=clang]": "names no cell", "fw[os]": "bad operand", "gw": `unknown builder "gw"`} {
		if err := b.run(op); failure.Of(err) != failure.Usage || !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%s: %v", op, err)
		}
	}
}

func TestKeysThatAreNotSupportedAreRefused(t *testing.T) {
	b := newBench(t, "", nil)
	step := "[[builder.step]]\nname = \"a\"\nrun = [\"true\"]\n"
	one := "[[builder]]\nname = \"fw\"\n"
	for text, want := range map[string]string{
		"[[worker]]\nname = \"el9\"\nssh = \"x\"\n" + one + "on = \"el9\"\n" + step:                         `:16:1: worker "el9": ssh workers are not supported by this version`,
		"[[worker]]\nname = \"q\"\nslurm = { partition = \"x\" }\n" + one + "on = \"q\"\n" + step:           `:16:1: worker "q": Slurm workers are not supported`,
		one + "locks = []\nneeds = [\"o\"]\n" + step + "[[builder]]\nname = \"o\"\n" + step:                 `builder "fw": needs is not supported`,
		"[[lock]]\nname = \"l\"\n" + one + "locks = [\"l\"]\n" + step:                                       `:18:1: builder "fw": locks are not supported`,
		one + "network = false\n" + step:                                                                    `network = false is not supported`,
		one + "cache = \"ccache\"\n" + step:                                                                 `cache presets are not supported`,
		one + "limits = { mem = \"1G\" }\n" + step:                                                          `limits.mem is not supported`,
		one + step + "retry = { times = 2 }\n":                                                              `:19:1: step "a": retry is not supported`,
		one + step + "flaky = \"warn\"\n":                                                                   `flaky is not supported`,
		one + step + "tests = [\"tap:-\"]\n":                                                                `test results "tap:-" are not supported`,
		one + step + "[builder.artifacts]\npaths = [\"a\"]\nsbom = [\"spdx\"]\n":                            `SBOMs are not supported`,
		one + step + "[builder.artifacts]\nprovenance = true\n":                                             `provenance is not supported`,
		one + step + "[builder.repro]\nvary = [\"time\"]\n":                                                 `repro is not supported`,
		one + step + "[[notify]]\nmail = \"smtp://x\"\n":                                                    `notify is not supported`,
		"[[source]]\nname = \"s\"\nvcs = \"svn\"\nurl = \"svn://x\"\n" + one + "sources = [\"s\"]\n" + step: `:16:1: source "s": vcs "svn" is not supported`,
	} {
		b.write("relkit.toml", head+text)
		err := b.run("fw")
		if failure.Of(err) != failure.Usage || !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%q:\n got %v\nwant %s", text, err, want)
		}
		p, err := Open(b.path("relkit.toml"), "")
		if err != nil {
			t.Fatal(err)
		}
		if unsupported, err := p.Check(); err != nil || len(unsupported) != 1 {
			t.Errorf("checking %q: %v, %v", text, unsupported, err)
		}
	}
	b.write("relkit.toml", head+one+step+"[[schedule]]\nname = \"nightly\"\ncron = \"@daily\"\n[[worker]]\nname = \"el9\"\nssh = \"x\"\n")
	b.must("fw") // neither the schedule nor the worker is needed
	if err := b.run("nightly"); failure.Of(err) != failure.Usage || !strings.Contains(fmt.Sprint(err), `:19:1: schedule "nightly": schedules are not supported`) {
		t.Errorf("%v", err)
	}
}

func TestUnknownSubstitutions(t *testing.T) {
	b := newBench(t, "", nil)
	for text, want := range map[string]string{
		builder("true", "", "env = { A = \"{nope}\" }"):                                              `unknown substitution "{nope}"`,
		builder("true", "", "tests = [\"junit:{nope}.xml\"]"):                                        `unknown substitution "{nope}"`,
		builder("true", "", "[builder.artifacts]\npaths = [\"{nope}\"]"):                             `unknown substitution "{nope}"`,
		"[[builder]]\nname = \"fw\"\n[[builder.step]]\nname = \"a\"\nrun = [\"echo\", \"{nope}\"]\n": `relkit.toml:18:16: unknown substitution`,
	} {
		b.write("relkit.toml", head+text)
		if err := b.run(); failure.Of(err) != failure.Usage || !strings.Contains(fmt.Sprint(err), want) || len(b.built) > 0 {
			t.Errorf("%q: %v", text, err)
		}
	}
	b.write("relkit.toml", head+builder("echo {k}", "", ""))
	b.opt.Set = map[string]string{"k": "a; rm -rf /"}
	if err := b.run(); err == nil || !strings.Contains(err.Error(), "what the shell would interpret") {
		t.Errorf("%v", err)
	}
	for _, bad := range []string{"slots", "a b", ""} {
		b.opt.Set = map[string]string{bad: "x"}
		if err := b.run(); failure.Of(err) != failure.Usage {
			t.Errorf("--set %q: %v", bad, err)
		}
	}
}

func TestArtifactMistakes(t *testing.T) {
	for script, want := range map[string]string{
		"true":                               `artifacts: "out/**" matches no file`,
		"mkdir out; ln -s /etc/passwd out/p": `artifact "out/p": the symlink leads out of the artifacts`,
		"mkdir out; ln -s ../../x out/p":     `the symlink leads out`,
		"mkdir out; mkfifo out/p":            `artifact "out/p": neither a file nor a symlink`,
	} {
		b := newBench(t, builder(script, "", artifact), nil)
		b.fails(want)
	}
}

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

func TestPoll(t *testing.T) {
	b := newBench(t, builder("true", "", ""), nil)
	rev := b.git("rev-parse", "HEAD")
	poll := func() []Cell {
		p, err := Open(b.path("relkit.toml"), "")
		if err != nil {
			t.Fatal(err)
		}
		cells, err := p.Plan(nil)
		if err != nil {
			t.Fatal(err)
		}
		if cells, err = p.Poll(t.Context(), cells, b.opt); err != nil {
			t.Fatal(err)
		}
		return cells
	}
	b.opt.IfChanged = true
	if cells := poll(); len(cells) != 1 || cells[0].Revisions["fw"] != rev || cells[0].Slots != 4 {
		t.Errorf("%+v", cells)
	}
	if _, err := os.Stat(b.path("state")); err == nil {
		t.Error("a plan has made a state")
	}
	b.must()
	if cells := poll(); len(cells) != 0 {
		t.Errorf("%+v", cells)
	}
}

func TestBuildsAreReproducible(t *testing.T) {
	relkittest.Need(t, "gcc", "tar")
	b := newBench(t, builder("mkdir -p out/lib; gcc -O1 -o out/lib/x x.c; tar -cf out/x.tar --mtime=@$SOURCE_DATE_EPOCH --sort=name --owner=0 --group=0 out/lib", `checkout = "clean"`, artifact),
		map[string]string{"x.c": "#include <stdio.h>\nint main(void) { return puts(__FILE__) < 0; }\n"})
	first := b.must()
	time.Sleep(1100 * time.Millisecond)
	second := b.must()
	if !slices.Equal(first.Artifacts, second.Artifacts) {
		t.Errorf("\n%+v\n%+v", first.Artifacts, second.Artifacts)
	}
	for _, name := range []string{"out", "out/lib", "out/lib/x"} {
		a, _ := os.Stat(b.path("state/builds/fw/000001/artifacts", name))
		z, _ := os.Stat(b.path("state/builds/fw/000002/artifacts", name))
		if !a.ModTime().Equal(z.ModTime()) {
			t.Errorf("%s: %v, %v", name, a.ModTime(), z.ModTime())
		}
	}
}
