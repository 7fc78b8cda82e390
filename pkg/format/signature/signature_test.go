package signature

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha512"
	"encoding/pem"
	"errors"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

// newSigner makes a key: "ed25519", "ecdsa" (384, 521), "rsa" (1024).
func newSigner(t testing.TB, kind string) ssh.Signer {
	t.Helper()
	var key crypto.PrivateKey
	var err error
	switch kind {
	case "ed25519":
		_, key, err = ed25519.GenerateKey(rand.Reader)
	case "ecdsa":
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "ecdsa384":
		key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "ecdsa521":
		key, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case "rsa":
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	case "rsa1024":
		t.Setenv("GODEBUG", "rsa1024min=0")
		key, err = rsa.GenerateKey(rand.Reader, 1024)
	}
	if err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func mustSign(t testing.TB, s ssh.Signer, namespace, message string) []byte {
	t.Helper()
	b, err := Sign(s, namespace, strings.NewReader(message))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestSignVerify(t *testing.T) {
	for _, kind := range []string{"ed25519", "ecdsa", "rsa"} {
		s := newSigner(t, kind)
		sig := mustSign(t, s, NamespaceSignoff, "hello")
		key, err := Verify(strings.NewReader("hello"), sig, NamespaceSignoff)
		if err != nil || !bytes.Equal(key.Marshal(), s.PublicKey().Marshal()) {
			t.Errorf("%s: Verify = %v, %v", kind, key, err)
		}
		if _, err := Verify(strings.NewReader("hello!"), sig, NamespaceSignoff); err == nil || !strings.Contains(err.Error(), "does not verify") {
			t.Errorf("%s: Verify of another message = %v", kind, err)
		}
		if _, err := Verify(strings.NewReader("hello"), sig, NamespaceChannel); err == nil || !strings.Contains(err.Error(), `for namespace "relkit-signoff", want "relkit-channel"`) {
			t.Errorf("%s: Verify in another namespace = %v", kind, err)
		}
	}
}

// wireSignature is PROTOCOL.sshsig's blob, to build what Sign never makes.
type wireSignature struct {
	Magic     [6]byte
	Version   uint32
	PublicKey string
	Namespace string
	Reserved  string
	Hash      string
	Signature string
}

func (w wireSignature) armor(tail string) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "SSH SIGNATURE", Bytes: append(ssh.Marshal(w), tail...)})
}

// wireOf signs "hello" with s using the given signature algorithm.
func wireOf(t *testing.T, s ssh.Signer, algorithm string) wireSignature {
	t.Helper()
	hash := sha512.Sum512([]byte("hello"))
	data := append([]byte("SSHSIG"), ssh.Marshal(struct{ Namespace, Reserved, Hash, Sum string }{NamespaceSignoff, "", "sha512", string(hash[:])})...)
	sig, err := s.(ssh.AlgorithmSigner).SignWithAlgorithm(rand.Reader, data, algorithm)
	if err != nil {
		t.Fatal(err)
	}
	return wireSignature{Magic: [6]byte([]byte("SSHSIG")), Version: 1, PublicKey: string(s.PublicKey().Marshal()),
		Namespace: NamespaceSignoff, Hash: "sha512", Signature: string(ssh.Marshal(sig))}
}

