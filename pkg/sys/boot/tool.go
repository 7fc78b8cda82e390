package boot

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// tool runs a program of the machine, in its root.
func (s *Setup) tool(out io.Writer, name string, args ...string) error {
	if out == nil {
		out = io.Discard
	}
	var file string
	for _, dir := range []string{"usr/sbin", "usr/bin", "sbin", "bin"} {
		if _, err := os.Stat(filepath.Join(s.o.Dir, dir, name)); err == nil {
			file = "/" + dir + "/" + name
			break
		}
	}
	if file == "" {
		return fmt.Errorf("running %s: it is not installed in %s", name, s.o.Dir)
	}
	cmd := &exec.Cmd{
		Path: file, Args: append([]string{name}, args...), Dir: "/", Stdout: out, Stderr: out,
		Env: append(os.Environ(), "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"),
	}
	if s.o.Dir != "/" && s.o.Dir != "" {
		cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: s.o.Dir}
	}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("running %s: %w", strings.Join(append([]string{name}, args...), " "), err)
	}
	return nil
}
