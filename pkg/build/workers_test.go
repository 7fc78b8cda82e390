package build

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/record"
	"github.com/relkit/relkit/pkg/relkittest"
	"github.com/relkit/relkit/pkg/sys/process"
)

// workerKinds are the ways to reach a worker: what each test of the table gets.
// lines is what stands in relkit.toml for one, and what else a bench needs.
var workerKinds = []string{"local", "ssh", "openssh", "slurm"}

// place is a worker of a kind, for one bench.
type place struct {
	kind string
	dir  string // the worker's own
	sshd *relkittest.SSHD
}

// newPlace makes the bench's worker one of the kind.
func newPlace(b *bench, kind string) *place {
	b.t.Helper()
	p := &place{kind: kind, dir: b.t.TempDir()}
	line := ""
	switch kind {
	case "local":
	case "ssh", "openssh":
		p.sshd = relkittest.StartSSHD(b.t)
		if err := os.Symlink(filepath.Join(p.sshd.Home, ".ssh"), b.path(".ssh")); err != nil {
			b.t.Fatal(err)
		}
		b.t.Setenv("SSH_AUTH_SOCK", "")
		b.t.Setenv("PATH", p.sshd.ClientPath(b.t)+":"+os.Getenv("PATH"))
		line = fmt.Sprintf("%s = %q\n", kind, p.sshd.Host())
	case "slurm":
		b.t.Setenv("SLURM_CONF", relkittest.StartSlurm(b.t).Config)
		line = "slurm = { partition = \"build\", constraint = \"el9\" }\n"
	}
	text := strings.Replace(b.read("relkit.toml"), "name = \"here\"\n", fmt.Sprintf("name = \"here\"\ndir = %q\n%s", p.dir, line), 1)
	b.write("relkit.toml", text)
	return p
}

// eachKind runs a test on every kind of worker.
func eachKind(t *testing.T, builders string, files map[string]string, test func(*testing.T, *bench, *place)) {
	for _, kind := range workerKinds {
		t.Run(kind, func(t *testing.T) {
			b := newBench(t, builders, files)
			test(t, b, newPlace(b, kind))
		})
	}
}

// A build is the same wherever it happens: its revision, environment, log,
// artifacts; a second one finds what the first left and needs no copy of relkit.
func TestWorkersBuild(t *testing.T) {
	eachKind(t, builder(`cat in; echo "$HOME $PATH $https_proxy"; mkdir -p out; cp in out/x; chmod 755 out/x; ln -sf x out/l; pwd; echo more >>kept; wc -l <kept; printf '\377\000' >out/bin`, "", "")+artifact,
		map[string]string{"in": "hello\n"}, func(t *testing.T, b *bench, p *place) {
			for n := 1; n <= 2; n++ {
				r := b.must()
				if r.Worker.Kind != p.kind || r.Worker.Host == "" || r.Sources[0].Revision != b.git("rev-parse", "HEAD") {
					t.Errorf("%+v", r.Worker)
				}
				lines := strings.Split(b.log("fw/last"), "\n")
				if len(lines) < 4 || lines[0] != "hello" || !strings.HasPrefix(lines[2], p.dir+"/fw-") || lines[3] != fmt.Sprint(n) {
					t.Errorf("log %q", lines)
				}
				var got []string
				for _, a := range r.Artifacts {
					got = append(got, fmt.Sprint(a.Path, a.Mode, a.SizeBytes))
				}
				if strings.Join(got, " ") != "artifacts/out/bin06442 artifacts/out/l07770 artifacts/out/x07556" {
					t.Errorf("artifacts %q", got)
				}
				if b.read(fmt.Sprintf("state/builds/fw/%06d/artifacts/out/bin", n)) != "\xff\x00" {
					t.Error("the artifact is another")
				}
			}
			if p.kind == "local" {
				return
			}
			bins, _ := filepath.Glob(p.dir + "/bin/*")
			hidden, _ := filepath.Glob(p.dir + "/bin/.*")
			sessions, _ := filepath.Glob(p.dir + "/sessions/*/*")
			if len(bins) != 1 || len(hidden) != 0 || len(sessions) != 0 {
				t.Errorf("left %q, %q, %q", bins, hidden, sessions)
			}
		})
}

func TestWorkersFailingStep(t *testing.T) {
	eachKind(t, builder("echo so is this >&2; exit 7", "", ""), nil, func(t *testing.T, b *bench, _ *place) {
		if r := b.fails(`step "all": exit status 7`); *r.Steps[0].Exit != 7 || r.Status != record.BuildFailed {
			t.Errorf("%+v", r.Steps[0])
		}
		if got := b.log("fw/last"); got != "so is this\n" {
			t.Errorf("log %q", got)
		}
	})
}

