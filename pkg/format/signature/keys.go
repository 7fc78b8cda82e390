package signature

import (
	"crypto/rsa"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// minRSABits is the shortest RSA key that counts (NIST SP 800-131A).
const minRSABits = 2048

// signatureFormats is what each accepted key type may sign with. ssh-rsa, which
// is RSA with SHA-1, and ssh-dss are not among them.
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

// CheckKey tells why a key's signatures are not accepted, whoever it belongs
// to; nil where they may be.
func CheckKey(key ssh.PublicKey) error {
	if cert, ok := key.(*ssh.Certificate); ok {
		return checkCertificate(cert)
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

// CheckSigner tells why nothing that key signs at a time can count; nil where it
// may. A certificate can have expired, or be no user's.
func CheckSigner(key ssh.PublicKey, at time.Time) error {
	if err := CheckKey(key); err != nil {
		return err
	}
	cert, ok := key.(*ssh.Certificate)
	if !ok {
		return nil
	}
	if err := checkUse(cert); err != nil {
		return err
	}
	return checkValidity(cert, at, at)
}

// checkFormat holds a signature against the type of its key. Only an
// authenticator's signature has more than a format and a blob: its flags and its
// counter (OpenSSH's PROTOCOL.u2f), which are signed. That the flags say that a
// person was there is for the key's Verify.
func checkFormat(key ssh.PublicKey, s *ssh.Signature) error {
	kind := Plain(key).Type()
	if want := signatureFormats[kind]; !slices.Contains(want, s.Format) {
		return fmt.Errorf("made with %q: want %s", s.Format, strings.Join(want, " or "))
	}
	rest := 0
	if kind == ssh.KeyAlgoSKED25519 || kind == ssh.KeyAlgoSKECDSA256 {
		rest = 5
	}
	if len(s.Rest) != rest {
		return fmt.Errorf("%d bytes after a signature of type %q: want %d", len(s.Rest), s.Format, rest)
	}
	return nil
}

// rsaBits is the length of an RSA key's modulus.
func rsaBits(key ssh.PublicKey) int {
	if c, ok := key.(ssh.CryptoPublicKey); ok {
		if r, ok := c.CryptoPublicKey().(*rsa.PublicKey); ok {
			return r.N.BitLen()
		}
	}
	return 0
}

// Plain is the key itself where key is a certificate, and else key.
func Plain(key ssh.PublicKey) ssh.PublicKey {
	if cert, ok := key.(*ssh.Certificate); ok {
		return cert.Key
	}
	return key
}

// Fingerprint names a key as ssh-keygen -l does: "SHA256:…". All certificates of
// one key have that key's.
func Fingerprint(key ssh.PublicKey) string { return ssh.FingerprintSHA256(Plain(key)) }

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
	if err != nil && strings.HasSuffix(err.Error(), "unhandled key type") {
		return nil, fmt.Errorf("reading private key: %w: of this type, or a security key's, which signs through ssh-agent", err)
	}
	if err != nil {
		return nil, fmt.Errorf("reading private key: %w", err)
	}
	return signer, CheckKey(signer.PublicKey())
}

// EncryptedKey is the public key of a private key file that has a passphrase; nil
// for one that has none, and for PEM, which does not say.
func EncryptedKey(pemBytes []byte) ssh.PublicKey {
	_, err := ssh.ParsePrivateKey(pemBytes)
	var missing *ssh.PassphraseMissingError
	if errors.As(err, &missing) {
		return missing.PublicKey
	}
	return nil
}
