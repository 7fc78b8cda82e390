package tree

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/relkit/relkit/pkg/relkittest"
)

// keywords are those of a manifest but device, which go-mtree has not.
const keywords = "type,uid,gid,mode,time,size,sha256digest,link"

// TestGoMtreeAgrees has go-mtree, another reader of mtree(5), hold a tree against
// our manifest: it finds nothing to say of the tree itself, and what was
// changed in a copy.
func TestGoMtreeAgrees(t *testing.T) {
	relkittest.Need(t, "gomtree")
	zoo := relkittest.Zoo(t)
	file := filepath.Join(t.TempDir(), "manifest.mtree")
	if err := os.WriteFile(file, []byte(manifestOf(t, zoo, Options{})), 0o600); err != nil {
		t.Fatal(err)
	}
	validate := func() string {
		out, err := exec.Command("gomtree", "validate", "-k", keywords, "-p", zoo, "-f", file).CombinedOutput()
		if _, differs := err.(*exec.ExitError); err != nil && !differs {
			t.Fatal(err)
		}
		return string(out)
	}
	if out := validate(); out != "" {
		t.Errorf("of the tree itself gomtree says\n%s", out)
	}
	for name, spoil := range map[string]func(path string) error{
		"etc/empty":    func(path string) error { return os.WriteFile(path, []byte("x"), 0o600) },
		"etc/hostname": func(path string) error { return os.Chmod(path, 0o600) },
		"dangling":     os.Remove,
	} {
		if err := spoil(filepath.Join(zoo, name)); err != nil {
			t.Fatal(err)
		}
		if out := validate(); !strings.Contains(out, name) {
			t.Errorf("%s is changed, and gomtree says\n%s", name, out)
		}
	}
}
