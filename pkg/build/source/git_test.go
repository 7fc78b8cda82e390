package source

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/relkit/relkit/pkg/config"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/relkittest"
)

const quietGit = `git() { command git -c user.name=x -c user.email=x@example.com -c init.defaultBranch=main -c protocol.file.allow=always "$@"; }
cd ~
`

// gitRow is a row of git's with an upstream of its own at $UP.
func gitRow(t *testing.T) *row { return newRow(t, &upstreams[0]) }

// lfsServer serves the repositories of a folder by plain HTTP, and the large files
// of all of them by the batch API of git LFS (git-lfs/docs/api/batch.md).
type lfsServer struct {
	*httptest.Server
	objects string       // a file for each, named by its digest
	gets    atomic.Int64 // of objects
	spoil   atomic.Bool  // answers objects cut short
}

func newLFSServer(t *testing.T, dir string) *lfsServer {
	s := &lfsServer{objects: t.TempDir()}
	files := http.FileServer(http.Dir(dir))
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/info/lfs/objects/batch"):
			s.batch(w, r)
		case strings.HasPrefix(r.URL.Path, "/object/"):
			s.gets.Add(1)
			data, err := os.ReadFile(filepath.Join(s.objects, filepath.Base(r.URL.Path)))
			if err != nil {
				http.Error(w, "gone", http.StatusNotFound)
				return
			}
			if s.spoil.Load() {
				data = data[:len(data)/2]
			}
			_, _ = w.Write(data)
		default:
			files.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *lfsServer) batch(w http.ResponseWriter, r *http.Request) {
	type action struct {
		Href string `json:"href"`
	}
	type object struct {
		OID     string            `json:"oid"`
		Size    int64             `json:"size"`
		Actions map[string]action `json:"actions,omitempty"`
	}
	var asked, answer struct {
		Operation string   `json:"operation,omitempty"`
		Objects   []object `json:"objects"`
	}
	if err := json.NewDecoder(r.Body).Decode(&asked); err != nil || asked.Operation != "download" {
		http.Error(w, fmt.Sprint(asked.Operation, err), http.StatusBadRequest)
		return
	}
	for _, o := range asked.Objects {
		o.Actions = map[string]action{"download": {s.URL + "/object/" + o.OID}}
		answer.Objects = append(answer.Objects, o)
	}
	w.Header().Set("Content-Type", "application/vnd.git-lfs+json")
	_ = json.NewEncoder(w).Encode(answer)
}

