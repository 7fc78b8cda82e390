package source

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/relkit/relkit/pkg/build/worker"
	"github.com/relkit/relkit/pkg/config"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/relkittest"
	"github.com/relkit/relkit/pkg/sys/process"
)

func TestMain(m *testing.M) {
	process.Main(worker.Handlers())
	os.Exit(m.Run())
}

// upstream is a repository of one kind, made by its real client.
type upstream struct {
	vcs   string
	name  string // vcs where ""
	needs []string
	// begin makes an empty repository at $UP and a tree at $WC to commit from,
	// commit commits all that is in the tree, with the subject $1.
	begin, commit string
	// branch is the name of a branch that has a file "side", made by branching.
	branching, branch string
	url               string // $UP where ""
	author, email     string // of what commit commits; "" where nobody knows
	private           string
	noHistory         bool
	// pinned names one revision in relkit.toml, and asks nobody for it.
	pinned bool
}

var upstreams = []upstream{
	{vcs: "git", needs: []string{"git"}, private: ".git", author: "A U Thor", email: "a@example.com", branch: "side",
		begin:     `git init -q -b main $WC; ln -s $WC $UP`,
		commit:    `cd $WC; git add -A; git -c user.name='A U Thor' -c user.email=a@example.com commit -q -m "$1"`,
		branching: `cd $WC; git checkout -q -b side; echo side >side; git add -A; git -c user.name=x -c user.email=x commit -q -m side; git checkout -q main`},
	// Every file of it is one that git LFS keeps.
	{vcs: "git", name: "git-lfs", needs: []string{"git", "git-lfs"}, private: ".git", author: "A U Thor", email: "a@example.com", branch: "side",
		begin:     `git init -q -b main $WC; ln -s $WC $UP; cd $WC; git lfs install --local --skip-repo; printf '* filter=lfs -text\n.gitattributes !filter\n' >.gitattributes`,
		commit:    `cd $WC; git add -A; git -c user.name='A U Thor' -c user.email=a@example.com commit -q -m "$1"; git show HEAD:in | grep -q ^version`,
		branching: `cd $WC; git checkout -q -b side; echo side >side; git add -A; git -c user.name=x -c user.email=x commit -q -m side; git checkout -q main`},
	{vcs: "svn", needs: []string{"svn", "svnadmin"}, private: ".svn", author: "thor", branch: "../branches/side", url: "/trunk",
		begin:     `svnadmin create $UP; svn -q mkdir -m new file://$UP/trunk file://$UP/branches; svn -q co file://$UP/trunk $WC`,
		commit:    `cd $WC; svn -q add --force .; svn status | sed -n 's/^! *//p' | xargs -r svn -q rm; svn -q ci --username thor -m "$1"; svn -q up`,
		branching: `svn -q cp -m 'a branch' file://$UP/trunk file://$UP/branches/side; svn -q co file://$UP/branches/side $WC.side; cd $WC.side; echo side >side; svn -q add side; svn -q ci -m 'on the branch'`},
	{vcs: "hg", needs: []string{"hg"}, private: ".hg", author: "A U Thor", email: "a@example.com", branch: "side",
		begin:     `hg init $WC; ln -s $WC $UP`,
		commit:    `cd $WC; hg -q addremove; hg -q commit -u 'A U Thor <a@example.com>' -m "$1"`,
		branching: `cd $WC; hg -q branch side; echo side >side; hg -q add side; hg -q commit -u x -m side; hg -q update default`},
	{vcs: "file", private: ".relkit", noHistory: true, begin: `mkdir $WC; ln -s $WC $UP`, commit: `:`, url: "/**"},
	{vcs: "tar", needs: []string{"tar"}, private: ".relkit", noHistory: true, pinned: true, begin: `mkdir $WC`, commit: `cd $WC; tar -cf $UP .`},
	{vcs: "tar", name: "tar.gz", needs: []string{"tar", "gzip"}, private: ".relkit", noHistory: true, pinned: true, begin: `mkdir $WC`, commit: `cd $WC; tar -czf $UP *`},
}

