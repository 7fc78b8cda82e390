package build

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/record"
	"github.com/relkit/relkit/pkg/relkittest"
)

// tryOf is what git diff says of files that are changed so in the bench's repository,
// which is then as before; "" removes one.
func (b *bench) tryOf(files map[string]string) Diff {
	b.t.Helper()
	for name, text := range files {
		if text == "" {
			if err := os.Remove(b.path("repo", name)); err != nil {
				b.t.Fatal(err)
			}
			continue
		}
		b.write("repo/"+name, text)
	}
	b.git("add", "-A")
	text := b.git("diff", "--cached", "--binary")
	b.git("reset", "-q", "--hard")
	return Diff{Name: "my.diff", Data: []byte(text + "\n")}
}

// try makes a try build.
func (b *bench) try(diffs ...Diff) error {
	b.t.Helper()
	b.opt.Diffs = diffs
	defer func() { b.opt.Diffs = nil }()
	return b.run()
}

const tryBuilder = `cat in; cat gone sub/new 2>/dev/null || true; ls left* 2>/dev/null || true; touch "left-$RELKIT_REASON"; mkdir -p out; cp in out/x`

// A try build is of the diff, is recorded as what it is, and nothing of it is seen
// by what is built before or after: not in the trees, whatever they are, nor in what
// relkit remembers.
func TestTry(t *testing.T) {
	for _, checkout := range []string{"incremental", "clean", "copy", "export"} {
		t.Run(checkout, func(t *testing.T) {
			b := newBench(t, builder(tryBuilder, `checkout = "`+checkout+`"`, artifact), map[string]string{"in": "one\n", "gone": "gone\n"})
			rev := b.commit(nil)
			b.must()
			d := b.tryOf(map[string]string{"in": "two\n", "gone": "", "sub/new": "new\n"})
			for range 2 { // the second finds what the first has left
				if err := b.try(d); err != nil {
					t.Fatalf("%v\n%s", err, b.notes.String())
				}
				r := b.built[0]
				if got := b.log("fw/2/all"); got != "two\nnew\n" {
					t.Errorf("log %q", got)
				}
				if !r.IsTry() || r.Reason != "try" || r.Sources[0].Revision != rev || r.Try[0].Source != "fw" || r.Try[0].Digest != digest.Of(d.Data) {
					t.Errorf("%+v", r)
				}
				dir := b.path("state/builds/fw", numberName(r.Number))
				if data, err := os.ReadFile(filepath.Join(dir, r.Try[0].Path)); err != nil || string(data) != string(d.Data) {
					t.Errorf("kept %q, %v", data, err)
				}
				if data, err := os.ReadFile(filepath.Join(dir, "artifacts/out/x")); err != nil || string(data) != "two\n" {
					t.Errorf("artifact %q, %v", data, err)
				}
			}
			if b.link("last") != "000001" || b.link("last-good") != "000001" {
				t.Errorf("links %q, %q", b.link("last"), b.link("last-good"))
			}
			if r := b.must(); r.IsTry() || r.Reason != "asked" || r.Number != 4 {
				t.Errorf("%+v", r)
			}
			want := "one\ngone\n"
			if checkout == "incremental" {
				want += "left-asked\n"
			}
			if got := b.log("fw/4"); got != want {
				t.Errorf("after the try: log %q, want %q", got, want)
			}
			// Only the first build's revision counts: there is no change to build.
			b.opt.IfChanged = true
			if err := b.run(); err != nil || len(b.built) != 0 {
				t.Errorf("%v, %+v", err, b.built)
			}
		})
	}
}

func TestTryOnWorkers(t *testing.T) {
	eachKind(t, builder(tryBuilder, "", artifact), map[string]string{"in": "one\n", "gone": "gone\n"}, func(t *testing.T, b *bench, p *place) {
		if err := b.try(b.tryOf(map[string]string{"in": "two\n"})); err != nil {
			t.Fatalf("%v\n%s", err, b.notes.String())
		}
		if got := b.log("fw/1/all"); got != "two\ngone\n" || b.built[0].Worker.Kind != p.kind {
			t.Errorf("log %q, %+v", got, b.built[0].Worker)
		}
		b.opt.Diffs = []Diff{{Name: "bad.diff", Data: []byte("--- a/in\n+++ b/in\n@@ -1 +1 @@\n-three\n+four\n")}}
		if r := b.fails(`the diff "bad.diff" does not apply to source "fw" at `); r.Steps[0].Status != record.BuildFailed || !strings.HasSuffix(r.Error, ": in: hunk 1, at line 1") {
			t.Errorf("%+v", r)
		}
		b.opt.Diffs = nil
		b.must()
		if got := b.log("fw/3"); got != "one\ngone\n" {
			t.Errorf("after the try: %q", got)
		}
	})
}

