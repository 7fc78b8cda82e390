package build

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/relkittest"
	"github.com/relkit/relkit/pkg/sys/lock"
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

// TestMailDespiteAHangingCell: a cell that hangs keeps back the mail of one that has
// failed for a while only; a run that is told to stop leaves it for the next one.
func TestMailDespiteAHangingCell(t *testing.T) {
	relkittest.Need(t, "aiosmtpd")
	for _, hold := range []time.Duration{2 * time.Second, 0} {
		dir := t.TempDir()
		address, stop, err := relkittest.MailServer(relkittest.MailOptions{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		defer stop()
		mails := func() int { return len(must(filepath.Glob(dir + "/*.txt"))) }
		b := newBench(t, builder("[ {c} = bad ] && exit 3; test -e $HOME/quick || sleep 300", "matrix = { c = [\"bad\", \"hang\"] }\n", "")+
			"[[notify]]\nmail = \"smtp://"+address+"\"\nfrom = \"relkit@x.example\"\nto = [\"team@x.example\"]\n"+
			"[[schedule]]\nname = \"s\"\ncron = \"0 0 1 1 *\"\n", nil)
		b.opt.KeepGoing, b.opt.hold = true, hold
		p := must(Open(b.path("relkit.toml"), ""))
		ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
		defer cancel()
		ended := make(chan error)
		go func() { ended <- p.Run(ctx, must(p.Plan(nil)), b.opt) }()
		queued := func() bool {
			return mails() > 0 || hold == 0 && len(must(filepath.Glob(b.path("state/notify/*.json")))) > 0
		}
		for !queued() && ctx.Err() == nil {
			time.Sleep(20 * time.Millisecond)
		}
		if ctx.Err() != nil {
			t.Error("no mail while the other cell hangs")
		}
		cancel()
		<-ended
		if err := p.Due(t.Context(), b.opt); err != nil || mails() != 1 {
			t.Errorf("%v, %d mails after the next run", err, mails())
		}
	}
}

// TestOneMailOfAMatrix: a matrix that breaks is one mail, which comes when its last
// cell has ended; the file has heard of each by then. A run beside it, and one that
// finds what a killed one left, keep to that.
func TestOneMailOfAMatrix(t *testing.T) {
	relkittest.Need(t, "aiosmtpd")
	dir := t.TempDir()
	address, stop, err := relkittest.MailServer(relkittest.MailOptions{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	mails := func() (list []string) {
		for _, name := range must(filepath.Glob(dir + "/*.txt")) {
			list = append(list, string(must(os.ReadFile(name))))
		}
		return list
	}
	text := builder(`[ {cc} = tcc ] || . ./in`, "matrix = { cc = [\"gcc\", \"clang\", \"tcc\"] }\n", "") +
		toFile + "[[notify]]\nmail = \"smtp://" + address + "\"\nfrom = \"relkit@x.example\"\nto = [\"blame\", \"team@x.example\"]\n"
	b := newBench(t, text, map[string]string{"in": "true"})
	b.opt.KeepGoing = true
	if err := b.run(); err != nil || len(mails()) != 0 {
		t.Fatal(err, mails())
	}
	b.commit(map[string]string{"in": "echo oh no {cc} >&2\nexit 3"})
	// While another run builds cells of the same builder, its mails wait for that.
	other, err := lock.Try(state{b.path("state")}.mailLock("fw"))
	if err != nil {
		t.Fatal(err)
	}
	if err := b.run("fw[cc=gcc]"); failure.Of(err) != failure.No || len(mails()) != 0 {
		t.Fatal(err, mails())
	}
	if err := other.Release(); err != nil {
		t.Fatal(err)
	}
	if err := b.run("fw[cc=clang]", "fw[cc=tcc]"); failure.Of(err) != failure.No {
		t.Fatal(err)
	}
	got := mails()
	if len(got) != 1 {
		t.Fatalf("%d mails: %q", len(got), got)
	}
	for _, want := range []string{"Subject: [fw] fw: 2 fail: cc=gcc; cc=clang\n", "To: a@example.com, team@x.example\n", "\n---- fw[cc=clang]/2 ---", "\n  oh no {cc}\n", "\nChanges since the last good build:\n"} {
		if !strings.Contains(got[0], want) {
			t.Errorf("there is no %q in\n%s", want, got[0])
		}
	}
	if told := b.told(); len(told) != 6 {
		t.Errorf("the file was told %q", told)
	}
	b.commit(map[string]string{"in": "true"})
	if err := b.run(); err != nil {
		t.Fatal(err)
	}
	if got = mails(); len(got) != 2 || !strings.Contains(got[1], "Subject: [fw] fw: 2 work again: cc=gcc; cc=clang\n") && !strings.Contains(got[1], "Subject: [fw] fw: 2 work again: cc=clang; cc=gcc\n") {
		t.Errorf("%d mails: %q", len(got), got)
	}
}
