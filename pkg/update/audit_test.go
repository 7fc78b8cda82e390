package update

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/relkit/relkit/pkg/engine/state"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/format/signature"
	"github.com/relkit/relkit/pkg/relkittest"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// auditMachine is a folder that is a machine with that machine.toml.
func auditMachine(t *testing.T, toml string) (Options, *bytes.Buffer) {
	t.Helper()
	root := t.TempDir()
	for name, text := range map[string]string{MachineFile: toml, DefaultState + "/.keep": ""} {
		name = filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var said bytes.Buffer
	return Options{Root: root, Now: func() time.Time { return now }, Log: slog.New(slog.NewTextHandler(&said, nil)), Syslog: filepath.Join(root, "log")}, &said
}

// refused has relkit refuse something on a machine: there is nothing to take back.
func refused(t *testing.T, o Options) {
	t.Helper()
	if _, err := Rollback(context.Background(), RollbackOptions{Options: o, Last: 1}); failure.Of(err) != failure.Refused {
		t.Fatalf("got %v", err)
	}
}

func stateOf(t *testing.T, o Options) *state.State {
	t.Helper()
	f, err := fsys.Open(filepath.Join(o.Root, DefaultState))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return state.New(f)
}

// received are the lines that came to the log since the last call.
func received(t *testing.T, c *net.UnixConn) (lines []string) {
	t.Helper()
	b := make([]byte, 1<<16)
	for {
		if err := c.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		n, err := c.Read(b)
		if err != nil {
			return lines
		}
		_, line, ok := strings.Cut(string(b[:n]), "]: ")
		if !ok {
			t.Fatalf("%q", b[:n])
		}
		lines = append(lines, line)
	}
}

// TestSyslog: every line is sent, as it stands, once; what nobody heard is sent
// when somebody listens.
func TestSyslog(t *testing.T) {
	o, said := auditMachine(t, "[audit]\nsyslog = true\n")
	refused(t, o) // nobody listens
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: o.Syslog, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	refused(t, o)
	got := received(t, c)
	b, err := os.ReadFile(filepath.Join(o.Root, DefaultState, "audit.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	if want := strings.TrimSuffix(string(b), "\n"); strings.Join(got, "\n") != want || len(got) != 2 {
		t.Fatalf("got %q, want %q", got, want)
	}
	refused(t, o)
	if again := received(t, c); len(again) != 1 || again[0] == got[1] {
		t.Fatalf("got %q", again)
	}
	if _, err := ListTransactions(context.Background(), o); err != nil {
		t.Fatal(err)
	}
	if more := received(t, c); len(more) != 0 {
		t.Fatalf("sent again: %q", more)
	}
	// A line too long for a message comes without its lists, with its digest.
	if err := stateOf(t, o).Note(journal.AuditLine{Event: journal.Refused, Time: now, Reason: strings.Repeat("ä", 9000), Kept: []string{"a"}}); err != nil {
		t.Fatal(err)
	}
	refused(t, o)
	long := received(t, c)
	var s shortened
	if len(long) != 2 || json.Unmarshal([]byte(long[0]), &s) != nil || s.Line == nil || s.Line.Kept != nil || len(s.Line.Reason) > 2010 {
		t.Fatalf("got %q", long)
	}
	b, err = os.ReadFile(filepath.Join(o.Root, DefaultState, "audit.jsonl"))
	if err != nil || digest.Of([]byte(strings.Split(string(b), "\n")[3])) != s.Shortened {
		t.Fatalf("digest %s, %v", s.Shortened, err)
	}
	if said.Len() > 0 {
		t.Errorf("warned: %s", said)
	}
}

// TestSyslogStuck: a log that does not read fails nothing, and the lines are
// kept for the next run.
func TestSyslogStuck(t *testing.T) {
	o, said := auditMachine(t, "[audit]\nsyslog = true\n")
	refused(t, o)
	s := stateOf(t, o)
	for range 600 { // more than the queue of a socket takes
		if err := s.Note(journal.AuditLine{Event: journal.Refused, Time: now}); err != nil {
			t.Fatal(err)
		}
	}
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: o.Syslog, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	start := time.Now()
	refused(t, o)
	if took := time.Since(start); took > 4*readerTime {
		t.Errorf("took %v", took)
	}
	if !strings.Contains(said.String(), "the next run sends them") {
		t.Errorf("said %q", said)
	}
	got := map[string]bool{}
	for deadline := time.Now().Add(time.Minute); len(got) < 602 && time.Now().Before(deadline); {
		for _, line := range received(t, c) {
			got[line] = true
		}
		r := make(chan struct{})
		go func() { defer close(r); _ = sendAll(o) }()
		for done := false; !done; {
			for _, line := range received(t, c) {
				got[line] = true
			}
			select {
			case <-r:
				done = true
			default:
			}
		}
	}
	if len(got) != 602 {
		t.Fatalf("%d lines of 602 came", len(got))
	}
}

// TestJournald: systemd's journald gets every line once, in fields one looks for,
// with the line as it stands, however long it is.
func TestJournald(t *testing.T) {
	o, said := auditMachine(t, "[audit]\njournald = true\nsyslog = true\n")
	o.Journald = filepath.Join(o.Root, "nobody")
	refused(t, o) // nobody listens
	d := relkittest.StartJournald(t)
	o.Journald = d.Socket
	s := stateOf(t, o)
	to := &journal.Version{Product: "fw", Version: "4.2"}
	long := journal.AuditLine{
		Event: journal.Applied, Time: now, PatchID: "fw-4.1-4.2", Patch: digest.Of([]byte("x")), Transaction: "0000000000000001-a", From: &journal.Version{Product: "fw", Version: "4.1"}, To: to,
		Signoffs: []string{"release SHA256:a", "qa SHA256:b"}, Insecure: []string{"allow-downgrade"}, Reason: "two\nlines " + strings.Repeat("ä", 300_000),
	}
	if err := s.Note(long); err != nil {
		t.Fatal(err)
	}
	refused(t, o)
	got := d.Entries(t, 3, "SYSLOG_IDENTIFIER=relkit")
	b, err := os.ReadFile(filepath.Join(o.Root, DefaultState, "audit.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range strings.Split(strings.TrimSpace(string(b)), "\n") {
		if got[i]["RELKIT_LINE"] != line {
			t.Errorf("line %d: got %.200q", i+1, got[i]["RELKIT_LINE"])
		}
	}
	for field, want := range map[string]string{
		"RELKIT_SEQ": "2", "RELKIT_EVENT": "applied", "RELKIT_TIME": now.UTC().Format(time.RFC3339Nano), "RELKIT_PATCH_ID": "fw-4.1-4.2", "RELKIT_PATCH": long.Patch.String(),
		"RELKIT_TRANSACTION": long.Transaction, "RELKIT_PRODUCT": "fw", "RELKIT_FROM": "4.1", "RELKIT_TO": "4.2", "RELKIT_INSECURE": "allow-downgrade",
		"RELKIT_REASON": long.Reason, "PRIORITY": "4", "SYSLOG_FACILITY": "10",
	} {
		if got[1][field] != want {
			t.Errorf("%s: got %.200q, want %.200q", field, got[1][field], want)
		}
	}
	if list, ok := got[1]["RELKIT_SIGNOFF"].([]any); !ok || len(list) != 2 || list[1] != "qa SHA256:b" {
		t.Errorf("sign-offs: %v", got[1]["RELKIT_SIGNOFF"])
	}
	if m, _ := got[0]["MESSAGE"].(string); !strings.HasPrefix(m, "refused: ") || !strings.Contains(m, "can be taken back") {
		t.Errorf("message %q", m)
	}
	if m, _ := got[1]["MESSAGE"].(string); !strings.HasPrefix(m, "applied fw-4.1-4.2: fw 4.1 -> 4.2; signed by release SHA256:a; ") {
		t.Errorf("message %.200q", m)
	}
	refused(t, o)
	if got = d.Entries(t, 4, "SYSLOG_IDENTIFIER=relkit"); len(got) != 4 {
		t.Errorf("%d entries, want 4", len(got))
	}
	if said.Len() > 0 {
		t.Errorf("warned: %s", said)
	}
}

// sendAll is a run that only publishes.
func sendAll(o Options) error {
	m, err := openMachine(o)
	if err != nil {
		return err
	}
	return m.Close()
}

// TestSignedHead: the host key signs the head after each run, and ssh-keygen
// verifies it.
func TestSignedHead(t *testing.T) {
	relkittest.Need(t, "ssh-keygen")
	o, said := auditMachine(t, "[audit]\nhost_key = \"/key\"\n")
	refused(t, o)
	if !strings.Contains(said.String(), "not signed") {
		t.Errorf("without a key it said %q", said)
	}
	run := func(stdin []byte, args ...string) {
		t.Helper()
		cmd := exec.Command("ssh-keygen", args...)
		cmd.Dir, cmd.Stdin = o.Root, bytes.NewReader(stdin)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%q: %v: %s", args, err, out)
		}
	}
	run(nil, "-q", "-t", "ed25519", "-N", "", "-f", "key")
	s := stateOf(t, o)
	for range 2 {
		refused(t, o)
		_, head, err := s.Verify()
		if err != nil {
			t.Fatal(err)
		}
		signed, err := s.ReadSignedHead()
		if err != nil || signed == nil || signed.Head != head {
			t.Fatalf("signed %+v, the head is %v, %v", signed, head, err)
		}
	}
	b, err := os.ReadFile(filepath.Join(o.Root, DefaultState, "audit.head"))
	if err != nil {
		t.Fatal(err)
	}
	_, message, armored, err := journal.ParseSignedHead(b)
	if err != nil {
		t.Fatal(err)
	}
	pub, err := os.ReadFile(filepath.Join(o.Root, "key.pub"))
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"sig": armored, "signers": append([]byte("box "), pub...)} {
		if err := os.WriteFile(filepath.Join(o.Root, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run(message, "-Y", "verify", "-f", "signers", "-I", "box", "-n", signature.NamespaceAudit, "-s", "sig")
	// A head that somebody has put there is no signed one.
	forged := bytes.Replace(b, []byte(`"count":3`), []byte(`"count":2`), 1)
	if err := os.WriteFile(filepath.Join(o.Root, DefaultState, "audit.head"), forged, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.ReadSignedHead(); err == nil || bytes.Equal(forged, b) {
		t.Fatalf("got %v", err)
	}
	refused(t, o)
	if signed, err := s.ReadSignedHead(); err != nil || signed.Count != 4 {
		t.Fatalf("signed again: %+v, %v", signed, err)
	}
}