// What a builder may ask of a worker: a bound of memory, no network, a cache.
func TestWorkersConfine(t *testing.T) {
	relkittest.Need(t, "ccache", "gcc")
	relkittest.NeedRoot(t)
	eachKind(t, builder(`grep -c : /proc/net/dev; cc -c in.c; ccache -s | grep -c . >/dev/null; ls -d "$CCACHE_DIR"/*; head -c 64000000 /dev/zero | tail -n 1 | wc -c`,
		"network = false\ncache = \"ccache\"\nlimits = { mem = \"48M\" }", ""), map[string]string{"in.c": "int x;\n"}, func(t *testing.T, b *bench, p *place) {
		r := b.must()
		lines := strings.Split(strings.TrimSpace(b.log("fw/last")), "\n")
		if r.Worker.MemoryBound == "" || lines[0] != "1" || !strings.HasPrefix(lines[1], p.dir+"/fw-") || strings.Contains(b.log("fw/last"), "64000000") {
			t.Errorf("%+v, %q", r.Worker, lines)
		}
	})
}

// A worker that is lost is tried once more elsewhere; where nothing else matches,
// or the other is lost too, it is the infrastructure that failed.
func TestLostWorker(t *testing.T) {
	b := newBench(t, "[[worker]]\nname = \"spare\"\ntags = [\"x\"]\n"+builder("echo $RELKIT_WORKER", `on = "x"`, ""), nil)
	// "here" is local and would be chosen first: it is the one that is lost.
	text := strings.Replace(b.read("relkit.toml"), `tags = ["gcc", "clang"]`, `tags = ["x"]`+"\nup = [\"sh\", \"-c\", \"echo no power; exit 4\"]", 1)
	b.write("relkit.toml", text)
	if r := b.must(); r.Worker.Name != "spare" || b.log("fw/last") != "spare\n" || !strings.Contains(b.notes.String(), "trying once more on worker spare") || !strings.Contains(b.notes.String(), "no power") {
		t.Errorf("%+v\n%s", r.Worker, b.notes.String())
	}
	b.write("relkit.toml", strings.Replace(text, "name = \"spare\"\ntags = [\"x\"]", "name = \"spare\"\ntags = [\"y\"]", 1))
	if err := b.run(); err == nil || failure.Of(err) != failure.Failed || len(b.built) != 0 {
		t.Errorf("without another: %v, %+v", err, b.built)
	}
	b.write("relkit.toml", strings.Replace(text, "name = \"spare\"\n", "name = \"spare\"\nssh = \"127.0.0.1:1\"\n", 1))
	if err := b.run(); err == nil || failure.Of(err) != failure.Failed || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("with another that is lost: %v", err)
	}
}

// hanging has the call "folders" hang, as on a file system that does not answer, where
// a file "hang" lies beside the folder it is to make.
func hanging(handlers map[string]process.Handler) map[string]process.Handler {
	inner := handlers["folders"]
	handlers["folders"] = func(ctx context.Context, args json.RawMessage, in io.Reader, out io.Writer) (any, error) {
		var a struct{ Empty [][]byte }
		if json.Unmarshal(args, &a) == nil && len(a.Empty) > 0 {
			work := filepath.Dir(string(a.Empty[0]))
			if os.Rename(filepath.Join(work, "hang"), filepath.Join(work, "hangs")) == nil {
				time.Sleep(time.Hour)
			}
		}
		return inner(ctx, args, in, out)
	}
	return handlers
}

// A worker that shows that it lives and does not answer is lost, and it is said which
// one and what it was asked for; who asks relkit to end does not wait for it.
func TestWorkerThatHangs(t *testing.T) {
	b := newBench(t, builder("touch ../hang", "", ""), nil)
	p := newPlace(b, "openssh")
	work := func() string { return must(filepath.Glob(p.dir + "/*/work/fw"))[0] }
	b.opt.heartbeat = 500 * time.Millisecond
	b.must()
	b.opt.patience = 3 * time.Second
	err := b.run()
	if err == nil || failure.Of(err) != failure.Failed || !strings.Contains(err.Error(), `worker "here": the supervisor was lost: the call "folders" has been at a standstill for 3s`) ||
		len(b.built) != 1 || b.built[0].Status != record.BuildError {
		t.Errorf("%v, %+v", err, b.built)
	}
	b.opt.patience = 0
	if err := os.Rename(work()+"/hangs", work()+"/hang"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := b.start(ctx)
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if _, err := os.Stat(work() + "/hangs"); err == nil {
			break
		}
	}
	start := time.Now()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) || time.Since(start) > 10*time.Second || len(b.built) != 1 || b.built[0].Status != record.BuildInterrupted {
		t.Errorf("after %v: %v, %+v", time.Since(start), err, b.built)
	}
}

