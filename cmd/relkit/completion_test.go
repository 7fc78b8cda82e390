package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/relkit/relkit/pkg/relkittest"
)

// freeValues are the words of the help for what no shell can know. A new word is
// decided about here, in fileValues or in dirValues.
var freeValues = strings.Fields("[BUILDER ADDR:PORT B BUILDER/N BUILDER/N[/STEP] CLASS CMD DEST EXPR GLOB HASH ID K=V KEY MODEL N NAME NAME NAME:VERSION " +
	"NAME=VALUE [ID] [SOURCE=]R ROLE SHARE SHARE[@TIME] SPAN TIME UNIT VERSION COMMAND SIZE WINDOW PRODUCT ROLE=N TEXT PATH=SIZE")

func TestCompletionKnowsEveryValue(t *testing.T) {
	for _, c := range completionTable(testEnv("", nil, nil, nil)) {
		values := []completedValue{c.Operands}
		for _, f := range c.Flags {
			if f.Long == "" {
				t.Errorf("%s has a flag without a long name: %+v", c.Name, f)
			}
			if f.Takes {
				values = append(values, f.Value)
			}
		}
		for _, v := range values {
			known := v.Files || v.Dirs || len(v.Words) > 0 || v.Name == "" && c.Operands.Name == ""
			if free := slices.Contains(freeValues, v.Name); known == free && len(v.Words) == 0 || !known && !free {
				t.Errorf("relkit %s: what completes a %q is not decided", c.Name, v.Name)
			}
		}
	}
}

func TestCompletionUsage(t *testing.T) {
	for _, args := range [][]string{{"tcsh"}, {}, {"bash", "zsh"}, {"bash", "--json"}} {
		out, errs, status := runTool(t, "", nil, append([]string{"completion"}, args...)...)
		if status != 2 || out != "" || !strings.HasPrefix(errs, "relkit completion: ") {
			t.Errorf("%q: status %d, stdout %q, stderr %q", args, status, out, errs)
		}
	}
}

