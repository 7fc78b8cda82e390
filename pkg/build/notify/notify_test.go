package notify

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/relkit/relkit/pkg/config"
	"github.com/relkit/relkit/pkg/format/record"
	"github.com/relkit/relkit/pkg/sys/process"
)

func TestMain(m *testing.M) {
	process.Main(nil)
	os.Exit(m.Run())
}

var noon = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

// built is build n of fw, an hour after build n-1, with a change of its own by
// each author.
func built(n int, status record.BuildStatus, authors ...string) *record.Build {
	exit := 2
	b := &record.Build{Schema: record.BuildSchema, Project: "r3000", Builder: "fw[cc=gcc]", Number: n, Status: status, Reason: "change",
		Started: noon.Add(time.Duration(n) * time.Hour), Finished: noon.Add(time.Duration(n)*time.Hour + time.Minute), DurationSeconds: 60,
		Worker:  record.BuildWorker{Name: "local", Host: "build-1", OS: "linux", Arch: "amd64"},
		Sources: []record.BuildSource{{Name: "fw", VCS: "git", Branch: "main", Revision: fmt.Sprintf("%040d", n)}}}
	for i, a := range authors {
		b.Changes = append(b.Changes, record.BuildChange{Source: "fw", Revision: fmt.Sprintf("%039d%d", n, i),
			Author: "Ann", Email: a, Subject: fmt.Sprintf("change %d of build %d", i, n)})
	}
	switch status {
	case record.BuildSuccess:
		b.Steps = []record.BuildStep{{Number: 1, Name: "unit", Status: record.BuildSuccess, Log: "log/01-unit.log.zst"}}
	case record.BuildFailed:
		b.Error = `step "unit": exit status 2`
		b.Steps = []record.BuildStep{{Number: 1, Name: "compile", Status: record.BuildSuccess, Log: "log/01-compile.log.zst"},
			{Number: 2, Name: "unit", Status: record.BuildFailed, Error: "exit status 2", Exit: &exit, Log: "log/02-unit.log.zst"}}
	case record.BuildError:
		b.Error = "no space left on device"
	}
	return b
}

// judged is the situation of the last of some builds, each a status and its authors.
func judged(words ...string) *Situation {
	var all []*record.Build
	for i, w := range words {
		status, authors, _ := strings.Cut(w, " ")
		all = append(all, built(i+1, record.BuildStatus(status), strings.Fields(authors)...))
	}
	last := all[len(all)-1]
	before := all[:len(all)-1]
	slices.Reverse(before)
	return Judge(last, before)
}

func TestWhoHearsWhen(t *testing.T) {
	for _, c := range []struct{ builds, event, heard string }{
		{"success", succeeded, "always"},
		{"failed", broke, "always change failing default"},
		{"success success", succeeded, "always"},
		{"success failed", broke, "always change failing default"},
		{"success failed failed", failing, "always failing"},
		{"failed success", recovered, "always change recovery default"},
		{"failed success success", succeeded, "always"},
		{"success error", failedInfra, "always error"},
		{"success error error", failedInfra, "always"},
		{"success error interrupted error", failedInfra, "always"},
		{"success error failed", broke, "always change failing default"},
		{"failed error failed", failing, "always failing"},
		{"failed error success", recovered, "always change recovery default"},
		{"failed interrupted success", recovered, "always change recovery default"},
		{"success interrupted", interrupted, "always"},
		{"failed interrupted failed", failing, "always failing"},
	} {
		s := judged(strings.Fields(c.builds)...)
		var heard []string
		for _, when := range []string{"always", "change", "failing", "recovery", "error"} {
			if s.concerns(&config.Notify{When: []string{when}}) {
				heard = append(heard, when)
			}
		}
		if s.concerns(&config.Notify{}) {
			heard = append(heard, "default")
		}
		slices.Sort(heard)
		want := strings.Fields(c.heard)
		slices.Sort(want)
		if s.Event != c.event || !slices.Equal(heard, want) {
			t.Errorf("%s: %s, heard by %q; want %s, %q", c.builds, s.Event, heard, c.event, want)
		}
	}
	for reason, want := range map[string]bool{"schedule": true, "change": true, "asked": false} {
		s := judged("success", "interrupted")
		s.Build.Reason, s.Build.Schedule = reason, "nightly"
		for _, when := range []string{"error", "failing"} {
			if got := s.concerns(&config.Notify{When: []string{when}}); got != want {
				t.Errorf("a build for reason %s that was killed concerns %s: %v", reason, when, got)
			}
		}
	}
	s := judged("failed")
	for builders, want := range map[string]bool{"fw": true, "*": true, "ui": false, "fw[cc=gcc]": false} {
		if got := s.concerns(&config.Notify{Builders: []string{builders}}); got != want {
			t.Errorf("builders = [%q]: %v", builders, got)
		}
	}
}

