package layers_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestNoHiddenSkips: tests skip through relkittest.Need and its kin alone,
// which make a skip a failure where RELKIT_TEST_DISALLOW_SKIP is set.
func TestNoHiddenSkips(t *testing.T) {
	tests := 0
	err := filepath.WalkDir("..", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && d.Name() == ".git" {
			return fs.SkipDir
		}
		helper := strings.HasSuffix(name, ".go") && filepath.Base(filepath.Dir(name)) == "relkittest" && d.Name() != "need.go"
		if !strings.HasSuffix(name, "_test.go") && !helper {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Error(err)
			return nil
		}
		tests++
		for _, call := range skips(f) {
			t.Errorf("%s calls %s: want relkittest.Need, NeedRoot or Skip", name, call)
		}
		return nil
	})
	if err != nil || tests < 20 {
		t.Errorf("read %d files: %v", tests, err)
	}
}

// skips lists the calls of t.Skip and its kin in a file.
func skips(f *ast.File) (calls []string) {
	ast.Inspect(f, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok && slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, s.Sel.Name) {
			if x, ok := s.X.(*ast.Ident); ok && x.Name != "relkittest" {
				calls = append(calls, x.Name+"."+s.Sel.Name)
			}
		}
		return true
	})
	return calls
}

func TestSkips(t *testing.T) {
	const source = "package p\nfunc f(t *testing.T, c config) { t.Skipf(\"x\"); relkittest.Skip(t, \"y\"); b.SkipNow() }"
	f, err := parser.ParseFile(token.NewFileSet(), "p.go", source, 0)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(skips(f), " "); got != "t.Skipf b.SkipNow" {
		t.Errorf("got %q", got)
	}
}