// row is an upstream, and a driver of it with a folder to work in.
type row struct {
	*upstream
	t    *testing.T
	dir  string
	d    Driver
	repo string
	host *worker.Session
}

func (r *row) sh(script string, args ...string) {
	r.t.Helper()
	cmd := exec.Command("sh", append([]string{"-ec", script, "sh"}, args...)...)
	cmd.Env = append(os.Environ(), "HOME="+r.dir, "UP="+r.dir+"/up", "WC="+r.dir+"/wc", "GIT_CONFIG_NOSYSTEM=1", "HGRCPATH=", "LC_ALL=C.UTF-8")
	if out, err := cmd.CombinedOutput(); err != nil {
		r.t.Fatalf("%s: %v\n%s", script, err, out)
	}
}

func (r *row) open(src config.Source, url string) Driver {
	r.t.Helper()
	d, err := Open(src, url, r.host, []string{"PATH=" + os.Getenv("PATH"), "HOME=" + r.dir, "LC_ALL=C.UTF-8", "GIT_TERMINAL_PROMPT=0", "GIT_CONFIG_NOSYSTEM=1", "HGRCPATH="}, Memory{Dir: r.dir + "/memory"})
	if err != nil {
		r.t.Fatal(err)
	}
	return d
}

func newRow(t *testing.T, u *upstream) *row {
	relkittest.Need(t, u.needs...)
	r := &row{upstream: u, t: t, dir: t.TempDir()}
	var err error
	if r.host, err = worker.Open(t.Context(), config.Worker{}, worker.Options{Dir: r.dir}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.host.Close(); err != nil {
			t.Error(err)
		}
	})
	r.repo = filepath.Join(r.dir, "repo")
	r.sh(u.begin)
	r.reopen()
	return r
}

// reopen makes the driver that relkit.toml means now.
func (r *row) reopen() {
	r.t.Helper()
	src := config.Source{Name: "src", VCS: r.vcs}
	up := filepath.Join(r.dir, "up") + r.url
	if data, err := os.ReadFile(up); err == nil && r.pinned {
		src.SHA256 = fmt.Sprintf("%x", sha256.Sum256(data))
	}
	r.d = r.open(src, up)
}

// commit writes files, removes those that are "", commits and answers the head.
func (r *row) commit(subject string, files map[string]string) Revision {
	r.t.Helper()
	for name, text := range files {
		full := filepath.Join(r.dir, "wc", name)
		err := os.MkdirAll(filepath.Dir(full), 0o755)
		if text == "" {
			err = os.Remove(full)
		} else if err == nil {
			err = os.WriteFile(full, []byte(text), 0o644)
		}
		if err != nil {
			r.t.Fatal(err)
		}
	}
	r.sh(r.upstream.commit, subject)
	r.reopen()
	return r.head("")
}

func (r *row) head(branch string) Revision {
	r.t.Helper()
	rev, err := r.d.Head(r.t.Context(), branch)
	if err != nil || rev.ID == "" {
		r.t.Fatalf("%+v, %v", rev, err)
	}
	return rev
}

func (r *row) checkOut(rev Revision, clean bool) {
	r.t.Helper()
	if err := r.d.Fetch(r.t.Context(), r.repo, rev); err != nil {
		r.t.Fatal(err)
	}
	if err := r.d.Checkout(r.t.Context(), r.repo, rev.ID, clean); err != nil {
		r.t.Fatal(err)
	}
}

