package examples_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/relkit/relkit/pkg/format/record"
)

// buildRelkit makes relkit in a folder for PATH, and relkit-linux-ARCH beside it
// for each other architecture.
func buildRelkit(t *testing.T, others ...string) (bin string) {
	t.Helper()
	bin = t.TempDir()
	for _, arch := range append([]string{""}, others...) {
		name := "relkit"
		env := append(os.Environ(), "CGO_ENABLED=0")
		if arch != "" {
			name, env = "relkit-linux-"+arch, append(env, "GOARCH="+arch)
		}
		cmd := exec.Command("go", "build", "-o", filepath.Join(bin, name), "../cmd/relkit")
		cmd.Env = env
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	return bin
}

// shell is what a command line prints, as cron runs it, in a folder that is its home
// too and with bin's relkit; one that fails ends the test.
func shell(t *testing.T, dir, bin, command string) string {
	t.Helper()
	cmd := exec.Command("sh", "-c", command)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + bin + ":" + os.Getenv("PATH"), "HOME=" + dir, "GIT_CONFIG_NOSYSTEM=1"}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
	return string(out)
}

// recipe is a folder of examples as a user copies it, with a home of its own.
type recipe struct {
	t              *testing.T
	dir, home, bin string
}

func copyRecipe(t *testing.T, name, bin string) *recipe {
	t.Helper()
	r := &recipe{t: t, dir: filepath.Join(t.TempDir(), name), home: t.TempDir(), bin: bin}
	if err := os.CopyFS(r.dir, os.DirFS(name)); err != nil {
		t.Fatal(err)
	}
	return r
}

// replace changes relkit.toml: pairs of old and new, of which each old one is there.
func (r *recipe) replace(pairs ...string) {
	r.t.Helper()
	file := filepath.Join(r.dir, "relkit.toml")
	text := read(r.t, file)
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(text, pairs[i]) {
			r.t.Fatalf("there is no %q in\n%s", pairs[i], text)
		}
	}
	if err := os.WriteFile(file, []byte(strings.NewReplacer(pairs...).Replace(text)), 0o644); err != nil {
		r.t.Fatal(err)
	}
}

func (r *recipe) command(args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(r.bin, "relkit"), args...)
	cmd.Dir = r.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + r.home}
	return cmd
}

// relkit is what a command prints on standard output and on standard error.
func (r *recipe) relkit(args ...string) (stdout, stderr string, err error) {
	cmd := r.command(args...)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	err = cmd.Run()
	return out.String(), said.String(), err
}

// built is a build that has ended.
type built struct {
	*record.Build
	dir string
	// tests are the names of all, with whether they have passed.
	tests map[string]bool
}

// build runs relkit build, which must succeed, and answers the builds by the names
// of their builders.
func (r *recipe) build(args ...string) map[string]built {
	r.t.Helper()
	out, said, err := r.relkit(append([]string{"build"}, args...)...)
	if err != nil {
		r.t.Fatalf("relkit build: %v\n%s", err, said)
	}
	return r.read(out)
}

// read reads the builds whose folders relkit build has printed.
func (r *recipe) read(out string) map[string]built {
	r.t.Helper()
	all := map[string]built{}
	for dir := range strings.Lines(out) {
		dir = strings.TrimSuffix(dir, "\n")
		b, err := record.DecodeBuild([]byte(read(r.t, filepath.Join(dir, "build.json"))))
		if err != nil {
			r.t.Fatal(err)
		}
		passed := map[string]bool{}
		if b.Tests != nil {
			results, err := record.DecodeBuildTests([]byte(read(r.t, filepath.Join(dir, "tests.json"))))
			if err != nil {
				r.t.Fatal(err)
			}
			for _, c := range results.Tests {
				passed[c.Name] = c.Status == "passed"
			}
		}
		all[b.Builder] = built{b, dir, passed}
	}
	return all
}

func (b built) artifact(path string) string { return filepath.Join(b.dir, "artifacts", path) }