// completionBox is a folder with the script for a shell in "script" and
// something to complete: two files, two folders and a name with a blank.
func completionBox(t *testing.T, shell string) string {
	t.Helper()
	relkittest.Need(t, shell)
	out, errs, status := runTool(t, "", nil, "completion", shell)
	if status != 0 || errs != "" {
		t.Fatalf("status %d, stderr %s", status, errs)
	}
	dir := t.TempDir()
	for name, data := range map[string]string{"script": out, "fw-1-2.rkp": "", "machine.txt": "", "a file": "", "machine/x": "", "other/x": ""} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// completionCases are words before the cursor, the last perhaps begun, and what
// can stand there; bash cuts words at "=".
var completionCases = []struct{ words, want string }{
	{"patch-", "patch-apply patch-make patch-rollback"},
	{"--v", "--version"},
	{"nonsense x", ""},
	{"patch-rollback --on", "--on-modified"},
	{"patch-rollback --on-modified ", "abort keep replace"},
	{"patch-rollback --on-modified k", "keep"},
	{"patch-rollback --on-modified = ", "abort keep replace"},
	{"patch-rollback --on-modified = r", "replace"},
	{"patch-apply --progress n", "never"},
	{"patch-apply --dry-run fw", "fw-1-2.rkp"},
	{"patch-apply --root m", "machine"},
	{"patch-apply --allowed-signers m", "machine machine.txt"},
	{"patch-apply a", "a file"},
	{"patch-apply --jobs ", ""},
	{"patch-apply -j ", ""},
	{"patch-make -o fw", "fw-1-2.rkp"},
	{"patch-make -o = fw", "fw-1-2.rkp"},
	{"patch-make --key = fw", "fw-1-2.rkp"},
	{"patch-apply -- fw", "fw-1-2.rkp"},
	{"patch-apply -- --dry", ""},
	{"serve o", "other"},
	{"completion z", "zsh"},
	{"completion --js", "--json"},
	{"help patch-r", "patch-rollback"},
	{"healthcheck --format p", "prometheus"},
	{"build ", ""},
}

// TestCompletionBash asks a real bash, which has nothing else loaded.
func TestCompletionBash(t *testing.T) {
	dir := completionBox(t, "bash")
	ask := func(words []string) []string {
		t.Helper()
		script := "source ./script\nCOMP_WORDS=(\"$@\") COMP_CWORD=$(($# - 1))\n_relkit\n((${#COMPREPLY[@]} == 0)) || printf '%s\\n' \"${COMPREPLY[@]}\""
		cmd := exec.Command("bash", append([]string{"--norc", "--noprofile", "-u", "-c", script, "bash", "relkit"}, words...)...)
		cmd.Dir = dir
		return shellLines(t, cmd)
	}
	for _, c := range completionCases {
		want := c.want
		if got := strings.Join(ask(strings.Split(c.words, " ")), " "); got != want {
			t.Errorf("relkit %s: got %q, want %q", c.words, got, want)
		}
	}
	eachCommandsFlags(t, func(command string) []string { return ask([]string{command, "-"}) })
}

// TestCompletionFish asks a real fish.
func TestCompletionFish(t *testing.T) {
	dir := completionBox(t, "fish")
	ask := func(line string) []string {
		t.Helper()
		cmd := exec.Command("fish", "--no-config", "-c", "source ./script; complete -C $argv[1]", "--", line)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_CONFIG_HOME="+dir, "XDG_DATA_HOME="+dir)
		lines := shellLines(t, cmd)
		for i := range lines {
			lines[i], _, _ = strings.Cut(lines[i], "\t")
			lines[i] = strings.TrimSuffix(lines[i], "/")
			lines[i] = lines[i][strings.LastIndex(lines[i], "=")+1:]
			lines[i] = strings.ReplaceAll(lines[i], `\ `, " ")
		}
		slices.Sort(lines)
		return lines
	}
	for _, c := range completionCases {
		line := "relkit " + strings.ReplaceAll(c.words, " = ", "=")
		if strings.Contains(line, "-o=") {
			continue // fish(1) knows short flags as -oVALUE only
		}
		if got := strings.Join(ask(line), " "); got != c.want {
			t.Errorf("%s: got %q, want %q", line, got, c.want)
		}
	}
	eachCommandsFlags(t, func(command string) []string {
		return append(ask("relkit "+command+" --"), ask("relkit "+command+" -")...)
	})
}

// eachCommandsFlags holds what a shell completes to the flags that a command has.
func eachCommandsFlags(t *testing.T, ask func(command string) []string) {
	t.Helper()
	for _, cmd := range commands(testEnv("", nil, nil, nil)) {
		var want []string
		for name := range flagNames(append(slices.Clone(cmd.Flags), commonFlags()...)) {
			if len(name) == 1 {
				name = "-" + name
			} else {
				name = "--" + name
			}
			want = append(want, name)
		}
		slices.Sort(want)
		got := ask(cmd.Name)
		slices.Sort(got)
		if got = slices.Compact(got); !slices.Equal(got, want) {
			t.Errorf("relkit %s: the flags are %q, want %q", cmd.Name, got, want)
		}
	}
}

func shellLines(t *testing.T, cmd *exec.Cmd) []string {
	t.Helper()
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil || errs.Len() > 0 {
		t.Fatalf("%q: %v\n%s", cmd.Args, err, &errs)
	}
	if len(out) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
}

// typist is a person at an interactive shell, where relkit is a function that
// appends its arguments to the file "ran".
type typist struct {
	t      *testing.T
	screen *os.File
	dir    string
	mu     sync.Mutex
	shown  bytes.Buffer
	lines  int
}

func newTypist(t *testing.T, dir, shell string, args []string, environ ...string) *typist {
	t.Helper()
	screen, tty := openTerminal(t)
	p := &typist{t: t, screen: screen, dir: dir}
	cmd := exec.Command(shell, args...)
	cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = dir, tty, tty, tty
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "TERM=xterm", "LC_ALL=C.UTF-8"}, environ...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	tty.Close()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	go func() {
		b := make([]byte, 4096)
		for {
			n, err := screen.Read(b)
			p.mu.Lock()
			p.shown.Write(b[:n])
			p.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return p
}

// enter types keys and the enter key once the shell is ready, which its numbered
// prompt shows, and returns what relkit was then called with.
func (p *typist) enter(keys string) string {
	p.t.Helper()
	p.lines++
	p.waitFor("a prompt", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return strings.Contains(p.shown.String(), fmt.Sprintf("READY%d>", p.lines))
	})
	if _, err := p.screen.WriteString(keys + "\r"); err != nil {
		p.t.Fatal(err)
	}
	var ran []string
	p.waitFor("relkit to be called", func() bool {
		b, _ := os.ReadFile(filepath.Join(p.dir, "ran"))
		ran = strings.Split(string(b), "\n")
		return len(ran) > p.lines
	})
	return ran[p.lines-1]
}

func (p *typist) waitFor(what string, there func() bool) {
	p.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !there(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.t.Fatalf("waited in vain for %s; the terminal shows %q", what, p.shown.String())
		}
	}
}

