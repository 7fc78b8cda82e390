package patchmake

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/relkit/relkit/pkg/format/signature"
)

func testKey(t *testing.T) ssh.Signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

// TestSignNamespaces: a signature for one purpose is none for another.
func TestSignNamespaces(t *testing.T) {
	signer := testKey(t)
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
