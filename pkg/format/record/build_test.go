package record

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/relkit/relkit/pkg/format/digest"
)

func sampleBuild() *Build {
	exit := 2
	when := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	return &Build{
		Schema: BuildSchema, Project: "fw", Builder: "fw[cc=gcc]", Number: 7, Status: BuildFailed, Reason: "asked", Error: "step <x>",
		Version: "4.2.7", Started: when, Finished: when.Add(time.Second), DurationSeconds: 1, SourceDateEpoch: 1772000000,
		Relkit: BuildRelkit{Version: "v1"}, Worker: BuildWorker{Name: "local", Kind: "local", OS: "linux", Arch: "amd64", Slots: 2},
		Matrix: map[string]string{"cc": "gcc"}, Set: map[string]string{"k": "v"},
		Sources: []BuildSource{{Name: "fw", VCS: "git", URL: "/srv/fw", Branch: "main", Revision: strings.Repeat("a", 40), Time: when, Checkout: "clean", Count: 12}},
		Try:     []BuildDiff{{Source: "fw", Path: "try/01-fw.diff", SizeBytes: 3, Digest: digest.Of([]byte("abc"))}},
		Needs:   []BuildNeed{{Builder: "lib", Number: 3, Artifacts: []BuildArtifact{{Path: "artifacts/x", SizeBytes: 3, Digest: digest.Of([]byte("abc")), Mode: "0644"}}}},
		Changes: []BuildChange{{Source: "fw", Revision: "b", Author: "A", Email: "a@x", Time: when, Subject: "s"}},
		Steps: []BuildStep{{Number: 1, Name: "compile", Argv: []string{"make"}, Status: BuildFailed, Reason: "exit", Exit: &exit, Log: "log/01-compile.log.zst"},
			{Number: 2, Name: "unit", Argv: []string{"make", "check"}, Status: BuildSkipped}},
		Tests: &BuildTests{Total: 3, Passed: 1, Failed: 1, Skipped: 1, NewlyFailing: []string{"a.b"}},
		Artifacts: []BuildArtifact{{Path: `artifacts/a\040b`, SizeBytes: 3, Digest: digest.Of([]byte("abc")), Mode: "0644"},
			{Path: "artifacts/l", Mode: "0777", Target: `a\040b`}},
		Repro: &BuildRepro{Result: ReproDifferent, Vary: []BuildVariation{{What: "time", Varied: true, How: "1 s later"}}, Differ: 1,
			Steps:       []BuildStep{{Number: 1, Name: "compile", Argv: []string{"make"}, Status: BuildSuccess, Exit: &exit, Log: "repro/log/01-compile.log.zst"}},
			Differences: []BuildDifference{{Path: "artifacts/x", What: "mode", First: "0644", Second: "0664"}}, Report: "repro/diffoscope.txt"},
		SBOM:       []BuildSBOM{{Format: "spdx", Path: "sbom.spdx.json", SizeBytes: 3, Digest: digest.Of([]byte("abc"))}},
		Provenance: &BuildProvenance{Path: ProvenanceFile, SizeBytes: 3, Digest: digest.Of([]byte("abc")), Key: "SHA256:x"},
	}
}

func TestBuildRoundTrip(t *testing.T) {
	b, err := sampleBuild().Encode()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"\n  \"schema\": \"relkit.build/v1\",\n", `"step <x>"`, `"newly_fixed": []`, `"exit": null`, `"digest": "sha256:ba7816bf`} {
		if !bytes.Contains(b, []byte(want)) {
			t.Errorf("%s is not in %s", want, b)
		}
	}
	got, err := DecodeBuild(b)
	if err != nil {
		t.Fatal(err)
	}
	again, err := got.Encode()
	if err != nil || !bytes.Equal(again, b) {
		t.Errorf("%v: %s", err, again)
	}
}

