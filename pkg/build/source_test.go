package build

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/relkit/relkit/pkg/failure"
)

// TestSourceURLs fetches one repository over each transport that git has here.
func TestSourceURLs(t *testing.T) {
	b := newBench(t, "", map[string]string{"in": "hello\n"})
	b.git("update-server-info") // for plain HTTP, which has no git on the other side
	web := httptest.NewServer(http.FileServer(http.Dir(b.dir)))
	defer web.Close()
	b.write("ssh", "#!/bin/sh\necho \"$@\" >>\"$HOME/ssh.log\"\nfor c; do :; done\ncd \"$HOME\" && exec sh -c \"$c\"\n")
	if err := os.Chmod(b.path("ssh"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("GIT_SSH", b.path("ssh"))
	t.Setenv("GIT_SSH_VARIANT", "ssh")
	for _, url := range []string{"repo", "./repo/", b.path("repo"), "file://" + b.path("repo"), web.URL + "/repo/.git", "ssh://git@vcs" + b.path("repo"), "git@vcs:repo"} {
		b.write("relkit.toml", strings.Replace(head, `url = "repo"`, `url = "`+url+`"`, 1)+builder("cat in", "", ""))
		b.opt.Clean = true
		r := b.must()
		if got := b.log("fw/last"); got != "hello\n" {
			t.Errorf("%s: %q", url, got)
		}
		if strings.Contains(url, "://") && r.Sources[0].URL != url {
			t.Errorf("recorded as %q", r.Sources[0].URL)
		}
	}
	if log := b.read("ssh.log"); strings.Count(log, "git@vcs") < 4 {
		t.Errorf("ssh was called as %q", log)
	}
}

// TestManySources: each has its tree, the steps run in the first.
func TestManySources(t *testing.T) {
	b := newBench(t, "", map[string]string{"in": "one\n"})
	gitIn(t, b.path("lib"), "init", "-q", "-b", "trunk", ".")
	b.write("lib/in", "two\n")
	gitIn(t, b.path("lib"), "add", "-A")
	gitIn(t, b.path("lib"), "commit", "-q", "-m", "lib")
	b.write("relkit.toml", head+"[[source]]\nname = \"the-lib\"\nvcs = \"git\"\nurl = \"lib\"\n"+
		strings.Replace(builder(`cat in ../the-lib/in "$RELKIT_SOURCE_THE_LIB/in"; git -C ../the-lib symbolic-ref -q HEAD || echo detached`, "", ""), `["fw"]`, `["fw", "the-lib"]`, 1))
	r := b.must()
	if got := b.log("fw/last"); got != "one\ntwo\ntwo\ndetached\n" {
		t.Errorf("%q", got)
	}
	if len(r.Sources) != 2 || r.Sources[1].Branch != "trunk" || r.SourceDateEpoch < r.Sources[0].Time.Unix() || r.SourceDateEpoch < r.Sources[1].Time.Unix() {
		t.Errorf("%+v", r.Sources)
	}
	b.opt.IfChanged = true
	if err := b.run(); err != nil || len(b.built) != 0 {
		t.Errorf("%v, %+v", err, b.built)
	}
	gitIn(t, b.path("lib"), "commit", "-q", "--allow-empty", "-m", "more")
	if r := b.must(); len(r.Changes) != 1 || r.Changes[0].Source != "the-lib" {
		t.Errorf("%+v", r.Changes)
	}
}

// TestTreesThatWereCutShort: what a killed git leaves does not stop the next build.
func TestTreesThatWereCutShort(t *testing.T) {
	b := newBench(t, builder("cat in", "", ""), map[string]string{"in": "1"})
	b.must()
	b.write("state/work/fw/fw/.git/index.lock", "")
	b.commit(map[string]string{"in": "2"})
	b.must()
	if err := os.Remove(b.path("state/work/fw/fw/.git/HEAD")); err != nil { // a git init that was killed
		t.Fatal(err)
	}
	b.must()
	if err := os.RemoveAll(b.path("state/work")); err != nil {
		t.Fatal(err)
	}
	b.must()
	// A branch that was rewound.
	b.git("reset", "-q", "--hard", "HEAD~1")
	b.must()
	if got := b.log("fw/last"); got != "1\n" {
		t.Errorf("%q", got)
	}
}

func TestCheckoutModes(t *testing.T) {
	b := newBench(t, "", map[string]string{"in": "1", ".gitignore": "left\n"})
	gitIn(t, b.path("sub"), "init", "-q", "-b", "main", ".")
	b.write("sub/s", "sub\n")
	gitIn(t, b.path("sub"), "add", "-A")
	gitIn(t, b.path("sub"), "commit", "-q", "-m", "sub")
	b.git("submodule", "--quiet", "add", b.path("sub"), "mod")
	b.commit(nil)
	b.write(".gitconfig", "[protocol \"file\"]\nallow = always\n")
	script := `cat in mod/s; [ -e left ] && echo left; [ -e other ] && echo other; [ -e mod/left ] && echo modleft; [ -e .git ] && echo dotgit; [ -e mod/.git ] && echo moddotgit; touch left other mod/left; echo changed >in`
	for _, c := range []struct{ mode, first, second string }{
		{"incremental", "1sub\ndotgit\nmoddotgit\n", "1sub\nleft\nother\nmodleft\ndotgit\nmoddotgit\n"},
		{"clean", "1sub\ndotgit\nmoddotgit\n", "1sub\ndotgit\nmoddotgit\n"},
		{"copy", "1sub\ndotgit\nmoddotgit\n", "1sub\ndotgit\nmoddotgit\n"},
		{"export", "1sub\n", "1sub\n"},
		{"incremental", "1sub\ndotgit\nmoddotgit\n", "1sub\nleft\nother\nmodleft\ndotgit\nmoddotgit\n"},
	} {
		b.write("relkit.toml", head+builder(script, `checkout = "`+c.mode+`"`, ""))
		b.opt.Clean = true
		b.must()
		if got := b.log("fw/last"); got != c.first {
			t.Errorf("%s, --clean: %q, want %q", c.mode, got, c.first)
		}
		b.opt.Clean = false
		b.must()
		if got := b.log("fw/last"); got != c.second {
			t.Errorf("%s, again: %q, want %q", c.mode, got, c.second)
		}
	}
}

func TestRevAndBranch(t *testing.T) {
	b := newBench(t, builder("cat in; echo {shortrev} {branch} {k}", "", ""), map[string]string{"in": "1"})
	b.opt.Set = map[string]string{"k": "v"}
	first := b.git("rev-parse", "HEAD")
	b.git("tag", "v1")
	b.commit(map[string]string{"in": "2"})
	b.git("checkout", "-q", "-b", "side/line")
	side := b.commit(map[string]string{"in": "3"})
	b.git("checkout", "-q", "main")
	for _, c := range []struct{ rev, branch, want string }{
		{"", "", "2"}, {first, "", "1"}, {first[:10], "", "1"}, {"v1", "", "1"}, {"side/line", "", "3"}, {"", "side/line", "3"}, {side, "main", "3"},
	} {
		b.opt.Revs, b.opt.Branch = map[string]string{"": c.rev}, c.branch
		b.must()
		if got := b.log("fw/last"); !strings.HasPrefix(got, c.want) || !strings.HasSuffix(got, " v\n") {
			t.Errorf("%+v: %q", c, got)
		}
	}
	for _, c := range []struct{ rev, branch, want string }{{"nope", "", `has no revision "nope"`}, {"", "nope", `has no branch "nope"`}, {"--upload-pack=x", "", "has no revision"}} {
		b.opt.Revs, b.opt.Branch = map[string]string{"": c.rev}, c.branch
		if err := b.run(); failure.Of(err) != failure.Usage || !strings.Contains(fmt.Sprint(err), c.want) || len(b.built) > 0 {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestIfChanged(t *testing.T) {
	b := newBench(t, builder("sh in", "", ""), map[string]string{"in": "true"})
	b.opt.IfChanged = true
	if r := b.must(); r.Reason != "change" {
		t.Errorf("the first build is for %q", r.Reason)
	}
	quiet := func(why string) {
		t.Helper()
		if err := b.run(); err != nil || len(b.built) != 0 || !strings.Contains(b.notes.String(), "fw: unchanged") {
			t.Errorf("%s: %v, %+v", why, err, b.built)
		}
		b.notes.Reset()
	}
	quiet("nothing changed")
	b.commit(map[string]string{"in": "false"})
	b.fails("exit status 1")
	quiet("a failed build is not repeated")
	b.opt.Force = true
	if r := b.fails("exit status 1"); r.Reason != "forced" {
		t.Errorf("forced is for %q", r.Reason)
	}
	b.opt.Force = false
	b.write("relkit.toml", strings.Replace(head, "branch", "important = [\"src/**\", \"in\"]\nignore = [\"src/doc/**\"]\nbranch", 1)+builder("sh in", "", ""))
	b.commit(map[string]string{"other": "1", "src/doc/x": "1"})
	quiet("nothing important changed")
	b.commit(map[string]string{"src/x": "1"})
	if r := b.fails("exit status 1"); len(r.Changes) != 2 {
		t.Errorf("changes %+v", r.Changes)
	}
}

func TestUnreachableSourceIsInfrastructure(t *testing.T) {
	b := newBench(t, builder("true", "", ""), nil)
	if err := os.Rename(b.path("repo"), b.path("gone")); err != nil {
		t.Fatal(err)
	}
	err := b.run()
	if failure.Of(err) != failure.Failed || !strings.Contains(err.Error(), `builder fw: source "fw": git: exit status 128`) {
		t.Errorf("%v", err)
	}
	if n, _ := (state{b.path("state")}).numbers("fw"); len(n) != 0 {
		t.Errorf("builds %v", n)
	}
}

// TestNoSourcesNoLeftovers: a builder without sources works in an empty folder each
// time, so that no artifact is another build's.
func TestNoSourcesNoLeftovers(t *testing.T) {
	b := newBench(t, "[[builder]]\nname = \"fw\"\n[[builder.step]]\nname = \"a\"\nsh = \"mkdir -p out; echo >out/image-{number}\"\n"+artifact, nil)
	for n := 1; n <= 3; n++ {
		b.opt.Clean = n == 2
		made := b.must()
		if want := fmt.Sprintf("artifacts/out/image-%d", n); len(made.Artifacts) != 1 || made.Artifacts[0].Path != want {
			t.Errorf("build %d: %+v, want %s alone", n, made.Artifacts, want)
		}
	}
}

// TestRevOfEachSource pins one source, another, both, and none that is not there.
func TestRevOfEachSource(t *testing.T) {
	b := newBench(t, "[[source]]\nname = \"ui\"\nvcs = \"git\"\nurl = \"repo\"\nbranch = \"main\"\n"+
		strings.Replace(builder("cat in ../ui/in", "", ""), `["fw"]`, `["fw", "ui"]`, 1), map[string]string{"in": "1\n"})
	one := b.git("rev-parse", "HEAD")
	two := b.commit(map[string]string{"in": "2\n"})
	b.commit(map[string]string{"in": "3\n"})
	for _, c := range []struct {
		revs map[string]string
		want string
	}{{nil, "3\n3\n"}, {map[string]string{"": one}, "1\n3\n"}, {map[string]string{"ui": one}, "3\n1\n"}, {map[string]string{"": one, "ui": two}, "1\n2\n"}, {map[string]string{"": one, "fw": two}, "2\n3\n"}} {
		b.opt.Revs = c.revs
		b.must()
		if got := b.log("fw/last"); got != c.want {
			t.Errorf("%v: %q, want %q", c.revs, got, c.want)
		}
	}
	b.opt.Revs = map[string]string{"gui": one}
	if err := b.run(); failure.Of(err) != failure.Usage || !strings.Contains(fmt.Sprint(err), `has a source "gui"`) {
		t.Errorf("got %v", err)
	}
}
