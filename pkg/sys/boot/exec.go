package boot

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// program is a boot loader that somebody else's program speaks to. It is called as
//
//	PROGRAM state                     prints "rest", "good", "keep" or "test LEFT"
//	PROGRAM describe SLOT ARGS…       writes the entry of SLOT (test or good)
//	PROGRAM choose WORD [TRIES]       the decisive write, durable when it ends
//	PROGRAM covers IMAGE INITRD       exits 0 where those boot at rest, 1 where not
//
// with RELKIT_ROOT, the root, and RELKIT_FOLDER, where the slots lie, in its
// environment. What it gets wrong, relkit cannot mend.
type program struct {
	root    string // a path of this machine
	dir     string
	command string
}

func (p *program) Folder() string { return p.dir + "/relkit" }

// timeout bounds one call.
const timeout = time.Minute

func (p *program) run(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(p.root, p.command), args...)
	cmd.Env = append(cmd.Environ(), "RELKIT_ROOT="+p.root, "RELKIT_FOLDER="+filepath.Join(p.root, p.Folder()))
	cmd.WaitDelay = time.Second
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("running %s %s: %w%s", p.command, strings.Join(args, " "), err, after(stderr.String()))
	}
	return strings.TrimSpace(string(out)), err
}

// after is what a program said, behind an error.
func after(said string) string {
	if said = strings.TrimSpace(said); said == "" {
		return ""
	}
	lines := strings.Split(said, "\n")
	return ": " + lines[len(lines)-1]
}

func (p *program) State() (Choice, int, error) {
	out, err := p.run("state")
	if err != nil {
		return "", 0, err
	}
	word, rest, _ := strings.Cut(out, " ")
	c, tries := Choice(word), 0
	if c == Test {
		tries, err = strconv.Atoi(rest)
	}
	if err != nil || !c.valid() || tries < 0 || c != Test && rest != "" {
		return "", 0, fmt.Errorf("running %s state: got %q, want rest, good, keep or \"test LEFT\"", p.command, out)
	}
	return c, tries, nil
}

func (p *program) Describe(slot Choice, args string) error {
	_, err := p.run(append([]string{"describe", string(slot)}, strings.Fields(args)...)...)
	return err
}

func (p *program) Choose(c Choice, tries int) error {
	args := []string{"choose", string(c)}
	if c == Test {
		args = append(args, strconv.Itoa(tries))
	}
	_, err := p.run(args...)
	return err
}

func (p *program) Covers(k Kernel) (bool, error) {
	_, err := p.run("covers", "/"+k.Image, "/"+k.Initrd)
	return err == nil, nil
}

func (p *program) Refresh() error { return nil }
