package build

import (
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
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
