package build

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/record"
	"github.com/relkit/relkit/pkg/sys/lock"
)

// cutNow leaves what a run leaves that is killed right after it began a build: all
// that it holds is as job.begin writes it.
func (b *dueBench) cutNow(name, reason string, sources []record.BuildSource) {
	b.t.Helper()
	s := state{b.path("state")}
	if err := s.prepare(name); err != nil {
		b.t.Fatal(err)
	}
	n, err := s.reserve(name)
	if err != nil {
		b.t.Fatal(err)
	}
	r := running{Started: b.now, Reason: reason, PID: 4711, Partial: &record.Build{Schema: record.BuildSchema, Project: "fw", Builder: name, Number: n,
		Status: record.BuildInterrupted, Reason: reason, Schedule: "s", Started: b.now, Sources: sources}}
	if err := s.pending(func(st *pending) error { r.Owed, st.Owed = st.Owed, nil; return nil }); err != nil {
		b.t.Fatal(err)
	}
	if err := s.start(name, n, r); err != nil {
		b.t.Fatal(err)
	}
}

// owe brings the schedules to now without building what is owed.
func (b *dueBench) owe() {
	b.t.Helper()
	p, err := Open(b.path("relkit.toml"), "")
	if err != nil {
		b.t.Fatal(err)
	}
	all, err := p.scheduled()
	if err == nil {
		err = p.state.pending(func(st *pending) error { return p.advance(st, b.now, all) })
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// A nightly build that is killed is recorded, told of and built once more by the
// next run, whatever is due then; one that is killed again is an error, and rests
// until its time comes again.
func TestDueBuildsOnceMoreWhatWasKilled(t *testing.T) {
	b := newDueBench(t, "[[builder]]\nname = \"fw\"\n"+plainStep+strings.ReplaceAll(nightly, "nightly", "s")+"[[notify]]\nfile = \"told\"\nwhen = [\"error\"]\n")
	b.want("new")
	b.at("2026-11-23T02:30:00Z")
	b.owe()
	b.cutNow("fw", "schedule", nil)
	if got := b.due(); len(got) != 1 || got[0] != "fw/2 schedule" || !strings.Contains(b.notes.String(), "level=ERROR msg=\"fw/1: an earlier run left it; recorded as interrupted: relkit (process 4711) was killed") {
		t.Errorf("built %q\n%s", got, b.notes.String())
	}
	b.wantTold("[fw] fw/1 was interrupted")
	b.want("once")

	b.at("2026-11-24T02:30:00Z")
	b.owe()
	b.cutNow("fw", "schedule", nil)
	l, err := lock.Try(b.path("state/locks/fw.lock")) // as one that still builds
	if err != nil {
		t.Fatal(err)
	}
	b.want("it may still be building")
	if err := l.Release(); err != nil {
		t.Fatal(err)
	}
	b.opt.look = false
	p, err := Open(b.path("relkit.toml"), "")
	if err != nil {
		t.Fatal(err)
	}
	r, err := p.newRunner(nil, b.opt)
	if err == nil {
		err = r.recoverAll(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	b.cutNow("fw", "schedule", nil) // its second try, too
	if got := b.due(); len(got) != 0 {
		t.Errorf("a third try: %q", got)
	}
	events, _, err := p.History("fw")
	if err != nil || len(events) != 4 || events[2].Status != record.BuildInterrupted || events[3].Status != record.BuildError {
		t.Errorf("%v, %+v", err, events)
	}
	b.wantTold("[fw] fw/1 was interrupted", "[fw] fw/3 was interrupted", "[fw] fw/4 could not be built: relkit (process 4711) was killed, like the one before it; what its schedule wants is no…")
	b.want("given up")
	b.at("2026-11-25T02:30:00Z")
	b.want("the next night", "fw/5 schedule")
}

// A change whose build kills its machine is built twice, and the next change again.
func TestDueGivesUpAChangeThatKills(t *testing.T) {
	b := newDueBench(t, "[[builder]]\nname = \"fw\"\nsources = [\"fw\"]\n"+plainStep+"[[schedule]]\nname = \"s\"\non = \"change\"\n")
	b.want("new", "fw/1 change")
	for n := 2; n <= 5; n++ {
		now := b.commit(map[string]string{"a": fmt.Sprint(n / 2)})
		if n == 3 {
			b.git("reset", "-q", "--hard", "HEAD~1")
			now = b.git("rev-parse", "HEAD")
		}
		if n > 3 {
			break
		}
		b.cutNow("fw", "change", []record.BuildSource{{Name: "fw", VCS: "git", Revision: now}})
		if n == 2 {
			p, _ := Open(b.path("relkit.toml"), "")
			r, err := p.newRunner(nil, b.opt)
			if err == nil {
				err = r.recoverAll(t.Context())
			}
			if err != nil {
				t.Fatal(err)
			}
		} else if got := b.due(); len(got) != 0 {
			t.Errorf("built a third time: %q", got)
		} else {
			b.want("given up")
		}
	}
	b.want("the next change", "fw/4 change")
}

// Who looks at a build that was killed is told so at once, not to wait for it.
func TestFollowAndExplainOfAKilledBuild(t *testing.T) {
	b := newDueBench(t, "[[builder]]\nname = \"fw\"\n"+plainStep+nightly)
	b.cutNow("fw", "schedule", nil)
	p, err := Open(b.path("relkit.toml"), "")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	ferr := p.Follow(ctx, "fw/1", func(*StepLog, LogLine) error { return nil })
	_, _, eerr := p.Explain("fw/1")
	for _, err := range []error{ferr, eerr} {
		if failure.Of(err) != failure.No || !strings.Contains(err.Error(), "fw/1 was interrupted: relkit was killed") || !strings.HasPrefix(failure.Hint(err), "relkit build --due") {
			t.Errorf("%v; hint: %s", err, failure.Hint(err))
		}
	}
}

// A build that a shutdown ends is owed again too.
func TestDueBuildsOnceMoreWhatWasStopped(t *testing.T) {
	b := newDueBench(t, "[[builder]]\nname = \"fw\"\n[[builder.step]]\nname = \"a\"\nsh = \"touch $HOME/began; test -e $HOME/quick || sleep 100\"\n"+nightly)
	b.want("new")
	b.at("2026-11-23T02:30:00Z")
	p, err := Open(b.path("relkit.toml"), "")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	go func() {
		for {
			if _, err := os.Stat(b.path("began")); err == nil {
				stop()
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
	}()
	if err := p.Due(ctx, b.opt); err == nil || b.built[0].Status != record.BuildInterrupted {
		t.Fatalf("%v, %+v", err, b.built)
	}
	b.write("quick", "")
	if got := b.due(); len(got) != 1 || got[0] != "fw/2 schedule" {
		t.Errorf("built %q\n%s", got, strings.TrimSpace(b.notes.String()))
	}
	b.want("once")
}