// A diff that does not fit is the diff's fault: which file and hunk, by the program
// that applies diffs to that kind of source.
func TestTryThatDoesNotApply(t *testing.T) {
	relkittest.Need(t, "svn", "svnadmin", "patch")
	for _, vcs := range []string{"git", "svn"} {
		b := newBench(t, builder("cat in", "", ""), map[string]string{"in": "1\n2\n3\n4\n5\n6\n7\n8\n9\n"})
		first := "a/"
		if vcs == "svn" {
			first = ""
			script := `svnadmin create up; svn -q import -m x repo/in file://$PWD/up/trunk/in`
			cmd := exec.Command("sh", "-ec", script)
			cmd.Dir = b.dir
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			b.write("relkit.toml", strings.NewReplacer(`vcs = "git"`, `vcs = "svn"`, `url = "repo"`, `url = "up/trunk"`, `branch = "main"`, "").Replace(b.read("relkit.toml")))
		}
		second := strings.Replace(first, "a", "b", 1)
		head := "--- " + first + "in\n+++ " + second + "in\n"
		fits := "@@ -1,3 +1,3 @@\n-1\n+one\n 2\n 3\n"
		for _, c := range []struct{ diff, want string }{
			{head + fits + "@@ -7,3 +7,3 @@\n 7\n-eight\n+8\n 9\n", ": in: hunk 2, at line 7"},
			{"--- " + first + "no\n+++ " + second + "no\n" + fits, "no: "},
			{"--- /dev/null\n+++ " + second + "in\n@@ -0,0 +1 @@\n+x\n", "already exists"},
		} {
			b.opt.Diffs = []Diff{{Name: "x.diff", Data: []byte(c.diff)}}
			r := b.fails("does not apply")
			if !strings.Contains(r.Error, c.want) || r.Steps[0].Name != "apply" || *r.Steps[0].Exit != 1 || len(r.Steps) != 1 {
				t.Errorf("%s: %q, want %q: %+v", vcs, r.Error, c.want, r.Steps)
			}
			if got := b.log("fw/1/apply"); !strings.Contains(got, "in") {
				t.Errorf("log %q", got)
			}
		}
		b.opt.Diffs = []Diff{{Name: "x.diff", Data: []byte(head + fits)}}
		b.must()
		if got := b.log("fw/4/all"); !strings.HasPrefix(got, "one\n2\n") {
			t.Errorf("%s: log %q", vcs, got)
		}
	}
}

// Of every kind of source, what one try has changed, added and removed is as it was
// in the next, and each is applied by the program that is there for it.
func TestTryOfEachSource(t *testing.T) {
	relkittest.Need(t, "svn", "svnadmin", "hg", "patch", "tar")
	for vcs, script := range map[string]string{
		"svn":  `svnadmin create up; svn -q import -m x repo file://$PWD/up/trunk`,
		"hg":   `cp -r repo up; cd up; hg init; hg -q addremove; hg -q commit -u x -m x`,
		"file": `cp -r repo up`,
		"tar":  `tar -cf up -C repo in gone`,
	} {
		t.Run(vcs, func(t *testing.T) {
			b := newBench(t, builder("cat in; ls", "", ""), map[string]string{"in": "one\n", "gone": "gone\n"})
			cmd := exec.Command("sh", "-ec", "rm -rf plain; cp -r repo plain; rm -rf plain/.git; rm -rf git; mv repo git; mv plain repo; "+script+"; [ ! -f up ] || sha256sum up")
			cmd.Dir = b.dir
			out, err := cmd.Output()
			if err != nil {
				t.Fatal(err)
			}
			url, sum := "up", ""
			if vcs == "svn" {
				url = "up/trunk"
			}
			if vcs == "tar" {
				sum = fmt.Sprintf("sha256 = %q\n", strings.Fields(string(out))[0])
			}
			b.write("relkit.toml", strings.NewReplacer(`vcs = "git"`, `vcs = "`+vcs+`"`, `url = "repo"`, `url = "`+url+`"`, "branch = \"main\"\n", sum).Replace(b.read("relkit.toml")))
			one := Diff{Name: "one", Data: []byte("--- a/in\n+++ b/in\n@@ -1 +1 @@\n-one\n+two\n--- /dev/null\n+++ b/new\n@@ -0,0 +1 @@\n+n\n--- a/gone\n+++ /dev/null\n@@ -1 +0,0 @@\n-gone\n")}
			two := Diff{Name: "two", Data: []byte("Index: in\n====\n--- in\t(revision 1)\n+++ in\t(working copy)\n@@ -1 +1 @@\n-one\n+three\n")}
			for i, want := range []string{"two\nin\nnew\n", "three\ngone\nin\n", "two\nin\nnew\n"} {
				if err := b.try([]Diff{one, two, one}[i]); err != nil {
					t.Fatalf("%v\n%s", err, b.notes.String())
				}
				if got := b.log(fmt.Sprintf("fw/%d/all", i+1)); got != want {
					t.Errorf("try %d: %q, want %q", i+1, got, want)
				}
			}
			b.must()
			if got := b.log("fw/4"); got != "one\ngone\nin\n" {
				t.Errorf("after the tries: %q", got)
			}
		})
	}
}

