package build

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/record"
	"github.com/relkit/relkit/pkg/relkittest"
	"github.com/relkit/relkit/pkg/sys/process"
)

func TestMain(m *testing.M) {
	process.Main(hanging(handlers()))
	if config := os.Getenv(relkitArg); config != "" {
		beRelkit(config)
	}
	os.Exit(m.Run())
}

// bench is a repository, a relkit.toml beside it, and what a run said.
type bench struct {
	t     *testing.T
	dir   string
	opt   Options
	notes notes
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

// notes is what was logged; a timer may log while a test reads.
type notes struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (n *notes) Write(b []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.b.Write(b)
}

func (n *notes) String() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.b.String()
}

func (n *notes) Reset() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.b.Reset()
}

// builder is a builder of one shell step, with more lines for the builder and the step.
func builder(sh, more, step string) string {
	return "[[builder]]\nname = \"fw\"\nsources = [\"fw\"]\n" + more + "\n[[builder.step]]\nname = \"all\"\nsh = '''" + sh + "'''\n" + step + "\n"
}

const artifact = "[builder.artifacts]\npaths = [\"out/**\"]\n"
