package signature

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"io"
	"math/big"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

// The flags of an authenticator's signature (PROTOCOL.u2f).
const (
	userPresent  = 1
	userVerified = 4
)

// authenticator is a FIDO token in software: it signs as one does when touched.
type authenticator struct {
	application string
	ed          ed25519.PrivateKey
	ec          *ecdsa.PrivateKey // where ed is nil
	flags       byte
	counter     uint32
}

// newAuthenticator makes one with a key of type sk-ssh-ed25519@openssh.com or
// sk-ecdsa-sha2-nistp256@openssh.com.
func newAuthenticator(t testing.TB, kind string, flags byte) *authenticator {
	t.Helper()
	a := &authenticator{application: "ssh:", flags: flags, counter: 0x01020304}
	var err error
	if kind == ssh.KeyAlgoSKED25519 {
		_, a.ed, err = ed25519.GenerateKey(nil)
	} else {
		a.ec, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func (a *authenticator) PublicKey() ssh.PublicKey {
	var wire []byte
	if a.ed != nil {
		wire = ssh.Marshal(struct{ Kind, Key, Application string }{ssh.KeyAlgoSKED25519, string(a.ed.Public().(ed25519.PublicKey)), a.application})
	} else {
		point, err := a.ec.PublicKey.Bytes()
		if err != nil {
			panic(err)
		}
		wire = ssh.Marshal(struct{ Kind, Curve, Point, Application string }{ssh.KeyAlgoSKECDSA256, "nistp256", string(point), a.application})
	}
	key, err := ssh.ParsePublicKey(wire)
	if err != nil {
		panic(err)
	}
	return key
}

func (a *authenticator) Sign(random io.Reader, data []byte) (*ssh.Signature, error) {
	application, message := sha256.Sum256([]byte(a.application)), sha256.Sum256(data)
	said := binary.BigEndian.AppendUint32([]byte{a.flags}, a.counter)
	signed := append(append(append([]byte{}, application[:]...), said...), message[:]...)
	if a.ed != nil {
		return &ssh.Signature{Format: ssh.KeyAlgoSKED25519, Blob: ed25519.Sign(a.ed, signed), Rest: said}, nil
	}
	hash := sha256.Sum256(signed)
	r, s, err := ecdsa.Sign(random, a.ec, hash[:])
	return &ssh.Signature{Format: ssh.KeyAlgoSKECDSA256, Blob: ssh.Marshal(struct{ R, S *big.Int }{r, s}), Rest: said}, err
}

func (a *authenticator) SignWithAlgorithm(random io.Reader, data []byte, _ string) (*ssh.Signature, error) {
	return a.Sign(random, data)
}

// webAuthn signs as an authenticator does for a browser: the data is the
// challenge in a JSON text (PROTOCOL.u2f, "webauthn signatures").
type webAuthn struct{ *authenticator }

func (w webAuthn) SignWithAlgorithm(random io.Reader, data []byte, _ string) (*ssh.Signature, error) {
	const origin = "https://example.com"
	client := `{"type":"webauthn.get","challenge":"` + base64.RawURLEncoding.EncodeToString(data) + `","origin":"` + origin + `"}`
	s, err := w.Sign(random, []byte(client))
	if err != nil {
		return nil, err
	}
	s.Format = "webauthn-" + ssh.KeyAlgoSKECDSA256
	s.Rest = append(s.Rest, ssh.Marshal(struct{ Origin, Client, Extensions string }{origin, client, ""})...)
	return s, nil
}

var authenticators = []string{ssh.KeyAlgoSKED25519, ssh.KeyAlgoSKECDSA256}

// TestAuthenticator: what a security key signs counts where somebody touched
// it, and flags and counter are part of what is signed.
func TestAuthenticator(t *testing.T) {
	for _, kind := range authenticators {
		for _, flags := range []byte{userPresent, userPresent | userVerified} {
			a := newAuthenticator(t, kind, flags)
			key, err := Verify(strings.NewReader("hello"), mustSign(t, a, NamespaceSignoff, "hello"), NamespaceSignoff)
			if err != nil || Fingerprint(key) != Fingerprint(a.PublicKey()) {
				t.Errorf("%s, flags %d: Verify = %v, %v", kind, flags, key, err)
			}
		}
		good := wireOf(t, newAuthenticator(t, kind, userPresent), kind)
		spoil := func(f func(*ssh.Signature)) []byte {
			var s ssh.Signature
			if err := ssh.Unmarshal([]byte(good.Signature), &s); err != nil {
				t.Fatal(err)
			}
			f(&s)
			w := good
			w.Signature = string(ssh.Marshal(s))
			return w.armor("")
		}
		plain := map[string]string{ssh.KeyAlgoSKED25519: ssh.KeyAlgoED25519, ssh.KeyAlgoSKECDSA256: ssh.KeyAlgoECDSA256}[kind]
		for name, c := range map[string]struct {
			sig  []byte
			want string
		}{
			"not touched":         {wireOf(t, newAuthenticator(t, kind, 0), kind).armor(""), "user presence"},
			"PIN but no touch":    {wireOf(t, newAuthenticator(t, kind, userVerified), kind).armor(""), "user presence"},
			"flags changed":       {spoil(func(s *ssh.Signature) { s.Rest[0] |= userVerified }), "did not verify"},
			"counter changed":     {spoil(func(s *ssh.Signature) { s.Rest[4]++ }), "did not verify"},
			"nothing after":       {spoil(func(s *ssh.Signature) { s.Rest = nil }), "0 bytes after a signature"},
			"more after":          {spoil(func(s *ssh.Signature) { s.Rest = append(s.Rest, 0) }), "6 bytes after a signature"},
			"as of a plain key":   {spoil(func(s *ssh.Signature) { s.Format = plain }), "made with"},
			"as through WebAuthn": {spoil(func(s *ssh.Signature) { s.Format = "webauthn-sk-ecdsa-sha2-nistp256@openssh.com" }), "made with"},
		} {
			if _, err := Verify(strings.NewReader("hello"), c.sig, NamespaceSignoff); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s, %s: Verify = %v, want an error with %q", kind, name, err, c.want)
			}
		}
		if _, err := Sign(newAuthenticator(t, kind, 0), NamespaceSignoff, strings.NewReader("x")); err == nil || !strings.Contains(err.Error(), "user presence") {
			t.Errorf("%s: Sign without a touch = %v", kind, err)
		}
	}
}
