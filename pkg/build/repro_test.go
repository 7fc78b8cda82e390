package build

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/record"
	"github.com/relkit/relkit/pkg/relkittest"
	"github.com/relkit/relkit/pkg/sys/process"
)

// again builds twice; the record has both.
func (b *bench) again() (*record.Build, error) {
	b.t.Helper()
	b.opt.Repro = true
	err := b.run()
	if len(b.built) != 1 || b.built[0].Repro == nil {
		b.t.Fatalf("%v, %+v\n%s", err, b.built, b.notes.String())
	}
	return b.built[0], err
}

// leave starts what a supervisor that was killed would have left.
func (b *bench) leave(cookie string) *exec.Cmd {
	b.t.Helper()
	cmd := exec.Command("sleep", "1000")
	cmd.Env = append(os.Environ(), process.CookieName+"="+cookie)
	if err := cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	return cmd
}

// variation is what was done about one.
func variation(r *record.Build, what string) record.BuildVariation {
	for _, v := range r.Repro.Vary {
		if v.What == what {
			return v
		}
	}
	return record.BuildVariation{}
}

// Each thing that a build may put into what it makes by mistake is found by the
// variation that is there for it, and by it alone; what is clean passes all.
func TestRepro(t *testing.T) {
	relkittest.Need(t, "gcc", "faketime", "disorderfs", "unshare", "tar")
	relkittest.NeedRoot(t)
	for _, c := range []struct{ what, sh, want string }{
		{"time", `echo '#include <stdio.h>
int main(void) { puts("built on " __DATE__); }' >x.c; env -u SOURCE_DATE_EPOCH gcc -o out/x x.c`, `out/x at byte `},
		{"path", `pwd >out/x`, `out/x at byte `},
		{"locale", `echo "$LC_ALL" >out/x`, `out/x at byte 0`},
		{"umask", `echo x >out/x`, `out/x: mode 0644 and 0664`},
		{"fileorder", `mkdir d; touch d/1 d/2 d/3 d/4 d/5 d/6; ls -U d >out/x`, `out/x at byte 0: `},
		{"hostname", `uname -n >out/x`, `out/x at byte 0`},
	} {
		t.Run(c.what, func(t *testing.T) {
			b := newBench(t, builder("umask; mkdir out; "+c.sh, "", artifact+"[builder.repro]\nvary = [\""+c.what+"\"]\n"), nil)
			r, err := b.again()
			if failure.Of(err) != failure.No || !strings.Contains(fmt.Sprint(err), "not reproducible: 1 of 1 artifacts differ when built again: "+c.want) {
				t.Errorf("%v\n%s", err, b.notes.String())
			}
			if r.Repro.Result != record.ReproDifferent || r.Repro.Differ != 1 || !variation(r, c.what).Varied || len(r.Repro.Vary) != 1 || b.link("last-good") != "" || b.link("last") != "000001" {
				t.Errorf("%+v", r.Repro)
			}
			if r.Repro.Steps[0].Log != "repro/log/01-all.log.zst" || r.Repro.Steps[0].Swept != 0 {
				t.Errorf("%+v", r.Repro.Steps)
			}
			for _, name := range []string{r.Repro.Steps[0].Log, "repro/artifacts/out/x", "artifacts/out/x"} {
				if _, err := os.Stat(b.path("state/builds/fw/000001", name)); err != nil {
					t.Error(err)
				}
			}
			// All the others leave it as it is.
			var others []string
			for _, v := range []string{"time", "path", "locale", "umask", "fileorder", "hostname"} {
				if v != c.what {
					others = append(others, `"`+v+`"`)
				}
			}
			b.write("relkit.toml", strings.Replace(b.read("relkit.toml"), `vary = ["`+c.what+`"]`, "vary = ["+strings.Join(others, ", ")+"]", 1))
			if c.what == "umask" {
				b.write("relkit.toml", strings.Replace(b.read("relkit.toml"), `"umask", `, "", 1))
			} else {
				b.write("relkit.toml", strings.Replace(b.read("relkit.toml"), "mkdir out; ", "umask 022; mkdir out; ", 1))
			}
			if r, err := b.again(); err != nil || r.Repro.Result != record.ReproSame || r.Repro.Differ != 0 {
				t.Errorf("under the others: %v, %+v", err, r.Repro)
			}
			if _, err := os.Stat(b.path("state/builds/fw/000002/repro/artifacts")); err == nil {
				t.Error("the second artifacts are kept though they are the same")
			}
			if b.link("last-good") != "000002" {
				t.Errorf("last-good is %q", b.link("last-good"))
			}
		})
	}
}