func TestVerifyRefuses(t *testing.T) {
	s, r, weak := newSigner(t, "ed25519"), newSigner(t, "rsa"), newSigner(t, "rsa1024")
	good := wireOf(t, s, ssh.KeyAlgoED25519)
	if _, err := Verify(strings.NewReader("hello"), good.armor(""), NamespaceSignoff); err != nil {
		t.Fatalf("the signature to spoil is itself refused: %v", err)
	}
	if _, err := Verify(strings.NewReader("hello"), wireOf(t, r, ssh.KeyAlgoRSASHA256).armor(""), NamespaceSignoff); err != nil {
		t.Errorf("rsa-sha2-256: %v", err)
	}
	spoil := func(f func(*wireSignature)) []byte { w := good; f(&w); return w.armor("") }
	armored := string(good.armor(""))
	cert := &ssh.Certificate{Key: s.PublicKey(), CertType: ssh.UserCert}
	if err := cert.SignCert(rand.Reader, s); err != nil {
		t.Fatal(err)
	}
	cert.KeyId = "changed since"
	for name, c := range map[string]struct {
		sig  []byte
		want string
	}{
		"RSA with SHA-1":   {wireOf(t, r, ssh.KeyAlgoRSA).armor(""), `"ssh-rsa"`},
		"short RSA key":    {wireOf(t, weak, ssh.KeyAlgoRSASHA512).armor(""), "RSA key of 1024 bits"},
		"trailing in blob": {good.armor("x"), "parse error"},
		"reserved used":    {spoil(func(w *wireSignature) { w.Reserved = "x" }), "data left over"},
		"version":          {spoil(func(w *wireSignature) { w.Version = 2 }), "version"},
		"hash":             {spoil(func(w *wireSignature) { w.Hash = "sha1" }), "hash"},
		"other hash":       {spoil(func(w *wireSignature) { w.Hash = "sha256" }), "does not verify"},
		"other key":        {spoil(func(w *wireSignature) { w.PublicKey = string(newSigner(t, "ed25519").PublicKey().Marshal()) }), "does not verify"},
		"other key type":   {spoil(func(w *wireSignature) { w.PublicKey = string(r.PublicKey().Marshal()) }), "signature format"},
		"bad certificate":  {spoil(func(w *wireSignature) { w.PublicKey = string(cert.Marshal()) }), "not signed by the authority"},
		"trailing text":    {[]byte(armored + "x\n"), "data after the end"},
		"leading text":     {[]byte("x\n" + armored), "does not start"},
		"two signatures":   {[]byte(armored + armored), "data after the end"},
		"header":           {[]byte(strings.Replace(armored, "-----\n", "-----\nA: b\n\n", 1)), "bad armor"},
		"other PEM":        {[]byte(strings.ReplaceAll(armored, "SSH SIGNATURE", "PGP SIGNATURE")), "does not start"},
		"empty":            {nil, "does not start"},
		"cut":              {[]byte(armored[:len(armored)/2]), "bad armor"},
		"huge":             {bytes.Repeat([]byte("A"), MaxSize+1), "at most"},
	} {
		if _, err := Verify(strings.NewReader("hello"), c.sig, NamespaceSignoff); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: Verify = %v, want an error with %q", name, err, c.want)
		}
	}
	if _, err := Sign(weak, NamespaceSignoff, strings.NewReader("x")); err == nil || !strings.Contains(err.Error(), "1024 bits") {
		t.Errorf("Sign with a 1024-bit RSA key = %v", err)
	}
}

func TestParsePrivateKey(t *testing.T) {
	_, raw, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := ssh.MarshalPrivateKey(raw, "")
	if err != nil {
		t.Fatal(err)
	}
	locked, err := ssh.MarshalPrivateKeyWithPassphrase(raw, "", []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	// What ssh-keygen -t ed25519-sk writes: the handle of a key, not the key.
	handle := ssh.Marshal(struct {
		Check1, Check2            uint32
		Kind, Public, Application string
	}{1, 1, ssh.KeyAlgoSKED25519, strings.Repeat("x", 32), "ssh:"})
	stub := &pem.Block{Type: "OPENSSH PRIVATE KEY", Bytes: append([]byte("openssh-key-v1\x00"), ssh.Marshal(struct {
		Cipher, KDF, Options string
		Keys                 uint32
		Public, Private      string
	}{"none", "none", "", 1, "", string(handle)})...)}
	say := func(s string) func() ([]byte, error) { return func() ([]byte, error) { return []byte(s), nil } }
	never := func() ([]byte, error) { t.Error("asked for the passphrase of a plain key"); return nil, nil }
	broken := func() ([]byte, error) { return nil, errors.New("no terminal") }
	for name, c := range map[string]struct {
		block *pem.Block
		ask   func() ([]byte, error)
		want  string // in the error; "" for success
	}{
		"plain":         {plain, never, ""},
		"locked":        {locked, say("secret"), ""},
		"wrong":         {locked, say("guess"), "reading private key"},
		"nobody to ask": {locked, nil, "no way to ask"},
		"cannot ask":    {locked, broken, "no terminal"},
		"security key":  {stub, never, "which signs through ssh-agent"},
		"no key":        {&pem.Block{Type: "OPENSSH PRIVATE KEY", Bytes: []byte("x")}, never, "reading private key"},
	} {
		s, err := ParsePrivateKey(pem.EncodeToMemory(c.block), c.ask)
		if c.want == "" && (err != nil || !bytes.Equal(s.PublicKey().Marshal()[19:], raw.Public().(ed25519.PublicKey))) {
			t.Errorf("%s: %v", name, err)
		}
		if c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: error %v, want %q", name, err, c.want)
		}
	}
}

