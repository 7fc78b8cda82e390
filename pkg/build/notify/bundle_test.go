package notify

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/relkit/relkit/pkg/config"
	"github.com/relkit/relkit/pkg/format/record"
	"github.com/relkit/relkit/pkg/relkittest"
)

// cell is the situation of a cell of fw after builds of these statuses, with what
// its log says.
func cell(name string, words ...string) *Situation {
	s := judged(words...)
	for _, b := range []*record.Build{s.Build, s.first, s.lastGood} {
		if b != nil {
			b.Builder = "fw[cc=" + name + "]"
		}
	}
	return s
}

func queueCells(t *testing.T, spool *Spool, cells ...*Situation) {
	t.Helper()
	for _, s := range cells {
		log := fmt.Sprintf("compiling with %s\nx.c:7:3: error: oh no\n%smake: *** [all] Error 1\n", s.Build.Builder, strings.Repeat("more\n", 60))
		if _, err := spool.Queue(s, &Facts{Config: "/srv/relkit.toml", Host: "build-1", Log: []byte(log)}); err != nil {
			t.Fatal(err)
		}
	}
}

func mailTo(address string, to ...string) config.Notify {
	return config.Notify{Mail: "smtp://" + address, From: "relkit@build.example.com", To: to, When: []string{"always"}}
}

func headerOf(mail, name string) string {
	for l := range strings.SplitSeq(mail, "\n") {
		if v, ok := strings.CutPrefix(l, name+": "); ok {
			return v
		}
	}
	return ""
}

// TestOneMailOfManyCells: the cells of a builder are told of in one mail to the
// same people, which says of each what became of it and once what is the same.
func TestOneMailOfManyCells(t *testing.T) {
	address, dir := mailServer(t, relkittest.MailOptions{})
	list := []config.Notify{mailTo(address, "team@x", "blame"), {Webhook: newHook(t, false).URL, When: []string{"always"}}}
	list[0].Attach = "log"
	spool := Open(filepath.Join(t.TempDir(), "notify"), list, Options{})
	cells := []*Situation{cell("gcc", "success a@x", "failed b@x"), cell("clang", "success a@x", "failed b@x"),
		cell("tcc", "failed a@x", "success b@x"), cell("icc", "success a@x", "failed c@x")}
	building := true
	spool.Hold = func(builder string) bool { return building && builder == "fw" }
	queueCells(t, spool, cells...)
	if out := deliver(t, spool); len(out) != 4 || len(mails(t, dir, "txt")) != 0 { // the webhook's
		t.Errorf("%+v", out)
	}
	building = false
	if out := deliver(t, spool); len(out) != 4 || out[1].Builder != "fw[cc=clang]" || out[1].Err != nil {
		t.Errorf("%+v", out)
	}
	got := mails(t, dir, "txt")
	if len(got) != 3 { // gcc and clang; tcc, of whom a@x hears too; icc
		t.Fatalf("%d mails: %q", len(got), got)
	}
	mail := got[0]
	for _, want := range []string{"X-Envelope-To: team@x, b@x\n", "Subject: [r3000] fw: 2 fail: cc=gcc; cc=clang\n", "X-Relkit-Builder: fw\n", "X-Relkit-Event: broke\n",
		"\nOf builder fw of r3000: 2 fail.\n\n  fw[cc=gcc]/2    fails: unit, exit status 2\n      x.c:7:3: error: oh no\n  fw[cc=clang]/2  fails: unit, exit status 2\n",
		"\nRevision  fw " + fmt.Sprintf("%040d", 2) + " main\n", "\nChanges since the last good build:\n  fw 000000000000 Ann <b@x>: change 0 of build 2\n",
		"\n---- fw[cc=clang]/2 ----", "\nBuild fw[cc=clang]/2 of r3000 fails; build 1 was good.\n",
		"\nReproduce, on build-1:\n  relkit build --config /srv/relkit.toml --rev " + fmt.Sprintf("%040d", 2) + " 'fw[cc=clang]'\n",
		"\nSays      x.c:7:3: error: oh no\n", "--- fw_cc_clang_-2-unit.log\ncompiling with fw[cc=clang]\n", "--- fw_cc_gcc_-2-unit.log\n"} {
		if !strings.Contains(mail, want) {
			t.Errorf("there is no %q in\n%s", want, mail)
		}
	}
	if strings.Count(mail, "change 0 of build 2") != 1 || strings.Count(mail, "Revision ") != 1 || strings.Count(mail, "The end of the log") != 2 || strings.Contains(mail, "icc") || strings.Count(mail, "\n  more") != 39+5 {
		t.Errorf("%s", mail)
	}
	if !strings.Contains(got[1], "Subject: [r3000] fw[cc=tcc]/2 works again") || !strings.Contains(got[2], "X-Envelope-To: team@x, c@x\n") {
		t.Errorf("%s\n%s", got[1], got[2])
	}
	if left, err := os.ReadDir(spool.dir); err != nil || len(left) != 1 || left[0].Name() != threadsDir {
		t.Errorf("%v, %v", left, err)
	}

	// What follows is in the thread of the mail that told of it, whoever it came with.
	queueCells(t, spool, cell("clang", "success a@x", "failed b@x", "success b@x"))
	deliver(t, spool)
	got = mails(t, dir, "txt")
	if root := headerOf(mail, "Message-ID"); len(got) != 4 || headerOf(got[3], "References") != root || headerOf(got[3], "In-Reply-To") != root || headerOf(mail, "References") != "" {
		t.Errorf("%s\n%s", mail, got[3])
	}
}

