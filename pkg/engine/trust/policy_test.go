package trust

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/signature"
)

var (
	patchID = digest.Of([]byte("patch.json"))
	now     = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
)

// key makes the same key for the same name every time.
func key(t *testing.T, name string) ssh.Signer {
	t.Helper()
	seed := sha256.Sum256([]byte(name))
	s, err := ssh.NewSignerFromKey(ed25519.NewKeyFromSeed(seed[:]))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// policy reads lines such as "release,qa alice", where alice stands for her key.
func policy(t *testing.T, require string, lines ...string) Policy {
	t.Helper()
	var text strings.Builder
	for _, l := range lines {
		cut := strings.LastIndexByte(l, ' ')
		text.WriteString(l[:cut] + " " + string(ssh.MarshalAuthorizedKey(key(t, l[cut+1:]).PublicKey())))
	}
	allowed, err := signature.ParseAllowedSigners([]byte(text.String()))
	if err != nil {
		t.Fatal(err)
	}
	return Policy{Allowed: allowed, Require: strings.Fields(require)}
}

func signoff(t *testing.T, who, role string, change func(*signature.Signoff)) signature.SignedDoc {
	t.Helper()
	s := signature.Signoff{Schema: signature.SignoffSchema, Patch: patchID, Role: role, Time: now.Add(-time.Hour), Verdict: signature.VerdictPass}
	if change != nil {
		change(&s)
	}
	doc, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return sign(t, who, "signoffs/"+role+".json", signature.NamespaceSignoff, doc)
}

func sign(t *testing.T, who, name, namespace string, doc []byte) signature.SignedDoc {
	t.Helper()
	sig, err := signature.Sign(key(t, who), namespace, strings.NewReader(string(doc)))
	if err != nil {
		t.Fatal(err)
	}
	return signature.SignedDoc{Name: name, Doc: doc, Sig: sig}
}

func TestCheckSignoffsAccepts(t *testing.T) {
	for name, c := range map[string]struct {
		policy   Policy
		signoffs []signature.SignedDoc
		want     string
	}{
		"default": {policy(t, "", "release alice"), []signature.SignedDoc{signoff(t, "alice", "release", nil)}, "release=alice"},
		"two roles": {policy(t, "release qa", "release alice", "qa bob"),
			[]signature.SignedDoc{signoff(t, "bob", "qa", nil), signoff(t, "alice", "release", nil)}, "release=alice qa=bob"},
		"a key with both roles serves where the other cannot": {policy(t, "release qa", "release,qa alice", "release bob"),
			[]signature.SignedDoc{signoff(t, "alice", "release", nil), signoff(t, "alice", "qa", nil), signoff(t, "bob", "release", nil)}, "release=bob qa=alice"},
		"a chain of exchanges": {policy(t, "a b c", "a,b alice", "b,c bob", "a carol"),
			[]signature.SignedDoc{signoff(t, "alice", "a", nil), signoff(t, "alice", "b", nil), signoff(t, "bob", "b", nil), signoff(t, "bob", "c", nil), signoff(t, "carol", "a", nil)},
			"a=carol b=alice c=bob"},
		"one role twice": {policy(t, "qa qa", "qa alice", "qa bob"),
			[]signature.SignedDoc{signoff(t, "bob", "qa", nil), signoff(t, "alice", "qa", nil)}, "qa=alice qa=bob"},
		"rubbish beside": {policy(t, "", "release alice"),
			[]signature.SignedDoc{{Name: "signoffs/x.json", Doc: []byte("{}"), Sig: []byte("x")}, signoff(t, "mallory", "release", nil), signoff(t, "alice", "release", nil)}, "release=alice"},
		"a second line of the key": {policy(t, "", `release valid-before="20260101Z" alice`, "release alice"), []signature.SignedDoc{signoff(t, "alice", "release", nil)}, "release=alice"},
	} {
		accepted, err := CheckSignoffs(c.policy, patchID, c.signoffs, now)
		var got []string
		for _, a := range accepted {
			for _, who := range []string{"alice", "bob", "carol", "mallory"} {
				if a.KeyFingerprint == signature.Fingerprint(key(t, who).PublicKey()) {
					got = append(got, a.Role+"="+who)
				}
			}
		}
		if err != nil || strings.Join(got, " ") != c.want {
			t.Errorf("%s: CheckSignoffs = %q, %v, want %q", name, got, err, c.want)
		}
	}
}

func TestCheckSignoffsRefuses(t *testing.T) {
	print := func(who string) string { return signature.Fingerprint(key(t, who).PublicKey()) }
	alice := []signature.SignedDoc{signoff(t, "alice", "release", nil)}
	tampered := signoff(t, "alice", "release", nil)
	tampered.Doc = []byte(strings.Replace(string(tampered.Doc), "pass", "PASS", 1))
	unknown := sign(t, "alice", "signoffs/release.json", signature.NamespaceSignoff,
		[]byte(strings.Replace(string(alice[0].Doc), `"verdict"`, `"mood":"good","verdict"`, 1)))
	for name, c := range map[string]struct {
		policy   Policy
		signoffs []signature.SignedDoc
		want     string
	}{
		"none": {policy(t, "", "release alice"), nil, `no sign-off as "release": there is no sign-off at all`},
		"listed as another role": {policy(t, "release qa", "# x alice", "release bob", "release alice"),
			[]signature.SignedDoc{signoff(t, "bob", "release", nil), signoff(t, "alice", "qa", nil)},
			`no sign-off as "qa": signoffs/qa.json: key ` + print("alice") + ` signed as "qa" but is listed as "release" (allowed_signers line 3)`},
		"only the other role": {policy(t, "release qa", "release alice"), alice, `no sign-off as "qa": key ` + print("alice") + ` signed as "release"`},
		"one key, two roles": {policy(t, "release qa", "release,qa alice"), []signature.SignedDoc{alice[0], signoff(t, "alice", "qa", nil)},
			`roles "release", "qa" need 2 different keys, and the sign-offs found are by ` + print("alice")},
		"three roles, two keys": {policy(t, "a b c", "a,b,c alice", "a,b,c bob"),
			[]signature.SignedDoc{signoff(t, "alice", "a", nil), signoff(t, "bob", "b", nil), signoff(t, "alice", "c", nil), signoff(t, "bob", "a", nil)}, "need 3 different keys"},
		"unknown key":   {policy(t, "", "release bob"), alice, "key " + print("alice") + ` signed as "release" but is not in allowed_signers`},
		"similar role":  {policy(t, "", "release@example.com alice"), alice, `listed as "release@example.com"`},
		"other patch":   {policy(t, "", "release alice"), []signature.SignedDoc{signoff(t, "alice", "release", func(s *signature.Signoff) { s.Patch = digest.Of(nil) })}, "it is about patch " + digest.Of(nil).String()},
		"verdict":       {policy(t, "", "release alice"), []signature.SignedDoc{signoff(t, "alice", "release", func(s *signature.Signoff) { s.Verdict = "fail" })}, `verdict of key ` + print("alice") + ` as "release" is "fail"`},
		"tampered":      {policy(t, "", "release alice"), []signature.SignedDoc{tampered}, "does not verify"},
		"unknown field": {policy(t, "", "release alice"), []signature.SignedDoc{unknown}, `unknown field "mood"`},
		"namespace":     {policy(t, "", `release namespaces="relkit-channel" alice`), alice, `does not count: it is for namespaces "relkit-channel"`},
		"other purpose": {policy(t, "", "release alice"), []signature.SignedDoc{sign(t, "alice", "signoffs/release.json", signature.NamespaceChannel, alice[0].Doc)}, `for namespace "relkit-channel"`},
		"key expired":   {policy(t, "", `release valid-before="20261122Z" alice`), alice, "valid only until 2026-11-22T00:00:00Z"},
		"key not yet":   {policy(t, "", `release valid-after="20261122113000Z" alice`), alice, "valid only from 2026-11-22T11:30:00Z and signed on 2026-11-22T11:00:00Z"},
		"authority":     {policy(t, "", "release cert-authority alice"), alice, "certificate authority"},
		"no policy":     {Policy{}, alice, "no allowed signers"},
		"too many":      {policy(t, "", "release alice"), make([]signature.SignedDoc, maxSignoffs+1), "at most 256"},
	} {
		accepted, err := CheckSignoffs(c.policy, patchID, c.signoffs, now)
		if err == nil || failure.Of(err) != failure.Untrusted || !strings.Contains(err.Error(), c.want) || accepted != nil {
			t.Errorf("%s: CheckSignoffs = %v, %v (kind %d), want an untrusted error with %q", name, accepted, err, failure.Of(err), c.want)
		}
	}
	_, err := CheckSignoffs(policy(t, "release qa", "release alice"), patchID, alice, now)
	if hint := failure.Hint(err); hint != "relkit sign FILE --as qa --key KEY" {
		t.Errorf("hint = %q", hint)
	}
}

// certify makes who's key one with a certificate by ca, for the hour before now.
func certify(t *testing.T, who, ca string, principals ...string) ssh.Signer {
	t.Helper()
	cert := &ssh.Certificate{Key: key(t, who).PublicKey(), CertType: ssh.UserCert, ValidPrincipals: principals, KeyId: who + "\n", Serial: uint64(len(principals)),
		ValidAfter: uint64(now.Add(-2 * time.Hour).Unix()), ValidBefore: uint64(now.Add(-30 * time.Minute).Unix())}
	if err := cert.SignCert(rand.Reader, key(t, ca)); err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewCertSigner(cert, key(t, who))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// certSignoff is a sign-off an hour before now by such a key.
func certSignoff(t *testing.T, s ssh.Signer, role string, at time.Time) signature.SignedDoc {
	t.Helper()
	doc := signoff(t, "nobody", role, func(s *signature.Signoff) { s.Time = at })
	sig, err := signature.Sign(s, signature.NamespaceSignoff, bytes.NewReader(doc.Doc))
	if err != nil {
		t.Fatal(err)
	}
	doc.Sig = sig
	return doc
}

// TestCertificates: a certificate counts for the roles that it and its
// authority's line name, if it was valid when it signed; all certificates of one
// key are one key.
func TestCertificates(t *testing.T) {
	then := now.Add(-time.Hour)
	dora := certify(t, "dora", "ca", "qa", "release")
	for name, c := range map[string]struct {
		policy   Policy
		signoffs []signature.SignedDoc
		want     string // in the error; "" for none
	}{
		"expired since":     {policy(t, "qa", "qa cert-authority ca"), []signature.SignedDoc{certSignoff(t, dora, "qa", then)}, ""},
		"signed too late":   {policy(t, "qa", "qa cert-authority ca"), []signature.SignedDoc{certSignoff(t, dora, "qa", now)}, "does not count: its certificate was valid only until 2026-11-22T11:30:00Z"},
		"signed too early":  {policy(t, "qa", "qa cert-authority ca"), []signature.SignedDoc{certSignoff(t, dora, "qa", now.Add(-3*time.Hour))}, "valid only from 2026-11-22T10:00:00Z"},
		"not on the line":   {policy(t, "release", "qa cert-authority ca"), []signature.SignedDoc{certSignoff(t, dora, "release", then)}, `is listed as "qa" (allowed_signers line 1)`},
		"not certified":     {policy(t, "ops", "ops,qa cert-authority ca"), []signature.SignedDoc{certSignoff(t, dora, "ops", then)}, `is listed as "qa" (allowed_signers line 1)`},
		"certified as none": {policy(t, "ops", "ops cert-authority ca"), []signature.SignedDoc{certSignoff(t, dora, "ops", then)}, `is certified as none of "ops" (allowed_signers line 1)`},
		"other authority":   {policy(t, "qa", "qa cert-authority alice"), []signature.SignedDoc{certSignoff(t, dora, "qa", then)}, "is not in allowed_signers"},
		"authority ended":   {policy(t, "qa", `qa cert-authority,valid-before="20261122115959Z" ca`), []signature.SignedDoc{certSignoff(t, dora, "qa", then)}, "does not count: it was valid only until"},
		"two people":        {policy(t, "qa release", "qa,release cert-authority ca"), []signature.SignedDoc{certSignoff(t, dora, "qa", then), certSignoff(t, certify(t, "emil", "ca", "release"), "release", then)}, ""},
		"two certificates of one key": {policy(t, "qa release", "qa,release cert-authority ca"),
			[]signature.SignedDoc{certSignoff(t, certify(t, "dora", "ca", "qa"), "qa", then), certSignoff(t, dora, "release", then)}, "need 2 different keys"},
		"a key with and without": {policy(t, "qa release", "qa cert-authority ca", "release dora"),
			[]signature.SignedDoc{certSignoff(t, dora, "qa", then), certSignoff(t, key(t, "dora"), "release", then)}, "need 2 different keys"},
	} {
		accepted, err := CheckSignoffs(c.policy, patchID, c.signoffs, now)
		switch {
		case c.want == "" && (err != nil || len(accepted) != len(c.policy.Require)):
			t.Errorf("%s: CheckSignoffs = %v, %v", name, accepted, err)
		case c.want != "" && (failure.Of(err) != failure.Untrusted || !strings.Contains(fmt.Sprint(err), c.want)):
			t.Errorf("%s: CheckSignoffs = %v, %v, want %q", name, accepted, err, c.want)
		}
	}
	doc := []byte("status\n")
	sig, err := signature.Sign(dora, signature.NamespaceChannel, bytes.NewReader(doc))
	if err != nil {
		t.Fatal(err)
	}
	sigs := []signature.SignedDoc{{Name: "status.json.sig", Sig: sig}}
	p := policy(t, "qa", "qa cert-authority ca")
	accepted, err := CheckDocument(p, signature.NamespaceChannel, doc, sigs, then)
	if err != nil {
		t.Fatalf("CheckDocument while the certificate is valid: %v", err)
	}
	if want := signature.Fingerprint(key(t, "dora").PublicKey()) + `, certificate "dora\n" (serial 2) of ` + signature.Fingerprint(key(t, "ca").PublicKey()); accepted[0].Signer() != want {
		t.Errorf("Signer = %s, want %s", accepted[0].Signer(), want)
	}
	if _, err := CheckDocument(p, signature.NamespaceChannel, doc, sigs, now); err == nil || !strings.Contains(err.Error(), "its certificate was valid only until") {
		t.Errorf("CheckDocument after that: %v", err)
	}
	dated := []byte(`{"issued":"2026-11-22T11:00:00Z"}`)
	if sigs[0].Sig, err = signature.Sign(dora, signature.NamespaceChannel, bytes.NewReader(dated)); err != nil {
		t.Fatal(err)
	}
	if _, err := CheckDocument(p, signature.NamespaceChannel, dated, sigs, now); err != nil {
		t.Errorf("CheckDocument after that, of a document that was issued before: %v", err)
	}
	sigs[0].Sig = sig
	if _, err := CheckDocument(policy(t, "ops", "ops cert-authority ca"), signature.NamespaceChannel, doc, sigs, then); err == nil || !strings.Contains(err.Error(), "certified as none") {
		t.Errorf("CheckDocument for another role: %v", err)
	}
}

func TestCheckDocument(t *testing.T) {
	doc := []byte("status\n")
	by := func(who string) signature.SignedDoc {
		return sign(t, who, "status.json.sig", signature.NamespaceChannel, doc)
	}
	lines := []string{"release alice", "status,release bob", `status namespaces="relkit-signoff" carol`}
	for name, c := range map[string]struct {
		require, signers, want string
		fails                  bool
	}{
		"a choice, second": {"status|release", "alice", "release", false},
		"a choice, first":  {"status|release", "bob", "status", false},
		"two keys":         {"status release", "bob alice", "status release", false},
		"both in one":      {"status release", "bob", "need 2 different keys", true},
		"same key twice":   {"release release", "bob bob", "need 2 different keys", true},
		"wrong role":       {"status", "alice", `no signature as "status": key`, true},
		"namespace":        {"status", "carol", "it is for namespaces", true},
		"unknown":          {"status", "mallory", "is not in allowed_signers", true},
		"none":             {"status|release", "", `no signature as "status", "release": there is no signature at all`, true},
	} {
		var sigs []signature.SignedDoc
		for who := range strings.FieldsSeq(c.signers) {
			sigs = append(sigs, by(who))
		}
		accepted, err := CheckDocument(policy(t, c.require, lines...), signature.NamespaceChannel, doc, sigs, now)
		var roles []string
		for _, a := range accepted {
			roles = append(roles, a.Role)
		}
		switch {
		case c.fails && (err == nil || failure.Of(err) != failure.Untrusted || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: CheckDocument = %v, want an untrusted error with %q", name, err, c.want)
		case !c.fails && (err != nil || fmt.Sprint(roles) != "["+c.want+"]"):
			t.Errorf("%s: CheckDocument = %q, %v, want %q", name, roles, err, c.want)
		}
	}
	if _, err := CheckDocument(policy(t, "", lines...), signature.NamespaceChannel, []byte("other"), []signature.SignedDoc{by("alice")}, now); failure.Of(err) != failure.Untrusted {
		t.Errorf("CheckDocument of another document = %v", err)
	}
}

func TestReadSigned(t *testing.T) {
	files := fstest.MapFS{"a": {Data: []byte("doc")}, "a.sig": {Data: []byte("sig")}, "b": {Data: []byte("doc")}}
	if d, err := ReadSigned(files, "a", 3); err != nil || d.Name != "a" || string(d.Doc) != "doc" || string(d.Sig) != "sig" {
		t.Errorf("ReadSigned = %v, %v", d, err)
	}
	for name, want := range map[string]string{"b": "b is not signed", "c": "not exist"} {
		if _, err := ReadSigned(files, name, 3); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ReadSigned(%q) = %v, want %q", name, err, want)
		}
	}
	if _, err := ReadSigned(files, "a", 2); err == nil || !strings.Contains(err.Error(), "more than 2 bytes") {
		t.Errorf("ReadSigned over its limit = %v", err)
	}
}
