package signature

import (
	"crypto/rand"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/relkit/relkit/pkg/relkittest"
)

var certNow = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// certified is key with a certificate by ca that change has changed.
func certified(t testing.TB, key, ca ssh.Signer, change func(*ssh.Certificate)) ssh.Signer {
	t.Helper()
	cert := &ssh.Certificate{Key: key.PublicKey(), CertType: ssh.UserCert, KeyId: "dora", ValidPrincipals: []string{"dora", "qa"},
		ValidAfter: uint64(certNow.Add(-time.Hour).Unix()), ValidBefore: uint64(certNow.Add(time.Hour).Unix())}
	if change != nil {
		change(cert)
	}
	if err := cert.SignCert(rand.Reader, ca); err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewCertSigner(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestCertificate: for every kind of key, certified by every kind of authority.
func TestCertificate(t *testing.T) {
	keys := []ssh.Signer{newSigner(t, "ed25519"), newSigner(t, "ecdsa"), newSigner(t, "rsa"),
		newAuthenticator(t, ssh.KeyAlgoSKED25519, userPresent), newAuthenticator(t, ssh.KeyAlgoSKECDSA256, userPresent)}
	for _, ca := range keys {
		signers, err := ParseAllowedSigners([]byte("qa,ops cert-authority,namespaces=\"relkit-signoff\" " + keyLine(ca)))
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range keys {
			s := certified(t, key, ca, nil)
			by, err := Verify(strings.NewReader("hello"), mustSign(t, s, NamespaceSignoff, "hello"), NamespaceSignoff)
			if err != nil {
				t.Errorf("%s by %s: %v", key.PublicKey().Type(), ca.PublicKey().Type(), err)
				continue
			}
			if roles := strings.Join(signers.Roles(by, NamespaceSignoff, certNow, certNow), " "); roles != "qa" {
				t.Errorf("%s by %s: roles %q, want qa", key.PublicKey().Type(), ca.PublicKey().Type(), roles)
			}
			if Fingerprint(by) != Fingerprint(key.PublicKey()) {
				t.Errorf("%s: a certificate changes the fingerprint", key.PublicKey().Type())
			}
			if CheckSigner(by, certNow) != nil || CheckSigner(by, certNow.Add(time.Hour)) == nil {
				t.Errorf("%s: CheckSigner = %v, then %v", key.PublicKey().Type(), CheckSigner(by, certNow), CheckSigner(by, certNow.Add(time.Hour)))
			}
		}
	}
}

func TestCertificateAccepts(t *testing.T) {
	key, ca, other := newSigner(t, "ed25519"), newSigner(t, "ed25519"), newSigner(t, "ecdsa")
	hours := func(n int) time.Time { return certNow.Add(time.Duration(n) * time.Hour) }
	authority := "qa cert-authority " + keyLine(ca)
	for name, c := range map[string]struct {
		line        string
		change      func(*ssh.Certificate)
		signed, now time.Time
		want        string // in the error; "" for none
	}{
		"valid":                    {authority, nil, certNow, certNow, ""},
		"expired since":            {authority, nil, certNow, hours(1000), ""},
		"first second":             {authority, nil, hours(-1), certNow, ""},
		"signed before":            {authority, nil, hours(-1).Add(-time.Second), certNow, "valid only from 2026-11-22T11:00:00Z"},
		"last second":              {authority, nil, hours(1).Add(-time.Second), hours(2), ""},
		"signed after":             {authority, nil, hours(1), hours(2), "valid only until 2026-11-22T13:00:00Z, and it signed on 2026-11-22T13:00:00Z"},
		"signed in the future":     {authority, nil, certNow, hours(-2), "valid only from"},
		"for ever":                 {authority, func(c *ssh.Certificate) { c.ValidAfter, c.ValidBefore = 0, ssh.CertTimeInfinity }, certNow, hours(1 << 20), ""},
		"from the end of time":     {authority, func(c *ssh.Certificate) { c.ValidAfter, c.ValidBefore = 1<<63, ssh.CertTimeInfinity }, certNow, certNow, "valid only from ever"},
		"before 1970":              {authority, func(c *ssh.Certificate) { c.ValidAfter = 0 }, time.Unix(-1, 0), certNow, "valid only from 1970"},
		"host":                     {authority, func(c *ssh.Certificate) { c.CertType = ssh.HostCert }, certNow, certNow, "not a user's"},
		"no principals":            {authority, func(c *ssh.Certificate) { c.ValidPrincipals = nil }, certNow, certNow, "names no principals"},
		"critical option":          {authority, func(c *ssh.Certificate) { c.CriticalOptions = map[string]string{"force-command": "true"} }, certNow, certNow, `critical option "force-command"`},
		"extension":                {authority, func(c *ssh.Certificate) { c.Extensions = map[string]string{"permit-pty": "", "x@y": "z"} }, certNow, certNow, ""},
		"the line's namespace":     {`qa cert-authority,namespaces="relkit-channel" ` + keyLine(ca), nil, certNow, certNow, "for namespaces"},
		"the line ended":           {`qa cert-authority,valid-before="20261122110000Z" ` + keyLine(ca), nil, certNow, certNow, "valid only until"},
		"no authority":             {"qa " + keyLine(key), nil, certNow, certNow, "for the key without one"},
		"the key as an authority":  {"qa cert-authority " + keyLine(key), nil, certNow, certNow, "signs certificates alone"},
		"its own authority":        {"qa cert-authority " + keyLine(key), func(c *ssh.Certificate) { c.Serial = 1 }, certNow, certNow, ""},
		"the authority as no such": {"qa " + keyLine(ca), nil, certNow, certNow, "not found"},
		"another authority":        {"qa cert-authority " + keyLine(other), nil, certNow, certNow, "not found"},
	} {
		by := ca
		if name == "its own authority" {
			by = key
		}
		cert := certified(t, key, by, c.change).PublicKey()
		signers, err := ParseAllowedSigners([]byte(c.line))
		if err != nil {
			t.Fatal(err)
		}
		got := "not found"
		if lines := signers.Find(cert); len(lines) > 0 {
			got = ""
			if err := lines[0].Accepts(cert, NamespaceSignoff, c.signed, c.now); err != nil {
				got = err.Error()
			}
		}
		if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: Accepts = %q, want %q", name, got, c.want)
		}
	}
	if lines, _ := ParseAllowedSigners([]byte("qa cert-authority " + keyLine(ca))); lines.Signers[0].Accepts(ca.PublicKey(), NamespaceSignoff, certNow, certNow) == nil {
		t.Error("what an authority itself signs is accepted")
	}
}

// TestCertificateRefused: Verify itself refuses what no authority signed, or one
// whose word does not count.
func TestCertificateRefused(t *testing.T) {
	key, ca := newSigner(t, "ed25519"), newSigner(t, "ed25519")
	rsa := newSigner(t, "rsa").(ssh.AlgorithmSigner)
	sha1, err := ssh.NewSignerWithAlgorithms(rsa, []string{ssh.KeyAlgoRSA})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		key, ca ssh.Signer
		forge   func(*ssh.Certificate)
		want    string
	}{
		"of no type":           {key, ca, func(c *ssh.Certificate) { c.CertType = 3 }, "certificate of type 3"},
		"changed":              {key, ca, func(c *ssh.Certificate) { c.ValidPrincipals = append(c.ValidPrincipals, "release") }, "not signed by the authority"},
		"another authority":    {key, ca, func(c *ssh.Certificate) { c.SignatureKey = key.PublicKey() }, "not signed by the authority"},
		"authority with SHA-1": {key, sha1, nil, `made with "ssh-rsa"`},
		"authority of 1024":    {key, newSigner(t, "rsa1024"), nil, "RSA key of 1024 bits"},
		"key of 1024":          {newSigner(t, "rsa1024"), ca, nil, "RSA key of 1024 bits"},
		"untouched authority":  {key, newAuthenticator(t, ssh.KeyAlgoSKED25519, 0), nil, "user presence"},
		"data after":           {key, ca, func(c *ssh.Certificate) { c.Signature.Rest = []byte{0} }, "parse error"},
	} {
		s := certified(t, c.key, c.ca, nil)
		if c.forge != nil {
			c.forge(s.PublicKey().(*ssh.Certificate))
		}
		algorithm := c.key.PublicKey().Type()
		if algorithm == ssh.KeyAlgoRSA {
			algorithm = ssh.KeyAlgoRSASHA512
		}
		if _, err := Verify(strings.NewReader("hello"), wireOf(t, s, algorithm).armor(""), NamespaceSignoff); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: Verify = %v, want an error with %q", name, err, c.want)
		}
	}
}

