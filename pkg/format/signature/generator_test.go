package signature

import (
	crand "crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// generator makes trials out of a few keys and many pieces.
type generator struct {
	t    *testing.T
	r    *rand.Rand
	keys []ssh.Signer // that sign
	cas  []ssh.Signer // that certify them
}

func newGenerator(t *testing.T, r *rand.Rand) *generator {
	g := &generator{t: t, r: r}
	for _, kind := range []string{"ed25519", "ecdsa", "ecdsa384", "ecdsa521", "rsa"} {
		g.keys = append(g.keys, newSigner(t, kind))
	}
	for _, kind := range authenticators {
		g.keys = append(g.keys, newAuthenticator(t, kind, userPresent))
	}
	g.cas = []ssh.Signer{newSigner(t, "ed25519"), newSigner(t, "ecdsa"), g.keys[4]}
	return g
}

// pick is one of several, at random.
func pick[T any](g *generator, of ...T) T { return of[g.r.IntN(len(of))] }

// mostly is the first of several in most cases.
func mostly[T any](g *generator, of ...T) T {
	if g.r.IntN(4) > 0 {
		return of[0]
	}
	return pick(g, of...)
}

func (g *generator) oneIn(n int) bool { return g.r.IntN(n) == 0 }

// sign makes a signature as PROTOCOL.sshsig has it, to be spoilt.
func (g *generator) sign(s ssh.Signer, algorithm, namespace, hash, message string) wireSignature {
	sum := sha512.Sum512([]byte(message))
	digest := sum[:]
	if hash == "sha256" {
		sum := sha256.Sum256([]byte(message))
		digest = sum[:]
	}
	data := append([]byte("SSHSIG"), ssh.Marshal(struct{ Namespace, Reserved, Hash, Sum string }{namespace, "", hash, string(digest)})...)
	if algorithm == "" && Plain(s.PublicKey()).Type() == ssh.KeyAlgoRSA {
		algorithm = ssh.KeyAlgoRSASHA512
	} else if algorithm == "" {
		algorithm = Plain(s.PublicKey()).Type()
	}
	sig, err := s.(ssh.AlgorithmSigner).SignWithAlgorithm(crand.Reader, data, algorithm)
	if err != nil {
		g.t.Fatal(err)
	}
	return wireSignature{Magic: [6]byte([]byte("SSHSIG")), Version: 1, PublicKey: string(s.PublicKey().Marshal()), Namespace: namespace, Hash: hash, Signature: string(ssh.Marshal(sig))}
}

// armor70 is the armor with lines as long as ssh-keygen's.
func armor70(blob []byte) string {
	text := base64.StdEncoding.EncodeToString(blob)
	var b strings.Builder
	b.WriteString("-----BEGIN SSH SIGNATURE-----\n")
	for len(text) > 70 {
		b.WriteString(text[:70] + "\n")
		text = text[70:]
	}
	return b.String() + text + "\n-----END SSH SIGNATURE-----\n"
}

// moments are winter and summer.
var moments = []time.Time{time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC), time.Date(2026, 7, 14, 22, 30, 5, 0, time.UTC), time.Date(2027, 2, 1, 0, 0, 0, 0, time.UTC)}

func (g *generator) random(name string) *trial {
	c := &trial{name: name, message: "hello", namespace: NamespaceSignoff, principal: mostly(g, "release", "qa", "dora", "*"), at: pick(g, moments...), zone: pick(g, zones...)}
	signer := pick(g, g.keys...)
	ca := pick(g, g.cas...)
	about := signer // whom the lines are about
	authority := g.oneIn(3)
	if authority {
		signer, about = g.certify(signer, ca, c.at), ca
	}
	w := g.sign(signer, "", mostly(g, c.namespace, NamespaceChannel), pick(g, "sha512", "sha256"), mostly(g, c.message, "another"))
	c.sig = armor70(ssh.Marshal(w))
	if g.oneIn(3) {
		c.sig = g.spoil(w)
	}
	var text strings.Builder
	for range 1 + g.r.IntN(3)*g.r.IntN(2) {
		line := g.line(about, mostly(g, authority, !authority), c)
		if g.oneIn(8) {
			line = g.damage(line)
		}
		text.WriteString(line)
	}
	c.allowed = text.String()
	return c
}

