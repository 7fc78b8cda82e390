// Package signature makes and checks SSH signatures (OpenSSH's PROTOCOL.sshsig),
// the allowed_signers file that says whose count, and the sign-off documents
// that they are made over.
//
// What Sign makes, `ssh-keygen -Y verify` checks; what `ssh-keygen -Y sign`
// makes, Verify checks.
package signature

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"
)

// The namespaces of relkit's signatures: a signature made for one purpose is
// none for another.
const (
	NamespaceSignoff = "relkit-signoff" // "this patch is good", by a role
	NamespaceChannel = "relkit-channel" // what a channel offers
	NamespaceTrust   = "relkit-trust"   // who may sign as what
)

// MaxSize bounds an armored signature in bytes: a 16384-bit RSA key's is under 8 KiB.
const MaxSize = 16 << 10

// minRSABits is the shortest RSA key that counts (NIST SP 800-131A).
const minRSABits = 2048

// signatureFormats is what each accepted key type may sign with. ssh-rsa, which
// is RSA with SHA-1, ssh-dss and certificates are not among them.
var signatureFormats = map[string][]string{
	ssh.KeyAlgoED25519:   {ssh.KeyAlgoED25519},
	ssh.KeyAlgoECDSA256:  {ssh.KeyAlgoECDSA256},
	ssh.KeyAlgoECDSA384:  {ssh.KeyAlgoECDSA384},
	ssh.KeyAlgoECDSA521:  {ssh.KeyAlgoECDSA521},
	ssh.KeyAlgoSKED25519: {ssh.KeyAlgoSKED25519},
	ssh.KeyAlgoSKECDSA256: {
		ssh.KeyAlgoSKECDSA256,
	},
	ssh.KeyAlgoRSA: {ssh.KeyAlgoRSASHA256, ssh.KeyAlgoRSASHA512},
}

// Sign signs all of message for a namespace and returns the armored signature.
// An RSA key signs with rsa-sha2-512.
func Sign(signer ssh.Signer, namespace string, message io.Reader) ([]byte, error) {
	if err := checkKey(signer.PublicKey()); err != nil {
		return nil, err
	}
	s, err := sshsig.Sign(message, signer, sshsig.HashSHA512, namespace)
	if err != nil {
		return nil, fmt.Errorf("signing: %w", err)
	}
	return sshsig.Armor(s), nil
}

// Verify checks that armored is a signature over all of message for the
// namespace, and returns the key that made it. Whether that key may sign is for
// AllowedSigners to say.
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

// parse reads an armored signature of which nothing is left over: one PEM
// block without headers, whose content is written again byte for byte.
func parse(armored []byte) (*sshsig.Signature, error) {
	if len(armored) > MaxSize {
		return nil, fmt.Errorf("%d bytes: at most %d", len(armored), MaxSize)
	}
	const begin = "-----BEGIN " + sshsig.PEMType + "-----"
	if !bytes.HasPrefix(armored, []byte(begin)) {
		return nil, fmt.Errorf("does not start with %q", begin)
	}
	block, rest := pem.Decode(armored)
	switch {
	case block == nil || block.Type != sshsig.PEMType || len(block.Headers) > 0 || bytes.Count(armored, []byte("-----BEGIN")) > 1:
		return nil, errors.New("bad armor")
	case len(bytes.TrimSpace(rest)) > 0:
		return nil, errors.New("data after the end of the signature")
	}
	s, err := sshsig.ParseSignature(block.Bytes)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(s.Marshal(), block.Bytes) {
		return nil, errors.New("not in the one form a signature has: data left over in it")
	}
	if err := checkKey(s.PublicKey); err != nil {
		return nil, err
	}
	if want := signatureFormats[s.PublicKey.Type()]; !slices.Contains(want, s.Signature.Format) {
		return nil, fmt.Errorf("made with %q: want %s", s.Signature.Format, strings.Join(want, " or "))
	}
	return s, nil
}

// checkKey refuses the keys whose signatures are not accepted.
func checkKey(key ssh.PublicKey) error {
	if _, ok := key.(*ssh.Certificate); ok {
		return fmt.Errorf("key is a certificate (%s): certificates are not accepted, list the key itself", key.Type())
	}
	if _, ok := signatureFormats[key.Type()]; !ok {
		return fmt.Errorf("key type %q is not accepted", key.Type())
	}
	if key.Type() != ssh.KeyAlgoRSA {
		return nil
	}
	if bits := rsaBits(key); bits < minRSABits {
		return fmt.Errorf("RSA key of %d bits: at least %d", bits, minRSABits)
	}
	return nil
}

// rsaBits is the length of an RSA key's modulus.
func rsaBits(key ssh.PublicKey) int {
	var w struct {
		Name string
		E, N []byte
	}
	if ssh.Unmarshal(key.Marshal(), &w) != nil {
		return 0
	}
	n := bytes.TrimLeft(w.N, "\x00")
	if len(n) == 0 {
		return 0
	}
	bits := 8 * len(n)
	for top := n[0]; top < 0x80; top <<= 1 {
		bits--
	}
	return bits
}

// Fingerprint names a key as ssh-keygen -l does: "SHA256:…".
func Fingerprint(key ssh.PublicKey) string { return ssh.FingerprintSHA256(key) }

// ParsePrivateKey reads a private key file: OpenSSH's own format, or PEM.
// passphrase is asked for only where the key is encrypted; nil means that there
// is no way to ask.
func ParsePrivateKey(pemBytes []byte, passphrase func() ([]byte, error)) (ssh.Signer, error) {
	const maxKeyFile = 64 << 10
	if len(pemBytes) > maxKeyFile {
		return nil, fmt.Errorf("private key of %d bytes: at most %d", len(pemBytes), maxKeyFile)
	}
	signer, err := ssh.ParsePrivateKey(pemBytes)
	var missing *ssh.PassphraseMissingError
	if errors.As(err, &missing) {
		if passphrase == nil {
			return nil, errors.New("private key is encrypted and there is no way to ask for its passphrase")
		}
		var phrase []byte
		if phrase, err = passphrase(); err != nil {
			return nil, fmt.Errorf("asking for the key's passphrase: %w", err)
		}
		signer, err = ssh.ParsePrivateKeyWithPassphrase(pemBytes, phrase)
	}
	if err != nil {
		return nil, fmt.Errorf("reading private key: %w", err)
	}
	return signer, checkKey(signer.PublicKey())
}
