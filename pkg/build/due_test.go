package build

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	_ "time/tzdata" // the zones are the same on every machine

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/record"
	"github.com/relkit/relkit/pkg/sys/lock"
)

const plainStep = "[[builder.step]]\nname = \"a\"\nrun = [\"true\"]\n"

// dueBench is a bench with a clock.
type dueBench struct {
	*bench
	now  time.Time
	zone *time.Location
}

func newDueBench(t *testing.T, text string) *dueBench {
	b := &dueBench{bench: newBench(t, text, nil), zone: time.UTC}
	b.opt.Now = func() time.Time { return b.now.In(b.zone) }
	b.at("2026-11-22T10:00:30Z")
	return b
}

func (b *dueBench) at(text string) {
	b.t.Helper()
	var err error
	if b.now, err = time.Parse(time.RFC3339, text); err != nil {
		b.t.Fatal(err)
	}
}

// due runs what is due and answers what was built, "fw/1 schedule", sorted.
func (b *dueBench) due() []string {
	b.t.Helper()
	built, err := b.tryDue()
	if err != nil {
		b.t.Fatalf("%v\n%s", err, b.notes.String())
	}
	return built
}

func (b *dueBench) tryDue() (built []string, err error) {
	b.t.Helper()
	b.built = nil
	p, err := Open(b.path("relkit.toml"), "")
	if err != nil {
		return nil, err
	}
	b.notes.Reset()
	err = p.Due(b.t.Context(), b.opt)
	for _, r := range b.built {
		built = append(built, fmt.Sprintf("%s/%d %s", r.Builder, r.Number, r.Reason))
	}
	slices.Sort(built)
	return built, err
}

func (b *dueBench) want(why string, want ...string) {
	b.t.Helper()
	if got := b.due(); !slices.Equal(got, want) {
		b.t.Errorf("%s: built %q, want %q\n%s", why, got, want, b.notes.String())
	}
	if len(want) == 0 && b.notes.String() != "" {
		b.t.Errorf("%s: not silent: %s", why, b.notes.String())
	}
}

const nightly = "[[schedule]]\nname = \"nightly\"\ncron = \"30 2 * * *\"\n"

func TestDueTimes(t *testing.T) {
	b := newDueBench(t, "[[builder]]\nname = \"fw\"\n"+plainStep+nightly)
	b.want("a new schedule owes nothing of the past")
	b.at("2026-11-23T02:29:59Z")
	b.want("a second before")
	b.at("2026-11-23T02:30:00Z")
	b.want("its time", "fw/1 schedule")
	if b.built[0].Schedule != "nightly" {
		t.Errorf("schedule %q", b.built[0].Schedule)
	}
	b.want("once")
	b.at("2026-11-23T02:30:59Z")
	b.want("once a minute")
	b.at("2026-12-31T12:00:00Z")
	b.want("after five weeks of downtime, once", "fw/2 schedule")
	b.want("and no more")
	b.at("2027-01-01T02:31:00Z")
	b.want("the next night", "fw/3 schedule")
	// Another line counts from now on.
	b.write("relkit.toml", strings.Replace(b.read("relkit.toml"), "30 2 * * *", "31 2 * * *", 1))
	b.want("a line that is of this very minute", "fw/4 schedule")
	b.want("but once")
}

func TestDueWhenTheClockIsPutBack(t *testing.T) {
	b := newDueBench(t, "[[builder]]\nname = \"fw\"\n"+plainStep+nightly)
	b.want("new")
	b.at("2026-11-23T02:30:01Z")
	b.want("its time", "fw/1 schedule")
	b.at("2026-11-23T02:10:00Z")
	b.want("twenty minutes back")
	b.at("2026-11-23T02:30:30Z")
	b.want("the same time again")
	b.at("2099-01-01T00:00:00Z") // a battery that is empty
	b.want("a clock that is far ahead", "fw/2 schedule")
	b.at("2026-11-23T12:00:00Z")
	b.want("right again")
	b.at("2026-11-24T02:30:00Z")
	b.want("the next night", "fw/3 schedule")
}

