package signature

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

func keyLine(s ssh.Signer) string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(s.PublicKey())))
}

func TestRoles(t *testing.T) {
	a, b, c := newSigner(t, "ed25519"), newSigner(t, "ecdsa"), newSigner(t, "rsa")
	text := "# who may\n\n" +
		"release,qa-lead@x namespaces=\"relkit-signoff,relkit-ch*\" " + keyLine(a) + " a comment\n" +
		"\"qa,release\" valid-after=\"20260101Z\",VALID-BEFORE=\"202602010000Z\" " + keyLine(b) + "\r\n" +
		"  qa " + keyLine(a) + "\n" +
		"root cert-authority " + keyLine(c) + "\n" +
		"status namespaces=\"*,!relkit-trust\" " + keyLine(c)
	signers, err := ParseAllowedSigners([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	jan := time.Date(2026, 1, 15, 0, 0, 0, 0, time.UTC)
	for _, q := range []struct {
		key       ssh.Signer
		namespace string
		at        time.Time
		want      string
	}{
		{a, NamespaceSignoff, jan, "qa qa-lead@x release"},
		{a, NamespaceChannel, jan, "qa qa-lead@x release"},
		{a, NamespaceTrust, jan, "qa"},
		{b, NamespaceTrust, jan, "qa release"},
		{b, NamespaceTrust, jan.AddDate(0, -1, 0), ""},
		{b, NamespaceTrust, time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC), "qa release"},
		{b, NamespaceTrust, time.Date(2026, 2, 1, 0, 0, 1, 0, time.UTC), ""},
		{c, NamespaceSignoff, jan, "status"},
		{c, NamespaceTrust, jan, ""},
	} {
		if got := strings.Join(signers.Roles(q.key.PublicKey(), q.namespace, q.at, q.at), " "); got != q.want {
			t.Errorf("Roles(%s, %s, %s) = %q, want %q", q.key.PublicKey().Type(), q.namespace, q.at, got, q.want)
		}
	}
	if lines := signers.Find(a.PublicKey()); len(lines) != 2 || lines[0].Line != 3 || lines[1].Line != 5 {
		t.Errorf("Find = %+v, want lines 3 and 5", lines)
	}
}

func TestParseAllowedSignersRefuses(t *testing.T) {
	s := newSigner(t, "ed25519")
	key := keyLine(s)
	_, b64, _ := strings.Cut(key, " ")
	for text, want := range map[string]string{
		"* " + key:                            `line 1: principal "*": patterns are not accepted`,
		"ok " + key + "\n*@x.org " + key:      `line 2: principal "*@x.org"`,
		"a,!b " + key:                         `principal "!b"`,
		"a,,b " + key:                         "an empty name",
		"\ra " + key:                          "a control character",
		"a\x7f " + key:                        "a control character",
		"a " + key + " x\x00":                 "line 1: a NUL byte",
		strings.Repeat("a", 1023) + " " + key: "at most 1022",
		`a namespaces="x,!` + strings.Repeat("a", 1023) + `" ` + key: "at most 1022",
		"a " + keyLine(certified(t, s, s, nil)):                      "key is a certificate",
		"a " + spareBits(keyLine(newSigner(t, "ecdsa"))):             "illegal base64",
		`a valid-after="20260231" ` + key:                            "bad time",
		`a valid-after="Z" ` + key:                                   "bad time",
		`a valid-after="20260101UTCZ" ` + key:                        "bad time",
		`a valid-after="19700101Z" ` + key:                           "bad time",
		`"a,b ` + key:                                                "no closing quote",
		`"a"x ` + key:                                                "no blank after",
		`a"b" ` + key:                                                "quote in the middle",
		"a":                                                          "no key",
		"a cert-authority":                                           "no key",
		"a ssh-ed25519":                                              "key of type",
		"a ssh-ed25519 !!!":                                          "illegal base64",
		"a ssh-rsa " + b64:                                           `says it is "ssh-ed25519"`,
		`a colour="red" ` + key:                                      "unknown option",
		`a namespaces ` + key:                                        "unknown option",
		`a namespaces="" ` + key:                                     "unknown option",
		`a namespaces=x ` + key:                                      "needs double quotes",
		`a namespaces="x ` + key:                                     "no closing quote",
		`a cert-authority="x" ` + key:                                "unknown option",
		`a namespaces="x",namespaces="y" ` + key:                     "stands twice",
		`a namespaces="x"cert-authority ` + key:                      "want a comma",
		`a namespaces="x", ` + key:                                   "want a comma and another option",
		`a valid-after="2026" ` + key:                                "bad time",
		`a valid-after="20261301" ` + key:                            "bad time",
		`a valid-after="+0260101" ` + key:                            "bad time",
		`a valid-after="20260102",valid-before="20260101" ` + key:    "not after",
		"a " + strings.Repeat("x", 10) + " " + key:                   "unknown option",
		strings.Repeat("#\n", MaxAllowedSigners):                     "at most",
		"a ssh-dss AAAAB3NzaC1kc3MAAAAA":                             "key of type",
		"a " + strings.Replace(key, "ssh-ed25519", "ssh-ed25519-cert-v01@openssh.com", 1): "says it is",
	} {
		if _, err := ParseAllowedSigners([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseAllowedSigners(%.60q) = %v, want an error with %q", text, err, want)
		}
	}
}

// TestParseTime: local times are those of clocks that know no summer time, as
// ssh-keygen has them (TestDifferential asks it).
func TestParseTime(t *testing.T) {
	local := time.Local
	t.Cleanup(func() { time.Local = local })
	for _, c := range []struct{ zone, text, want string }{
		{"UTC", "20260714", "2026-07-14T00:00:00Z"},
		{"Europe/Berlin", "202607141200Z", "2026-07-14T12:00:00Z"},
		{"Europe/Berlin", "202607141200utc", "2026-07-14T12:00:00Z"},
		{"Europe/Berlin", "20260714120001", "2026-07-14T11:00:01Z"},
		{"Europe/Berlin", "20261122", "2026-11-21T23:00:00Z"},
		{"Europe/Berlin", "202603290230", "2026-03-29T01:30:00Z"}, // no clock shows this
		{"Europe/Berlin", "202610250230", "2026-10-25T01:30:00Z"}, // clocks show this twice
		{"Australia/Sydney", "20260101", "2025-12-31T14:00:00Z"},
		{"America/New_York", "20260714", "2026-07-14T05:00:00Z"},
		{"Asia/Kolkata", "20260714", "2026-07-13T18:30:00Z"},
	} {
		location, err := time.LoadLocation(c.zone)
		if err != nil {
			t.Fatal(err)
		}
		time.Local = location
		got, err := parseTime(c.text)
		if err != nil || got.UTC().Format(time.RFC3339) != c.want {
			t.Errorf("%s in %s: %s, %v, want %s", c.text, c.zone, got.UTC(), err, c.want)
		}
	}
}

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		s, list string
		want    bool
	}{
		{"file", "file", true}, {"file", "*", true}, {"file", "f?le", true}, {"file", "f*", true}, {"file", "*e", true},
		{"file", "f*x*e", false}, {"file", "fil", false}, {"file", "filed", false}, {"file", "git,file", true},
		{"file", "git", false}, {"file", "*,!file", false}, {"file", "!git", false}, {"file", "!git,*", true}, {"", "*", true},
		{"aab", "*ab", true}, {"a", "", false},
	} {
		if got := matchList(c.s, c.list); got != c.want {
			t.Errorf("matchList(%q, %q) = %v, want %v", c.s, c.list, got, c.want)
		}
	}
}

