// Package layers_test holds the direction of imports: what may know of what.
//
//	cmd/relkit          everything below, but relkittest
//	pkg/<job>           engine transport sys format config, never another job
//	pkg/engine/…        engine transport sys format
//	pkg/transport/…     transport sys format
//	pkg/sys/…           sys format
//	pkg/format/…        format; pure: no file system, network or clock
//	pkg/config          format
//	pkg/ui pkg/failure  nothing of relkit
//	pkg/relkittest      anything but cmd; only tests import it
//
// pkg/failure is open to all. Rules are about direct imports of files that are
// not tests.
package layers_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/relkit/relkit/"

// below lists the layers that each layer may import besides failure.
var below = map[string][]string{
	"cmd":        {"job", "engine", "transport", "sys", "format", "config", "ui"},
	"job":        {"engine", "transport", "sys", "format", "config"},
	"engine":     {"engine", "transport", "sys", "format"},
	"transport":  {"transport", "sys", "format"},
	"sys":        {"sys", "format"},
	"format":     {"format"},
	"config":     {"format"},
	"ui":         {},
	"failure":    {},
	"scripts":    {},
	"relkittest": {"job", "engine", "transport", "sys", "format", "config", "ui", "relkittest"},
}

// onlyImporter names the one package that may import a heavy module.
var onlyImporter = map[string]string{
	"github.com/urfave/cli":                  "cmd/relkit",
	"github.com/google/go-containerregistry": "pkg/transport/oci",
	"github.com/minio/minio-go":              "pkg/transport/s3",
	"github.com/cheggaaa/pb":                 "pkg/ui",
	"github.com/BurntSushi/toml":             "pkg/config",
	"github.com/hiddeco/sshsig":              "pkg/format/signature",
	"github.com/skeema/knownhosts":           "pkg/transport/ssh",
	"github.com/rogpeppe/go-internal":        "pkg/relkittest",
	"github.com/wneessen/go-mail":            "pkg/build/notify",
}

// throughFsys are the packages that change a target: they reach the file system
// through pkg/sys/fsys alone, or the crash tests would test only half of them.
var throughFsys = []string{"pkg/engine/", "pkg/update/", "pkg/image/", "pkg/autoinstall/"}

// layer is the layer of a package, given by its path in the module.
func layer(pkg string) string {
	parts := strings.Split(pkg, "/")
	switch {
	case parts[0] != "pkg":
		return parts[0]
	case len(parts) < 2:
		return ""
	case parts[1] == "format" || parts[1] == "sys" || parts[1] == "transport" || parts[1] == "engine" ||
		parts[1] == "config" || parts[1] == "ui" || parts[1] == "failure" || parts[1] == "relkittest":
		return parts[1]
	}
	return "job"
}

// forbidden says why pkg may not import what it imports; "" if it may.
func forbidden(pkg, imported string) string {
	if local, ok := strings.CutPrefix(imported, module); ok {
		return forbiddenLocal(pkg, local)
	}
	for heavy, only := range onlyImporter {
		if (imported == heavy || strings.HasPrefix(imported, heavy+"/")) && pkg != only {
			return "only " + only + " imports it"
		}
	}
	if layer(pkg) == "format" && impure(pkg, imported) {
		return "a format is pure: bytes in, values out"
	}
	changes := slices.ContainsFunc(throughFsys, func(p string) bool { return strings.HasPrefix(pkg+"/", p) })
	if changes && touchesSystem(imported) {
		return "what changes a target goes through pkg/sys/fsys"
	}
	return ""
}

func forbiddenLocal(pkg, local string) string {
	from, to := layer(pkg), layer(local)
	switch {
	case to == "failure":
		return ""
	case slices.Contains(below[from], to):
		return ""
	case from == "job" && to == "job" && sameJob(pkg, local):
		return ""
	case from == "job" && to == "job":
		return "a job never imports another job: jobs meet through files"
	case to == "relkittest":
		return "only tests import it"
	}
	return fmt.Sprintf("%s is not below %s", to, from)
}