// A worker's commands run before the first and after the last of the builds that
// use it, also where a build failed.
func TestUpAndDown(t *testing.T) {
	b := newBench(t, builder("[ -e ../../../../up ]; exit 3", "", "")+"[[builder]]\nname = \"gw\"\n[[builder.step]]\nname = \"a\"\nrun = [\"sleep\", \"0.5\"]\n", nil)
	b.write("relkit.toml", strings.Replace(b.read("relkit.toml"), "slots = 4\n", "slots = 4\nup = [\"sh\", \"-c\", \"echo up >>said; touch up\"]\ndown = [\"sh\", \"-c\", \"rm up; echo down $RELKIT_WORKER >>said\"]\n", 1))
	b.opt.KeepGoing = true
	if err := b.run(); failure.Of(err) != failure.No {
		t.Fatal(err)
	}
	if got := b.read("said"); got != "up\ndown here\n" && got != "up\ndown here\nup\ndown here\n" { // they need not overlap
		t.Errorf("said %q", got)
	}
}

// A command that hangs is ended: up is the worker's trouble and begins no build, down
// is told after a build that is recorded as what it was. Who asks relkit to end does
// not wait for them, and nothing of them is left.
func TestUpAndDownThatHang(t *testing.T) {
	b := newBench(t, builder("true", "", ""), nil)
	text := b.read("relkit.toml")
	hang := `["sh", "-c", "trap '' TERM; echo so far; echo $$ >>pids; setsid sleep 1000 & echo $! >>pids; touch hangs; sleep 1000"]`
	with := func(lines string) {
		b.write("relkit.toml", strings.Replace(text, "slots = 4\n", "slots = 4\n"+lines+"\n", 1))
	}
	left := func() {
		t.Helper()
		var pids []int
		for _, w := range strings.Fields(b.read("pids")) {
			pids = append(pids, must(strconv.Atoi(w)))
		}
		noneLeft(t, pids, 0)
		if err := errors.Join(os.Remove(b.path("pids")), os.Remove(b.path("hangs"))); err != nil {
			t.Fatal(err)
		}
	}
	b.opt.grace, b.opt.commands = 200*time.Millisecond, time.Second
	with("up = " + hang)
	err := b.run()
	if err == nil || failure.Of(err) != failure.Failed || !strings.Contains(err.Error(), `worker "here": cannot be used: its up command`) || !strings.Contains(err.Error(), "timed out after") || !strings.Contains(err.Error(), "so far") || len(b.built) != 0 {
		t.Errorf("up: %v, %+v", err, b.built)
	}
	left()
	with("down = " + hang)
	err = b.run()
	if err == nil || failure.Of(err) != failure.Failed || !strings.Contains(err.Error(), "its down command") || !strings.Contains(err.Error(), "timed out after") {
		t.Errorf("down: %v", err)
	}
	if len(b.built) != 1 || b.built[0].Status != record.BuildSuccess {
		t.Errorf("down: %+v", b.built)
	}
	left()
	// Ctrl-C while up hangs, for as long as it may.
	with("up = " + hang)
	b.opt.commands = 0
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := b.start(ctx)
	for range 600 {
		if _, err := os.Stat(b.path("hangs")); err == nil {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	start := time.Now()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) || time.Since(start) > 10*time.Second || len(b.built) != 0 {
		t.Errorf("after %v: %v, %+v", time.Since(start), err, b.built)
	}
	left()
	with("")
	b.must()
}

// An architecture for which there is no relkit, a host whose key is not known, a
// key that is not accepted: each is told, with what helps.
func TestWorkerThatCannotBeUsed(t *testing.T) {
	b := newBench(t, builder("true", "", ""), nil)
	p := newPlace(b, "ssh")
	known := b.read(".ssh/known_hosts")
	try := func(what, want, hint string) {
		t.Helper()
		err := b.run()
		if err == nil || failure.Of(err) != failure.Failed || !strings.Contains(err.Error(), want) || !strings.Contains(failure.Hint(err), hint) {
			t.Errorf("%s: %v\nhint %s", what, err, failure.Hint(err))
		}
	}
	b.write(".ssh/known_hosts", "")
	try("unknown host", "is not known", fmt.Sprintf("ssh-keyscan -p %d 127.0.0.1 >>", p.sshd.Port))
	other, err := os.ReadFile(b.path(".ssh/id_ed25519.pub"))
	if err != nil {
		t.Fatal(err)
	}
	b.write(".ssh/known_hosts", fmt.Sprintf("[127.0.0.1]:%d %s", p.sshd.Port, other))
	try("another key", "which is not the known one", "ssh-keygen -R")
	b.write(".ssh/known_hosts", known)
	if out, err := exec.Command("ssh-keygen", "-q", "-p", "-P", "", "-N", "secret", "-f", b.path(".ssh/id_ed25519")).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	try("a passphrase", "has a passphrase", "ssh-add")
	if err := os.Remove(b.path(".ssh/id_ed25519")); err != nil {
		t.Fatal(err)
	}
	try("no key", "there is no key", "ssh-copy-id -p")
}