// FuzzAllowedSigners: what is read and written out plainly is read the same.
func FuzzAllowedSigners(f *testing.F) {
	key := keyLine(newSigner(f, "ed25519"))
	f.Add("release,qa namespaces=\"relkit-*\",valid-before=\"20270101Z\" " + key + " c\n# x\n")
	f.Add("release namespaces=\"*,!x\",valid-after=\"202607011200\",valid-before=\"20270101120000utc\" " + key + "\r\n")
	f.Add("\"a b\" cert-authority,valid-after=\"20260101\" " + key)
	f.Fuzz(func(t *testing.T, text string) {
		a, err := ParseAllowedSigners([]byte(text))
		if err != nil {
			return
		}
		var plain strings.Builder
		for i, s := range a.Signers {
			plain.WriteString(writeSigner(s))
			a.Signers[i].Line = i + 1
		}
		again, err := ParseAllowedSigners([]byte(plain.String()))
		if err != nil || !reflect.DeepEqual(normal(a), normal(again)) {
			t.Errorf("%q, written as %q, reads differently (%v)", text, plain.String(), err)
		}
	})
}

func writeSigner(s Signer) string {
	var options []string
	if s.CertAuthority {
		options = append(options, "cert-authority")
	}
	if s.Namespaces != "" {
		options = append(options, `namespaces="`+strings.ReplaceAll(s.Namespaces, `"`, `\"`)+`"`)
	}
	const layout = "20060102150405Z"
	if !s.ValidAfter.IsZero() {
		options = append(options, `valid-after="`+s.ValidAfter.UTC().Format(layout)+`"`)
	}
	if !s.ValidBefore.IsZero() {
		options = append(options, `valid-before="`+s.ValidBefore.UTC().Format(layout)+`"`)
	}
	line := `"` + strings.Join(s.Principals, ",") + `" ` + strings.Join(options, ",") + " "
	return line + string(ssh.MarshalAuthorizedKey(s.Key))
}

// normal makes equal what means the same: instants and keys.
func normal(a *AllowedSigners) []Signer {
	out := make([]Signer, len(a.Signers))
	for i, s := range a.Signers {
		s.ValidAfter, s.ValidBefore = s.ValidAfter.UTC(), s.ValidBefore.UTC()
		out[i] = s
	}
	return out
}