// sameJob is true for pkg/build and pkg/build/vcs.
func sameJob(a, b string) bool {
	return strings.Split(a, "/")[1] == strings.Split(b, "/")[1]
}

// impure tells whether an import brings a file system, a network, a process or
// another machine's state. net/url, net/netip and net/textproto only parse.
func impure(pkg, imported string) bool {
	switch imported {
	case "net/url", "net/netip", "net/textproto":
		return false
	case "golang.org/x/crypto/ssh":
		return pkg != "pkg/format/signature"
	}
	first, _, _ := strings.Cut(imported, "/")
	return first == "os" || first == "net" || imported == "syscall" || imported == "embed" ||
		strings.HasPrefix(imported, "golang.org/x/sys/") || strings.HasPrefix(imported, "golang.org/x/crypto/") || imported == "log/syslog"
}

func touchesSystem(imported string) bool {
	return imported == "os" || strings.HasPrefix(imported, "os/") || imported == "syscall" ||
		imported == "io/ioutil" || strings.HasPrefix(imported, "golang.org/x/sys/")
}

// clockCalls are what of package time a format may not use.
var clockCalls = []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker"}

// usesClock lists the calls in a file that ask what time it is.
func usesClock(f *ast.File) (calls []string) {
	ast.Inspect(f, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok {
			if x, ok := s.X.(*ast.Ident); ok && x.Name == "time" && slices.Contains(clockCalls, s.Sel.Name) {
				calls = append(calls, "time."+s.Sel.Name)
			}
		}
		return true
	})
	return calls
}

// TestLayers reads every file of the module, whatever system it is built for.
func TestLayers(t *testing.T) {
	files := 0
	err := filepath.WalkDir("..", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "testdata" || (strings.HasPrefix(d.Name(), ".") && name != "..")) {
			return fs.SkipDir
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		files++
		checkFile(t, name)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 20 {
		t.Errorf("read %d files: is this the whole module?", files)
	}
}

func checkFile(t *testing.T, name string) {
	t.Helper()
	pkg := path.Dir(strings.TrimPrefix(filepath.ToSlash(name), "../"))
	if below[layer(pkg)] == nil {
		t.Errorf("%s: %q is no layer", name, layer(pkg))
	}
	f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Error(err)
		return
	}
	for _, spec := range f.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Error(err)
			continue
		}
		if why := forbidden(pkg, imported); why != "" {
			t.Errorf("%s imports %s: %s", name, imported, why)
		}
		if layer(pkg) == "format" && imported == "time" && spec.Name != nil {
			t.Errorf("%s renames time, which hides the clock from this test", name)
		}
	}
	if layer(pkg) == "format" {
		for _, call := range usesClock(f) {
			t.Errorf("%s calls %s: a format has no clock", name, call)
		}
	}
}