// FuzzVerify: no input crashes, and what verifies is written again to a
// signature that verifies.
func FuzzVerify(f *testing.F) {
	s := newSigner(f, "ed25519")
	f.Add(mustSign(f, s, NamespaceSignoff, "hello"))
	f.Add(mustSign(f, newSigner(f, "ecdsa"), NamespaceChannel, "hello"))
	f.Add(mustSign(f, newSigner(f, "rsa"), NamespaceSignoff, "hello"))
	f.Add(mustSign(f, newAuthenticator(f, ssh.KeyAlgoSKED25519, userPresent), NamespaceSignoff, "hello"))
	f.Add(mustSign(f, certified(f, s, newAuthenticator(f, ssh.KeyAlgoSKECDSA256, userPresent), nil), NamespaceSignoff, "hello"))
	f.Fuzz(func(t *testing.T, armored []byte) {
		parsed, err := parse(armored)
		if err != nil {
			return
		}
		again := pem.EncodeToMemory(&pem.Block{Type: "SSH SIGNATURE", Bytes: parsed.Marshal()})
		second, err := parse(again)
		if err != nil || !bytes.Equal(second.Marshal(), parsed.Marshal()) {
			t.Fatalf("%q is read, but written again is not: %v", armored, err)
		}
		_, err1 := Verify(strings.NewReader("hello"), armored, parsed.Namespace)
		_, err2 := Verify(strings.NewReader("hello"), again, parsed.Namespace)
		if (err1 == nil) != (err2 == nil) {
			t.Errorf("%q verifies as %v, written again as %v", armored, err1, err2)
		}
	})
}

// FuzzWire is FuzzVerify under the base64: what is read has one form, the bytes
// it was read from.
func FuzzWire(f *testing.F) {
	s := newSigner(f, "ed25519")
	for _, signer := range []ssh.Signer{s, newSigner(f, "ecdsa"), newSigner(f, "rsa"), newAuthenticator(f, ssh.KeyAlgoSKECDSA256, userPresent), certified(f, s, s, nil)} {
		block, _ := pem.Decode(mustSign(f, signer, NamespaceSignoff, "hello"))
		f.Add(block.Bytes)
	}
	f.Fuzz(func(t *testing.T, blob []byte) {
		armored := []byte(armor70(blob))
		parsed, err := parse(armored)
		if err != nil {
			return
		}
		if !bytes.Equal(parsed.Marshal(), blob) {
			t.Fatalf("%x is written again as %x", blob, parsed.Marshal())
		}
		key, err := Verify(strings.NewReader("hello"), armored, parsed.Namespace)
		if err == nil && (CheckKey(key) != nil || key.Verify(nil, parsed.Signature) == nil) {
			t.Errorf("%x verifies, by key %v", blob, key)
		}
	})
}

// FuzzPublicKey: what is read and written out plainly is read the same.
func FuzzPublicKey(f *testing.F) {
	s := newSigner(f, "ed25519")
	f.Add([]byte(keyLine(s) + " comment\n"))
	f.Add([]byte(keyLine(newSigner(f, "ecdsa521"))))
	f.Add([]byte(keyLine(newAuthenticator(f, ssh.KeyAlgoSKECDSA256, userPresent))))
	f.Add([]byte(keyLine(certified(f, s, s, nil))))
	f.Fuzz(func(t *testing.T, b []byte) {
		key, err := ParsePublicKey(b)
		if err != nil {
			return
		}
		again, err := ParsePublicKey(ssh.MarshalAuthorizedKey(key))
		if err != nil || !bytes.Equal(again.Marshal(), key.Marshal()) {
			t.Errorf("%q is read, but written again is not: %v", b, err)
		}
		if CheckKey(key) != nil || Fingerprint(key) != Fingerprint(again) {
			t.Errorf("%q: CheckKey %v", b, CheckKey(key))
		}
	})
}
