package build

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/relkit/relkit/pkg/format/record"
	"github.com/relkit/relkit/pkg/relkittest"
)

// workerKinds are the ways to reach a worker: what each test of the table gets.
// lines is what stands in relkit.toml for one, and what else a bench needs.
var workerKinds = []string{"local", "ssh", "openssh"}

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
