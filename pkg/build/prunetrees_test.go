package build

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// What a worker keeps does not grow for ever: copies of relkit that were not used for
// a week go, and so do trees that no build has used for a month; what is younger, what
// is used and what is not relkit's stays.
func TestWorkersForgetTheOld(t *testing.T) {
	eachKind(t, builder("echo more >>kept; wc -l <kept", "", ""), nil, func(t *testing.T, b *bench, p *place) {
		b.must()
		trees := filepath.Dir(must(filepath.Glob(p.dir + "/*/work/fw"))[0])
		ago := func(path string, days int) {
			t.Helper()
			at := time.Now().Add(-time.Duration(days) * 24 * time.Hour)
			if err := os.Chtimes(path, at, at); err != nil {
				t.Fatal(err)
			}
		}
		for name, days := range map[string]int{"gone": 31, "rare": 29, ".old-half": 0, "fw+cc-gcc": 200} {
			sub := filepath.Join(trees, name, "fw", "read-only")
			if err := os.MkdirAll(sub, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(sub+"/f", nil, 0o400); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(sub, 0o500); err != nil {
				t.Fatal(err)
			}
			ago(filepath.Join(trees, name), days)
		}
		ago(filepath.Join(trees, "fw"), 31)
		bin := filepath.Join(p.dir, "bin")
		if err := os.MkdirAll(bin, 0o755); err != nil {
			t.Fatal(err)
		}
		running := must(filepath.Glob(bin + "/relkit-*"))
		for name, days := range map[string]int{"relkit-old": 8, "relkit-young": 6, ".new-broken": 8, "another": 100} {
			if err := os.WriteFile(filepath.Join(bin, name), nil, 0o700); err != nil {
				t.Fatal(err)
			}
			ago(filepath.Join(bin, name), days)
		}
		for _, path := range running {
			ago(path, 8) // it is used now
		}
		b.must()
		if got := b.log("fw/last"); got != "2\n" {
			t.Errorf("the tree that was used again says %q", got)
		}
		if got := names(t, trees); got != "fw rare" {
			t.Errorf("trees left: %s", got)
		}
		want := []string{"another", "relkit-young"}
		for _, path := range running {
			want = append(want, filepath.Base(path))
		}
		if p.kind == "local" {
			want = append(want, ".new-broken", "relkit-old") // it has no copies, and these are not its own
		}
		slices.Sort(want)
		if got := names(t, bin); got != strings.Join(want, " ") {
			t.Errorf("copies left: %s, want %s", got, want)
		}
	})
}

func names(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return strings.Join(list, " ")
}
