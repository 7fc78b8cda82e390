package build

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/relkit/relkit/pkg/format/record"
	"github.com/relkit/relkit/pkg/relkittest"
)

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
	for name, want := range map[string]os.FileMode{"out/empty": os.ModeDir | 0o700, "out/closed": os.ModeDir | 0o555, "out/closed/f": 0o711} {
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

func TestArtifactMistakes(t *testing.T) {
	for script, want := range map[string]string{
		"true":                               `artifacts: "out/**" matches no file`,
		"mkdir out; ln -s /etc/passwd out/p": `artifact "out/p": the symlink leads out of the artifacts`,
		"mkdir out; ln -s ../../x out/p":     `the symlink leads out`,
		"mkdir out; cd out; ln -s . s; ln -s s/s/s/s/../../../.. up": `artifact "out/up": the symlink leads out of the artifacts`,
		"mkdir out; mkfifo out/p":                                    `artifact "out/p": neither a file nor a symlink`,
	} {
		b := newBench(t, builder(script, "", artifact), nil)
		b.fails(want)
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

func TestRetry(t *testing.T) {
	const script = `n=$(cat n 2>/dev/null || echo 0); echo $((n + 1)) >n; cat in; case $n in 0) echo Connection reset; exit 75;; 1) echo gone; exit 1;; esac`
	for _, c := range []struct {
		retry    string
		attempts int
		ok       bool
	}{
		{"times = 2", 3, true}, {"times = 1", 2, false}, {"times = 2, exit = [75]", 2, false}, {"times = 2, exit = [75, 1]", 3, true},
		{"times = 2, match = \"Connection re[sf]\"", 2, false}, {"times = 2, exit = [1]", 1, false}, {"times = 1, exit = [75], match = \"nothing\"", 1, false},
	} {
		b := newBench(t, builder(script, "", "retry = { "+c.retry+" }"), map[string]string{"in": "x\n"})
		err := b.run()
		if (err == nil) != c.ok || len(b.built) != 1 || b.built[0].Steps[0].Attempts != c.attempts || (b.built[0].Steps[0].Error == "") != c.ok {
			t.Errorf("%s: %v, %+v", c.retry, err, b.built)
		}
		if got := strings.Count(b.log("fw/1"), "x\n"); got != c.attempts {
			t.Errorf("%s: %d attempts in the log", c.retry, got)
		}
	}
	b := newBench(t, builder("sleep 1000", "limits = { idle = \"100ms\" }", "retry = { times = 3 }"), nil)
	if r := b.fails("no output"); r.Steps[0].Attempts != 1 {
		t.Errorf("a step that overran its time was tried %d times", r.Steps[0].Attempts)
	}
}