// TestBundleIsBounded: hundreds of cells with long logs are one mail of a size
// that a server takes, with the names of all.
func TestBundleIsBounded(t *testing.T) {
	n := mailTo("127.0.0.1:9", "team@x")
	n.Attach = "log"
	spool := Open(t.TempDir(), []config.Notify{n}, Options{})
	var list []*entry
	for i := range 200 {
		s := cell(fmt.Sprintf("cc-%03d", i), "success", "failed")
		log := strings.Repeat(strings.Repeat("x", 250)+"\n", 2000)
		e := spool.targets[0].compose(s, &Facts{Config: "/relkit.toml", Log: []byte(log)})
		list = append(list, e)
	}
	b := bundle(list)
	if len(b.Notice.Subject) > maxSubject || !strings.HasPrefix(b.Notice.Subject, "[r3000] fw: 200 fail: cc=cc-000; cc=cc-001; ") {
		t.Errorf("subject %q", b.Notice.Subject)
	}
	attached := 0
	for _, l := range b.more {
		attached += len(l.log)
	}
	if len(b.Notice.Text) > maxText+maxLine || !strings.Contains(b.Notice.Text, "  fw[cc=cc-199]/2  fails: ") || !strings.Contains(b.Notice.Text, " more; relkit build --explain ") || attached > maxAttached || len(b.more) != 200 {
		t.Errorf("%d bytes of text, %d of logs in %d", len(b.Notice.Text), attached, len(b.more))
	}
	if strings.Count(b.Notice.Text, "The end of the log") < 20 {
		t.Errorf("%d have their log", strings.Count(b.Notice.Text, "The end of the log"))
	}
}