// certify makes a certificate, in most cases one that counts.
func (g *generator) certify(key, ca ssh.Signer, at time.Time) ssh.Signer {
	return certified(g.t, key, ca, func(c *ssh.Certificate) {
		c.CertType = mostly[uint32](g, ssh.UserCert, ssh.UserCert, ssh.HostCert, 3)
		c.ValidPrincipals = mostly(g, []string{"release", "dora"}, []string{"qa", "release"}, []string{"dora"}, []string{"*"}, []string{"rel*", ""}, nil)
		now := uint64(at.Unix())
		c.ValidAfter = mostly(g, now-3600, 0, now, now+1)
		c.ValidBefore = mostly(g, now+3600, ssh.CertTimeInfinity, now, now+1, 0)
		if g.oneIn(10) {
			c.CriticalOptions = pick(g, map[string]string{"force-command": "x"}, map[string]string{"verify-required": ""}, map[string]string{"unknown@x": "y"})
		}
		if g.oneIn(2) {
			c.Extensions = map[string]string{"permit-pty": "", "unknown@x": "y"}
		}
	})
}

// line makes a line of allowed_signers.
func (g *generator) line(about ssh.Signer, authority bool, c *trial) string {
	var s strings.Builder
	s.WriteString(mostly(g, "release", "qa,release", `"release"`, `"qa,release"`, "release,dora", "qa", "*", "rel*,dora", "release,!qa", "!release,*", "release,", ",release",
		"  release", "\trelease", "\rrelease", "#release", `rel"ea"se`, `"release`, `"qa release",release`, "Release", "\"release\"\tqa"))
	s.WriteString(mostly(g, " ", "  ", "\t", " \t "))
	var options []string
	if authority {
		options = append(options, mostly(g, "cert-authority", "CERT-authority", "cert-authority=\"x\"", "cert-authorities"))
	}
	for g.oneIn(2) {
		options = append(options, g.option(c))
	}
	if len(options) > 0 {
		g.r.Shuffle(len(options), func(i, j int) { options[i], options[j] = options[j], options[i] })
		s.WriteString(strings.Join(options, mostly(g, ",", ",,", ", ")) + mostly(g, " ", "  ", "\t", ","))
	}
	if g.oneIn(8) {
		about = pick(g, g.keys...)
	}
	s.WriteString(keyLine(about))
	return s.String() + mostly(g, "\n", " comment\n", "\tcom ment\n", " \"\n", "\r\n", " # x\n")
}

func (g *generator) option(c *trial) string {
	switch g.r.IntN(3) {
	case 0:
		return mostly(g, "namespaces", "Namespaces") + "=" + mostly(g, `"relkit-signoff"`, `"file,relkit-*"`, `"file"`, `"*,!relkit-signoff"`, `"!file,*"`, `"!file"`, `"relkit-?ignoff"`,
			`"relkit-signoff,"`, `""`, "relkit-signoff", `"relkit-signoff`, `"a\"b,*"`, `"*\"`, `"**"`, `"?*-*off*"`, `"!!file,*"`)
	case 1:
		return mostly(g, "valid-after", "VALID-after") + `="` + g.time(c, -1) + `"`
	default:
		return mostly(g, "valid-before", "Valid-Before") + `="` + g.time(c, +1) + `"`
	}
}

// time writes a time around the trial's, in most cases on the side that lets it.
func (g *generator) time(c *trial, side int) string {
	span := mostly(g, 24*time.Hour, 0, time.Second, -time.Second, time.Minute, time.Hour, -time.Hour, -24*time.Hour)
	t := c.at.Add(time.Duration(side) * span)
	suffix := mostly(g, "Z", "", "z", "UTC", "utc")
	if suffix == "" {
		location, err := time.LoadLocation(c.zone.name)
		if err != nil {
			g.t.Fatal(err)
		}
		t = t.In(location)
	}
	text := t.Format(mostly(g, "20060102150405", "20060102", "200601021504"))
	if g.oneIn(15) {
		text = pick(g, "2026", "20261301", "20260231", "20260101 101", "+0260101", "19691231", "19700101", "202601012460", "20260101235960", "99991231", "20260329023000", "20261025023000")
	}
	return text + suffix
}