// TestLargeFiles: what git LFS keeps is there, by file and by HTTP, in submodules
// too, whatever a user's configuration and the repository's leave out; and what
// cannot be had fails the checkout: never is a pointer built in silence.
func TestLargeFiles(t *testing.T) {
	relkittest.Need(t, "git", "git-lfs")
	r := gitRow(t)
	r.sh(quietGit + `cd $WC; git lfs install --local --skip-repo >/dev/null; git lfs track '*.bin' >/dev/null
echo large >a.bin; echo small >in; printf '[lfs]\n\tfetchexclude = *\n' >.lfsconfig
printf 'version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n' >pointer.txt
git add -A; git commit -q -m large; git init -q --bare ../up.git; git push -q --no-verify ../up.git main; cp -r .git/lfs ../up.git
printf '[lfs]\n\tfetchexclude = *.bin\n[lfs "transfer"]\n\tmaxretries = 1\n[filter "lfs"]\n\tsmudge = git-lfs smudge --skip -- %f\n\tprocess = git-lfs filter-process --skip\n' >~/.gitconfig
cd ../up.git; git update-server-info; test "$(find lfs/objects -type f | wc -l)" = 1`)
	// A repository without large files, and one in it that has some.
	r.sh(quietGit + `git init -q outer.src; cd outer.src; echo o >o; git submodule --quiet add ../up.git mod; git config -f .gitmodules submodule.mod.url ../up.git; git add -A; git commit -q -m outer
cd ..; git clone -q --bare outer.src outer.git; cd outer.git; git update-server-info
cat >>~/.gitconfig <<'F'
[protocol "file"]
	allow = always
F`)
	web := newLFSServer(t, r.dir)
	moveObjects := func() {
		t.Helper()
		r.sh(`find "$1"/up.git/lfs/objects -type f -exec cp {} "$2" \;`, r.dir, web.objects)
	}
	moveObjects()
	const pointer = "pointer.txt=version https://git-lfs.github.com/spec/v1\n"
	checkOut := func(url string, clean bool) (string, error) {
		d := r.open(config.Source{VCS: "git"}, url)
		head, err := d.Head(t.Context(), "")
		if err == nil {
			err = d.Fetch(t.Context(), r.repo, head)
		}
		if err == nil {
			err = d.Checkout(t.Context(), r.repo, head.ID, clean)
		}
		if err != nil {
			return "", err
		}
		var names []string
		for f := range strings.SplitSeq(r.tree(), " ") {
			if strings.HasSuffix(f, ".bin=large") || strings.Contains(f, ".bin=") {
				names = append(names, f)
			}
		}
		if !strings.Contains(r.tree(), pointer) {
			t.Errorf("%s: what looks like a pointer and is no large file is another: %q", url, r.tree())
		}
		return strings.Join(names, " "), nil
	}
	for _, base := range []string{"file://" + r.dir, web.URL} {
		for repo, want := range map[string]string{"/up.git": "a.bin=large", "/outer.git": "mod/a.bin=large"} {
			if err := os.RemoveAll(r.repo); err != nil {
				t.Fatal(err)
			}
			for _, clean := range []bool{false, true} {
				if got, err := checkOut(base+repo, clean); err != nil || got != want {
					t.Errorf("%s%s, clean %v: %q, %v", base, repo, clean, got, err)
				}
			}
			r.sh(`cd "$1"; test -z "$(git status --porcelain)" -a -z "$(git submodule --quiet foreach git status --porcelain)"`, r.repo)
		}
	}
	if n := web.gets.Load(); n != 2 {
		t.Errorf("%d objects were got by HTTP, want each once", n)
	}

	// A file that becomes large by .gitattributes alone is one that git does not touch.
	r.sh(quietGit + `git init -q late; cd late; d=$(echo large | sha256sum | cut -c1-64)
printf 'version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize 6\n' $d >b.bin; cp ../wc/pointer.txt .; git add -A; git commit -q -m pointer
cp -r ../up.git/lfs .git/lfs`)
	if err := os.RemoveAll(r.repo); err != nil {
		t.Fatal(err)
	}
	if got, err := checkOut(r.dir+"/late", false); err != nil || !strings.HasPrefix(got, "b.bin=version") {
		t.Errorf("%q, %v", got, err)
	}
	r.sh(quietGit + `cd late; echo '*.bin filter=lfs -text' >.gitattributes; git add .gitattributes; git commit -q -m attributes`)
	if got, err := checkOut(r.dir+"/late", false); err != nil || got != "b.bin=large" {
		t.Errorf("large by its attributes: %q, %v", got, err)
	}

	// Objects that are cut short, or gone.
	broken := func(why, url, want string) {
		t.Helper()
		if err := os.RemoveAll(r.repo); err != nil {
			t.Fatal(err)
		}
		got, err := checkOut(url, true)
		if err == nil || failure.Of(err) != failure.Failed || !strings.Contains(err.Error(), "a.bin") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %q, %v", why, got, err)
		}
	}
	web.spoil.Store(true)
	broken("cut short", web.URL+"/up.git", "expected OID")
	web.spoil.Store(false)
	for _, f := range must(filepath.Glob(web.objects + "/*")) {
		if err := os.Remove(f); err != nil {
			t.Fatal(err)
		}
	}
	broken("gone by HTTP", web.URL+"/up.git", "object not found")
	broken("gone by HTTP, in a submodule", web.URL+"/outer.git", "object not found")
	r.sh(`rm -r "$1"/up.git/lfs`, r.dir)
	broken("gone by file", r.dir+"/up.git", "missing object")
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// TestBranchesThatMove: what a person may do to a branch, and what becomes of the
// next build.
func TestBranchesThatMove(t *testing.T) {
	r := gitRow(t)
	ctx := t.Context()
	one := r.commit("one", map[string]string{"in": "1"})
	r.checkOut(one, false)
	r.sh(quietGit + `cd $WC; git tag v1`)
	two := r.commit("two", map[string]string{"in": "2"})
	r.checkOut(two, false)
	describe := func() string {
		t.Helper()
		r.sh(`cd "$1"; git describe --tags --dirty >../described`, r.repo)
		return strings.TrimSpace(string(must(os.ReadFile(r.dir + "/described"))))
	}
	if got := describe(); !strings.HasPrefix(got, "v1-1-g") || strings.Contains(got, "dirty") {
		t.Errorf("described as %q", got)
	}
	// A release is often a tag on what was built already.
	r.sh(quietGit + `cd $WC; git tag -a -m second v2; git tag -f v1 >/dev/null`)
	r.checkOut(two, false)
	if got := describe(); got != "v2" {
		t.Errorf("described as %q", got)
	}
	r.sh(quietGit + `cd $WC; git tag -d v2 >/dev/null`)
	r.checkOut(two, false)
	if got := describe(); got != "v1" {
		t.Errorf("described as %q", got)
	}

	// Pushed with force: the changes are those that the other line does not have.
	r.sh(quietGit + `cd $WC; git reset -q --hard HEAD~1; echo other >in; git commit -q -a -m other`)
	forced := r.head("")
	r.checkOut(forced, false)
	r.is("a branch that was pushed with force", "in=other")
	list, err := r.d.Changes(ctx, r.repo, two.ID, forced.ID, 9)
	if err != nil || len(list) != 1 || list[0].Subject != "other" {
		t.Errorf("%+v, %v", list, err)
	}
	if paths, known, err := r.d.Touched(ctx, r.repo, two.ID, forced.ID); err != nil || !known || strings.Join(paths, " ") != "in" {
		t.Errorf("%q, %v, %v", paths, known, err)
	}
	// Between Head and Fetch.
	r.sh(quietGit + `cd $WC; git reset -q --hard HEAD~1; git -C $UP config uploadpack.allowAnySHA1InWant true`)
	if err := os.RemoveAll(r.repo); err != nil {
		t.Fatal(err)
	}
	r.checkOut(forced, false)
	r.is("a head that went while it was fetched", "in=other")

	// Deleted, and followed by one whose name begins with its own.
	r.sh(quietGit + `cd $WC; git branch line; git branch gone`)
	for _, name := range []string{"line", "gone"} {
		if id, err := r.d.Resolve(ctx, r.repo, name); err != nil || id != one.ID {
			t.Errorf("%s: %q, %v", name, id, err)
		}
	}
	r.checkOut(r.head("line"), false)
	r.sh(quietGit + `cd $WC; git branch -D line gone >/dev/null; git branch line/one`)
	if _, err := r.d.Head(ctx, "line"); failure.Of(err) != failure.Usage || !strings.HasSuffix(err.Error(), `/up" has no branch "line": its default branch is "main"`) {
		t.Errorf("a branch that was deleted: %v", err)
	}
	if id, err := r.d.Resolve(ctx, r.repo, "gone"); failure.Of(err) != failure.Usage {
		t.Errorf("a branch that was deleted: %q, %v", id, err)
	}
	r.checkOut(r.head("line/one"), false)
	r.is("a branch below the name of one that was deleted", "in=1")
	if id, err := r.d.Resolve(ctx, r.repo, "line/one"); err != nil || id != one.ID {
		t.Errorf("%q, %v", id, err)
	}

	// The default branch under another name.
	r.sh(quietGit + `cd $WC; git branch -m main trunk; echo t >in; git commit -q -a -m trunk`)
	head := r.head("")
	if head.Branch != "trunk" {
		t.Errorf("%+v", head)
	}
	r.checkOut(head, false)
	r.is("the default branch was renamed", "in=t")
	if _, err := r.d.Head(ctx, "main"); failure.Of(err) != failure.Usage || !strings.HasSuffix(err.Error(), `has no branch "main": its default branch is "trunk"`) {
		t.Errorf("a branch that was renamed: %v", err)
	}
	r.sh(quietGit + `cd $WC; git checkout -q --detach; git symbolic-ref HEAD refs/heads/nowhere`)
	if _, err := r.d.Head(ctx, ""); failure.Of(err) != failure.Failed || !strings.Contains(err.Error(), "has no commit on its default branch") {
		t.Errorf("no default branch: %v", err)
	}
}