// TestBundleSubjects: what is worst stands first.
func TestBundleSubjects(t *testing.T) {
	for _, c := range []struct {
		cells []*Situation
		want  string
	}{
		{[]*Situation{cell("a", "failed", "success"), cell("b", "success", "failed"), cell("c", "failed", "failed")}, "1 fails, 1 still fails, 1 works again: cc=b; cc=c; cc=a"},
		{[]*Situation{cell("a", "error"), cell("b", "success"), cell("c", "success"), cell("d", "interrupted")}, "1 could not be built, 2 succeeded, 1 was interrupted: cc=a; cc=b; cc=c; cc=d"},
	} {
		var list []*entry
		for _, s := range c.cells {
			list = append(list, (target{&config.Notify{Sendmail: true, To: []string{"x@x"}, When: []string{"always"}}, &Options{}}).compose(s, &Facts{}))
		}
		if got := bundle(list).Notice.Subject; got != "[r3000] fw: "+c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
	// Cells that do not have the same changes each say whose they are.
	list := []*entry{}
	for _, s := range []*Situation{cell("a", "success", "failed a@x"), cell("b", "success", "failed b@x")} {
		list = append(list, (target{&config.Notify{Sendmail: true, To: []string{"x@x"}}, &Options{}}).compose(s, &Facts{}))
	}
	text := bundle(list).Notice.Text
	for _, want := range []string{"\nChanges since the last good build of fw[cc=a]/2:\n  fw 000000000000 Ann <a@x>", "\nChanges since the last good build of fw[cc=b]/2:\n  fw 000000000000 Ann <b@x>"} {
		if !strings.Contains(text, want) {
			t.Errorf("there is no %q in\n%s", want, text)
		}
	}
}

// TestBundleIsTriedAgain: recipients who are put off, a server that is away, and
// what a relkit that was killed leaves.
func TestBundleIsTriedAgain(t *testing.T) {
	address, dir := mailServer(t, relkittest.MailOptions{Defer: []string{"slow@x"}})
	n := mailTo(address, "team@x", "slow@x")
	spool := Open(t.TempDir(), []config.Notify{n}, Options{})
	cells := []*Situation{cell("a", "success", "failed"), cell("b", "success", "failed")}
	queueCells(t, spool, cells...)
	out := deliver(t, spool)
	if len(out) != 2 || out[0].Err == nil || out[1].Err == nil || out[1].GivenUp || waiting(t, spool) != 2 {
		t.Errorf("%+v", out)
	}
	// The next goes to the one who is left, and a new build to both of them.
	spool = Open(spool.dir, []config.Notify{n}, Options{})
	queueCells(t, spool, cell("c", "success", "failed"))
	deliver(t, spool)
	got := mails(t, dir, "txt")
	if len(got) != 2 || !strings.Contains(got[0], "X-Envelope-To: team@x\n") || !strings.Contains(got[0], "2 fail: cc=a; cc=b") || !strings.Contains(got[1], "fw[cc=c]/2 fails") {
		t.Errorf("%q", got)
	}
	// The same entries make the same mail.
	n = mailTo("127.0.0.1:9", "team@x")
	ids := map[string]bool{}
	for range 2 {
		spool = Open(t.TempDir(), []config.Notify{n}, Options{})
		queueCells(t, spool, cells...)
		_, due, err := spool.due(must(spool.ids()))
		if err != nil || len(due) != 1 {
			t.Fatal(due, err)
		}
		list, _, _ := spool.due(must(spool.ids()))
		ids[bundle(list).Notice.ID] = true
	}
	if len(ids) != 1 {
		t.Errorf("IDs %v", ids)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// FuzzEntry: what stands in the spool is read back as it was written, and a file
// of others takes no more memory than its size allows.
func FuzzEntry(f *testing.F) {
	s := cell("gcc", "success a@x", "failed b@x")
	s.Build.Tests = &record.BuildTests{Total: 3, Failed: 2, Excused: 1, NewlyFailing: []string{"t"}}
	for _, n := range []config.Notify{{Sendmail: true, To: []string{"a@x", "blame"}, Attach: "log"}, {File: "x"}} {
		e := (target{&n, &Options{}}).compose(s, &Facts{Config: "/relkit.toml", Log: []byte("x: error: y\n\xff\n")})
		e.Queued, e.Attempts, e.Error = noon, 3, "no"
		data, err := e.encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(`{"schema":"relkit.build-spool/v1","target":"","label":"","notice":{},"queued":"2026-11-20T12:00:00Z"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var e *entry
		var err error
		relkittest.Allocates(t, 200*uint64(len(data))+1<<20, func() { e, err = decodeEntry(data) })
		if err != nil {
			return
		}
		once, err := e.encode()
		if err != nil {
			t.Fatal(err)
		}
		again, err := decodeEntry(once)
		if err != nil {
			t.Fatalf("%v: %s", err, once)
		}
		twice, err := again.encode()
		if err != nil || string(once) != string(twice) {
			t.Errorf("%v:\n%s\n%s", err, once, twice)
		}
		// Whatever stands there makes a mail, or an error.
		if e.group() != "" {
			b := bundle([]*entry{e, again})
			_, _ = (target{&config.Notify{}, &Options{}}).message(b)
			if len(b.Notice.Subject) > maxSubject {
				t.Errorf("subject of %d bytes", len(b.Notice.Subject))
			}
		}
	})
}