// What the second build leaves does not show in the next, nor mounts anywhere; a
// step that fails under other circumstances fails the build.
func TestReproFailingAgain(t *testing.T) {
	relkittest.Need(t, "disorderfs", "unshare")
	relkittest.NeedRoot(t)
	b := newBench(t, builder(`umask 022; mkdir -p out; echo x >out/x; [ "$TZ" = UTC ] || exit 5`, `checkout = "incremental"`, artifact), nil)
	r, err := b.again()
	if failure.Of(err) != failure.No || r.Repro.Result != record.ReproFailed || !strings.Contains(fmt.Sprint(err), `it built once, and not again under other circumstances: step "all": exit status 5`) || *r.Repro.Steps[0].Exit != 5 {
		t.Errorf("%v, %+v", err, r.Repro)
	}
	if v := variation(r, "worker"); v.Varied || !strings.Contains(v.How, "no other worker") || len(r.Repro.Vary) != 6 {
		t.Errorf("%+v", r.Repro.Vary)
	}
	if mounts, err := os.ReadFile("/proc/mounts"); err != nil || strings.Contains(string(mounts), b.dir) {
		t.Errorf("%v, mounted: %s", err, mounts)
	}
	b.opt.Repro = false
	b.must()
}

// The second build is on another worker where there is one, and without a source
// it finds nothing of the first.
func TestReproOnAnotherWorker(t *testing.T) {
	b := newBench(t, "[[worker]]\nname = \"there\"\ndir = \"there\"\ntags = [\"gcc\"]\n"+
		"[[builder]]\nname = \"fw\"\non = \"gcc\"\n[[builder.step]]\nname = \"all\"\nsh = 'umask 022; mkdir out; echo $RELKIT_WORKER; echo x >out/x'\n"+artifact+"[builder.repro]\nvary = [\"worker\"]\n", nil)
	r, err := b.again()
	if err != nil || r.Repro.Result != record.ReproSame || r.Worker.Name != "here" || r.Repro.Worker.Name != "there" {
		t.Fatalf("%v, %+v\n%s", err, r.Repro, b.notes.String())
	}
	if v := variation(r, "path"); !v.Varied || !strings.Contains(v.How, b.path("there")) {
		t.Errorf("%+v", v)
	}
	b.write("relkit.toml", strings.Replace(b.read("relkit.toml"), "echo x >", "echo $RELKIT_WORKER >", 1))
	if r, err := b.again(); failure.Of(err) != failure.No || r.Repro.Differences[0].FirstText != "here." || r.Repro.Differences[0].SecondText != "there." {
		t.Errorf("%v, %+v", err, r.Repro)
	}
	// One that cannot be used is no reason to fail.
	b.write("relkit.toml", strings.Replace(b.read("relkit.toml"), "dir = \"there\"\n", "ssh = \"127.0.0.1:1\"\n", 1))
	if r, err := b.again(); err != nil || r.Repro.Worker.Name != "here" || variation(r, "worker").Varied || !strings.Contains(b.notes.String(), "not used for the second build") {
		t.Errorf("%v, %+v", err, r.Repro)
	}
}

func TestReproOnWorkers(t *testing.T) {
	eachKind(t, builder("umask 022; mkdir out; cp in out/x; pwd", `checkout = "copy"`, artifact), map[string]string{"in": "hello\n"}, func(t *testing.T, b *bench, p *place) {
		r, err := b.again()
		if err != nil || r.Repro.Result != record.ReproSame || r.Repro.Worker.Kind != p.kind || len(r.Repro.Vary) != 6 {
			t.Fatalf("%v, %+v\n%s", err, r.Repro, b.notes.String())
		}
		if v := variation(r, "path"); !v.Varied || !strings.Contains(v.How, "/repro/fw instead of ") {
			t.Errorf("%+v", v)
		}
	})
}

// A diff that is tried is in both builds.
func TestReproOfATry(t *testing.T) {
	b := newBench(t, builder("umask 022; mkdir out; cp in out/x", "", artifact+"[builder.repro]\nvary = [\"path\"]\n"), map[string]string{"in": "one\n"})
	b.opt.Diffs = []Diff{b.tryOf(map[string]string{"in": "two\n"})}
	if r, err := b.again(); err != nil || r.Repro.Result != record.ReproSame || len(r.Repro.Steps) != 2 || b.read("state/builds/fw/000001/artifacts/out/x") != "two\n" {
		t.Errorf("%v, %+v\n%s", err, r.Repro, b.notes.String())
	}
}

