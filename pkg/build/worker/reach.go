package worker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"

	"github.com/relkit/relkit/pkg/config"
	"github.com/relkit/relkit/pkg/sys/process"
	"github.com/relkit/relkit/pkg/transport/ssh"
)

// The kinds of worker.
const (
	Local   = "local"
	SSH     = "ssh"
	OpenSSH = "openssh"
	Slurm   = "slurm"
)

// ErrUnreachable is the error of a worker on which no session can be had.
var ErrUnreachable = errors.New("cannot be used")

// kind says how a worker is reached.
func kind(w config.Worker) string {
	switch {
	case w.SSH != "":
		return SSH
	case w.OpenSSH != "":
		return OpenSSH
	case w.Slurm != nil:
		return Slurm
	}
	return Local
}

// Check finds what cannot be right about a worker, and at which key.
func Check(w config.Worker) (key string, err error) {
	switch kind(w) {
	case SSH:
		_, err = ssh.ParseTarget(w.SSH)
	case OpenSSH:
		_, err = sshArgv(w.OpenSSH, "")
	case Local:
		return "", nil
	}
	if err == nil && w.Dir != "" && !path.IsAbs(w.Dir) {
		return "dir", fmt.Errorf("dir %q is not absolute", w.Dir)
	}
	return kind(w), err
}

// reach has a worker's shell run a script.
func reach(ctx context.Context, w config.Worker, o Options, text string) (*process.Link, error) {
	command := loginCommand(text)
	switch kind(w) {
	case SSH:
		return reachSSH(ctx, w.SSH, o, command)
	case OpenSSH:
		argv, err := sshArgv(w.OpenSSH, command)
		if err != nil {
			return nil, err
		}
		return process.Command(argv, os.Environ())
	default:
		return process.Command(srunArgv(*w.Slurm, o, text), os.Environ())
	}
}

// loginCommand has a login shell, which may be any, run a script of sh(1). It is one
// line and has nothing in its quotes that a shell takes for anything there: csh(1) has
// no line feeds in them, and "!" is its history; fish(1) has backslashes, though not
// before a digit.
func loginCommand(text string) string {
	var b strings.Builder
	for _, c := range []byte(text) {
		if c < ' ' || c > '~' || strings.IndexByte(`'\!`, c) >= 0 {
			fmt.Fprintf(&b, `\0%03o`, c)
		} else {
			b.WriteByte(c)
		}
	}
	return `exec /bin/sh -c 'eval "$(printf %b "$0")"' '` + b.String() + `'`
}

func reachSSH(ctx context.Context, host string, o Options, command string) (*process.Link, error) {
	target, err := ssh.ParseTarget(host)
	if err != nil {
		return nil, err
	}
	c, err := ssh.Dial(ctx, target, ssh.Options{Home: o.env("HOME"), User: o.env("USER"), AgentSocket: o.env("SSH_AUTH_SOCK")})
	if err != nil {
		return nil, err
	}
	p, err := c.Start(ctx, command)
	if err != nil {
		c.Close()
		return nil, err
	}
	return &process.Link{In: p.Stdin, Out: p.Stdout, Said: p.Stderr, Kill: func() { c.Close() }, Wait: func() error {
		err := p.Wait()
		c.Close()
		return err
	}}, nil
}

// sshArgv calls ssh(1), which reads ssh_config(5). It must not ask anybody, and
// share no connection: one that another holds would outlive the session.
func sshArgv(host, command string) ([]string, error) {
	argv := []string{"ssh", "-T", "-x", "-a", "-e", "none"}
	for _, option := range []string{"BatchMode=yes", "ControlMaster=no", "ControlPath=none", "ClearAllForwardings=yes", "ConnectTimeout=30",
		"ServerAliveInterval=15", "ServerAliveCountMax=4", "LogLevel=ERROR", "PermitLocalCommand=no"} {
		argv = append(argv, "-o", option)
	}
	if !strings.HasPrefix(host, "ssh://") {
		t, err := ssh.ParseTarget(host)
		if err != nil {
			return nil, err
		}
		// Without a port ssh_config(5) has one, and a name need be none that DNS knows.
		if strings.HasSuffix(host, ":"+strconv.Itoa(t.Port)) {
			argv = append(argv, "-p", strconv.Itoa(t.Port))
		}
		if host = t.Host; t.User != "" {
			host = t.User + "@" + t.Host
		}
	}
	return append(argv, "--", host, command), nil
}

// srunArgv calls srun(1) for one task, which gets nothing of the caller's
// environment. Slurm's own limits are those of the partition: relkit keeps its
// time itself.
func srunArgv(s config.Slurm, o Options, text string) []string {
	argv := []string{"srun", "--quiet", "--nodes=1", "--ntasks=1", "--export=NONE", "--job-name=" + JobName(o.Cookie)}
	if o.Slots > 1 {
		argv = append(argv, "--cpus-per-task="+strconv.Itoa(o.Slots))
	}
	for _, f := range []struct{ flag, value string }{{"partition", s.Partition}, {"constraint", s.Constraint}, {"account", s.Account}} {
		if f.value != "" {
			argv = append(argv, "--"+f.flag+"="+f.value)
		}
	}
	return append(argv, "/bin/sh", "-c", text)
}

// JobName is what the job of a session is called in Slurm.
func JobName(cookie string) string { return "relkit-" + cookie }
