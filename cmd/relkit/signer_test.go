package main

import (
	"bytes"
	"crypto/ed25519"
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"github.com/relkit/relkit/pkg/format/signature"
)

// lockedKey makes a private key file with the passphrase "secret".
func lockedKey(t *testing.T, dir string) string {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKeyWithPassphrase(key, "", []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "locked.key")
	if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestPassphrase: it is asked for on the controlling terminal, wherever the
// streams lead, shown nowhere, and the terminal echoes again afterwards, also
// when the asking is cut short.
func TestPassphrase(t *testing.T) {
	for _, c := range []struct {
		name, typed string
		signal      os.Signal
		status      int
		says        string
	}{
		{"right", "secret\n", nil, 0, ""},
		{"wrong", "guess\n", nil, 2, "locked.key"},
		{"nothing", "\x04", nil, 2, "nothing was typed"},
		{"control-C", "sesame\x03", nil, 130, "interrupt"},
		{"terminated", "", syscall.SIGTERM, 143, "terminated"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			doc := filepath.Join(dir, "doc")
			if err := os.WriteFile(doc, []byte("text"), 0o600); err != nil {
				t.Fatal(err)
			}
			screen, tty := openTerminal(t)
			cmd := sampleProcess(t, "sign", doc, "--key", lockedKey(t, dir))
			cmd.Args[0] = "relkit"
			var errs bytes.Buffer
			cmd.Stderr = &errs
			cmd.ExtraFiles = []*os.File{tty}
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 3}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			shown := readUntil(t, screen, "Passphrase for ")
			if c.signal != nil {
				if err := cmd.Process.Signal(c.signal); err != nil {
					t.Fatal(err)
				}
			} else if _, err := screen.WriteString(c.typed); err != nil {
				t.Fatal(err)
			}
			var exit *exec.ExitError
			if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
				t.Fatal(err)
			}
			if got := cmd.ProcessState.ExitCode(); got != c.status || !strings.Contains(errs.String(), c.says) {
				t.Errorf("status %d, stderr %q, want %d and %q", got, &errs, c.status, c.says)
			}
			shown += readSome(screen)
			if word := strings.Trim(c.typed, "\n\x03\x04"); word != "" && strings.Contains(shown+errs.String(), word) {
				t.Errorf("what was typed shows: %q, stderr %q", shown, &errs)
			}
			if now, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS); err != nil || now.Lflag&unix.ECHO == 0 {
				t.Errorf("the terminal does not echo any more (%v)", err)
			}
			checkSignature(t, doc, c.status == 0)
		})
	}
}

func checkSignature(t *testing.T, doc string, want bool) {
	t.Helper()
	sig, err := os.ReadFile(doc + ".sig")
	if (err == nil) != want {
		t.Errorf("signed: %v, want %v", err == nil, want)
	}
	if !want {
		return
	}
	if _, err := signature.Verify(strings.NewReader("text"), sig, "relkit-file"); err != nil {
		t.Error(err)
	}
}

// readUntil reads what the terminal shows until text is among it.
func readUntil(t *testing.T, screen *os.File, text string) string {
	t.Helper()
	shown := ""
	for deadline := time.Now().Add(20 * time.Second); !strings.Contains(shown, text); {
		if time.Now().After(deadline) {
			t.Fatalf("the terminal shows %q, want %q", shown, text)
		}
		shown += readSome(screen)
	}
	return shown
}

// readSome is what the terminal shows within a tenth of a second.
func readSome(screen *os.File) string {
	fds := []unix.PollFd{{Fd: int32(screen.Fd()), Events: unix.POLLIN}}
	if n, err := unix.Poll(fds, 100); n <= 0 || err != nil {
		return ""
	}
	buf := make([]byte, 4096)
	n, _ := screen.Read(buf)
	return string(buf[:n])
}
