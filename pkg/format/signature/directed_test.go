package signature

import (
	"math/big"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/crypto/ssh"
)

// directed makes a trial for everything on the list of strictness, and for what
// chance finds too seldom. The pieces that are not mentioned are good.
func (g *generator) directed() []*trial {
	ed, ec, rsa, sk, ca := g.keys[0], g.keys[1], g.keys[4], g.keys[5], g.cas[0]
	short := newSigner(g.t, "rsa1024")
	cert := certified(g.t, ed, ca, func(c *ssh.Certificate) { c.ValidPrincipals = []string{"release"} })
	critical := certified(g.t, ed, ca, func(c *ssh.Certificate) {
		c.ValidPrincipals, c.CriticalOptions = []string{"release"}, map[string]string{"source-address": "10.0.0.0/8"}
	})
	sha1, err := ssh.NewSignerWithAlgorithms(rsa.(ssh.AlgorithmSigner), []string{ssh.KeyAlgoRSA})
	if err != nil {
		g.t.Fatal(err)
	}
	var all []*trial
	add := func(name, allowed, sig string) {
		all = append(all, &trial{name: name, allowed: allowed, sig: sig, message: "hello", namespace: NamespaceSignoff, principal: "release", at: certNow, zone: zones[0]})
	}
	good := func(s ssh.Signer) wireSignature { return g.sign(s, "", NamespaceSignoff, "sha512", "hello") }
	armor := func(s ssh.Signer) string { return armor70(ssh.Marshal(good(s))) }
	inner := func(s ssh.Signer, change func(*ssh.Signature)) string {
		w := good(s)
		var sig ssh.Signature
		if err := ssh.Unmarshal([]byte(w.Signature), &sig); err != nil {
			g.t.Fatal(err)
		}
		change(&sig)
		w.Signature = string(ssh.Marshal(sig))
		return armor70(ssh.Marshal(w))
	}
	for _, s := range slices.Concat(g.keys, []ssh.Signer{short}) {
		add("plain "+s.PublicKey().Type(), "release "+keyLine(s)+"\n", armor(s))
		c := certified(g.t, s, ca, func(c *ssh.Certificate) { c.ValidPrincipals = []string{"release"} })
		add("certified "+s.PublicKey().Type(), "release cert-authority "+keyLine(ca)+"\n", armor(c))
		c = certified(g.t, ed, s, func(c *ssh.Certificate) { c.ValidPrincipals = []string{"release"} })
		add("authority "+s.PublicKey().Type(), "release cert-authority "+keyLine(s)+"\n", armor(c))
	}
	for _, algorithm := range []string{ssh.KeyAlgoRSA, ssh.KeyAlgoRSASHA256} {
		add(algorithm, "release "+keyLine(rsa)+"\n", armor70(ssh.Marshal(g.sign(rsa, algorithm, NamespaceSignoff, "sha256", "hello"))))
	}
	add("authority with SHA-1", "release cert-authority "+keyLine(rsa)+"\n",
		armor(certified(g.t, ed, sha1, func(c *ssh.Certificate) { c.ValidPrincipals = []string{"release"} })))
	for _, kind := range authenticators {
		for _, flags := range []byte{0, userVerified, userPresent | userVerified} {
			a := newAuthenticator(g.t, kind, flags)
			add("authenticator "+kind, "release "+keyLine(a)+"\n", armor(a))
		}
	}
	browser := newAuthenticator(g.t, ssh.KeyAlgoSKECDSA256, userPresent)
	add("WebAuthn", "release "+keyLine(browser)+"\n", armor(webAuthn{browser}))
	add("option twice", "release cert-authority,cert-authority "+keyLine(ca)+"\n", armor(cert))
	add("critical option", "release cert-authority "+keyLine(ca)+"\n", armor(critical))
	add("certificate on the line", "release "+keyLine(cert)+"\n", armor(cert))
	add("plain key of a certificate", "release "+keyLine(ed)+"\n", armor(cert))
	add("Ed25519 with S + L", "release "+keyLine(ed)+"\n", inner(ed, unreduced))
	add("sk Ed25519 with S + L", "release "+keyLine(sk)+"\n", inner(sk, unreduced))
	add("ECDSA with n - S", "release "+keyLine(ec)+"\n", inner(ec, negated))
	all = append(all, g.shortRSA(rsa))
	w := good(ed)
	for _, change := range []func(*wireSignature){func(w *wireSignature) { w.Version = 0 }, func(w *wireSignature) { w.Reserved = "x" }, func(w *wireSignature) { w.Version = 2 }} {
		other := w
		change(&other)
		add("outer field", "release "+keyLine(ed)+"\n", armor70(ssh.Marshal(other)))
	}
	for _, change := range []func(*wireSignature){func(w *wireSignature) { w.Hash += "\x00" }, func(w *wireSignature) { w.Namespace += "\x00" },
		func(w *wireSignature) {
			w.PublicKey = strings.Replace(w.PublicKey, "\x0bssh-ed25519", "\x0cssh-ed25519\x00", 1)
		}} {
		other := w
		change(&other)
		add("zero byte", "release "+keyLine(ed)+"\n", armor70(ssh.Marshal(other)))
	}
	add("zero byte", "release "+keyLine(ed)+"\n", inner(ed, func(s *ssh.Signature) { s.Format += "\x00" }))
	add("zero byte", "release "+keyLine(rsa)+"\n", inner(rsa, func(s *ssh.Signature) { s.Format += "\x00" }))
	add("spare bits", "release "+spareBits(keyLine(ec))+"\n", armor(ec))
	whole := armor(ed)
	for _, sig := range []string{whole + "x", whole + whole, strings.Replace(whole, "U1NIU0lH", "U1NI U0lH", 1), strings.ReplaceAll(whole, "\n", "\r\n"), strings.TrimSuffix(whole, "\n"), "x" + whole} {
		add("armor", "release "+keyLine(ed)+"\n", sig)
	}
	for _, line := range directedLines(keyLine(ed)) {
		add("line", line+"\n", whole)
	}
	return all
}