func TestDueOverChangesOfTheClock(t *testing.T) {
	b := newDueBench(t, "[[builder]]\nname = \"fw\"\n"+plainStep+nightly)
	var err error
	if b.zone, err = time.LoadLocation("Europe/Berlin"); err != nil {
		t.Fatal(err)
	}
	// Every ten minutes around both changes, as cron(8) would call it.
	for _, c := range []struct {
		from string
		want []string
	}{
		{"2026-03-28T12:00:00+01:00", []string{"2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"}},
		{"2026-10-24T12:00:00+02:00", []string{"2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"}},
	} {
		b.at(c.from)
		b.due() // what is owed since March
		var got []string
		for range 40 * 6 {
			b.now = b.now.Add(10 * time.Minute)
			if hour := b.now.In(b.zone).Hour(); hour > 4 {
				continue // nothing is due then
			}
			if len(b.due()) > 0 {
				got = append(got, b.now.In(b.zone).Format(time.RFC3339))
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("built at %q, want %q", got, c.want)
		}
	}
}

func TestDueDependents(t *testing.T) {
	text := ""
	for _, name := range []string{"lib", "fw", "image", "alarm", "log"} {
		step := plainStep
		if name == "lib" {
			step = "[[builder.step]]\nname = \"a\"\nsh = \"test ! -e $HOME/broken\"\n"
		}
		text += "[[builder]]\nname = \"" + name + "\"\n" + step
	}
	text += "[[schedule]]\nname = \"nightly\"\ncron = \"30 2 * * *\"\nbuilders = [\"lib\"]\n" +
		"[[schedule]]\nname = \"then\"\non = \"success\"\nof = [\"lib\"]\nbuilders = [\"fw\"]\n" +
		"[[schedule]]\nname = \"last\"\non = \"success\"\nof = [\"fw\"]\nbuilders = [\"image\"]\n" +
		"[[schedule]]\nname = \"on-alarm\"\non = \"failure\"\nof = [\"lib\"]\nbuilders = [\"alarm\"]\n" +
		"[[schedule]]\nname = \"on-log\"\non = \"always\"\nof = [\"lib\", \"alarm\"]\nbuilders = [\"log\"]\n"
	b := newDueBench(t, text)
	b.want("new")
	b.at("2026-11-23T02:30:00Z")
	b.want("one after the other", "fw/1 dependent", "image/1 dependent", "lib/1 schedule", "log/1 dependent")
	b.want("once")
	b.write("broken", "")
	b.at("2026-11-24T02:30:00Z")
	got, err := b.tryDue()
	// log is tried once a run; what alarm/1 makes due of it is for the next.
	if want := []string{"alarm/1 dependent", "lib/2 schedule", "log/2 dependent"}; failure.Of(err) != failure.No || !slices.Equal(got, want) {
		t.Errorf("%v, built %q, want %q", err, got, want)
	}
	b.want("after the alarm", "log/3 dependent")
	b.want("and no more")
	if err := b.run("lib"); failure.Of(err) != failure.No {
		t.Fatal(err)
	}
	b.want("a build that a person asked for is followed too", "alarm/2 dependent", "log/4 dependent")
	b.want("after the alarm", "log/5 dependent")
}

func TestDueChanges(t *testing.T) {
	b := newDueBench(t, builder("true", "", "")+"[[builder]]\nname = \"other\"\nsources = [\"fw\"]\n"+plainStep+
		"[[schedule]]\nname = \"commit\"\non = \"change\"\nbuilders = [\"fw\"]\n")
	b.want("what was never built", "fw/1 change")
	b.want("nothing new")
	b.commit(map[string]string{"in": "1"})
	b.want("a commit", "fw/2 change")
	if len(b.built[0].Changes) != 1 || b.built[0].Schedule != "commit" {
		t.Errorf("%+v", b.built[0])
	}
	b.want("once")
	// A source that cannot be asked is told; the rest is built.
	b.write("relkit.toml", b.read("relkit.toml")+"[[source]]\nname = \"gone\"\nvcs = \"git\"\nurl = \"nowhere\"\n[[builder]]\nname = \"sad\"\nsources = [\"gone\"]\n"+plainStep+
		"[[schedule]]\nname = \"sadly\"\non = \"change\"\nbuilders = [\"sad\"]\n")
	b.commit(map[string]string{"in": "2"})
	got, err := b.tryDue()
	if failure.Of(err) != failure.Failed || !slices.Equal(got, []string{"fw/3 change"}) || !strings.Contains(err.Error(), `schedule "sadly": source "gone"`) {
		t.Errorf("%v, built %q", err, got)
	}
}

func TestDueOnlyIfChanged(t *testing.T) {
	b := newDueBench(t, builder("[ -e left ] && echo left; touch left", "", "")+nightly+"only_if_changed = true\nclean = true\n")
	b.want("new")
	b.at("2026-11-23T02:30:00Z")
	b.want("never built", "fw/1 schedule")
	b.at("2026-11-24T02:30:00Z")
	b.want("unchanged")
	b.commit(nil)
	b.want("its time is over")
	b.at("2026-11-25T02:30:00Z")
	b.want("changed", "fw/2 schedule")
	if log := b.log("fw/2"); log != "" {
		t.Errorf("not clean: %q", log)
	}
	b.must("nightly") // a person who asks gets it
	if b.built[0].Reason != "asked" || b.built[0].Schedule != "nightly" || b.built[0].Sources[0].Checkout != "clean" {
		t.Errorf("%+v", b.built[0])
	}
}

func TestDueWaitsForQuiet(t *testing.T) {
	b := newDueBench(t, builder("true", "", "")+"[[schedule]]\nname = \"commit\"\non = \"change\"\n")
	b.write("relkit.toml", strings.Replace(b.read("relkit.toml"), "branch = \"main\"", "branch = \"main\"\nstable = \"2m\"", 1))
	later := func(d time.Duration) { b.now = b.now.Add(d) }
	b.want("first seen")
	later(119 * time.Second)
	b.want("not yet")
	later(time.Second)
	b.want("quiet", "fw/1 change")
	b.commit(map[string]string{"in": "1"})
	b.want("a change")
	later(time.Minute)
	b.commit(map[string]string{"in": "2"})
	b.want("another")
	later(time.Minute)
	b.want("a minute of quiet")
	b.opt.IfChanged = true
	if err := b.run(); err != nil || len(b.built) > 0 || !strings.Contains(b.notes.String(), "not quiet for 2m0s yet") {
		t.Errorf("--if-changed: %v, %v, %s", err, b.built, b.notes.String())
	}
	b.opt.IfChanged = false
	later(time.Minute)
	b.want("both at once", "fw/2 change")
	if len(b.built[0].Changes) != 2 {
		t.Errorf("%+v", b.built[0].Changes)
	}
	// A hook tells the time exactly, however late relkit looks.
	rev := b.commit(map[string]string{"in": "3"})
	b.note("fw", "old "+rev+" refs/heads/main\n", 1)
	later(time.Hour)
	b.want("noted an hour ago", "fw/3 change")
	// A clock that is put back starts the wait anew.
	b.commit(map[string]string{"in": "4"})
	b.want("a change")
	later(-24 * time.Hour)
	b.want("yesterday")
	later(2 * time.Minute)
	b.want("quiet", "fw/4 change")
}

func (b *dueBench) note(source, lines string, want int) {
	b.t.Helper()
	p, err := Open(b.path("relkit.toml"), "")
	if err != nil {
		b.t.Fatal(err)
	}
	n, err := p.NoteChange(source, strings.NewReader(lines), b.opt.Now())
	if err != nil || n.Changes != want {
		b.t.Errorf("%q: %+v, %v, want %d changes", lines, n, err, want)
	}
}

func TestNoteChange(t *testing.T) {
	b := newDueBench(t, builder("true", "", ""))
	zero := strings.Repeat("0", 40)
	one, two := strings.Repeat("1", 40), strings.Repeat("2", 40)
	b.note("", zero+" "+one+" refs/heads/side\n"+one+" "+zero+" refs/heads/main\n"+zero+" "+two+" refs/tags/v1\n", 0)
	b.note("fw", zero+" "+one+" refs/heads/main\n"+one+" "+two+" refs/heads/main\n", 2)
	if st, _, err := (state{b.path("state")}).readPending(); err != nil || st.Sources["fw"].Head != two || !st.Sources["fw"].Since.Equal(b.now) {
		t.Errorf("%v, %+v", err, st)
	}
	p, err := Open(b.path("relkit.toml"), "")
	if err != nil {
		t.Fatal(err)
	}
	for lines, want := range map[string]string{"a b\n": "line 1: got \"a b\", want OLD NEW REF", "a b c d\n": "want OLD NEW REF"} {
		if _, err := p.NoteChange("fw", strings.NewReader(lines), b.now); failure.Of(err) != failure.Usage || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", lines, err)
		}
	}
	if _, err := p.NoteChange("gw", strings.NewReader(""), b.now); failure.Of(err) != failure.Usage {
		t.Errorf("%v", err)
	}
	// A file that was spoiled is named, with a way out.
	b.write("state/pending.json", "{")
	if _, err := p.NoteChange("fw", strings.NewReader(one+" "+two+" refs/heads/main\n"), b.now); err == nil || !strings.Contains(err.Error(), "pending.json") || !strings.Contains(failure.Hint(err), "mv ") {
		t.Errorf("%v", err)
	}
}

