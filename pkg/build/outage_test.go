package build

import (
	"strings"
	"testing"
)

// A worker that is down is told of once, in the history, by [[notify]] and by relkit
// itself; so is that it is back, when what stayed due is built.
func TestDueTellsOnceOfAWorkerThatIsDown(t *testing.T) {
	b := newDueBench(t, "[[worker]]\nname = \"w\"\ntags = [\"x\"]\nup = [\"sh\", \"-c\", \"test -e $HOME/power || { cat $HOME/why; exit 1; }\"]\n"+
		"[[builder]]\nname = \"fw\"\non = \"x\"\n"+plainStep+nightly+"[[notify]]\nfile = \"told\"\nwhen = [\"error\"]\n")
	b.write("why", "no power")
	b.want("new")
	b.at("2026-11-23T02:30:00Z")
	if built, err := b.tryDue(); err == nil || !strings.Contains(err.Error(), "no power") || len(built) != 0 {
		t.Fatalf("%v, %q", err, built)
	}
	for range 3 {
		if built, err := b.tryDue(); err != nil || len(built) != 0 || strings.Contains(b.notes.String(), "level=ERROR") {
			t.Fatalf("told again: %v, %q\n%s", err, built, b.notes.String())
		}
	}
	p := must(Open(b.path("relkit.toml"), ""))
	if events, _, err := p.History("fw"); err != nil || len(events) != 1 || !strings.Contains(events[0].Error, "no power") {
		t.Errorf("%v, %+v", err, events)
	}
	if told := b.told(); len(told) != 1 || !strings.HasPrefix(told[0], "[fw] fw/1 could not be built: worker \"w\"") {
		t.Errorf("told %q", told)
	}
	b.write("why", "on fire")
	if _, err := b.tryDue(); err == nil || !strings.Contains(err.Error(), "on fire") {
		t.Errorf("another reason: %v", err)
	}
	b.write("power", "")
	if got := b.due(); len(got) != 1 || got[0] != "fw/3 schedule" || !strings.Contains(b.notes.String(), "worker w works again; it did not since 2026-11-23T02:30:00Z") {
		t.Errorf("built %q\n%s", got, b.notes.String())
	}
	b.want("and no more")
}
