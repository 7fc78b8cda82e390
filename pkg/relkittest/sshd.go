package relkittest

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// SSHD is an OpenSSH server on the loopback with keys of its own, behind a
// forwarder that the test can cut or stall.
type SSHD struct {
	// Port is where it is reached, through the forwarder.
	Port int
	// Home is a folder with .ssh in it: a key that it accepts, and known_hosts.
	Home string
	// User is who logs in.
	User string

	dir   string
	inner int // the server's own port
	mu    sync.Mutex
	conns []net.Conn
	stall chan struct{}
}

// StartSSHD starts a server, which ends with the test. It logs root in.
func StartSSHD(t testing.TB) *SSHD {
	t.Helper()
	Need(t, "sshd")
	return startSSHD(t, (*SSHD).serve)
}

// startSSHD makes the keys of a server, and starts it by serve.
func startSSHD(t testing.TB, serve func(*SSHD, testing.TB)) *SSHD {
	t.Helper()
	Need(t, "ssh-keygen", "ssh")
	NeedRoot(t)
	s := &SSHD{User: "root", dir: t.TempDir(), stall: make(chan struct{})}
	s.Home = filepath.Join(s.dir, "home")
	keys := filepath.Join(s.Home, ".ssh")
	if err := os.MkdirAll(keys, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{filepath.Join(s.dir, "host"), filepath.Join(keys, "id_ed25519")} {
		if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f).CombinedOutput(); err != nil {
			t.Fatalf("ssh-keygen: %v: %s", err, out)
		}
	}
	s.inner = freePort(t)
	serve(s, t)
	s.await(t)
	s.forward(t)
	pub, err := os.ReadFile(filepath.Join(s.dir, "host.pub"))
	if err != nil {
		t.Fatal(err)
	}
	line := fmt.Sprintf("[127.0.0.1]:%d %s", s.Port, pub)
	if err := os.WriteFile(filepath.Join(keys, "known_hosts"), []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

// Host is the server as a worker's ssh has it.
func (s *SSHD) Host() string { return fmt.Sprintf("%s@127.0.0.1:%d", s.User, s.Port) }

// ClientPath makes a folder for PATH whose ssh is the real one with the server's
// key and known hosts: ssh(1) takes its home from passwd(5), not from HOME.
func (s *SSHD) ClientPath(t testing.TB) string {
	t.Helper()
	real, err := exec.LookPath("ssh")
	if err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(s.dir, "bin")
	keys := filepath.Join(s.Home, ".ssh")
	script := fmt.Sprintf("#!/bin/sh\nexec %s -F /dev/null -o IdentitiesOnly=yes -o IdentityFile=%s/id_ed25519 -o UserKnownHostsFile=%[2]s/known_hosts \"$@\"\n", real, keys)
	if err := os.MkdirAll(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bin, "ssh"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return bin
}

func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// serve runs this machine's server.
func (s *SSHD) serve(t testing.TB) {
	t.Helper()
	// Where sshd locks itself in before it knows who is there.
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
		t.Fatal(err)
	}
	config := s.configure(t, s.dir)
	path, err := exec.LookPath("sshd") // which must be called by its whole name
	if err != nil {
		t.Fatal(err)
	}
	s.start(t, exec.Command(path, "-D", "-e", "-f", config))
}

// configure writes the server's configuration, for keys that it sees in a folder.
func (s *SSHD) configure(t testing.TB, seen string) (file string) {
	t.Helper()
	lines := []string{"ListenAddress 127.0.0.1:" + strconv.Itoa(s.inner), "HostKey " + filepath.Join(seen, "host"), "PidFile none", "UsePAM no",
		"StrictModes no", "AuthorizedKeysFile " + filepath.Join(seen, "home/.ssh/id_ed25519.pub"), "PermitRootLogin prohibit-password",
		"PasswordAuthentication no", "MaxStartups 100", "MaxSessions 100", "PrintMotd no"}
	file = filepath.Join(s.dir, "config")
	if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// start runs the server until the test ends.
func (s *SSHD) start(t testing.TB, cmd *exec.Cmd) {
	t.Helper()
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("sshd: %s", log.Bytes())
		}
	})
}

func (s *SSHD) await(t testing.TB) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if c, err := net.Dial("tcp", s.address()); err == nil {
			c.Close()
			return
		}
	}
	t.Fatal("sshd does not listen")
}

func (s *SSHD) address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.inner)) }

func (s *SSHD) forward(t testing.TB) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.Port = l.Addr().(*net.TCPAddr).Port
	t.Cleanup(func() { l.Close(); s.Cut() })
	go func() {
		for {
			a, err := l.Accept()
			if err != nil {
				return
			}
			b, err := net.Dial("tcp", s.address())
			if err != nil {
				a.Close()
				continue
			}
			s.mu.Lock()
			s.conns = append(s.conns, a, b)
			stall := s.stall
			s.mu.Unlock()
			go pass(a, b, stall)
			go pass(b, a, stall)
		}
	}()
}

// pass copies from one to the other; once stalled is closed, nothing and without a word.
func pass(to, from net.Conn, stalled <-chan struct{}) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		select {
		case <-stalled:
			return
		default:
		}
		if n > 0 {
			_, err = io.Copy(to, bytes.NewReader(buf[:n]))
		}
		if err != nil {
			to.Close()
			return
		}
	}
}

// Cut closes all connections, as a server that reboots does.
func (s *SSHD) Cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		c.Close()
	}
	s.conns = nil
}

// Stall lets nothing through any more on the connections that there are, and
// closes none: a cable that was pulled. New ones work.
func (s *SSHD) Stall() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.stall)
	s.stall = make(chan struct{})
}