func TestBuildMistakes(t *testing.T) {
	for want, change := range map[string]func(*Build){
		"schema":                    func(b *Build) { b.Schema = "relkit.build/v2" },
		"no builder":                func(b *Build) { b.Builder = "" },
		"build number 0":            func(b *Build) { b.Number = 0 },
		`unknown status "fine"`:     func(b *Build) { b.Status = "fine" },
		`unknown status "skipped"`:  func(b *Build) { b.Status = BuildSkipped },
		"bad log path":              func(b *Build) { b.Steps[0].Log = "log/../../x" },
		`bad path`:                  func(b *Build) { b.Artifacts[0].Path = "artifacts/../x" },
		"is not escaped":            func(b *Build) { b.Artifacts[0].Path = "artifacts/a b" },
		"need lib/3: artifact: bad": func(b *Build) { b.Needs[0].Artifacts[0].Path = "artifacts/../x" },
		"repro: unknown result":     func(b *Build) { b.Repro.Result = "fine" },
		"repro: step 1: bad log":    func(b *Build) { b.Repro.Steps[0].Log = "log/01-compile.log.zst" },
		"repro: bad path":           func(b *Build) { b.Repro.Differences[0].Path = "x" },
		"repro: 0 differences, and": func(b *Build) { b.Repro.Differ = 0 },
		"repro: artifact":           func(b *Build) { b.Repro.Differences[0].What = "content" },
		`of a report`:               func(b *Build) { b.Repro.Report = "repro/../x" },
		"sbom: bad file":            func(b *Build) { b.SBOM[0].Path = "sbom.cyclonedx.json" },
		"provenance: bad file":      func(b *Build) { b.Provenance.Path = "../provenance.dsse.json" },
		"try: bad diff":             func(b *Build) { b.Try[0].Path = "try/../x" },
		"need: bad build":           func(b *Build) { b.Needs[0].Number = 0 },
		"want a size and a":         func(b *Build) { b.Artifacts[0].Digest = digest.Digest{} },
	} {
		b := sampleBuild()
		change(b)
		if _, err := b.Encode(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", want, err)
		}
	}
	whole, err := sampleBuild().Encode()
	if err != nil {
		t.Fatal(err)
	}
	for old, new := range map[string]string{
		`"number": 7`:   `"number": 7, "colour": 1`,
		`"fw[cc=gcc]",`: `"fw[cc=gcc]", "builder": "x",`,
		`"steps": [`:    `"steps": null, "x": [`,
	} {
		if _, err := DecodeBuild([]byte(strings.Replace(string(whole), old, new, 1))); err == nil || !strings.Contains(err.Error(), "offset ") {
			t.Errorf("%s: got %v", new, err)
		}
	}
}

func TestBuildEvent(t *testing.T) {
	b := sampleBuild()
	b.Error = strings.Repeat("é", maxEventText)
	line, err := b.Event().Encode()
	if err != nil || bytes.Count(line, []byte("\n")) != 1 || len(line) > 4<<10 {
		t.Fatalf("%v: %s", err, line)
	}
	e, err := DecodeBuildEvent(line)
	if err != nil || e.Revisions["fw"] != strings.Repeat("a", 40) || e.TestsTotal != 3 || e.TestsFailed != 1 || e.Artifacts != 2 {
		t.Errorf("%v: %+v", err, e)
	}
	for _, bad := range []string{"", "{}", `{"schema":"relkit.build-history/v1"}`, string(line) + "x", string(line[:len(line)/2])} {
		if _, err := DecodeBuildEvent([]byte(bad)); err == nil {
			t.Errorf("%.40q was accepted", bad)
		}
	}
}

func TestBuildTestsRoundTrip(t *testing.T) {
	r := &BuildTestResults{Schema: BuildTestsSchema, Builder: "fw", Number: 1,
		Tests: []BuildTest{{ID: "a.b", Step: "unit", Class: "a", Name: "b", Status: "failed", Message: "m", File: `out/x\040y.xml`}}}
	b, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeBuildTests(b)
	if err != nil || len(got.Tests) != 1 || got.Tests[0] != r.Tests[0] {
		t.Errorf("%v: %+v", err, got)
	}
	if _, err := DecodeBuildTests([]byte(`{"schema":"x"}`)); err == nil {
		t.Error("another schema was accepted")
	}
}

func FuzzDecodeBuild(f *testing.F) {
	b, err := sampleBuild().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"schema":"relkit.build/v1","builder":"b","number":1,"status":"success"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := DecodeBuild(data)
		if err != nil {
			return
		}
		once, err := b.Encode()
		if err != nil {
			t.Fatal(err)
		}
		again, err := DecodeBuild(once)
		if err != nil {
			t.Fatalf("%v: %s", err, once)
		}
		twice, err := again.Encode()
		if err != nil || !bytes.Equal(once, twice) {
			t.Errorf("%v:\n%s\n%s", err, once, twice)
		}
	})
}