// directedLines are lines of allowed_signers for a key; the last ones are good.
func directedLines(key string) []string {
	kind, encoded, _ := strings.Cut(key, " ")
	long := strings.Repeat("x", 1100)
	return []string{
		"* " + key, "r?lease " + key, "release,!qa " + key, "release, " + key, "release,,qa " + key, `rel"ease" ` + key, `"release"` + key, "release,\x01 " + key, "\rrelease " + key,
		"release," + long + " " + key, long + ",release " + key, `release namespaces="relkit-signoff,` + long + `" ` + key,
		`release namespaces="*",namespaces="*" ` + key, `release ,namespaces="*" ` + key, `release namespaces="*",,valid-after="20200101" ` + key,
		`release namespaces="" ` + key, `release valid-before="20300231" ` + key, `release valid-before="2030 101" ` + key, `release valid-before="20300101235960Z" ` + key,
		"release " + kind + " " + encoded[:20] + "\v" + encoded[20:], "release " + key + " \x00", "release " + key + "\r", "release\r" + key, "release\t" + kind + "\t\t" + encoded + "\tx",
		strings.Repeat("#", 3000), "release " + strings.ToUpper(kind) + " " + encoded, "release " + key[:len(key)-1] + "/", "release\v" + key,
	}
}

// spareBits sets one of the bits of a key's base64 that mean nothing.
func spareBits(key string) string {
	text := strings.TrimRight(key, "=")
	if text == key {
		panic("this key has no spare bits")
	}
	return text[:len(text)-1] + string(text[len(text)-1]+1) + key[len(text):]
}

// order is the order of Ed25519's group (RFC 8032, 5.1), little end first.
var order, _ = new(big.Int).SetString("7237005577332262213973186563042994240857116359379907606001950938285454250989", 10)

// unreduced makes another signature of an Ed25519 one: S + L instead of S.
func unreduced(s *ssh.Signature) {
	half := slices.Clone(s.Blob[32:])
	slices.Reverse(half)
	sum := new(big.Int).Add(new(big.Int).SetBytes(half), order).FillBytes(make([]byte, 32))
	slices.Reverse(sum)
	copy(s.Blob[32:], sum)
}

// negated makes another signature of an ECDSA one: n - S instead of S. Both
// count as the same, everywhere.
func negated(s *ssh.Signature) {
	var ec struct{ R, S *big.Int }
	if err := ssh.Unmarshal(s.Blob, &ec); err != nil {
		panic(err)
	}
	n, _ := new(big.Int).SetString("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551", 16)
	s.Blob = ssh.Marshal(struct{ R, S *big.Int }{ec.R, n.Sub(n, ec.S)})
}

// shortRSA is a trial with an RSA signature that begins with a zero byte, without
// that byte.
func (g *generator) shortRSA(key ssh.Signer) *trial {
	for i := 0; ; i++ {
		message := strconv.Itoa(i)
		w := g.sign(key, "", NamespaceSignoff, "sha512", message)
		var s ssh.Signature
		if err := ssh.Unmarshal([]byte(w.Signature), &s); err != nil {
			g.t.Fatal(err)
		}
		if s.Blob[0] == 0 {
			s.Blob = s.Blob[1:]
			w.Signature = string(ssh.Marshal(s))
			return &trial{name: "RSA without its leading zero", allowed: "release " + keyLine(key) + "\n", sig: armor70(ssh.Marshal(w)), message: message,
				namespace: NamespaceSignoff, principal: "release", at: certNow, zone: zones[0]}
		}
	}
}