func TestRecipients(t *testing.T) {
	blame := config.Notify{To: []string{config.Blame}}
	for _, c := range []struct {
		builds []string
		n      config.Notify
		want   string
	}{
		{[]string{"success a@x", "failed b@x c@x"}, blame, "b@x c@x"},
		{[]string{"success a@x", "failed b@x", "failed c@x B@X"}, blame, "c@x B@X"}, // newest first, once
		{[]string{"success a@x", "failed b@x", "success c@x"}, blame, "c@x b@x"},
		{[]string{"success a@x", "failed b@x", "success c@x", "failed d@x"}, blame, "d@x"},
		{[]string{"success", "failed"}, blame, ""},
		{[]string{"success", "error b@x"}, blame, ""},
		{[]string{"success", "interrupted b@x"}, blame, ""},
		{[]string{"success", "error b@x"}, config.Notify{To: []string{"ops@x", config.Blame}}, "ops@x"},
		{[]string{"failed b@x"}, config.Notify{To: []string{"Team <team@x>", "B@x", config.Blame}}, "team@x B@x"},
		{[]string{"failed b@x c@elsewhere d@X e@sub.x"}, config.Notify{To: []string{config.Blame}, Domains: []string{"x"}}, "b@x d@X"},
		{[]string{"failed root a,b@x <b@x> \"q\"@x b@x>c;d@x"}, blame, ""}, // no address is made up
	} {
		if got := strings.Join(judged(c.builds...).recipients(&c.n), " "); got != c.want {
			t.Errorf("%q to %q: got %q, want %q", c.builds, c.n.To, got, c.want)
		}
	}
	b := built(2, record.BuildFailed)
	b.Changes = []record.BuildChange{{Source: "fw", Revision: "1", Email: "a@x\r\nBcc: all@x"}, {Source: "fw", Revision: "2", Email: "a b@x"}}
	if got := Judge(b, nil).recipients(&blame); len(got) > 0 {
		t.Errorf("got %q", got)
	}
}

// The changes of a build that came to no answer are those of the next again.
func TestChangesAreListedOnce(t *testing.T) {
	good, lost, bad := built(1, record.BuildSuccess, "a@x"), built(2, record.BuildError, "b@x"), built(3, record.BuildFailed, "c@x")
	bad.Changes = append(bad.Changes, lost.Changes...)
	s := Judge(bad, []*record.Build{lost, good})
	if len(s.changes) != 2 || s.lastGood != good || s.first != bad || s.failures != 1 {
		t.Errorf("%+v", s)
	}
}

func TestSubjects(t *testing.T) {
	tests := judged("success", "failed")
	tests.Build.Tests = &record.BuildTests{Total: 9, Failed: 3, NewlyFailing: []string{"a", "b"}}
	old := judged("success", "failed", "failed")
	old.Build.Tests = &record.BuildTests{Total: 9, Failed: 1}
	// Those that are known to be flaky are not what broke it.
	flaky := judged("success", "failed")
	flaky.Build.Tests = &record.BuildTests{Total: 9, Failed: 1, Errored: 1, Flaky: 2, Excused: 2, FlakyTests: []string{"a", "b"}}
	both := judged("success", "failed")
	both.Build.Tests = &record.BuildTests{Total: 9, Failed: 3, Flaky: 2, Excused: 2, FlakyTests: []string{"a", "b"}}
	long := judged("success", "error")
	long.Build.Error = "fetching:\n\x1b[31mü" + strings.Repeat("ü", 200)
	for _, c := range []struct {
		s    *Situation
		want string
	}{
		{judged("success", "failed"), `[r3000] fw[cc=gcc]/2 fails: unit, exit status 2`},
		{tests, `[r3000] fw[cc=gcc]/2 fails: unit, 2 tests newly failing`},
		{old, `[r3000] fw[cc=gcc]/3 still fails, since 2: unit, 1 test failed`},
		{flaky, `[r3000] fw[cc=gcc]/2 fails: unit, exit status 2`},
		{both, `[r3000] fw[cc=gcc]/2 fails: unit, 1 test failed`},
		{judged("failed", "failed", "success"), `[r3000] fw[cc=gcc]/3 works again, after 2 failed builds`},
		{judged("success"), `[r3000] fw[cc=gcc]/1 succeeded`},
		{judged("error"), `[r3000] fw[cc=gcc]/1 could not be built: no space left on device`},
		{judged("interrupted"), `[r3000] fw[cc=gcc]/1 was interrupted`},
		{long, `[r3000] fw[cc=gcc]/2 could not be built: fetching: ` + strings.Repeat("ü", 33) + "…"},
	} {
		got := c.s.subject()
		if got != c.want || len(got) > maxSubject {
			t.Errorf("got  %q\nwant %q", got, c.want)
		}
	}
}

