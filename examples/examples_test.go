// Package examples_test runs what users are told to copy.
package examples_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/relkit/relkit/pkg/config"
	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/testresult"
	"github.com/relkit/relkit/pkg/relkittest"
)

// copyProject is demo-project in a folder of its own.
func copyProject(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "fw")
	if err := os.CopyFS(dir, os.DirFS("demo-project")); err != nil {
		t.Fatal(err)
	}
	return dir
}

// run is the standard output of a command; a failure ends the test.
func run(t *testing.T, dir string, argv ...string) string {
	t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%q: %v\n%s%s", argv, err, out, stderr.Bytes())
	}
	return string(out)
}

// passed counts the tests of a results file; one that did not pass is an error.
func passed(t *testing.T, file string) int {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cases, err := testresult.ReadJUnit(f)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		if c.Status != testresult.Passed {
			t.Errorf("%s: %s: %s", c.Name, c.Status, c.Message)
		}
	}
	return len(cases)
}

func digestOf(t *testing.T, file string) digest.Digest {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return digest.Of(b)
}

func TestDemoProject(t *testing.T) {
	relkittest.Need(t, "make", "gcc")
	dir := copyProject(t)
	run(t, dir, "make", "all", "check")
	if n := passed(t, dir+"/TEST-rules.xml"); n < 10 {
		t.Errorf("%d tests", n)
	}
	run(t, dir, "make", "install", "DESTDIR=out")
	version := strings.TrimSpace(run(t, dir, "cat", "VERSION"))
	if got := run(t, dir, "out/usr/sbin/fwd", "--version"); got != "fwd "+version+"\n" {
		t.Errorf("--version says %q, VERSION %q", got, version)
	}
	if got := run(t, dir, "out/usr/sbin/fwd", "10.0.0.7", "out/etc/fwd.conf"); got != "allow\n" {
		t.Errorf("10.0.0.7: %q", got)
	}
	other := copyProject(t)
	run(t, other, "make", "all")
	if digestOf(t, dir+"/fwd") != digestOf(t, other+"/fwd") {
		t.Error("the same source in another folder gives another program")
	}
}

// TestDemoProjectFails shows that a mistake in the source is a test that fails.
func TestDemoProjectFails(t *testing.T) {
	relkittest.Need(t, "make", "gcc")
	dir := copyProject(t)
	source, err := os.ReadFile(dir + "/rules.c")
	if err != nil {
		t.Fatal(err)
	}
	wrong := bytes.Replace(source, []byte("prefix > 32"), []byte("prefix > 99"), 1)
	if bytes.Equal(wrong, source) {
		t.Fatal("rules.c has changed")
	}
	if err := os.WriteFile(dir+"/rules.c", wrong, 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("make", "check")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err == nil || !bytes.Contains(out, []byte("not ok a prefix too long")) {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestDemoProjectJava(t *testing.T) {
	relkittest.Need(t, "make", "javac", "java", "jar")
	dir := copyProject(t)
	run(t, dir, "make", "-C", "java", "all", "check")
	if n := passed(t, dir+"/java/TEST-RuleReport.xml"); n < 5 {
		t.Errorf("%d tests", n)
	}
	run(t, dir, "make", "-C", "java", "install", "DESTDIR=../out")
	if got := run(t, dir, "java", "-jar", "out/usr/share/fwd/report.jar", "fwd.conf"); !strings.HasPrefix(got, "Packets from 10.0.0.0/8 pass.\n") {
		t.Errorf("report.jar says %q", got)
	}
	other := copyProject(t)
	run(t, other, "make", "-C", "java", "all")
	if digestOf(t, dir+"/java/report.jar") != digestOf(t, other+"/java/report.jar") {
		t.Error("the same source in another folder gives another jar")
	}
}

func TestDemoProjectConfiguration(t *testing.T) {
	b, err := os.ReadFile("demo-project/relkit.toml")
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(b, []byte(`"@URL@"`)); n != 2 { // the key, and the remark about it
		t.Errorf("the repository's place stands there %d times", n)
	}
	if _, err := config.DecodeRelkit("relkit.toml", b); err != nil {
		t.Error(err)
	}
}

// TestCron holds every line to crontab(5), its command to the shell's syntax and
// its relkit flags to the manual.
func TestCron(t *testing.T) {
	files, err := filepath.Glob("cron/*")
	if err != nil || len(files) == 0 {
		t.Fatalf("%v, %v", files, err)
	}
	entry := regexp.MustCompile(`^(\S+\s+){5}(root|build)\s+(\S.*)$`)
	for _, file := range files {
		commands := 0
		for line := range strings.SplitSeq(read(t, file), "\n") {
			if line == "" || line[0] == '#' || regexp.MustCompile(`^[A-Z]+=`).MatchString(line) {
				continue
			}
			m := entry.FindStringSubmatch(line)
			if m == nil {
				t.Errorf("%s: no entry: %s", file, line)
				continue
			}
			if strings.Contains(m[3], "%") {
				t.Errorf("%s: cron makes a line feed of the %% in %s", file, m[3])
			}
			checkCommand(t, file, m[3])
			commands++
		}
		if commands == 0 {
			t.Errorf("%s: no entry", file)
		}
	}
}

// TestUnits has systemd read the units, and holds their commands to the manual.
func TestUnits(t *testing.T) {
	relkittest.Need(t, "systemd-analyze")
	dir := t.TempDir()
	files, err := filepath.Glob("systemd/*.[st][ei]*") // services and timers
	if err != nil || len(files) == 0 {
		t.Fatalf("%v, %v", files, err)
	}
	argv := []string{"systemd-analyze", "verify", "--man=no"}
	for _, file := range files {
		text := read(t, file)
		for line := range strings.SplitSeq(text, "\n") {
			if command, ok := strings.CutPrefix(line, "ExecStart="); ok {
				checkCommand(t, file, command)
			}
		}
		// relkit need not be installed where the test runs.
		text = strings.ReplaceAll(text, "ExecStart=/usr/bin/relkit", "ExecStart=/bin/true")
		name := filepath.Join(dir, filepath.Base(file))
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		argv = append(argv, name)
	}
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err != nil || bytes.Contains(out, []byte(dir)) || bytes.Contains(out, []byte("relkit-")) {
		t.Errorf("%v\n%s", err, out)
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

var (
	relkitCall = regexp.MustCompile(`^([a-z][a-z-]*)([^|>]*)`)
	longFlag   = regexp.MustCompile(`--([a-z][a-z-]*)`)
)

// checkCommand holds a command line to the shell's syntax, and each relkit in it
// to its manual page.
func checkCommand(t *testing.T, file, command string) {
	t.Helper()
	if out, err := exec.Command("sh", "-n", "-c", command).CombinedOutput(); err != nil {
		t.Errorf("%s: %v: %s", file, err, out)
	}
	// A call may stand in an argument of another.
	for _, rest := range strings.Split(command, "relkit ")[1:] {
		call := relkitCall.FindStringSubmatch(rest)
		if call == nil {
			continue // a folder of that name
		}
		page := read(t, "../man/relkit-"+call[1]+".1")
		for _, flag := range longFlag.FindAllStringSubmatch(call[2], -1) {
			if !regexp.MustCompile(`(?m)^\.It .*Fl -` + flag[1] + `\b`).MatchString(page) {
				t.Errorf("%s: relkit %s has no --%s", file, call[1], flag[1])
			}
		}
	}
}
