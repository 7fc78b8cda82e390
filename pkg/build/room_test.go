package build

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/record"
	"github.com/relkit/relkit/pkg/relkittest"
)

// TestWorkersFullDisk: a worker whose file system is full is the infrastructure's
// trouble, also where the program has removed what it could not write; what filled
// it is removed, and what else is on the worker is not.
func TestWorkersFullDisk(t *testing.T) {
	relkittest.NeedRoot(t)
	relkittest.Need(t, "mount", "umount")
	fill := `[ ! -e fill ] || head -c 300000000 /dev/zero >big || { [ ! -e tidy ] || rm big; exit 1; }`
	eachKind(t, builder(fill, "", "")+"[[builder]]\nname = \"other\"\nsources = [\"fw\"]\ncheckout = \"incremental\"\n[[builder.step]]\nname = \"a\"\nsh = \"echo more >>kept; wc -l <kept\"\n", nil, func(t *testing.T, b *bench, p *place) {
		if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=128m", "tmpfs", p.dir).CombinedOutput(); err != nil {
			t.Fatalf("mount: %v: %s", err, out)
		}
		t.Cleanup(func() {
			if out, err := exec.Command("umount", "-l", p.dir).CombinedOutput(); err != nil {
				t.Errorf("umount: %v: %s", err, out)
			}
		})
		b.must("fw")
		b.must("other")
		for _, files := range []map[string]string{{"fill": ""}, {"tidy": ""}} {
			b.commit(files)
			err := b.run("fw")
			if err == nil || failure.Of(err) != failure.Failed || !strings.Contains(err.Error(), `worker "here": the file system of "`+p.dir) || !strings.HasPrefix(failure.Hint(err), "df -h "+p.dir) {
				t.Fatalf("%v, hint %q", err, failure.Hint(err))
			}
			if r := b.built[0]; r.Status != record.BuildError || r.Steps[0].Status != record.BuildFailed {
				t.Errorf("%s, %+v", r.Status, r.Steps[0])
			}
			if left := must(filepath.Glob(p.dir + "/*/work/*")); len(left) != 1 || filepath.Base(left[0]) != "other" {
				t.Errorf("left %q", left)
			}
			b.must("other")
			if got := b.log("other/last"); got == "1\n" {
				t.Error("the other builder's tree is gone")
			}
		}
		if err := os.Remove(b.path("repo/fill")); err != nil {
			t.Fatal(err)
		}
		b.commit(nil)
		b.must("fw")
	})
}
