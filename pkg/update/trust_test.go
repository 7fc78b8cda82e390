package update

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/relkit/relkit/pkg/config"
	"github.com/relkit/relkit/pkg/engine/trust"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/format/signature"
	"github.com/relkit/relkit/pkg/format/trustdoc"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

func key(t *testing.T, name string) ssh.Signer {
	t.Helper()
	seed := sha256.Sum256([]byte(name))
	s, err := ssh.NewSignerFromKey(ed25519.NewKeyFromSeed(seed[:]))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// document is a trust document for fw, issued a day before now; ann is its root,
// and ann, bob and cid may sign as qa.
func document(t *testing.T, change func(*trustdoc.Document)) *trust.Document {
	t.Helper()
	d := &trustdoc.Document{Schema: trustdoc.Schema, Product: "fw", Version: 1, Issued: now.AddDate(0, 0, -1), Expires: now.AddDate(0, 1, 0), Thresholds: map[string]int{"root": 1, "qa": 2}}
	for _, line := range []string{"root,qa ann", "qa bob", "qa cid"} {
		roles, who, _ := strings.Cut(line, " ")
		d.AllowedSigners += roles + " " + string(ssh.MarshalAuthorizedKey(key(t, who).PublicKey()))
	}
	if change != nil {
		change(d)
	}
	raw, err := d.Encode()
	if err != nil {
		t.Fatal(err)
	}
	sig, err := signature.Sign(key(t, "ann"), signature.NamespaceTrust, bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	out, err := trust.NewDocument("trust-1.json", raw, sig)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// install makes d the document of an applier's machine.
func install(t *testing.T, a *applier, d *trust.Document) {
	t.Helper()
	u, err := trust.Update(a.target.State, []*trust.Document{d}, trust.UpdateOptions{First: true, Clock: trust.Clock{Shown: now}})
	if err != nil {
		t.Fatal(err)
	}
	a.document = u.After
}

// TestPolicy: what the machine asks for, what its trust document asks for, and
// what the command line asks for, all of it.
func TestPolicy(t *testing.T) {
	require := func(roles ...string) config.Policy { return config.Policy{Demand: config.Demand{Require: roles}} }
	proved := require("release", "qa")
	proved.Roles = map[string]config.RoleDemand{"qa": {Threshold: 3, Evidence: true}}
	rules := config.Policy{Rules: []config.PolicyRule{{Product: "fw", Demand: config.Demand{Require: []string{"qa"}}}}}
	for name, c := range map[string]struct {
		policy   config.Policy
		flags    string
		product  string
		document bool
		want     string // roles; threshold of qa; evidence
	}{
		"nothing":                     {config.Policy{}, "", "fw", false, "; 0; "},
		"the command line":            {config.Policy{}, "qa", "fw", false, "qa; 0; "},
		"the policy":                  {require("release", "qa"), "", "fw", false, "release qa; 0; "},
		"both":                        {require("release", "qa"), "safety", "fw", false, "release qa safety; 0; "},
		"the command line names less": {require("release", "qa"), "qa", "fw", false, "release qa; 0; "},
		"the command line wants two":  {require("release", "qa"), "qa qa", "fw", false, "release qa qa; 0; "},
		"the document's threshold":    {require("release", "qa"), "", "fw", true, "release qa; 2; "},
		"the machine's is higher":     {proved, "", "fw", true, "release qa; 3; qa"},
		"a rule keeps what is usual":  {rules, "", "fw", false, "release qa; 0; "},
		"a rule about another":        {rules, "", "os", false, "; 0; "},
		"a rule, and nobody knows":    {rules, "", "", false, "release qa; 0; "},
	} {
		a := newApplier(t)
		a.conf.Policy, a.o.Policy.Require = c.policy, strings.Fields(c.flags)
		a.clock = trust.Clock{Shown: now}
		if c.document {
			install(t, a, document(t, nil))
		}
		p, err := a.policy(c.product)
		got := fmt.Sprintf("%s; %d; %s", strings.Join(p.Require, " "), p.Thresholds["qa"], strings.Join(p.Evidence, " "))
		if err != nil || got != c.want {
			t.Errorf("%s: %q, %v, want %q", name, got, err, c.want)
		}
	}
	a := newApplier(t)
	install(t, a, document(t, nil))
	a.clock = trust.Clock{Shown: now}
	if _, err := a.policy("os"); failure.Of(err) != failure.Untrusted || !strings.Contains(err.Error(), `is for product "fw", not "os"`) {
		t.Errorf("another product: %v", err)
	}
	a.clock = trust.Clock{Shown: time.Unix(0, 0), Floor: now.AddDate(0, 1, 0)}
	if _, err := a.policy("fw"); failure.Of(err) != failure.Untrusted || !strings.Contains(err.Error(), "trust document 1 expired at 2026-07-01") {
		t.Errorf("expired, by what is known of the time: %v", err)
	}
	if a.document.Thresholds["qa"] != 2 {
		t.Error("the document was changed")
	}
}

// TestRemember: the time that has passed is the earliest at which one of those
// signed who all had to; a dry run remembers nothing.
func TestRemember(t *testing.T) {
	accepted := []trust.Accepted{{Time: now.AddDate(30, 0, 0)}, {Time: now.Add(time.Hour)}, {Time: now.Add(2 * time.Hour)}}
	for _, dry := range []bool{true, false} {
		a := newApplier(t)
		a.opt.DryRun = dry
		a.clock = trust.Clock{Shown: time.Unix(0, 0), Floor: now}
		if err := a.remember(accepted); err != nil {
			t.Fatal(err)
		}
		c, err := trust.ReadClock(a.target.State.FS(), time.Unix(0, 0), time.Time{})
		want := now.Add(time.Hour)
		if dry {
			want = time.Unix(0, 0)
		}
		if err != nil || !c.Now().Equal(want) {
			t.Errorf("dry %v: not before %s, %v, want %s", dry, c.Now(), err, want)
		}
		if !dry && !a.trustedNow().Equal(want) {
			t.Errorf("this run goes by %s", a.trustedNow())
		}
	}
}

// TestReadAuthority: without a document somebody has to be named, with one nobody
// has, and a damaged one is not taken for none.
func TestReadAuthority(t *testing.T) {
	missing := failure.Errorf(failure.Usage, "no file")
	a := newApplier(t)
	a.o.NoSigners = missing
	if err := a.readAuthority(); err != missing {
		t.Errorf("%v", err)
	}
	install(t, a, document(t, nil))
	if err := a.readAuthority(); err != nil || a.document == nil {
		t.Errorf("%v", err)
	}
	if err := fsys.WriteFile(a.target.State.FS(), "trust/1.json", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	err := a.readAuthority()
	if failure.Of(err) != failure.Untrusted || failure.Hint(err) != "rm -r /var/lib/relkit/trust; relkit trust --install FILE  # on your own word, once it is known who damaged it" {
		t.Errorf("%v, hint %q", err, failure.Hint(err))
	}
	lines, _, err := a.target.State.Verify()
	if err != nil || lines[len(lines)-1].Event != journal.Refused {
		t.Errorf("the refusal is not in the log: %+v, %v", lines, err)
	}
}

// TestStillTrusted: what was staged on the word of a key, or of an authority's
// certificate, is not committed once that is revoked.
func TestStillTrusted(t *testing.T) {
	print := func(who string) string { return signature.Fingerprint(key(t, who).PublicKey()) }
	gone := document(t, func(d *trustdoc.Document) { d.Revoked = []trustdoc.Revoked{{Key: print("rex"), Reason: "lost"}} })
	for signoff, want := range map[string]string{
		"release " + print("ron"): "",
		"release " + print("rex"): "was staged on the word of",
		"release " + print("ron") + `, certificate "ron" (serial 1) of ` + print("rex"): "it is revoked by trust document 1: lost",
	} {
		a := newApplier(t)
		begin := journal.Record{PatchID: "p", Signoffs: []string{"qa " + print("bob"), signoff}}
		if err := a.stillTrusted(begin); err != nil {
			t.Errorf("without a document: %v", err)
		}
		install(t, a, gone)
		err := a.stillTrusted(begin)
		if want == "" && err != nil || want != "" && (failure.Of(err) != failure.Untrusted || !strings.Contains(err.Error(), want) || failure.Hint(err) != "relkit patch-apply --unstage") {
			t.Errorf("%s: %v, hint %q", signoff, err, failure.Hint(err))
		}
	}
}

func TestAcceptedOf(t *testing.T) {
	a := trust.Accepted{Role: "qa", KeyFingerprint: "SHA256:x", Certificate: "certificate \"c\"", Evidence: []signature.Evidence{{Name: "n"}}}
	if got := acceptedOf([]string{a.String()}); len(got) != 1 || got[0].Role != "qa" || got[0].KeyFingerprint != "SHA256:x" {
		t.Errorf("%+v", got)
	}
}