// tree is what is in the work tree, "NAME=TEXT", sorted, without what is private.
func (r *row) tree() string {
	r.t.Helper()
	var list []string
	err := filepath.WalkDir(r.repo, func(p string, d os.DirEntry, err error) error {
		if err == nil && (d.Name() == r.private || d.Name() == ".gitattributes") {
			if d.IsDir() {
				return filepath.SkipDir
			}
			return nil
		}
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(p)
		rel, _ := filepath.Rel(r.repo, p)
		list = append(list, rel+"="+strings.TrimSpace(string(text)))
		return err
	})
	if err != nil {
		r.t.Fatal(err)
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

func (r *row) is(why, want string) {
	r.t.Helper()
	if got := r.tree(); got != want {
		r.t.Errorf("%s: tree %q, want %q", why, got, want)
	}
}

// TestConformance holds every driver to the same, against the real client.
func TestConformance(t *testing.T) {
	for i := range upstreams {
		u := &upstreams[i]
		t.Run(cmp.Or(u.name, u.vcs), func(t *testing.T) {
			t.Parallel()
			r := newRow(t, u)
			before := time.Now().Add(-2 * time.Second)
			one := r.commit("the first\n\nmore of it", map[string]string{"in": "1", "doc/a b": "x", "gone": "y"})
			r.testTrees(one)
			two := r.commit("ümläut: the second", map[string]string{"in": "2", "doc/a b": "z"})
			three := r.commit("the third", map[string]string{"gone": "", "new/file": "n"})
			if one.ID == two.ID || two.ID == three.ID || r.head("") != three {
				t.Errorf("heads %v, %v, %v", one, two, three)
			}
			r.testHistory(one, two, three, before)
			r.testNames(one, three)
			r.testUnreachable()
		})
	}
}

// testTrees: checkouts that keep or remove what builds leave.
func (r *row) testTrees(one Revision) {
	r.checkOut(one, false)
	r.is("fetched", "doc/a b=x gone=y in=1")
	r.spoil()
	r.checkOut(one, false)
	r.is("incremental: what is the source's is as it was", "doc/a b=x gone=y in=1 left/over=l")
	r.spoil()
	r.checkOut(one, true)
	r.is("clean", "doc/a b=x gone=y in=1")
	copied := filepath.Join(r.dir, "copy")
	if err := Copy(r.t.Context(), r.host, []string{"PATH=" + os.Getenv("PATH")}, r.repo, copied); err != nil {
		r.t.Fatal(err)
	}
	if len(r.d.Private()) != 1 || r.d.Private()[0] != r.private {
		r.t.Errorf("private %q", r.d.Private())
	}
	if err := r.host.RemoveNamed(r.t.Context(), copied, r.d.Private()...); err != nil {
		r.t.Fatal(err)
	}
	out, err := exec.Command("diff", "-r", "-x", r.private, r.repo, copied).CombinedOutput()
	if _, serr := os.Lstat(filepath.Join(copied, r.private)); err != nil || serr == nil {
		r.t.Errorf("an export: %v, %s", err, out)
	}
}

// spoil is what a build does to a tree.
func (r *row) spoil() {
	r.t.Helper()
	r.sh(`cd "$1"; echo changed >in; rm -f gone; mkdir -p left; echo l >left/over`, r.repo)
}

func (r *row) testHistory(one, two, three Revision, before time.Time) {
	ctx, t := r.t.Context(), r.t
	t.Helper()
	r.checkOut(three, false)
	r.is("the newest", "doc/a b=z in=2 new/file=n")
	when, err := r.d.Time(ctx, r.repo, three.ID)
	if err != nil || when.Before(before) || when.After(time.Now().Add(time.Second)) || when.Location() != time.UTC {
		t.Errorf("time %v, %v", when, err)
	}
	if r.noHistory {
		if paths, known, err := r.d.Touched(ctx, r.repo, one.ID, three.ID); err != nil || !known || strings.Join(paths, " ") != "doc/a b gone in new/file" {
			t.Errorf("touched %q, %v, %v", paths, known, err)
		}
	} else {
		r.testLog(one, two, three)
	}
	// What nobody knows is no error: the repository may have been made anew.
	for _, old := range []string{"", "nonsense", strings.Repeat("12", 20)} {
		list, err := r.d.Changes(ctx, r.repo, old, three.ID, 9)
		if err != nil || len(list) != 0 {
			t.Errorf("changes since %q: %v, %v", old, list, err)
		}
		if paths, known, err := r.d.Touched(ctx, r.repo, old, three.ID); err != nil || known {
			t.Errorf("touched since %q: %v, %v, %v", old, paths, known, err)
		}
	}
}

func (r *row) testLog(one, two, three Revision) {
	ctx, t := r.t.Context(), r.t
	t.Helper()
	// Pinned: the middle one, though it is not the newest.
	r.checkOut(two, true)
	r.is("pinned", "doc/a b=z gone=y in=2")
	r.checkOut(three, true)
	for most, want := range map[int]string{9: "the third|ümläut: the second", 1: "the third"} {
		list, err := r.d.Changes(ctx, r.repo, one.ID, three.ID, most)
		var subjects []string
		for _, c := range list {
			subjects = append(subjects, c.Subject)
			if c.Author != r.author || c.Email != r.email || time.Since(c.Time) > time.Hour {
				t.Errorf("%+v", c)
			}
		}
		if err != nil || strings.Join(subjects, "|") != want || list[0].ID != three.ID {
			t.Errorf("changes %+v, %v", list, err)
		}
	}
	paths, known, err := r.d.Touched(ctx, r.repo, one.ID, two.ID)
	slices.Sort(paths)
	if err != nil || !known || !slices.Equal(paths, []string{"doc/a b", "in"}) {
		t.Errorf("touched %q, %v, %v", paths, known, err)
	}
	paths, _, err = r.d.Touched(ctx, r.repo, two.ID, three.ID)
	if err != nil || !slices.Contains(paths, "gone") || !slices.Contains(paths, "new/file") {
		t.Errorf("touched %q, %v", paths, err)
	}
	a, aerr := r.d.Count(ctx, r.repo, one.ID)
	b, berr := r.d.Count(ctx, r.repo, three.ID)
	if aerr != nil || berr != nil || a < 1 || b != a+2 {
		t.Errorf("counts %d, %d, %v, %v", a, b, aerr, berr)
	}
}

func (r *row) testNames(one, three Revision) {
	ctx, t := r.t.Context(), r.t
	t.Helper()
	if r.branching != "" {
		r.sh(r.branching)
		side := r.head(r.branch)
		r.checkOut(side, true)
		r.is("a branch", "doc/a b=z in=2 new/file=n side=side")
		if _, err := r.d.Head(ctx, "nope"); failure.Of(err) != failure.Usage || !strings.Contains(err.Error(), `no branch "nope"`) {
			t.Errorf("an unknown branch: %v", err)
		}
		if id, err := r.d.Resolve(ctx, r.repo, one.ID); err != nil || id != one.ID {
			t.Errorf("%q, %v", id, err)
		}
	}
	id, err := r.d.Resolve(ctx, r.repo, three.ID)
	if err != nil || id != three.ID {
		t.Errorf("%q, %v", id, err)
	}
	if err := r.d.Checkout(ctx, r.repo, id, true); err != nil {
		t.Error(err)
	}
	r.is("by name", "doc/a b=z in=2 new/file=n")
	for _, bad := range []string{"nope", "--config=x", "99999999"} {
		if id, err := r.d.Resolve(ctx, r.repo, bad); failure.Of(err) != failure.Usage {
			t.Errorf("%q: %q, %v", bad, id, err)
		}
	}
}

// testUnreachable: a source that is away is the infrastructure's fault, and what
// a killed client left does not stop the next.
func (r *row) testUnreachable() {
	ctx, t := r.t.Context(), r.t
	t.Helper()
	gone := r.open(config.Source{VCS: r.vcs, SHA256: strings.Repeat("0", 64)}, filepath.Join(r.dir, "nowhere")+r.url)
	_, err := gone.Head(ctx, "")
	if r.pinned && err == nil {
		err = gone.Fetch(ctx, r.repo, must(gone.Head(ctx, "")))
	}
	if failure.Of(err) != failure.Failed {
		t.Errorf("a source that is away: %v", err)
	}
	short, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := r.d.Head(short, ""); err == nil && !r.pinned {
		t.Error("asked though it was to stop")
	}
	r.sh(`cd "$1"; rm -rf "$2"/*; echo x >"$2"/junk; touch other`, r.repo, r.private)
	r.checkOut(r.head(""), true)
	r.is("after a repository that was spoiled", "doc/a b=z in=2 new/file=n")
}