// typedCases are keys and what relkit is called with, where a shell completes a
// flag as --flag=.
var typedCases = []struct{ keys, want string }{
	{"relkit patch-a\t", "patch-apply"},
	{"relkit patch-rollback --on-mod\tk\t", "patch-rollback --on-modified=keep"},
	{"relkit patch-rollback --on-modified=r\t", "patch-rollback --on-modified=replace"},
	{"relkit patch-apply -n fw\t", "patch-apply -n fw-1-2.rkp"},
	{"relkit patch-apply --root=mac\tx", "patch-apply --root=machine/x"},
	{"relkit patch-apply --root oth\tx", "patch-apply --root other/x"},
	{"relkit sign a\\ f\t", "sign a file"},
	{"relkit completion f\t", "completion fish"},
	{"relkit build --no\t", "build --no"},
}

// TestCompletionTypedInBash presses the keys in an interactive bash.
func TestCompletionTypedInBash(t *testing.T) {
	dir := completionBox(t, "bash")
	rc := "PS1='READY$N> '\nPROMPT_COMMAND='((++N))'\nbind 'set enable-bracketed-paste off'\nsource ./script\nrelkit() { echo \"$*\" >>ran; }\n"
	if err := os.WriteFile(filepath.Join(dir, "rc"), []byte(rc), 0o644); err != nil {
		t.Fatal(err)
	}
	p := newTypist(t, dir, "bash", []string{"--rcfile", "rc", "-i"})
	for _, c := range typedCases {
		want := strings.Replace(c.want, "--on-modified=keep", "--on-modified keep", 1)
		if got := strings.TrimRight(p.enter(c.keys), " "); got != want {
			t.Errorf("%q calls relkit %q, want %q", c.keys, got, want)
		}
	}
}

// TestCompletionTypedInZsh presses the keys in an interactive zsh, which can be
// asked in no other way. What it offers is taken down by a compadd of ours.
func TestCompletionTypedInZsh(t *testing.T) {
	dir := completionBox(t, "zsh")
	rc := `PS1='READY$N> '; setopt prompt_subst; precmd() { ((++N)) }
unsetopt prompt_sp prompt_cr; unset zle_bracketed_paste
autoload -Uz compinit; compinit -u -D
source ./script
relkit() { print -r -- "$*" >>ran }
note() {
	functions[compadd]='
		local -a hits
		[[ ${@[1,(i)(-|--)]} == *-(O|A|D)\ * ]] || { builtin compadd -A hits "$@"; print -rl -- $hits >>offered; }
		builtin compadd "$@"'
}
`
	if err := os.WriteFile(filepath.Join(dir, ".zshrc"), []byte(rc), 0o644); err != nil {
		t.Fatal(err)
	}
	p := newTypist(t, dir, "zsh", []string{"-d", "-i"}, "ZDOTDIR="+dir)
	for _, c := range typedCases {
		if got := strings.TrimRight(p.enter(c.keys), " "); got != c.want {
			t.Errorf("%q calls relkit %q, want %q", c.keys, got, c.want)
		}
	}
	p.enter("note; relkit")
	offered := filepath.Join(dir, "offered")
	eachCommandsFlags(t, func(command string) []string {
		t.Helper()
		_ = os.Remove(offered)
		p.enter("relkit " + command + " -\t\x15relkit")
		b, err := os.ReadFile(offered)
		if err != nil {
			t.Errorf("%v; the terminal shows %q", err, p.shown.String())
		}
		var flags []string
		for _, word := range strings.Fields(string(b)) {
			flags = append(flags, strings.TrimSuffix(word, "="))
		}
		return flags
	})
}