// TestTwoDueAtOnce: whatever two runs see of each other, what is owed is built once.
func TestTwoDueAtOnce(t *testing.T) {
	b := newDueBench(t, "[[builder]]\nname = \"fw\"\n"+plainStep+"[[builder]]\nname = \"gw\"\n"+plainStep+nightly)
	b.want("new")
	var mu sync.Mutex
	var built []string
	b.opt.Done = func(r *record.Build, _ string) error {
		mu.Lock()
		defer mu.Unlock()
		built = append(built, fmt.Sprintf("%s/%d", r.Builder, r.Number))
		return nil
	}
	b.opt.Log, b.opt.Show = nil, nil
	for day := 23; day < 28; day++ {
		b.at(fmt.Sprintf("2026-11-%dT02:30:00Z", day))
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				p, err := Open(b.path("relkit.toml"), "")
				if err == nil {
					err = p.Due(t.Context(), b.opt)
				}
				if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
	slices.Sort(built)
	if want := []string{"fw/1", "fw/2", "fw/3", "fw/4", "fw/5", "gw/1", "gw/2", "gw/3", "gw/4", "gw/5"}; !slices.Equal(built, want) {
		t.Errorf("built %q", built)
	}
}

// TestDueWhileItBuilds: what is due of a builder that is being built waits for the
// next run, in silence.
func TestDueWhileItBuilds(t *testing.T) {
	b := newDueBench(t, "[[builder]]\nname = \"fw\"\n"+plainStep+nightly)
	b.want("new")
	release := b.hold("fw")
	b.at("2026-11-23T02:30:00Z")
	b.want("another builds")
	b.at("2026-11-23T02:31:00Z")
	b.want("still")
	release()
	b.want("free", "fw/1 schedule")
	b.want("once")
}

// hold takes a builder's lock.
func (b *dueBench) hold(name string) (release func()) {
	b.t.Helper()
	s := state{b.path("state")}
	if err := s.prepare(name); err != nil {
		b.t.Fatal(err)
	}
	l, err := lock.Try(s.lockFile(name))
	if err != nil {
		b.t.Fatal(err)
	}
	return func() {
		if err := l.Release(); err != nil {
			b.t.Error(err)
		}
	}
}

// TestHookOfSubversion: what the script says of a commit is understood, whatever the
// repository's path is.
func TestHookOfSubversion(t *testing.T) {
	b := newBench(t, "[[source]]\nname = \"sv\"\nvcs = \"svn\"\nurl = \"file:///nowhere\"\n"+builder("true", "", ""), nil)
	p, err := Open(b.path("relkit.toml"), "")
	if err != nil {
		t.Fatal(err)
	}
	b.write("say", "#!/bin/sh\ncat >"+b.path("said")+"\n")
	script, err := p.Hook(b.path("say"), "svn", "sv")
	if err = errors.Join(err, os.Chmod(b.path("say"), 0o755)); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("sh", "-c", script, "post-commit", "/srv/my repo", "2", "1-1").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if n, err := p.NoteChange("sv", strings.NewReader(b.read("said")), time.Now()); err != nil || n.Changes != 1 {
		t.Errorf("%q: %v, %+v", b.read("said"), err, n)
	}
}