// TestForbidden shows that each rule refuses what it is for, and no more.
func TestForbidden(t *testing.T) {
	for _, c := range []struct {
		pkg, imported string
		ok            bool
	}{
		{"pkg/format/manifest", "os", false},
		{"pkg/format/manifest", "os/exec", false},
		{"pkg/format/manifest", "net/http", false},
		{"pkg/format/manifest", "syscall", false},
		{"pkg/format/manifest", "golang.org/x/sys/unix", false},
		{"pkg/format/manifest", "net/url", true},
		{"pkg/format/manifest", "io/fs", true},
		{"pkg/format/manifest", "github.com/klauspost/compress/zstd", true},
		{"pkg/format/manifest", "golang.org/x/crypto/ssh", false},
		{"pkg/format/signature", "golang.org/x/crypto/ssh", true},
		{"pkg/format/signature", "golang.org/x/crypto/ssh/agent", false},
		{"pkg/format/manifest", module + "pkg/format/digest", true},
		{"pkg/format/manifest", module + "pkg/failure", true},
		{"pkg/format/manifest", module + "pkg/sys/fsys", false},
		{"pkg/sys/tree", module + "pkg/sys/fsys", true},
		{"pkg/sys/tree", module + "pkg/format/manifest", true},
		{"pkg/sys/tree", module + "pkg/engine/store", false},
		{"pkg/sys/tree", module + "pkg/transport/fetch", false},
		{"pkg/sys/tree", "golang.org/x/sys/unix", true},
		{"pkg/transport/oci", module + "pkg/transport/fetch", true},
		{"pkg/transport/oci", module + "pkg/engine/store", false},
		{"pkg/transport/oci", module + "pkg/config", false},
		{"pkg/transport/oci", "os", true},
		{"pkg/engine/store", module + "pkg/sys/tree", true},
		{"pkg/engine/store", module + "pkg/transport/oci", true},
		{"pkg/engine/store", module + "pkg/engine/state", true},
		{"pkg/engine/store", module + "pkg/build", false},
		{"pkg/engine/store", module + "pkg/config", false},
		{"pkg/engine/store", module + "pkg/ui", false},
		{"pkg/engine/store", "os", false},
		{"pkg/engine/store", "os/exec", false},
		{"pkg/engine/transaction", "syscall", false},
		{"pkg/update", "golang.org/x/sys/unix", false},
		{"pkg/update/check", "os", false},
		{"pkg/image", "io/ioutil", false},
		{"pkg/autoinstall", "os", false},
		{"pkg/autoinstall", "io/fs", true},
		{"pkg/updates", "os", true},
		{"pkg/build", "os", true},
		{"pkg/build", module + "pkg/engine/store", true},
		{"pkg/build", module + "pkg/config", true},
		{"pkg/build", module + "pkg/ui", false},
		{"pkg/build", module + "pkg/image", false},
		{"pkg/build", module + "pkg/build/vcs", true},
		{"pkg/build/vcs", module + "pkg/update", false},
		{"pkg/build", module + "cmd/relkit", false},
		{"pkg/build", module + "pkg/relkittest", false},
		{"pkg/relkittest", module + "pkg/build", true},
		{"pkg/relkittest/vm", module + "pkg/relkittest", true},
		{"pkg/relkittest", module + "cmd/relkit", false},
		{"cmd/relkit", module + "pkg/build", true},
		{"cmd/relkit", module + "pkg/ui", true},
		{"cmd/relkit", module + "pkg/relkittest", false},
		{"pkg/config", module + "pkg/format/version", true},
		{"pkg/config", module + "pkg/sys/fsys", false},
		{"pkg/ui", module + "pkg/failure", true},
		{"pkg/ui", module + "pkg/format/digest", false},
		{"pkg/failure", module + "pkg/format/digest", false},
		{"pkg/build", "github.com/urfave/cli/v2", false},
		{"cmd/relkit", "github.com/urfave/cli/v2", true},
		{"pkg/distribute", "github.com/google/go-containerregistry/pkg/v1", false},
		{"pkg/transport/oci", "github.com/google/go-containerregistry/pkg/v1", true},
		{"cmd/relkit", "github.com/cheggaaa/pb/v3", false},
		{"pkg/format/channel", "github.com/BurntSushi/toml", false},
		{"pkg/build", "github.com/wneessen/go-mail", false},
		{"pkg/build/notify", "github.com/wneessen/go-mail/smtp", true},
		{"pkg/engine/trust", "github.com/hiddeco/sshsig", false},
		{"pkg/transport/oci", "github.com/minio/minio-go/v7", false},
		{"cmd/relkit", "github.com/rogpeppe/go-internal/testscript", false},
	} {
		why := forbidden(c.pkg, c.imported)
		if (why == "") != c.ok {
			t.Errorf("%s imports %s: got %q, want it allowed: %v", c.pkg, c.imported, why, c.ok)
		}
	}
}

func TestUsesClock(t *testing.T) {
	const source = "package p\nimport \"time\"\nvar a = time.Now()\nfunc f(t time.Time) { <-time.After(time.Second); _ = time.Unix(1, 0) }"
	f, err := parser.ParseFile(token.NewFileSet(), "p.go", source, 0)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(usesClock(f), " "); got != "time.Now time.After" {
		t.Errorf("got %q", got)
	}
}
