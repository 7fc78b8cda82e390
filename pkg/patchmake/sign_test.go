package patchmake

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/pem"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/signature"
)

func testKey(t *testing.T) string {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestSignNamespaces: a signature for one purpose is none for another.
func TestSignNamespaces(t *testing.T) {
	signer, err := OpenKey(testKey(t))
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		`{"schema":"relkit.channel-releases/v1","product":"fw"}`: signature.NamespaceChannel,
		`{"schema":"relkit.channel-status/v1"}`:                  signature.NamespaceChannel,
		`{"schema":"relkit.build/v1"}`:                           "relkit-file",
		`{"schema":`:                                             "relkit-file",
		"":                                                       "relkit-file",
		"any bytes\x00":                                          "relkit-file",
	} {
		name := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		out := &memOutput{}
		s, err := Sign(context.Background(), name, SignOptions{Signer: signer, Role: "release", At: time.Unix(1, 0),
			Create: func(string, fs.FileMode) (Output, error) { return out, nil }})
		if err != nil || s.Namespace != want || !out.done {
			t.Errorf("%q: %+v, %v", text, s, err)
			continue
		}
		if _, err := signature.Verify(bytes.NewReader([]byte(text)), out.Bytes(), want); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// TestOpenKey: what is no key is a usage error, and says nothing of the content.
func TestOpenKey(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "no"), []byte("secret words"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{filepath.Join(dir, "no"), filepath.Join(dir, "missing")} {
		_, err := OpenKey(name)
		if failure.Of(err) != failure.Usage || bytes.Contains([]byte(err.Error()), []byte("secret")) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