// damage changes one byte of a text, or drops or adds one.
func (g *generator) damage(text string) string {
	i := g.r.IntN(len(text))
	c := mostly(g, string(rune(g.r.IntN(128))), `"`, ",", " ", "\t", "\r", "\n", "\x00", "=", "#")
	return pick(g, text[:i]+text[i+1:], text[:i]+c+text[i+1:], text[:i]+c+text[i:])
}

// spoil is w, armored, with something wrong or odd.
func (g *generator) spoil(w wireSignature) string {
	switch g.r.IntN(4) {
	case 0:
		return g.damage(armor70(ssh.Marshal(w)))
	case 1:
		return g.damageArmor(armor70(ssh.Marshal(w)))
	case 2:
		blob := ssh.Marshal(w)
		i := g.r.IntN(len(blob))
		blob[i] ^= 1 << g.r.IntN(8)
		return armor70(pick(g, blob, blob[:i], append(blob, 0)))
	}
	w = g.spoilField(w)
	return armor70(ssh.Marshal(w))
}

func (g *generator) damageArmor(text string) string {
	return pick(g, strings.ReplaceAll(text, "\n", "\r\n"), strings.ReplaceAll(text, "A", " A"), strings.TrimSuffix(text, "\n"), text+"x", text+text, "\n"+text,
		strings.Replace(text, "BEGIN", "begin", 1), strings.ReplaceAll(text, "\n", "\n\n"), strings.ReplaceAll(text, "-----END", "----- END"), strings.Replace(text, "=", "", 1),
		string(pem.EncodeToMemory(&pem.Block{Type: "SSH SIGNATURE", Headers: map[string]string{"a": "b"}, Bytes: []byte("x")})), text+"\n \t\r\n")
}

// spoilField changes one field of the signature.
func (g *generator) spoilField(w wireSignature) wireSignature {
	switch g.r.IntN(9) {
	case 0:
		w.Version = pick[uint32](g, 0, 2, 1<<31)
	case 1:
		w.Reserved = "x"
	case 2:
		w.Hash = pick(g, "sha256", "sha1", "sha384", "SHA512", "", "sha512\x00")
	case 3:
		w.Namespace = pick(g, "", "relkit-signoff\x00x", "relkit-channel")
	case 4:
		w.PublicKey = string(pick(g, g.keys...).PublicKey().Marshal())
	case 5:
		w.PublicKey += "x"
	default:
		var s ssh.Signature
		if err := ssh.Unmarshal([]byte(w.Signature), &s); err != nil {
			g.t.Fatal(err)
		}
		g.spoilSignature(&s)
		w.Signature = string(ssh.Marshal(s))
	}
	return w
}

func (g *generator) spoilSignature(s *ssh.Signature) {
	var ec struct{ R, S *big.Int }
	isEC := ssh.Unmarshal(s.Blob, &ec) == nil
	switch g.r.IntN(6) {
	case 0:
		s.Format = pick(g, ssh.KeyAlgoRSA, ssh.KeyAlgoRSASHA256, ssh.KeyAlgoED25519, ssh.KeyAlgoSKED25519, "", "rsa-sha2-512\x00")
	case 1:
		s.Rest = append(s.Rest, 0)
	case 2:
		s.Blob = append([]byte{0}, s.Blob...)
	case 3:
		s.Blob = s.Blob[:len(s.Blob)-1]
	case 4:
		if isEC { // with a needless zero before each number
			s.Blob = ssh.Marshal(struct{ R, S string }{"\x00\x00" + string(ec.R.Bytes()), "\x00\x00" + string(ec.S.Bytes())})
		}
	case 5:
		if isEC {
			s.Blob = pick(g, ssh.Marshal(struct{ R, S *big.Int }{ec.R, new(big.Int).Neg(ec.S)}), ssh.Marshal(struct{ R, S *big.Int }{new(big.Int), ec.S}))
		}
	}
}