// TestCertificateOpenSSH: certificates that ssh-keygen makes, signatures by
// them in both directions.
func TestCertificateOpenSSH(t *testing.T) {
	relkittest.Need(t, "ssh-keygen")
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	keygen := func(args ...string) {
		t.Helper()
		cmd := exec.Command("ssh-keygen", args...)
		cmd.Env = append(cmd.Environ(), "SSH_AUTH_SOCK=")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%q: %v %s", args, err, out)
		}
	}
	keygen("-q", "-t", "ecdsa", "-N", "", "-f", at("ca"))
	for _, kind := range []string{"ed25519", "ecdsa", "rsa"} {
		key := at(kind)
		keygen("-q", "-t", kind, "-N", "", "-f", key)
		keygen("-q", "-s", at("ca"), "-I", "dora", "-n", "dora,qa", "-V", "-1h:+1h", key+".pub")
		writeFile(t, at("doc"), "the document\n")
		writeFile(t, at("allowed"), "qa,ops cert-authority "+readFile(t, at("ca.pub")))
		keygen("-q", "-Y", "sign", "-n", NamespaceSignoff, "-f", key+"-cert.pub", at("doc"))
		by, err := Verify(strings.NewReader("the document\n"), []byte(readFile(t, at("doc.sig"))), NamespaceSignoff)
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		signers, err := ParseAllowedSigners([]byte(readFile(t, at("allowed"))))
		if err != nil {
			t.Fatal(err)
		}
		if roles := strings.Join(signers.Roles(by, NamespaceSignoff, time.Now(), time.Now()), " "); roles != "qa" {
			t.Errorf("%s: roles %q, want qa", kind, roles)
		}

		plain, err := ParsePrivateKey([]byte(readFile(t, key)), nil)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := ParsePublicKey([]byte(readFile(t, key+"-cert.pub")))
		if err != nil {
			t.Fatal(err)
		}
		s, err := ssh.NewCertSigner(cert.(*ssh.Certificate), plain)
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, at("doc.sig"), string(mustSign(t, s, NamespaceSignoff, "the document\n")))
		for role, want := range map[string]bool{"qa": true, "ops": false, "dora": false} {
			out, err := sshKeygen(t, "the document\n", "-Y", "verify", "-n", NamespaceSignoff, "-I", role, "-f", at("allowed"), "-s", at("doc.sig"))
			if (err == nil) != want {
				t.Errorf("%s as %s: ssh-keygen says %v %s", kind, role, err, out)
			}
		}
		if err := exec.Command("rm", at("doc.sig")).Run(); err != nil {
			t.Fatal(err)
		}
	}
}
