package patchmake

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/signature"
)

// maxKeyFile bounds a private key file, in bytes.
const maxKeyFile = 64 << 10

// Signer is a key that signs.
type Signer struct{ key ssh.Signer }

// OpenKey reads a private key file: an ordinary SSH key.
func OpenKey(name string) (*Signer, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, failure.As(failure.Usage, fmt.Errorf("reading the key: %w", err))
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxKeyFile))
	if err != nil {
		return nil, fmt.Errorf("reading the key: %w", err)
	}
	key, err := signature.ParsePrivateKey(b, nil)
	if err != nil {
		return nil, failure.As(failure.Usage, fmt.Errorf("key %q: %w", name, err))
	}
	return &Signer{key}, nil
}

// Fingerprint names the key as ssh-keygen -l does.
func (s *Signer) Fingerprint() string { return signature.Fingerprint(s.key.PublicKey()) }

// signoff makes and signs a role's word on a patch.
func (s *Signer) signoff(patch digest.Digest, role string, at time.Time, verdict string, evidence []signature.Evidence) (doc, sig []byte, err error) {
	d := signature.Signoff{Schema: signature.SignoffSchema, Patch: patch, Role: role, Time: at, Verdict: verdict, Evidence: evidence}
	if doc, err = d.Encode(); err != nil {
		return nil, nil, failure.As(failure.Usage, fmt.Errorf("making the sign-off: %w", err))
	}
	sig, err = signature.Sign(s.key, signature.NamespaceSignoff, bytes.NewReader(doc))
	return doc, sig, err
}
