package examples_test

import (
	"io/fs"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	testFunc  = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	namedTest = regexp.MustCompile("`(?:([a-z]+)\\.)?((?:Test|Fuzz)[A-Z]\\w*)(/\\w+)?`")
)

// testNames are all tests there are as package.Test, and the scripts as
// TestScript/NAME.
func testNames(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	for _, top := range []string{"../pkg", "../cmd", "../examples"} {
		err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, "_test.go") {
				return err
			}
			for _, m := range testFunc.FindAllStringSubmatch(read(t, path), -1) {
				names[filepath.Base(filepath.Dir(path))+"."+m[1]] = true
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	scripts, err := filepath.Glob("../cmd/relkit/testdata/script/*.txtar")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("%v, %v", scripts, err)
	}
	for _, s := range scripts {
		names["TestScript/"+strings.TrimSuffix(filepath.Base(s), ".txtar")] = true
	}
	return names
}

// TestReadmeNamesTests: each test that the README names exists.
func TestReadmeNamesTests(t *testing.T) {
	there := testNames(t)
	named := namedTest.FindAllStringSubmatch(read(t, "../README.md"), -1)
	for _, m := range named {
		name := m[2] + m[3]
		if m[1] != "" {
			name = m[1] + "." + name
		}
		if !there[name] {
			t.Errorf("there is no test %s", name)
		}
	}
	if len(named) < 40 {
		t.Errorf("only %d tests are named", len(named))
	}
}

// TestReadmeClaimsAreTested: in the tables of mistakes and of features, what is
// claimed of relkit has a test beside it; N claims nothing.
func TestReadmeClaimsAreTested(t *testing.T) {
	readme := read(t, "../README.md")
	for title, claim := range map[string]int{"The seven mistakes": 2, "Beside others": 6} {
		_, section, ok := strings.Cut(readme, "\n## "+title+"\n")
		if !ok {
			t.Fatalf("the README has no %q", title)
		}
		section, _, _ = strings.Cut(section, "\n## ")
		rows := 0
		for line := range strings.Lines(section) {
			cells := strings.Split(strings.TrimSpace(line), "|")
			if len(cells) < claim+3 || !strings.HasPrefix(line, "| ") {
				continue
			}
			if rows++; rows == 1 {
				continue // the head
			}
			said, tests := strings.TrimSpace(cells[claim]), cells[len(cells)-2]
			if said != "N" && !namedTest.MatchString(tests) {
				t.Errorf("%s: no test for %q", title, line)
			}
		}
		if rows < 8 {
			t.Errorf("%s: %d rows", title, rows)
		}
	}
}