// A schedule builds twice what keeps artifacts, and the others once.
func TestReproOfASchedule(t *testing.T) {
	b := newBench(t, builder("umask 022; mkdir -p out; date +%s%N >out/x", "", artifact+"[builder.repro]\nvary = []\n")+
		"[[builder]]\nname = \"plain\"\n[[builder.step]]\nname = \"a\"\nrun = [\"true\"]\n[[schedule]]\nname = \"nightly\"\ncron = \"@daily\"\nrepro = true\n", nil)
	b.opt.KeepGoing = true
	check := func(err error) {
		t.Helper()
		if failure.Of(err) != failure.No || len(b.built) != 2 || b.built[0].Repro.Differ != 1 || len(b.built[0].Repro.Vary) != 0 || b.built[1].Repro != nil {
			t.Errorf("%v, %+v\n%s", err, b.built, b.notes.String())
		}
	}
	b.opt.Jobs = 1
	check(b.run("nightly"))
	p, err := Open(b.path("relkit.toml"), "")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 3, 4, 0, 0, 0, 0, time.UTC)
	b.opt.Now = func() time.Time { return now }
	b.built = nil
	check(p.Due(t.Context(), b.opt))
	b.opt.Repro = true
	if err := b.run(); failure.Of(err) != failure.Usage || !strings.Contains(err.Error(), `builder "plain" keeps no artifacts to compare`) {
		t.Errorf("%v", err)
	}
}

// A builder whose PATH is a toolchain's own, without a network, with a cache.
func TestReproOfAToolchain(t *testing.T) {
	relkittest.Need(t, "disorderfs", "unshare", "faketime", "ccache", "gcc")
	relkittest.NeedRoot(t)
	b := newBench(t, builder(`printf 'umask 022; uname() { /usr/bin/uname "$@"; }; uname -n; /usr/bin/date +%%Y; /usr/bin/mkdir out; /usr/bin/ls -U . >out/x; echo $CCACHE_DISABLE' >s; . ./s`,
		"network = false\ncache = \"ccache\"\nenv = { PATH = \"/nowhere\" }", artifact), map[string]string{"a": "", "b": "", "c": ""})
	r, err := b.again()
	if failure.Of(err) != failure.No || r.Repro.Result != record.ReproDifferent {
		t.Fatalf("%v, %+v\n%s\n%s", err, r.Repro, b.notes.String(), strings.Join(b.shown, "\n"))
	}
	lines := strings.Split(strings.TrimSpace(b.log("fw/1")), "\n")
	if len(lines) != 6 || lines[2] != "" || lines[3] != otherName || lines[1] >= lines[4] || lines[5] != "1" {
		t.Errorf("log %q", lines)
	}
}

// Stopped during the second build, it is interrupted, whatever the first came to.
func TestReproThatWasStopped(t *testing.T) {
	b := newBench(t, builder(`umask 022; mkdir -p out; cp in out/x; [ "$TZ" = UTC ] || { echo twice; sleep 1000; }`, "", artifact), map[string]string{"in": "one\n"})
	ctx, cancel := context.WithCancel(t.Context())
	b.opt.Repro, b.opt.Verbose = true, true
	b.opt.Show = func(_, line string) {
		if line == "twice" {
			cancel()
		}
	}
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
	if err != nil || r.Status != record.BuildInterrupted || r.Repro.Result != record.ReproInterrupted || r.Repro.Steps[0].Status != record.BuildInterrupted || b.link("last-good") != "" {
		t.Errorf("%v, %+v", err, r)
	}
	b.opt.Verbose, b.opt.Show = false, nil
	b.opt.Repro = false
	b.must()
}

// Killed during the second build, it is interrupted, and what ran of that is ended.
func TestReproThatWasKilled(t *testing.T) {
	b := newBench(t, builder("umask 022; mkdir -p out; cp in out/x", "", artifact), map[string]string{"in": "one\n"})
	b.must()
	s := state{b.path("state")}
	if _, err := s.reserve("fw"); err != nil {
		t.Fatal(err)
	}
	part := *b.built[0]
	part.Number, part.Status = 2, record.BuildInterrupted
	if err := s.start("fw", 2, running{Started: time.Now(), Cookie: "0123456789abcdef0", Again: "0123456789abcdef1", Partial: &part}); err != nil {
		t.Fatal(err)
	}
	left := b.leave("0123456789abcdef1")
	b.must()
	if r, err := s.load("fw", 2); err != nil || r.Status != record.BuildInterrupted {
		t.Errorf("%+v, %v", r, err)
	}
	if err := left.Wait(); err == nil {
		t.Error("what the second build ran is still there")
	}
}