// TestShallowUpstream: a mirror that has no history can be built, and not counted.
func TestShallowUpstream(t *testing.T) {
	r := gitRow(t)
	r.commit("one", map[string]string{"in": "1"})
	two := r.commit("two", map[string]string{"in": "2"})
	r.sh(quietGit + `git clone -q --bare --depth 1 file://$WC mirror.git`)
	r.d = r.open(config.Source{VCS: "git"}, r.dir+"/mirror.git")
	r.checkOut(two, true)
	r.is("of a shallow mirror", "in=2")
	if n, err := r.d.Count(t.Context(), r.repo, two.ID); err == nil || !strings.Contains(err.Error(), "is shallow") {
		t.Errorf("%d, %v", n, err)
	}
	r.commit("three", map[string]string{"in": "3"})
	r.sh(quietGit + `cd mirror.git; git fetch -q --depth 1 file://$WC +main:main`)
	three := r.head("")
	r.checkOut(three, false)
	r.is("of a shallow mirror, again", "in=3")
	if list, err := r.d.Changes(t.Context(), r.repo, two.ID, three.ID, 9); err != nil || len(list) == 0 || list[0].Subject != "three" {
		t.Errorf("%+v, %v", list, err)
	}
}

// TestSubmodules: nested ones, with URLs from their superproject's, over each
// transport; they follow their superproject wherever that goes.
func TestSubmodules(t *testing.T) {
	r := gitRow(t)
	r.sh(quietGit + `for n in deep mod app; do git init -q $n.src; done
cd deep.src; echo d1 >d; git add -A; git commit -q -m deep; cd ..; git clone -q --bare deep.src deep.git
cd mod.src; echo m1 >m; git submodule --quiet add ../deep.git deep; git config -f .gitmodules submodule.deep.url ../deep.git; git add -A; git commit -q -m mod; cd ..; git clone -q --bare mod.src mod.git
cd app.src; echo a1 >a; git submodule --quiet add ../mod.git sub/mod; git config -f .gitmodules submodule.sub/mod.url ../mod.git; git add -A; git commit -q -m app; cd ..; git clone -q --bare app.src app.git
for n in deep mod app; do (cd $n.git; git update-server-info); done
printf '#!/bin/sh\nfor c; do :; done\ncd "$HOME" && exec sh -c "$c"\n' >ssh; chmod 755 ssh`)
	web := httptest.NewServer(http.FileServer(http.Dir(r.dir)))
	defer web.Close()
	t.Setenv("GIT_SSH", r.dir+"/ssh")
	t.Setenv("GIT_SSH_VARIANT", "ssh")
	urls := map[string]string{"http": web.URL + "/app.git", "ssh": "ssh://git@vcs" + r.dir + "/app.git", "scp": "git@vcs:app.git", "file": "file://" + r.dir + "/app.git", "path": r.dir + "/app.git"}
	open := func(url string) Driver {
		return must(Open(config.Source{VCS: "git"}, url, r.host, []string{"PATH=" + os.Getenv("PATH"), "HOME=" + r.dir, "LC_ALL=C", "GIT_TERMINAL_PROMPT=0", "GIT_CONFIG_NOSYSTEM=1",
			"GIT_SSH=" + r.dir + "/ssh", "GIT_SSH_VARIANT=ssh"}, Memory{}))
	}
	get := func(kind string, clean bool) error {
		r.d = open(urls[kind])
		head, err := r.d.Head(t.Context(), "")
		if err == nil {
			err = r.d.Fetch(t.Context(), r.repo, head)
		}
		if err == nil {
			err = r.d.Checkout(t.Context(), r.repo, head.ID, clean)
		}
		return err
	}
	// Paths are refused by git itself, until the user says otherwise.
	err := get("path", false)
	if err == nil || !strings.Contains(err.Error(), "transport 'file' not allowed") || !strings.Contains(failure.Hint(err), "protocol.file.allow") {
		t.Errorf("%v, %q", err, failure.Hint(err))
	}
	r.sh(`cd ~; printf '[protocol "file"]\n\tallow = always\n' >.gitconfig`)
	const whole = ".gitmodules a=a1 sub/mod/.gitmodules sub/mod/deep/d=d1 sub/mod/m=m1"
	tree := func() string {
		var names []string
		for f := range strings.SplitSeq(r.tree(), " ") {
			name, _, _ := strings.Cut(f, "=")
			if strings.HasSuffix(name, ".gitmodules") {
				f = name
			}
			if !strings.HasPrefix(f, "\turl") && f != "" && !strings.ContainsAny(f, "\n\t[]\"") && (f == name || strings.Contains(f, "=")) {
				names = append(names, f)
			}
		}
		return strings.Join(names, " ")
	}
	for kind := range urls {
		if err := os.RemoveAll(r.repo); err != nil {
			t.Fatal(err)
		}
		if err := get(kind, false); err != nil {
			t.Errorf("%s: %v", kind, err)
			continue
		}
		if got := strings.TrimSpace(tree()); !strings.Contains(got, "sub/mod/deep/d=d1") || !strings.Contains(got, "sub/mod/m=m1") || !strings.Contains(got, "a=a1") {
			t.Errorf("%s: %q, want %q", kind, got, whole)
		}
		// What a build leaves in a nested one, and what it changes there.
		r.sh(`cd "$1"/sub/mod/deep; echo changed >d; echo l >left`, r.repo)
		if err := get(kind, true); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		if got := tree(); !strings.Contains(got, "sub/mod/deep/d=d1") || strings.Contains(got, "left") {
			t.Errorf("%s, clean: %q", kind, got)
		}
	}
	// A new revision of the innermost, a module that has moved to another URL, and
	// one that is gone.
	r.sh(quietGit + `cd deep.src; echo d2 >d; git commit -q -a -m deep2; git push -q ../deep.git HEAD:main; cd ..; git clone -q --bare deep.git moved.git
cd mod.src/deep; git fetch -q ../../moved.git main; git checkout -q FETCH_HEAD; cd ..; git config -f .gitmodules submodule.deep.url ../moved.git; git commit -q -a -m mod2; git push -q ../mod.git HEAD:main
cd ../app.src/sub/mod; git fetch -q ../../../mod.git main; git checkout -q FETCH_HEAD; cd ../..; git commit -q -a -m app2; git push -q ../app.git HEAD:main
cd ..; rm -rf deep.git; for n in moved mod app; do (cd $n.git; git update-server-info); done`)
	for kind := range urls {
		if err := get(kind, false); err != nil || !strings.Contains(tree(), "sub/mod/deep/d=d2") {
			t.Errorf("%s, moved: %q, %v", kind, tree(), err)
		}
	}
	r.sh(quietGit + `cd app.src; git rm -q sub/mod; git commit -q -m app3; git push -q ../app.git HEAD:main; cd ../app.git; git update-server-info`)
	if err := get("http", true); err != nil || strings.Contains(tree(), "sub/mod") {
		t.Errorf("gone: %q, %v", tree(), err)
	}
}
