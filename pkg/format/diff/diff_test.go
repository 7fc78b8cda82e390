package diff

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/relkit/relkit/pkg/relkittest"
)

// TestParsePeers: what the real tools write, and that the strip is the one with
// which patch(1) finds the files.
func TestParsePeers(t *testing.T) {
	relkittest.Need(t, "git", "svn", "svnadmin", "hg", "patch", "diff")
	const edit = `echo two >in; echo new >"a b"; mkdir -p b/a; echo deep >b/a/x; rm gone; `
	for _, c := range []struct {
		name, script string
		strip        int
	}{
		{"git", "git init -q; git add -A; git -c user.name=x -c user.email=x commit -qm x; " + edit + "git add -N 'a b' b; git diff", 1},
		{"git without prefix", "git init -q; git add -A; git -c user.name=x -c user.email=x commit -qm x; " + edit + "git add -N 'a b' b; git diff --no-prefix", 0},
		{"git mnemonic", "git init -q; git add -A; git -c user.name=x -c user.email=x commit -qm x; " + edit + "git add -N 'a b' b; git -c diff.mnemonicPrefix=true diff", 1},
		{"git format-patch", "git init -q; git add -A; git -c user.name=x -c user.email=x commit -qm x; " + edit + "git add -A; git -c user.name=x -c user.email=x commit -qm 'words --- of a mail'; git format-patch --stdout HEAD~", 1},
		{"svn", "svnadmin create ../up; up=file://$(cd ..; pwd)/up; svn -q import -m x . $up; cd ..; rm -r in.d; svn -q co $up in.d; cd in.d; " + edit + "svn -q add --force .; svn -q rm gone; svn diff", 0},
		{"hg", "hg init; hg -q addremove; hg -q commit -u x -m x; " + edit + "hg -q addremove; hg diff", 1},
		{"hg --git", "hg init; hg -q addremove; hg -q commit -u x -m x; " + edit + "hg -q addremove; hg diff --git", 1},
		{"diff -ruN", "cp -r . ../new; cd ../new; " + edit + "cd ..; diff -ruN in.d new || true", 1},
	} {
		dir := t.TempDir()
		for name, text := range map[string]string{"in": "one\n", "gone": "g\n"} {
			for _, d := range []string{"in.d", "plain"} {
				if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, d, name), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		}
		cmd := exec.Command("sh", "-ec", c.script)
		cmd.Dir, cmd.Env = filepath.Join(dir, "in.d"), append(os.Environ(), "HOME="+dir, "GIT_CONFIG_NOSYSTEM=1", "HGRCPATH=")
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		d, err := Parse(string(out))
		if err != nil {
			t.Errorf("%s: %v\n%s", c.name, err, out)
			continue
		}
		has := "\x00" + strings.Join(d.Files, "\x00") + "\x00"
		for _, f := range []string{"in", "a b", "b/a/x", "gone"} {
			if !strings.Contains(has, "\x00"+f+"\x00") {
				t.Errorf("%s: %q has no %q\n%s", c.name, d.Files, f, out)
			}
		}
		if d.Strip != c.strip || len(d.Files) != 4 {
			t.Errorf("%s: %+v, want strip %d", c.name, d, c.strip)
		}
		apply := exec.Command("patch", "-N", "-E", "-p"+string(rune('0'+d.Strip)))
		apply.Dir, apply.Stdin = filepath.Join(dir, "plain"), strings.NewReader(string(out))
		if said, err := apply.CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", c.name, err, said)
		}
		if text, err := os.ReadFile(filepath.Join(dir, "plain", "in")); err != nil || string(text) != "two\n" {
			t.Errorf("%s: %q, %v", c.name, text, err)
		}
	}
}

func TestParse(t *testing.T) {
	const hunk = "@@ -1 +1 @@\n-x\n+y\n"
	for _, c := range []struct {
		text, want string
		strip      int
	}{
		{"--- x.c.orig\n+++ x.c\n" + hunk, "x.c", 0},
		{"diff --git a/run.sh b/run.sh\nold mode 100644\nnew mode 100755\n", "run.sh", 1},
		{"diff --git \"a/\\303\\274\" \"b/\\303\\274\"\n", "ü", 1},
		{"diff --git a/old b/newer\nrename from old\nrename to newer\n", "old", 1},
		{"--- a/x\r\n+++ b/x\r\n@@ -1 +1 @@\r\n-x\r\n+y\r\n", "x", 1},
		// A line that is removed and begins with "-- " is no head.
		{"--- a/x\n+++ b/x\n@@ -1,2 +1,2 @@\n--- q\n-x\n+++ r\n+y\n", "x", 1},
		{"--- a/x\n+++ b/x\n@@ -1 +1 @@\n-x\n\\ No newline at end of file\n+y\n\\ No newline at end of file\n", "x", 1},
	} {
		d, err := Parse(c.text)
		if err != nil || strings.Join(d.Files, "|") != c.want || d.Strip != c.strip {
			t.Errorf("%q: %+v, %v", c.text, d, err)
		}
	}
	for text, want := range map[string]string{
		"":                                      "it changes nothing",
		"hello\nworld\n":                        "it changes nothing",
		"--- a/x\n+++ b/x\n@@ -1,3 +1 @@\n-x\n": "line 4: the end of the hunk that begins at line 3 is missing",
		"--- a/x\n+++ b/x\n@@ -1 +1 @@\nx\n":    `line 4: the hunk that begins at line 3 has a line that begins with 'x'`,
		"--- a/x\n+++ b/x\n@@ -1,2 +1 @@\n-a\n+b\n+c\n": "line 6: the hunk that begins at line 3 has more lines",
		"*** a/x\n--- b/x\n":                            "line 1: a context diff",
		"diff --cc x\n":                                 "line 1: a merge's combined diff",
		hunk:                                            "line 1: a hunk of no file",
		"--- a/x\n+++ b/x\n" + hunk + "--- y\n+++ y\n" + hunk: `"b/x" has a leading folder that is the diff's own, "y" has none`,
	} {
		if d, err := Parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %+v, %v, want %s", text, d, err, want)
		}
	}
}

// FuzzParse: it never panics, what it keeps is no more than what it was given, and
// what it says of a diff holds when the diff stands among other words.
func FuzzParse(f *testing.F) {
	f.Add("diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-x\n+y\n")
	f.Add("Index: x\n===\n--- x\t(revision 1)\n+++ x\t(working copy)\n@@ -1 +1 @@\n-x\n+y\n")
	f.Add("diff --git \"a/\\303\" \"b/\\303\"\n--- /dev/null\n+++ b/n\n@@ -0,0 +1 @@\n+n\n")
	f.Add("*** a\n--- b\n")
	f.Add("--- \n+++ \"x\xc0\xc0\xc0\xc0\"\n@@ -0,0 +1 @@\n+n\n")
	f.Fuzz(func(t *testing.T, text string) {
		d, err := Parse(text)
		if err != nil {
			return
		}
		size := 0
		for _, name := range d.Files {
			size += len(name)
			if name == "" {
				t.Errorf("a file without a name in %q", text)
			}
		}
		if size > 2*len(text) || d.Strip < 0 || d.Strip > 1 || len(d.Files) == 0 {
			t.Errorf("%+v of %q", d, text)
		}
		again, err := Parse("From: somebody\n\n" + text + "\n-- \n2.39\n")
		if err != nil || again.Strip != d.Strip || strings.Join(again.Files, "\x00") != strings.Join(d.Files, "\x00") {
			t.Errorf("among words %q is %+v, %v, was %+v", text, again, err, d)
		}
	})
}
