package relkittest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// Journald is a systemd-journald of the test's own.
type Journald struct {
	// Socket is where it takes entries.
	Socket string
	// logs is a pattern of the files they come to.
	logs string
}

// journaldTool is not on anybody's PATH.
const journaldTool = "/lib/systemd/systemd-journald"

// StartJournald runs systemd's journald until the test ends, without a systemd: in
// a mount namespace with a /run and a /var/log of its own, and as one of a journal namespace
// (systemd-journald.service(8)), which leaves the kernel's messages and audit alone.
func StartJournald(t testing.TB) *Journald {
	t.Helper()
	NeedRoot(t)
	Need(t, "unshare", "journalctl", journaldTool)
	var said bytes.Buffer
	cmd := exec.Command("unshare", "--mount", "sh", "-c", "mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /var/log && exec "+journaldTool+" relkit")
	cmd.Stderr, cmd.SysProcAttr = &said, &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // its namespace and /run go with it
		_ = cmd.Wait()
	})
	root := fmt.Sprintf("/proc/%d/root/", cmd.Process.Pid)
	j := &Journald{Socket: root + "run/systemd/journal.relkit/socket", logs: root + "var/log/journal/*/system.journal"}
	WaitFor(t, "journald: "+j.Socket, func() bool {
		_, err := os.Lstat(j.Socket)
		return err == nil
	})
	return j
}

// Entries are the entries that match, as journalctl reads them, once there are n.
// A field that is there several times is a list.
func (j *Journald) Entries(t testing.TB, n int, match ...string) (entries []map[string]any) {
	t.Helper()
	WaitFor(t, fmt.Sprintf("%d entries with %q", n, match), func() bool {
		entries = nil
		args := append([]string{"--file", j.logs, "--output", "json", "--all", "--no-pager", "--quiet"}, match...)
		out, err := exec.Command("journalctl", args...).Output()
		if err != nil {
			return false // no file yet
		}
		for line := range bytes.Lines(out) {
			var e map[string]any
			if err := json.Unmarshal(line, &e); err != nil {
				t.Fatalf("%v: %s", err, line)
			}
			entries = append(entries, e)
		}
		return len(entries) >= n
	})
	return entries
}

// WaitFor polls until it is so, half a minute at most.
func WaitFor(t testing.TB, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited half a minute for %s", what)
		}
	}
}
