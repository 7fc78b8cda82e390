package build

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/record"
	"github.com/relkit/relkit/pkg/relkittest"
)

// largeBench has a file that git LFS keeps, which a step prints.
func largeBench(t *testing.T) *bench {
	t.Helper()
	relkittest.Need(t, "git-lfs")
	b := newBench(t, builder("touch ran; cat big.bin", "", ""), nil)
	b.git("lfs", "install", "--local", "--skip-repo")
	b.commit(map[string]string{".gitattributes": "*.bin filter=lfs diff=lfs merge=lfs -text\n", "big.bin": "large\n"})
	if got := b.git("show", "HEAD:big.bin"); !strings.HasPrefix(got, "version https://git-lfs") {
		t.Fatalf("git has %q", got)
	}
	return b
}

// TestLargeFilesAreBuilt: the steps find what git LFS keeps, in each kind of
// checkout, here and on a worker behind ssh.
func TestLargeFilesAreBuilt(t *testing.T) {
	for _, kind := range []string{"local", "ssh"} {
		t.Run(kind, func(t *testing.T) {
			b := largeBench(t)
			newPlace(b, kind)
			text := b.read("relkit.toml")
			for _, mode := range []string{"incremental", "clean", "copy", "export"} {
				b.write("relkit.toml", strings.Replace(text, "[[builder.step]]", "checkout = \""+mode+"\"\n[[builder.step]]", 1))
				b.commit(map[string]string{"big.bin": "larger, for " + mode + "\n"})
				b.must()
				if got := b.log("fw/last"); got != "larger, for "+mode+"\n" {
					t.Errorf("%s: %q", mode, got)
				}
			}
		})
	}
}

// TestNoGitLFS: without git-lfs no step runs, and whoever reads that knows why.
func TestNoGitLFS(t *testing.T) {
	b := largeBench(t)
	for _, tool := range []string{"git", "sh", "cat", "touch"} {
		at, err := exec.LookPath(tool)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(b.path("bin"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(at, b.path("bin", tool)); err != nil {
			t.Fatal(err)
		}
	}
	path := os.Getenv("PATH")
	t.Setenv("PATH", b.path("bin"))
	err := b.run()
	if failure.Of(err) != failure.Failed || !strings.Contains(err.Error(), `checking out source "fw": repository "`+b.path("repo")+`" keeps files in git LFS, and this worker has no git-lfs`) ||
		!strings.Contains(failure.Hint(err), "apt-get install git-lfs") {
		t.Errorf("%v, %q", err, failure.Hint(err))
	}
	if len(b.built) != 1 || b.built[0].Status != record.BuildError || len(b.built[0].Steps) > 0 && b.built[0].Steps[0].Status != record.BuildSkipped {
		t.Errorf("%+v", b.built)
	}
	if _, err := os.Stat(b.path("state/work/fw/fw/ran")); err == nil {
		t.Error("the step has run")
	}
	t.Setenv("PATH", path)
	b.must()
	if got := b.log("fw/last"); got != "large\n" {
		t.Errorf("%q", got)
	}
}