// What only git can say: another name, another mode, bytes that are no text.
func TestTryOfWhatGitSays(t *testing.T) {
	b := newBench(t, builder(`ls -l old new run 2>/dev/null | cut -c1-10; od -An -tx1 bin`, "", ""), map[string]string{"old": strings.Repeat("line\n", 20), "run": "x\n", "bin": "\x00\x01"})
	b.git("mv", "old", "new")
	b.git("update-index", "--chmod=+x", "run")
	b.write("repo/bin", "\x00\x02\xff")
	b.git("add", "bin")
	text := b.git("diff", "--cached", "--binary", "-M")
	b.git("reset", "-q", "--hard")
	if !strings.Contains(text, "rename from old") || !strings.Contains(text, "GIT binary patch") {
		t.Fatal(text)
	}
	if err := b.try(Diff{Name: "d", Data: []byte(text + "\n\n")}); err != nil {
		t.Fatal(err)
	}
	if got := b.log("fw/1/all"); got != "-rw-r--r--\n-rwxr-xr-x\n 00 02 ff\n" {
		t.Errorf("%q", got)
	}
}

// An exported tree lies below the repository that relkit.toml is in: git must not
// take that one for the tree's.
func TestTryBelowARepository(t *testing.T) {
	b := newBench(t, builder("cat in", `checkout = "export"`, ""), map[string]string{"in": "one\n"})
	gitIn(t, b.dir, "init", "-q")
	if err := b.try(b.tryOf(map[string]string{"in": "two\n"})); err != nil {
		t.Fatal(err)
	}
	if got := b.log("fw/1/all"); got != "two\n" {
		t.Errorf("log %q", got)
	}
}

// What a try build came to is nobody else's history: neither what newly fails, nor
// what is told, follows, or is needed; and in it a test that the diff breaks is not
// excused as flaky.
func TestTryIsNobodysHistory(t *testing.T) {
	const test = `cat in; mkdir -p out; cp in out/x; grep -q bad in && echo "not ok 1 - a" || echo "ok 1 - a"; echo 1..1`
	b := newBench(t, builder(test, "", "tests = [\"tap:-\"]\nflaky = \"warn\"")+"[builder.artifacts]\npaths = [\"out/**\"]\n"+
		"[[builder]]\nname = \"next\"\nneeds = [\"fw\"]\n[[builder.step]]\nname = \"all\"\nsh = 'cat $RELKIT_NEEDS_FW/out/x'\n"+
		"[[schedule]]\nname = \"after\"\non = \"always\"\nof = [\"fw\"]\nbuilders = [\"next\"]\n[[notify]]\nfile = \"told\"\nwhen = [\"always\"]\n", map[string]string{"in": "one\n"})
	run := func(operand string, diffs ...Diff) error {
		b.opt.Diffs = diffs
		defer func() { b.opt.Diffs = nil }()
		return b.run(operand)
	}
	if err := run("fw"); err != nil {
		t.Fatal(err)
	}
	told := strings.Count(b.read("told"), "\n")
	bad := b.tryOf(map[string]string{"in": "bad\n"})
	if err := run("fw", bad); failure.Of(err) != failure.No || b.built[0].Tests.NewlyFailing[0] != "a" || b.built[0].Tests.Flaky != 0 {
		t.Errorf("%v, %+v", err, b.built[0].Tests)
	}
	good := b.tryOf(map[string]string{"in": "good\n"})
	if err := run("fw", good); err != nil || len(b.built[0].Tests.NewlyFixed) != 0 {
		t.Errorf("%v, %+v", err, b.built)
	}
	if got := strings.Count(b.read("told"), "\n"); got != told {
		t.Errorf("told of %d builds, want %d", got, told)
	}
	if err := run("next"); err != nil || b.built[0].Needs[0].Number != 1 || b.log("next/1") != "one\n" {
		t.Errorf("%v, %+v", err, b.built)
	}
	p, err := Open(b.path("relkit.toml"), "")
	if err != nil {
		t.Fatal(err)
	}
	if list, err := p.state.endedSince("fw", 1); err != nil || len(list) != 0 {
		t.Errorf("followed are %+v, %v", list, err)
	}
	b.write("repo/in", "bad\n")
	b.commit(nil)
	if err := run("fw"); failure.Of(err) != failure.No || len(b.built[0].Tests.NewlyFailing) != 1 {
		t.Errorf("after the tries: %v, %+v", err, b.built[0].Tests)
	}
	text, _, err := p.Explain("fw/2")
	if err != nil || !strings.Contains(text, "with a diff that is tried") || !strings.Contains(text, "--patch fw="+b.path("state/builds/fw/000002/try/01-fw.diff")) {
		t.Errorf("%v: %s", err, text)
	}
}

