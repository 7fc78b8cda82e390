package examples_test

import (
	"debug/elf"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/relkit/relkit/pkg/format/record"
	"github.com/relkit/relkit/pkg/relkittest"
)

// platforms are what each cell of examples/platforms is: the machine, what its
// compiler writes into a program, and the program's architecture.
var platforms = map[string]struct {
	worker, release, compiler string
	machine                   elf.Machine
	test                      string
}{
	"tell[arch=x86_64,cc=gcc]":    {"deb12", "VERSION_CODENAME=bookworm", "GCC: (Debian 12.", elf.EM_X86_64, "runs on x86_64"},
	"tell[arch=aarch64,cc=gcc]":   {"deb12", "VERSION_CODENAME=bookworm", "GCC: (Debian 12.", elf.EM_AARCH64, "runs on aarch64"},
	"tell[arch=x86_64,cc=clang]":  {"deb13", "VERSION_CODENAME=trixie", "Debian clang version 19.", elf.EM_X86_64, "runs on x86_64"},
	"tell[arch=aarch64,cc=clang]": {"deb13", "VERSION_CODENAME=trixie", "Debian clang version 19.", elf.EM_AARCH64, "runs on aarch64"},
}

// logsIn has a recipe's user log in to a server.
func (r *recipe) logsIn(s *relkittest.SSHD) {
	r.t.Helper()
	dir := filepath.Join(r.home, ".ssh")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		r.t.Fatal(err)
	}
	known := read(r.t, filepath.Join(s.Home, ".ssh/known_hosts"))
	if old, err := os.ReadFile(filepath.Join(dir, "known_hosts")); err == nil {
		known += string(old)
	}
	// Each server has a key of its own that it lets in. relkit tries these names, and
	// looks into the file for what kind it is.
	names := []string{"id_ed25519", "id_ecdsa", "id_rsa"}
	key := names[strings.Count(known, "\n")-1]
	for name, text := range map[string]string{"known_hosts": known, key: read(r.t, filepath.Join(s.Home, ".ssh/id_ed25519"))} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			r.t.Fatal(err)
		}
	}
}

// TestPlatforms builds in one run on two machines with different releases of
// Debian and different compilers, for two architectures, and runs what comes of it
// on a third.
func TestPlatforms(t *testing.T) {
	deb12, deb13, arm64, qemu := relkittest.Tree(t, "bookworm"), relkittest.Tree(t, "trixie"), relkittest.Tree(t, "arm64"), relkittest.QEMU(t)
	r := copyRecipe(t, "platforms", buildRelkit(t, "arm64"))
	if plan, said, err := r.relkit("build", "--plan"); err != nil || !strings.HasSuffix(plan, "\ntry[arch=aarch64,cc=clang] on board with 1 slots: run\n") {
		t.Errorf("%v\n%s%s", err, plan, said)
	}
	mounts := read(t, "/proc/self/mounts")
	t.Run("build", func(t *testing.T) { // which ends with its machines
		here := *r
		here.t = t
		one, two := relkittest.StartSSHDIn(t, deb12, "bookworm-builder", ""), relkittest.StartSSHDIn(t, deb13, "trixie-builder", "")
		board := relkittest.StartSSHDIn(t, arm64, "arm-board", qemu)
		here.logsIn(one)
		here.logsIn(two)
		here.logsIn(board)
		here.replace("build@deb12.example.com", one.Host(), "build@deb13.example.com", two.Host(), "build@board.example.com", board.Host())
		all := here.build("-j", "4")
		if len(all) != len(platforms)+2 {
			t.Errorf("%d builds, want %d", len(all), len(platforms)+2)
		}
		for _, cc := range []string{"gcc", "clang"} {
			b := all["try[arch=aarch64,cc="+cc+"]"]
			if b.Build == nil || b.Worker.Host != "arm-board" || b.Worker.Arch != "arm64" || read(t, b.artifact("out")) != "tell 1.0 for aarch64\n" {
				t.Errorf("on the board, %s: %+v", cc, b.Build)
			}
		}
		hosts := map[string]string{"deb12": "bookworm-builder", "deb13": "trixie-builder"}
		for name, want := range platforms {
			b := all[name]
			if b.Build == nil {
				t.Errorf("%s is not built", name)
				continue
			}
			if b.Worker.Name != want.worker || b.Worker.Host != hosts[want.worker] || b.Worker.Kind != "ssh" {
				t.Errorf("%s: built by %+v", name, b.Worker)
			}
			if !b.tests["four bytes"] || !b.tests[want.test] || len(b.tests) != 2 {
				t.Errorf("%s: tests %v, want %q", name, b.tests, want.test)
			}
			if got := read(t, b.artifact("out/os-release")); !strings.Contains(got, want.release) {
				t.Errorf("%s: built in %s", name, got)
			}
			if machine, compiler := elfFile(t, b.artifact("out/tell")); machine != want.machine || !strings.Contains(compiler, want.compiler) {
				t.Errorf("%s: a program for %v by %q", name, machine, compiler)
			}
		}
		here.signedChar()
	})
	if now := read(t, "/proc/self/mounts"); now != mounts {
		t.Errorf("mounts are left:\n%s", now)
	}
}