func TestText(t *testing.T) {
	s := judged("success a@x", "failed b@x", "error b@x", "failed c@x")
	b := s.Build
	b.Version, b.Set = "4.2.7", map[string]string{"opt": "a b"}
	b.Steps[1].Argv = []string{"make", "CC=gcc -m32", "check"}
	b.Sources = append(b.Sources, record.BuildSource{Name: "ui", VCS: "svn", Revision: "417"})
	b.Tests = &record.BuildTests{Total: 40, Failed: 24, Excused: 1, NewlyFailing: []string{"suite/first"}, NewlyFixed: []string{"x"}, Flaky: 1, FlakyTests: []string{"suite/unsteady"}}
	b.Slower = []record.BuildSlower{{Step: "unit", DurationSeconds: 9, MedianSeconds: 3, Builds: 4}, {Step: "unit", Test: "suite/slow", DurationSeconds: 4.25, MedianSeconds: 1.5, Builds: 3}}
	for i := range 22 {
		b.Tests.NewlyFailing = append(b.Tests.NewlyFailing, fmt.Sprintf("suite/t%d", i))
	}
	var log strings.Builder
	for i := range 100 {
		fmt.Fprintf(&log, "line %d\n", i)
	}
	log.WriteString("\x1b[1;31mnot ok\x1b[0m \xff caf\u00e9\r\n")
	f := &Facts{Config: "/srv/fw/relkit.toml", State: "/var/lib/re lkit", Host: "build-0", Log: []byte("cc1: warnings: -Werror\nfw.c:7:3: \x1b[31merror:\x1b[m ‘x’ undeclared\nfw.c:8:1: error: ‘y’ undeclared\n" + log.String()),
		Failing: []Failing{{ID: "suite/first", Why: "got 3, want 4"}, {ID: "suite/old"}}}
	text := s.Text(f, true)
	for _, want := range []string{
		"Build fw[cc=gcc]/4 of r3000 fails, as it has since build 2.\n\n",
		"\nStep      unit (2 of 2): exit status 2\nCommand   make 'CC=gcc -m32' check\nSays      fw.c:7:3: error: ‘x’ undeclared\n",
		"\nTests     40, of which 23 failed, 23 newly; 1 newly fixed\n            suite/first: got 3, want 4\n",
		"\nFlaky     1 test\n            suite/unsteady\nSlower    than in the last builds:\n            step unit, 9.0 s, after a median of 3.0 s\n            suite/slow, 4.2 s, after a median of 1.5 s\n",
		"\n            … and 3 more\n",
		"\nRevision  fw " + fmt.Sprintf("%040d", 4) + " main\n",
		"\nVersion   4.2.7\n",
		"\nWorker    local (build-1 linux/amd64)\n",
		"\nFailing   since build 2 (fw 000000000000) of 2026-11-20T14:00:00Z: for 2 h 1 min, 2 failed builds\n",
		"\nChanges since build 1, which was good:\n  fw 000000000000 Ann <c@x>: change 0 of build 4\n",
		"  fw 000000000000 Ann <b@x>: change 0 of build 2\n",
		"\nReproduce, on build-0:\n  relkit build --config /srv/fw/relkit.toml --state '/var/lib/re lkit' --rev " + fmt.Sprintf("%040d", 4) + " --rev ui=417 --set 'opt=a b' 'fw[cc=gcc]'\n",
		"\nMore errors in the log of step \"unit\":\n\n  fw.c:8:1: error: ‘y’ undeclared\n\nThe end",
		"\nThe whole log, on build-0:\n  relkit build --config /srv/fw/relkit.toml --state '/var/lib/re lkit' --log 'fw[cc=gcc]/4/unit'\n",
		"\nThe end of the log of step \"unit\":\n\n  line 61\n",
		"\n  line 99\n  not ok \ufffd café\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("there is no %q in\n%s", want, text)
		}
	}
	if strings.Contains(text, "line 60\n") || strings.Contains(text, "suite/t20") || !utf8.ValidString(text) || strings.ContainsAny(text, "\x1b\r") {
		t.Errorf("%q", text)
	}
	if text = s.Text(f, false); strings.Contains(text, "line") || !strings.Contains(text, "The whole log, on build-0:") {
		t.Errorf("without a log:\n%s", text)
	}
	// Of those that fail still, none of which is new.
	b.Tests.NewlyFailing = nil
	if text = s.Text(f, false); !strings.Contains(text, "23 failed, 0 newly; 1 newly fixed\n            suite/first: got 3, want 4\n            suite/old\n") {
		t.Error(text)
	}
	b.Steps[1].Argv = []string{"/bin/sh", "-ec", "\ncd src\nmake\n"}
	if text = s.Text(f, false); !strings.Contains(text, "\nCommand   cd src …\n") {
		t.Error(text)
	}
	text = judged("success", "failed").Text(f, false)
	if !strings.Contains(text, "fails; build 1 was good.") || !strings.Contains(text, "Nothing has changed since build 1, which was good.\n") {
		t.Error(text)
	}
	text = judged("success", "failed", "success c@x").Text(f, true)
	if !strings.Contains(text, "works again.") || !strings.Contains(text, "Failed    since build 2") || strings.Contains(text, "Reproduce") || strings.Contains(text, "log") {
		t.Error(text)
	}
	text = judged("success", "error").Text(f, true)
	if !strings.Contains(text, "the infrastructure failed, not the code.") || !strings.Contains(text, "\nError     no space left on device\n") {
		t.Error(text)
	}
}

