package build

import (
	"os"
	"strings"
	"testing"

	"github.com/relkit/relkit/pkg/failure"
)

const toFile = "[[notify]]\nfile = \"told\"\nwhen = [\"always\"]\n"

// told is the lines of toFile's file without their times.
func (b *bench) told() (lines []string) {
	data, err := os.ReadFile(b.path("told"))
	if err != nil && !os.IsNotExist(err) {
		b.t.Fatal(err)
	}
	for l := range strings.Lines(string(data)) {
		_, rest, _ := strings.Cut(strings.TrimSpace(l), " ")
		lines = append(lines, rest)
	}
	return lines
}

func (b *bench) wantTold(want ...string) {
	b.t.Helper()
	if got := b.told(); strings.Join(got, "\n") != strings.Join(want, "\n") {
		b.t.Errorf("told %q, want %q", got, want)
	}
}

// idle runs where there is nothing to build.
func (b *bench) idle() {
	b.t.Helper()
	if err := b.run(); err != nil || len(b.built) > 0 {
		b.t.Errorf("%v, %d built", err, len(b.built))
	}
}

// TestKilledRunIsToldOfOnce: wherever a run was killed, the next one tells what
// became of its build, and only once.
func TestKilledRunIsToldOfOnce(t *testing.T) {
	b := newBench(t, builder("true", "", "")+toFile, nil)
	b.must()
	one := "[fw] fw/1 succeeded"
	b.wantTold(one)

	// Before the record: .running.json stands there and nothing else.
	s := state{b.path("state")}
	n, err := s.reserve("fw")
	if err != nil || n != 2 {
		t.Fatal(n, err)
	}
	if err := s.start("fw", n, running{Reason: "asked", PID: 4711}); err != nil {
		t.Fatal(err)
	}
	b.must()
	b.wantTold(one, "[fw] fw/2 was interrupted", "[fw] fw/3 succeeded")

	// After the record and before the note of what has been told.
	if err := os.WriteFile(b.path("state/builds/fw/.told"), []byte("2\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	b.must()
	b.wantTold(one, "[fw] fw/2 was interrupted", "[fw] fw/3 succeeded", "[fw] fw/3 succeeded", "[fw] fw/4 succeeded")
	b.opt.IfChanged = true
	b.idle()
	if n := len(b.told()); n != 5 {
		t.Errorf("nothing was built, and %d lines", n)
	}
}

// A [[notify]] that is new hears nothing of what is past.
func TestNewNotifyHearsOfNewBuildsOnly(t *testing.T) {
	text := builder("true", "", "")
	b := newBench(t, text, nil)
	b.must()
	b.must()
	b.write("relkit.toml", head+text+toFile)
	b.must()
	b.wantTold("[fw] fw/3 succeeded")
}

// TestTellingFailsNoBuild: whatever is wrong with the way, the build succeeds,
// the history says who does not know, and learns it when that has passed.
func TestTellingFailsNoBuild(t *testing.T) {
	b := newBench(t, builder("true", "", "")+strings.Replace(toFile, "told", "later/told", 1)+toFile, nil)
	b.must()
	p, err := Open(b.path("relkit.toml"), "")
	if err != nil {
		t.Fatal(err)
	}
	untold := func() string {
		t.Helper()
		events, bad, err := p.History("fw")
		if err != nil || bad > 0 || len(events) == 0 {
			t.Fatal(events, bad, err)
		}
		return strings.Join(events[0].Untold, "; ")
	}
	if got := untold(); got != "file later/told: open "+b.path("later/told")+": no such file or directory" {
		t.Errorf("untold: %q", got)
	}
	if !strings.Contains(b.notes.String(), "level=ERROR msg=\"fw/1: not told: file later/told: ") {
		t.Error(b.notes.String())
	}
	b.wantTold("[fw] fw/1 succeeded")
	if err := os.Mkdir(b.path("later"), 0o755); err != nil {
		t.Fatal(err)
	}
	b.opt.IfChanged = true
	b.idle()
	if got := untold(); got != "" {
		t.Errorf("untold: %q", got)
	}
	if got := b.read("later/told"); strings.Count(got, "\n") != 1 || !strings.Contains(got, "fw/1 succeeded") {
		t.Errorf("%q", got)
	}
	b.wantTold("[fw] fw/1 succeeded")
	if list, err := os.ReadDir(b.path("state/notify")); err != nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
}

// TestToldOfACell: the message has the log of the step that failed, and commands
// that name the cell as a shell takes it.
func TestToldOfACell(t *testing.T) {
	b := newBench(t, builder("echo to {cc}; echo oh no >&2; exit 3", "matrix = { cc = [\"gcc\", \"clang\"] }\n", "")+
		"[[notify]]\nfile = \"told\"\nattach = \"tail\"\n", nil)
	if err := b.run("fw[cc=gcc]"); failure.Of(err) != failure.No {
		t.Fatal(err)
	}
	got := b.read("told")
	rev := b.built[0].Sources[0].Revision
	for _, want := range []string{" [fw] fw[cc=gcc]/1 fails: ", "\n  to gcc\n", "\n  oh no\n",
		"\n  relkit build --config " + b.path("relkit.toml") + " --rev " + rev + " 'fw[cc=gcc]'\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("there is no %q in\n%s", want, got)
		}
	}
}
