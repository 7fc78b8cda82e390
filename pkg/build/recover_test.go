package build

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/record"
)

// killedAfter makes what a run leaves that is killed at one of its steps.
func killedAfter(t *testing.T, s state, what string) {
	t.Helper()
	n, err := s.reserve("fw")
	if err != nil {
		t.Fatal(err)
	}
	if what == "number" {
		return
	}
	r := running{Started: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC), Reason: "change", Cookie: strings.Repeat("k", 32), PID: 4711}
	b := &record.Build{Schema: record.BuildSchema, Project: "fw", Builder: "fw", Number: n, Status: record.BuildInterrupted, Reason: "change", Started: r.Started}
	b.SBOM = []record.BuildSBOM{{Format: "spdx", Path: record.SBOMFile("spdx"), SizeBytes: 2, Digest: digest.Of([]byte("{}"))}}
	r.Partial = b
	if err := s.start("fw", n, r); err != nil {
		t.Fatal(err)
	}
	if what == "start" {
		return
	}
	if what == "torn" {
		if err := os.Truncate(filepath.Join(s.build("fw", n), runningFile), 10); err != nil {
			t.Fatal(err)
		}
		return
	}
	if err := os.Mkdir(filepath.Join(s.build("fw", n), logDir), 0o755); err != nil {
		t.Fatal(err)
	}
	if what == "log" {
		if err := os.WriteFile(filepath.Join(s.build("fw", n), logDir, "01-all.log.zst"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if err := os.WriteFile(filepath.Join(s.build("fw", n), record.ProvenanceFile), []byte("{}"), 0o644); err != nil {
		t.Fatal(err)
	}
	if what == "provenance" {
		return
	}
	b.Status, b.Finished = record.BuildSuccess, r.Started.Add(time.Second)
	data, err := b.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if err := writeWhole(filepath.Join(s.build("fw", n), recordFile), data); err != nil {
		t.Fatal(err)
	}
	if what == "record" {
		return
	}
	if err := s.appendHistory(b.Event()); err != nil {
		t.Fatal(err)
	}
	if what == "links" {
		if err := s.link("fw", lastLink, n); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTheNextRunPutsInOrderWhatAKilledOneLeft(t *testing.T) {
	for what, want := range map[string]record.BuildStatus{
		"number": record.BuildInterrupted, "torn": record.BuildInterrupted, "start": record.BuildInterrupted, "log": record.BuildInterrupted, "provenance": record.BuildInterrupted,
		"record": record.BuildSuccess, "history": record.BuildSuccess, "links": record.BuildSuccess,
	} {
		t.Run(what, func(t *testing.T) {
			b := newBench(t, builder("true", "", ""), nil)
			s := state{b.path("state")}
			b.must()
			killedAfter(t, s, what)
			if r := b.must(); r.Number != 3 {
				t.Errorf("number %d", r.Number)
			}
			if b.link("last") != "000003" || b.link("last-good") != "000003" {
				t.Errorf("links %q, %q", b.link("last"), b.link("last-good"))
			}
			p, err := Open(b.path("relkit.toml"), "")
			if err != nil {
				t.Fatal(err)
			}
			events, bad, err := p.History("fw")
			if err != nil || bad != 0 || len(events) != 3 {
				t.Fatalf("%v, %d bad, %+v", err, bad, events)
			}
			for i, e := range events {
				if e.Number != i+1 {
					t.Errorf("history %+v", events)
				}
			}
			r, err := s.load("fw", 2)
			if err != nil || r.Status != want || events[1].Status != want {
				t.Fatalf("%v, %+v", err, r)
			}
			if want == record.BuildInterrupted && len(r.SBOM) > 0 {
				t.Errorf("it lists %+v", r.SBOM)
			}
			if want == record.BuildInterrupted && (!strings.Contains(r.Error, "was killed") || r.Started.IsZero() || r.Finished.Before(r.Started)) {
				t.Errorf("%+v", r)
			}
			if _, err := os.Stat(filepath.Join(s.build("fw", 2), record.ProvenanceFile)); (err == nil) != (want == record.BuildSuccess) {
				t.Errorf("its provenance: %v", err)
			}
			if _, err := os.Stat(filepath.Join(s.build("fw", 2), runningFile)); err == nil {
				t.Error("the running mark is still there")
			}
		})
	}
}

func TestHistoryWithATornTail(t *testing.T) {
	b := newBench(t, builder("true", "", ""), nil)
	b.must()
	file := b.path("state/history.jsonl")
	whole := b.read("state/history.jsonl")
	for cut := 1; cut < len(whole); cut += 37 {
		if err := os.WriteFile(file, []byte(whole+whole[:cut]), 0o644); err != nil {
			t.Fatal(err)
		}
		s := state{b.path("state")}
		if events, bad, err := s.history(""); err != nil || bad != 1 || len(events) != 1 {
			t.Errorf("cut at %d: %v, %d bad, %d good", cut, err, bad, len(events))
		}
		e, err := record.DecodeBuildEvent([]byte(whole))
		if err != nil {
			t.Fatal(err)
		}
		e.Number = 2
		if err := s.appendHistory(e); err != nil {
			t.Fatal(err)
		}
		if events, bad, err := s.history("fw"); err != nil || bad != 1 || len(events) != 2 || events[1].Number != 2 {
			t.Errorf("cut at %d, one more: %v, %d bad, %+v", cut, err, bad, events)
		}
	}
	// A line beyond all bounds spoils itself alone.
	if err := os.WriteFile(file, []byte(strings.Repeat("x", 3*record.MaxBuildHistory)+"\n"+whole), 0o644); err != nil {
		t.Fatal(err)
	}
	if events, bad, err := (state{b.path("state")}).history(""); err != nil || bad != 1 || len(events) != 1 {
		t.Errorf("%v, %d bad, %d good", err, bad, len(events))
	}
}

func TestARecordOfAnotherVersionStopsNothing(t *testing.T) {
	b := newBench(t, builder("true", "", ""), nil)
	b.must()
	b.write("state/builds/fw/000001/build.json", `{"schema":"relkit.build/v9"}`)
	if r := b.must(); r.Number != 2 {
		t.Errorf("%+v", r)
	}
}

// A build whose record cannot be written, as on a full disk, is none that was killed:
// the next run says what it was, and nobody is shown the folder as a build.
func TestARecordThatCannotBeWritten(t *testing.T) {
	// A folder in the record's place is what no rename replaces.
	b := newBench(t, builder("mkdir -p $HOME/state/builds/fw/000001/build.json/x", "", ""), nil)
	if err := b.run(); err == nil || len(b.built) != 0 {
		t.Fatalf("%v, shown %+v", err, b.built)
	}
	if err := os.RemoveAll(b.path("state/builds/fw/000001/build.json")); err != nil {
		t.Fatal(err)
	}
	b.write("relkit.toml", head+builder("true", "", ""))
	b.must()
	r, err := (state{b.path("state")}).load("fw", 1)
	if err != nil || r.Status != record.BuildError || !strings.Contains(r.Error, "could not be written") {
		t.Errorf("%v, %+v", err, r)
	}
}