// What is told by program has a schema, and is read back.
func TestNotice(t *testing.T) {
	s := judged("success a@x", "failed b@x", "failed c@x")
	n := s.Notice(&Facts{Config: "/relkit.toml", Folder: "/state/builds/fw/000003"}, true)
	n.ID = "3-x"
	line, err := n.Encode()
	if err != nil {
		t.Fatal(err)
	}
	back, err := record.DecodeBuildNotice(line)
	if err != nil {
		t.Fatal(err)
	}
	if back.Event != failing || back.Step != "unit" || back.LastGood != 1 || back.FailingSince.Number != 2 || back.FailingSince.Builds != 2 ||
		strings.Join(back.Blame, " ") != "c@x b@x" || back.Subject == "" || back.Text == "" || strings.Count(string(line), "\n") != 1 {
		t.Errorf("%s", line)
	}
}

func TestErrorsOfALog(t *testing.T) {
	for line, want := range map[string]bool{
		"x.c:7:3: error: expected ';'": true, "x.c:1:10: fatal error: y.h: No such file or directory": true, "x.o: undefined reference to `y'": true,
		"/usr/bin/ld: cannot find -lz": true, "src/a.ts(3,5): error TS2322: no": true, "panic: runtime error: index out of range": true, "Traceback (most recent call last):": true,
		"x: x.c:9: main: Assertion `a' failed.": true, "not ok 3 - adds": true, "--- FAIL: TestX (0.00s)": true, "fatal: not a git repository": true, "[ERROR] Error: no": true,
		"cc -Werror -c error.c": false, "0 errors, 3 warnings": false, "checking for error codes... yes": false, "ok 3 - error handling": false, "make: *** [all] Error 1": false,
	} {
		if got := errorsOf([]byte(line + "\nlast\n")); (len(got) == 1) != want || want && (got[0].text != line || got[0].left != 1) {
			t.Errorf("%s: %+v", line, got)
		}
	}
	log := []byte(strings.Repeat("a: error: b\n", 100) + strings.Repeat("x", 1<<20))
	if got := errorsOf(log); len(got) != maxErrors || got[4].left != 96 {
		t.Errorf("%+v", got)
	}
	// One that stands in the end of the log is not shown twice.
	p := judged("failed").parts(&Facts{Log: []byte("a: error: b\na: error: c\n" + strings.Repeat("x\n", 39) + "last")}, true)
	q := judged("failed").parts(&Facts{Log: []byte("a: error: b\na: error: c\n" + strings.Repeat("x\n", 38) + "last")}, true)
	if len(p.Errors) != 1 || len(q.Errors) != 0 || p.Says != "a: error: b" || q.Says != p.Says {
		t.Errorf("%+v\n%+v", p, q)
	}
}

func TestTailIsBounded(t *testing.T) {
	if got := tailOf([]byte(strings.Repeat("x", 3*MaxTail))); len(got) != 0 {
		t.Errorf("%d lines of a line that is too long", len(got))
	}
	if got := tailOf([]byte(strings.Repeat(strings.Repeat("x", 5000)+"\n", 20))); len(got) != 3 || len(got[0]) > maxLine {
		t.Errorf("%d lines", len(got))
	}
	for text, want := range map[string]string{"a\x1b]b": "ab", "\x1b[": "", "\x1b": "", "a\x00\u202eb": "a\ufffd\ufffdb", "a\tb": "a b"} {
		if got := clean(text, 80); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
