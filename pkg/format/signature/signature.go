// Package signature makes and checks SSH signatures (OpenSSH's PROTOCOL.sshsig),
// the allowed_signers file that says whose count, and the sign-off documents
// that they are made over.
//
// What Sign makes, `ssh-keygen -Y verify` checks; what `ssh-keygen -Y sign`
// makes, Verify checks.
package signature

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"
)

// The namespaces of relkit's signatures: a signature made for one purpose is
// none for another.
const (
	NamespaceSignoff    = "relkit-signoff"    // "this patch is good", by a role
	NamespaceChannel    = "relkit-channel"    // what a channel offers
	NamespaceTrust      = "relkit-trust"      // who may sign as what
	NamespaceAudit      = "relkit-audit"      // how far an audit log goes, by its machine
	NamespaceProvenance = "relkit-provenance" // what a build's artifacts were made of
)

// MaxSize bounds an armored signature in bytes: a 16384-bit RSA key's is under 8 KiB.
const MaxSize = 16 << 10

// Sign signs all of message for a namespace and returns the armored signature.
// RSA signs with rsa-sha2-512. A signer whose signature does not verify with its
// own public key, as an agent's might, is an error.
func Sign(signer ssh.Signer, namespace string, message io.Reader) ([]byte, error) {
	key := signer.PublicKey()
	if err := CheckKey(key); err != nil {
		return nil, err
	}
	s, err := sshsig.Sign(message, provenSigner{signer}, sshsig.HashSHA512, namespace)
	if err != nil {
		return nil, fmt.Errorf("signing: %w", err)
	}
	return sshsig.Armor(s), nil
}

// provenSigner signs as signatures are accepted, and checks what it hands on.
type provenSigner struct{ ssh.Signer }

func (p provenSigner) Sign(rand io.Reader, data []byte) (*ssh.Signature, error) {
	if Plain(p.PublicKey()).Type() == ssh.KeyAlgoRSA {
		return p.SignWithAlgorithm(rand, data, ssh.KeyAlgoRSASHA512)
	}
	return p.prove(data)(p.Signer.Sign(rand, data))
}

func (p provenSigner) SignWithAlgorithm(rand io.Reader, data []byte, algorithm string) (*ssh.Signature, error) {
	s, ok := p.Signer.(ssh.AlgorithmSigner)
	if !ok {
		return nil, fmt.Errorf("the key cannot sign with %s", algorithm)
	}
	return p.prove(data)(s.SignWithAlgorithm(rand, data, algorithm))
}

func (p provenSigner) prove(data []byte) func(*ssh.Signature, error) (*ssh.Signature, error) {
	return func(s *ssh.Signature, err error) (*ssh.Signature, error) {
		if err == nil {
			err = checkFormat(p.PublicKey(), s)
		}
		if err == nil {
			err = p.PublicKey().Verify(data, s)
		}
		return s, err
	}
}

// Verify checks that armored is a signature over all of message for the
// namespace, and returns the key that made it: a *ssh.Certificate where a
// certified key did, of which it is known then that its authority signed it, and
// no more. Whether the key may sign is for AllowedSigners to say.
func Verify(message io.Reader, armored []byte, namespace string) (ssh.PublicKey, error) {
	s, err := parse(armored)
	if err != nil {
		return nil, fmt.Errorf("reading signature: %w", err)
	}
	if s.Namespace != namespace {
		return nil, fmt.Errorf("signature is for namespace %q, want %q", s.Namespace, namespace)
	}
	if err := sshsig.Verify(message, s, s.PublicKey, s.HashAlgorithm, namespace); err != nil {
		return nil, fmt.Errorf("signature by key %s does not verify: %w", Fingerprint(s.PublicKey), err)
	}
	return s.PublicKey, nil
}

// parse reads an armored signature of which nothing is left over, and whose
// content is written again byte for byte.
func parse(armored []byte) (*sshsig.Signature, error) {
	blob, err := dearmor(armored)
	if err != nil {
		return nil, err
	}
	s, err := sshsig.ParseSignature(blob)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(s.Marshal(), blob) {
		return nil, errors.New("not in the one form a signature has: data left over in it")
	}
	if err := CheckKey(s.PublicKey); err != nil {
		return nil, err
	}
	return s, checkFormat(s.PublicKey, s.Signature)
}

// dearmor takes off the two lines around the base64, as strictly as ssh-keygen
// and more: nothing may follow them.
func dearmor(armored []byte) ([]byte, error) {
	const begin, end = "-----BEGIN SSH SIGNATURE-----\n", "\n-----END SSH SIGNATURE-----"
	if len(armored) > MaxSize {
		return nil, fmt.Errorf("%d bytes: at most %d", len(armored), MaxSize)
	}
	body, ok := strings.CutPrefix(string(armored), begin)
	if !ok {
		return nil, fmt.Errorf("does not start with %q", begin)
	}
	body, rest, ok := strings.Cut(body, end)
	switch {
	case !ok:
		return nil, fmt.Errorf("bad armor: no %q", end)
	case strings.Trim(rest, " \t\r\n") != "":
		return nil, errors.New("data after the end of the signature")
	}
	blob, err := base64.StdEncoding.Strict().DecodeString(body)
	if err != nil {
		return nil, fmt.Errorf("bad armor: %w", err)
	}
	return blob, nil
}
