package process

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/relkit/relkit/pkg/relkittest"
)

// A program that takes more memory than it may does not get it.
func TestMaxMemory(t *testing.T) {
	// tail keeps the whole of a line: 64 MB.
	hog := sh("head -c 64000000 /dev/zero | tail -c 1 >/dev/null; head -c 64000000 /dev/zero | tail -n 1 | wc -c")
	for _, c := range []struct {
		bytes int64
		ok    bool
	}{{32 << 20, false}, {512 << 20, true}, {0, true}} {
		var out bytes.Buffer
		res, err := Run(t.Context(), Job{Argv: hog, Env: env(), MaxMemory: c.bytes, Stdout: &out})
		if err != nil || (strings.TrimSpace(out.String()) == "64000000") != c.ok || (res.MemoryBound == "") != (c.bytes == 0) {
			t.Errorf("with %d bytes: %+v, %v, %q", c.bytes, res, err, out.String())
		}
	}
}

// Without a network there is a loopback that works, and nothing else; the program
// is who it was.
func TestNoNetwork(t *testing.T) {
	relkittest.NeedRoot(t)
	relkittest.Need(t, "setpriv", "unshare")
	var out, bad bytes.Buffer
	res, err := Run(t.Context(), Job{Argv: sh("grep -c : /proc/net/dev; grep -o 'lo:' /proc/net/dev; cat /sys/class/net/lo/flags 2>/dev/null >&2; id -u; grep CapAmb /proc/self/status"), Env: env(), NoNetwork: true, Stdout: &out, Stderr: &bad})
	if err != nil || !res.OK() || out.String() != "1\nlo:\n0\nCapAmb:\t0000000000000000\n" {
		t.Errorf("%+v, %v, %q, %q", res, err, out.String(), bad.String())
	}
	// The same for a user who is not root, where the kernel lets him.
	if err := exec.Command("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "unshare", "-rn", "true").Run(); err != nil {
		relkittest.Skip(t, "users cannot make namespaces here: %v", err)
	}
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	exe := filepath.Join(dir, "relkit")
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(exe, self, 0o755); err != nil {
		t.Fatal(err)
	}
	l, err := Command([]string{"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", exe, SuperviseArg, "10s"}, append(env(), CookieName+"="+NewCookie()))
	if err != nil {
		t.Fatal(err)
	}
	s := Attach(l, NewCookie(), 10*time.Second)
	defer s.Close()
	out.Reset()
	res, err = s.Run(t.Context(), Job{Argv: sh("grep -c : /proc/net/dev; id -u; grep CapEff /proc/self/status"), Env: env(), NoNetwork: true, Stdout: &out, Stderr: &bad})
	if err != nil || !res.OK() || out.String() != "1\n65534\nCapEff:\t0000000000000000\n" {
		t.Errorf("as another: %+v, %v, %q, %q", res, err, out.String(), bad.String())
	}
}

// What dropped its environment and its parents is found in the control group.
func TestSweepFindsWhatDroppedItsEnvironment(t *testing.T) {
	cookie := NewCookie()
	if c := newCgroup(cookie); c == nil {
		relkittest.Skip(t, "needs a control group of version 2 that can be written")
	} else {
		c.remove()
	}
	s, err := Start(&Options{Cookie: cookie})
	if err != nil {
		t.Fatal(err)
	}
	pids := filepath.Join(t.TempDir(), "pids")
	ready := make(chan struct{})
	go func() {
		for range 400 {
			if b, _ := os.ReadFile(pids); strings.Contains(string(b), "ready") {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
		close(ready)
	}()
	go func() {
		<-ready
		p, _ := os.FindProcess(s.link.pid)
		_ = p.Kill()
	}()
	// env -i: nothing of the cookie is left.
	script := `for i in 1 2 3 4; do setsid env -i sh -c 'sleep 1000 & echo $!; wait' >>"$1" & done; sleep 0.5; echo ready >>"$1"; sleep 1000`
	if _, err := s.Run(t.Context(), Job{Argv: sh(script, pids), Env: env()}); err == nil {
		t.Error("a supervisor that was killed answered")
	}
	_ = s.Close()
	for range 200 {
		if b, _ := os.ReadFile("/proc/self/cgroup"); len(b) > 0 {
			if _, err := os.Stat(filepath.Join(ownCgroup(), cgroupPrefix+cookie)); err != nil {
				break
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	gone(t, pids)
}