// A try of a builder and of what needs it: both are of the diff.
func TestTryOfWhatIsNeeded(t *testing.T) {
	b := newBench(t, builder("mkdir -p out; cp in out/x", "", artifact)+
		"[[builder]]\nname = \"next\"\nsources = [\"fw\"]\nneeds = [\"fw\"]\n[[builder.step]]\nname = \"all\"\nsh = 'cat $RELKIT_NEEDS_FW/out/x'\n", map[string]string{"in": "one\n"})
	if err := b.try(b.tryOf(map[string]string{"in": "two\n"})); err != nil {
		t.Fatalf("%v\n%s", err, b.notes.String())
	}
	if got := b.log("next/1/all"); got != "two\n" {
		t.Errorf("log %q", got)
	}
}

// Killed, it is a try build still: no link leads to it.
func TestTryThatWasKilled(t *testing.T) {
	b := newBench(t, builder("true", "", ""), map[string]string{"in": "one\n"})
	r := b.must()
	s := state{b.path("state")}
	if n, err := s.reserve("fw"); err != nil || n != 2 {
		t.Fatal(n, err)
	}
	part := *r
	part.Number, part.Status, part.Reason = 2, record.BuildInterrupted, "try"
	part.Try = []record.BuildDiff{{Source: "fw", Path: "try/01-fw.diff", Digest: digest.Of(nil)}}
	if err := s.start("fw", 2, running{Started: time.Now(), Reason: "try", Partial: &part}); err != nil {
		t.Fatal(err)
	}
	p, err := Open(b.path("relkit.toml"), "")
	if err != nil {
		t.Fatal(err)
	}
	rn, err := p.newRunner(nil, b.opt)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := rn.recover("fw"); n == nil || n.Number != 2 || err != nil {
		t.Errorf("%v, %v", n, err)
	}
	if got, err := s.load("fw", 2); err != nil || !got.IsTry() || got.Status != record.BuildInterrupted || b.link("last") != "000001" {
		t.Errorf("%+v, %v, last is %q", got, err, b.link("last"))
	}
}

func TestTryMistakes(t *testing.T) {
	b := newBench(t, builder("true", "", "")+"[[builder]]\nname = \"none\"\n[[builder.step]]\nname = \"a\"\nrun = [\"true\"]\n", nil)
	good := "--- a/in\n+++ b/in\n@@ -1 +1 @@\n-x\n+y\n"
	for want, d := range map[string]Diff{
		`reading the diff "d": it changes nothing`:                                           {Name: "d", Data: []byte("hello\n")},
		`reading the diff "d": line 4: the end of the hunk that begins at line 3 is missing`: {Name: "d", Data: []byte(good[:strings.Index(good, "+y")])},
		`builder "fw" has no source "ui" to apply the diff "d" to: its sources are fw`:       {Name: "d", Source: "ui", Data: []byte(good)},
		`builder "none" has no source to apply the diff "d" to`:                              {Name: "d", Data: []byte(good)},
	} {
		if err := b.try(d); failure.Of(err) != failure.Usage || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}
