package manifest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/relkit/relkit/pkg/relkittest"
)

// TestBsdtarReadsIt holds the promise of relkit-manifest(5) that mtree(5)'s
// best known reader sees every name, kind, owner, mode, size and target.
func TestBsdtarReadsIt(t *testing.T) {
	relkittest.Need(t, "bsdtar")
	text, _ := encode(t, zoo())
	file := filepath.Join(t.TempDir(), "manifest.mtree")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("bsdtar", "-tvf", file)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "TZ=UTC")
	cmd.Dir = t.TempDir()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("bsdtar: %v\n%s", err, out)
	}
	var got []string
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		// mode links uid gid size-or-device month day time-or-year name…
		got = append(got, strings.Join(append([]string{f[0], f[2], f[3], f[4]}, f[8:]...), " "))
	}
	want := []string{
		"drwxr-xr-x 0 0 0 .",
		"drwxrwxrwt 0 0 0 ./a",
		"-rwsr-xr-x 1000 4294967294 5 ./a/linked",
		"---------- 0 0 0 ./a/one two\\n#*?[\\\\\\377\\177=\\303\\251",
		"lrwxrwxrwx 0 0 0 ./a-b -> ../../etc/x y",
		"brw-rw---- 0 6 259,1048575 ./blk",
		"crw-rw-rw- 0 0 1,3 ./chr",
		"prw------- 0 0 0 ./fifo",
		"-rwsr-xr-x 1000 4294967294 5 ./z",
	}
	if g, w := strings.Join(got, "\n"), strings.Join(want, "\n"); g != w {
		t.Errorf("bsdtar lists:\n%s\nwant:\n%s", g, w)
	}
}