// signedChar makes the mistake that shows on x86_64 alone, where a char has a sign.
func (r *recipe) signedChar() {
	r.t.Helper()
	for _, name := range []string{"src/tell.c", "src/tell.h"} {
		file := filepath.Join(r.dir, name)
		text := read(r.t, file)
		wrong := strings.ReplaceAll(text, "const unsigned char", "const char")
		if err := os.WriteFile(file, []byte(wrong), 0o644); err != nil || wrong == text {
			r.t.Fatalf("%v, %s", err, text)
		}
	}
	out, said, err := r.relkit("build", "-j", "4", "--keep-going")
	all := r.read(out)
	if tried := all["try[arch=aarch64,cc=clang]"]; err == nil || tried.Build == nil || tried.Status != record.BuildSuccess {
		r.t.Errorf("%v, on the board %+v", err, tried.Build)
	}
	for name, want := range platforms {
		status, newly := record.BuildFailed, "[four bytes]"
		if want.machine == elf.EM_AARCH64 {
			status, newly = record.BuildSuccess, "[]"
		}
		b := all[name]
		if b.Build == nil || b.Tests == nil {
			r.t.Errorf("%s is not built: %s", name, said)
			continue
		}
		if b.Status != status || fmt.Sprint(b.Tests.NewlyFailing) != newly || b.tests["four bytes"] != (status == record.BuildSuccess) {
			r.t.Errorf("%s: %s, tests %v, newly failing %v", name, b.Status, b.tests, b.Tests.NewlyFailing)
		}
	}
}

// elfFile tells for what a program is, and what its compilers say of themselves.
func elfFile(t *testing.T, name string) (machine elf.Machine, comment string) {
	t.Helper()
	f, err := elf.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s := f.Section(".comment")
	if s == nil {
		t.Fatalf("%s: no .comment", name)
	}
	data, err := s.Data()
	if err != nil {
		t.Fatal(err)
	}
	return f.Machine, string(data)
}

const onARM = `[project]
name = "native"
[[source]]
name = "in"
vcs = "file"
url = "in"
[[worker]]
name = "arm"
ssh = "HOST"
[[builder]]
name = "native"
sources = ["in"]
[[builder.step]]
name = "all"
sh = "uname -m; cat in; sleep 1001 & (sleep 1002 &); (trap '' TERM; exec sleep 1003) & printf '1..1\nok 1 - here\n' >out.tap; cp in out"
tests = ["tap:out.tap"]
[builder.artifacts]
paths = ["out"]
[[builder]]
name = "hang"
sources = ["in"]
[[builder.step]]
name = "all"
sh = "sleep 100177 & (sleep 100177 &); (trap '' TERM; exec sleep 100177) & sleep 100177"
`

// sleeping counts the programs of the builder "hang", on whatever machine of this kernel.
func sleeping(t *testing.T) (n int) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if b, err := os.ReadFile(file); err == nil && strings.HasSuffix(string(b), "sleep\x00100177\x00") {
			n++
		}
	}
	return n
}

// TestWorkerOfAnotherArchitecture builds on an aarch64 machine, which gets the
// relkit for that from beside the one that runs.
func TestWorkerOfAnotherArchitecture(t *testing.T) {
	tree, qemu := relkittest.Tree(t, "arm64"), relkittest.QEMU(t)
	bin := buildRelkit(t, "arm64")
	r := &recipe{t: t, dir: t.TempDir(), home: t.TempDir(), bin: bin}
	s := relkittest.StartSSHDIn(t, tree, "arm", qemu)
	r.logsIn(s)
	for name, text := range map[string]string{"relkit.toml": strings.Replace(onARM, "HOST", s.Host(), 1), "in": "hello\n"} {
		if err := os.WriteFile(filepath.Join(r.dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	other, away := filepath.Join(bin, "relkit-linux-arm64"), filepath.Join(bin, "away")
	refused := func(want string) {
		t.Helper()
		_, said, err := r.relkit("build", "native")
		if err == nil || !strings.Contains(said, want) || !strings.Contains(said, "hint: GOOS=linux GOARCH=arm64 ") {
			t.Errorf("%v, want %s\n%s", err, want, said)
		}
	}
	if err := os.Rename(other, away); err != nil {
		t.Fatal(err)
	}
	refused(`it is "Linux aarch64", and there is no ` + other)
	if err := os.Symlink("relkit", other); err != nil {
		t.Fatal(err)
	}
	refused(other + ` is a program for "amd64"`)
	if err := os.Rename(away, other); err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= 2; n++ { // the second finds its relkit there
		b := r.build("native")["native"]
		if b.Build == nil || b.Worker.Arch != "arm64" || b.Worker.Host != "arm" || b.Number != n || b.Steps[0].Swept != 3 || !b.tests["here"] {
			t.Fatalf("%+v", b.Build)
		}
		if got := read(t, b.artifact("out")); got != "hello\n" {
			t.Errorf("the artifact is %q", got)
		}
		if log, _, err := r.relkit("build", "--log", fmt.Sprintf("native/%d/all", n)); err != nil || !strings.Contains(log, "aarch64\nhello\n") {
			t.Errorf("%v, log %q", err, log)
		}
	}

	// What is killed leaves nothing there either, though an emulator has no subreapers.
	cmd := r.command("build", "hang")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	relkittest.WaitFor(t, "four programs", func() bool { return sleeping(t) == 4 })
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	relkittest.WaitFor(t, "their end", func() bool { return sleeping(t) == 0 })
}
