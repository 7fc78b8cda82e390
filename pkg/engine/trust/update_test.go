package trust

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/relkit/relkit/pkg/engine/state"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/channel"
	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/format/signature"
	"github.com/relkit/relkit/pkg/format/trustdoc"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// keyring writes "root ann, root bob, qa dora" as an allowed_signers file.
func keyring(t *testing.T, who string) string {
	t.Helper()
	var text strings.Builder
	for line := range strings.SplitSeq(who, ",") {
		cut := strings.LastIndexByte(line, ' ')
		text.WriteString(strings.TrimSpace(line[:cut]) + " " + string(ssh.MarshalAuthorizedKey(key(t, line[cut+1:]).PublicKey())))
	}
	return text.String()
}

// trustDoc is a document for fw that its keys may change, signed by some.
func trustDoc(t *testing.T, version int64, who, signers string, change func(*trustdoc.Document)) *Document {
	t.Helper()
	d := &trustdoc.Document{Schema: trustdoc.Schema, Product: "fw", Version: version, Issued: now.Add(time.Duration(version) * time.Minute), Expires: now.AddDate(1, 0, 0),
		AllowedSigners: keyring(t, who), Thresholds: map[string]int{"root": 2}}
	if change != nil {
		change(d)
	}
	raw, err := d.Encode()
	if err != nil {
		t.Fatal(err)
	}
	var sigs [][]byte
	for s := range strings.FieldsSeq(signers) {
		sigs = append(sigs, sign(t, s, "", signature.NamespaceTrust, raw).Sig)
	}
	out, err := NewDocument(fmt.Sprintf("trust-%d.json", version), raw, signature.Join(sigs))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

const roots = "root ann,root bob,root cid,release rex"

// machineWith is a state that has those documents, one after the other.
func machineWith(t *testing.T, docs ...*Document) *fsys.Mem {
	t.Helper()
	m := fsys.NewMem()
	for i, d := range docs {
		if _, err := Update(state.New(m.FS()), []*Document{d}, UpdateOptions{First: i == 0, Clock: Clock{Shown: now.Add(time.Hour)}}); err != nil {
			t.Fatal(err)
		}
	}
	m.SyncAll()
	return m
}

func versionOf(t *testing.T, state fsys.FS) int64 {
	t.Helper()
	d, err := Load(state)
	if err != nil {
		t.Fatal(err)
	}
	if d == nil {
		return 0
	}
	return d.Version
}

func TestUpdate(t *testing.T) {
	later := Clock{Shown: now.Add(time.Hour)}
	one := trustDoc(t, 1, roots, "ann bob", nil)
	two := trustDoc(t, 2, roots, "bob cid", nil)
	expires := func(at time.Time) func(*trustdoc.Document) {
		return func(d *trustdoc.Document) { d.Expires = at }
	}
	threshold := func(n int) func(*trustdoc.Document) {
		return func(d *trustdoc.Document) { d.Thresholds["root"] = n }
	}
	for name, c := range map[string]struct {
		have  []*Document
		give  []*Document
		clock Clock
		first bool
		want  string // in the error; "" for none
		kind  failure.Kind
		is    int64 // the version afterwards
	}{
		"first":                {nil, []*Document{one}, later, true, "", 0, 1},
		"first, a later one":   {nil, []*Document{two}, later, true, "", 0, 2},
		"first, not asked for": {nil, []*Document{one}, later, false, "no trust document that could vouch", failure.Refused, 0},
		"first, signed by one": {nil, []*Document{trustDoc(t, 1, roots, "ann", nil)}, later, true, `roles "root", "root" need 2 different keys`, failure.Untrusted, 0},
		"first, by one twice":  {nil, []*Document{trustDoc(t, 1, roots, "ann ann", nil)}, later, true, "need 2 different keys", failure.Untrusted, 0},
		"first, by no root":    {nil, []*Document{trustDoc(t, 1, roots, "ann rex", nil)}, later, true, "need 2 different keys", failure.Untrusted, 0},
		"first, once more":     {[]*Document{one}, []*Document{one}, later, true, "", 0, 1},
		"first, where one is":  {[]*Document{one}, []*Document{two}, later, true, "has trust document 1 already", failure.Refused, 1},
		"first, expired":       {nil, []*Document{trustDoc(t, 1, roots, "ann bob", expires(now.Add(30*time.Minute)))}, later, true, "trust document 1 expired at", failure.Untrusted, 0},

		"next":                        {[]*Document{one}, []*Document{two}, later, false, "", 0, 2},
		"next, again":                 {[]*Document{one, two}, []*Document{two}, later, false, "", 0, 2},
		"next but one":                {[]*Document{one}, []*Document{trustDoc(t, 3, roots, "ann cid", nil)}, later, false, "", 0, 3},
		"rollback":                    {[]*Document{one, two}, []*Document{one}, later, false, "trust never goes back", failure.Untrusted, 2},
		"same version, other content": {[]*Document{one, two}, []*Document{trustDoc(t, 2, roots, "ann bob", threshold(3))}, later, false, "a version is given once", failure.Untrusted, 2},
		"threshold unmet":             {[]*Document{one}, []*Document{trustDoc(t, 2, roots, "cid", nil)}, later, false, "trust document 2 is not signed as trust document 1 wants it", failure.Untrusted, 1},
		"new threshold unmet":         {[]*Document{one}, []*Document{trustDoc(t, 2, roots, "ann bob", threshold(3))}, later, false, "trust document 2 is not signed as trust document 2 wants it", failure.Untrusted, 1},
		"lower threshold, old unmet":  {[]*Document{one}, []*Document{trustDoc(t, 2, roots, "ann", threshold(1))}, later, false, "as trust document 1 wants it", failure.Untrusted, 1},
		"expired":                     {[]*Document{one}, []*Document{trustDoc(t, 2, roots, "ann bob", expires(now.Add(59*time.Minute)))}, later, false, "expired", failure.Untrusted, 1},
		"expired, the clock set back": {[]*Document{one}, []*Document{trustDoc(t, 2, roots, "ann bob", expires(now.Add(59*time.Minute)))}, Clock{Shown: time.Unix(0, 0), Floor: later.Shown}, false, "expired", failure.Untrusted, 1},
		"another product":             {[]*Document{one}, []*Document{trustDoc(t, 2, roots, "ann bob", func(d *trustdoc.Document) { d.Product = "os" })}, later, false, `for product "os", and 1 for "fw"`, failure.Untrusted, 1},
		"other roots, their own word": {[]*Document{one}, []*Document{trustDoc(t, 2, "root eve,root mallory", "eve mallory", nil)}, later, false, "as trust document 1 wants it", failure.Untrusted, 1},
		"other roots, both words":     {[]*Document{one}, []*Document{trustDoc(t, 2, "root dan,root eli", "ann bob dan eli", nil)}, later, false, "", 0, 2},
		"other roots, the old word":   {[]*Document{one}, []*Document{trustDoc(t, 2, "root dan,root eli", "ann bob", nil)}, later, false, "as trust document 2 wants it", failure.Untrusted, 1},
		"a root left":                 {[]*Document{one}, []*Document{trustDoc(t, 2, "root ann,root bob", "ann bob", nil)}, later, false, "", 0, 2},
		"a chain, in any order":       {[]*Document{one}, []*Document{trustDoc(t, 3, "root dan,root eli", "dan eli", nil), trustDoc(t, 2, "root dan,root eli", "ann bob dan eli", nil)}, later, false, "", 0, 3},
		"a chain, given again":        {[]*Document{one, two}, []*Document{one, two, trustDoc(t, 3, roots, "ann bob", nil)}, later, false, "", 0, 3},
		"a chain without its middle":  {[]*Document{one}, []*Document{trustDoc(t, 3, "root dan,root eli", "dan eli", nil)}, later, false, "trust document 3 is not signed as trust document 1 wants it", failure.Untrusted, 1},
		"a chain over an expired one": {[]*Document{one}, []*Document{trustDoc(t, 2, "root dan,root eli", "ann bob dan eli", expires(now.Add(3*time.Minute))), trustDoc(t, 3, "root dan,root eli", "dan eli", nil)}, later, false, "", 0, 3},
		"a chain that forks":          {[]*Document{one}, []*Document{two, trustDoc(t, 2, roots, "ann bob", threshold(1))}, later, false, "a version is given once", failure.Untrusted, 1},
		"revoked roots of the old one": {[]*Document{trustDoc(t, 1, "root ann,root bob", "ann bob", func(d *trustdoc.Document) {
			d.Revoked = []trustdoc.Revoked{{Key: signature.Fingerprint(key(t, "cid").PublicKey())}}
		})}, []*Document{trustDoc(t, 2, roots, "ann cid", nil)}, later, false, "revoked by trust document 1", failure.Untrusted, 1},
		"revoked by the new one": {[]*Document{one}, []*Document{trustDoc(t, 2, "root ann,root bob", "ann cid", func(d *trustdoc.Document) {
			d.Revoked = []trustdoc.Revoked{{Key: signature.Fingerprint(key(t, "cid").PublicKey())}}
		})}, later, false, "revoked by trust document 2", failure.Untrusted, 1},
		"from an expired one":         {[]*Document{trustDoc(t, 1, roots, "ann bob", expires(now.Add(2*time.Hour)))}, []*Document{two}, Clock{Shown: now.AddDate(0, 6, 0)}, false, "", 0, 2},
		"a root key that has expired": {[]*Document{trustDoc(t, 1, `root ann,root valid-before="20261123Z" bob`, "ann bob", nil)}, []*Document{trustDoc(t, 2, roots, "ann bob", nil)}, Clock{Shown: now.AddDate(0, 1, 0)}, false, "it was valid only until", failure.Untrusted, 1},
		"a root key from tomorrow":    {nil, []*Document{trustDoc(t, 1, `root ann,root valid-after="20261123Z" bob`, "ann bob", nil)}, later, true, "valid only from", failure.Untrusted, 0},
	} {
		m := machineWith(t, c.have...)
		for _, dry := range []bool{true, false} {
			before := versionOf(t, m.FS())
			u, err := Update(state.New(m.FS()), c.give, UpdateOptions{First: c.first, Clock: c.clock, DryRun: dry})
			switch {
			case c.want == "" && err != nil:
				t.Errorf("%s: %v", name, err)
			case c.want == "" && u.After.Version != c.is:
				t.Errorf("%s: is said to be %d, want %d", name, u.After.Version, c.is)
			case c.want != "" && (err == nil || failure.Of(err) != c.kind || !strings.Contains(err.Error(), c.want)):
				t.Errorf("%s: %v (kind %d), want %q (kind %d)", name, err, failure.Of(err), c.want, c.kind)
			}
			want := c.is
			if dry {
				want = before
			}
			if got := versionOf(t, m.FS()); got != want {
				t.Errorf("%s: dry %v: the machine has document %d, want %d", name, dry, got, want)
			}
		}
	}
}

// TestUpdateProduct: a document is for what is installed.
func TestUpdateProduct(t *testing.T) {
	m := fsys.NewMem()
	s := state.New(m.FS())
	if err := s.SetVersion(journal.Version{Product: "os", Version: "1"}); err != nil {
		t.Fatal(err)
	}
	_, err := Update(s, []*Document{trustDoc(t, 1, roots, "ann bob", nil)}, UpdateOptions{First: true, Clock: Clock{Shown: now.Add(time.Hour)}})
	if failure.Of(err) != failure.Untrusted || !strings.Contains(err.Error(), `for product "fw", not "os"`) || versionOf(t, m.FS()) != 0 {
		t.Errorf("%v", err)
	}
}

// TestUpdateAudit: what was decided is in the log, with who it rests on, and old
// documents are gone from the state.
func TestUpdateAudit(t *testing.T) {
	m := machineWith(t, trustDoc(t, 1, roots, "ann bob", nil), trustDoc(t, 4, roots, "bob cid", nil))
	lines, _, err := state.New(m.FS()).Verify()
	if err != nil || len(lines) != 2 || lines[0].Event != journal.TrustInstalled || lines[1].Event != journal.TrustUpdated {
		t.Fatalf("%+v, %v", lines, err)
	}
	if !strings.HasPrefix(lines[1].Reason, "trust document 4 of fw (sha256:") || !strings.HasSuffix(lines[1].Reason, "in place of 1") {
		t.Errorf("%q", lines[1].Reason)
	}
	if got := strings.Join(lines[1].Signoffs, " "); !strings.Contains(got, "root "+signature.Fingerprint(key(t, "cid").PublicKey())) {
		t.Errorf("%q", got)
	}
	names, err := m.FS().ReadDir(trustDir)
	if err != nil || strings.Join(names, " ") != "4.json 4.json.sig" {
		t.Errorf("%q, %v", names, err)
	}
}

// TestLoadDamaged: a damaged document is an error, not the absence of one.
func TestLoadDamaged(t *testing.T) {
	for name, spoil := range map[string]func(f fsys.FS) error{
		"a byte":     func(f fsys.FS) error { return spoilt(f, "trust/2.json", "fw", "fx") },
		"signatures": func(f fsys.FS) error { return f.Unlink("trust/2.json.sig") },
		"one signature": func(f fsys.FS) error {
			b, _ := fsys.ReadFile(f, "trust/2.json.sig", 1<<20)
			return fsys.WriteFile(f, "trust/2.json.sig", b[bytes.LastIndex(b, []byte("-----BEGIN")):], 0o644)
		},
		"another name": func(f fsys.FS) error {
			return errors.Join(f.Rename("trust/2.json", "trust/3.json", fsys.NoReplace), f.Rename("trust/2.json.sig", "trust/3.json.sig", fsys.NoReplace))
		},
		"nothing in it": func(f fsys.FS) error { return fsys.WriteFile(f, "trust/2.json", nil, 0o644) },
	} {
		m := machineWith(t, trustDoc(t, 1, roots, "ann bob", nil), trustDoc(t, 2, roots, "ann bob", nil))
		if err := spoil(m.FS()); err != nil {
			t.Fatal(err)
		}
		if d, err := Load(m.FS()); err == nil || failure.Of(err) != failure.Untrusted || d != nil {
			t.Errorf("%s: %v, %v", name, d, err)
		}
		if _, err := ReadClock(m.FS(), now, time.Time{}); err == nil {
			t.Errorf("%s: the clock does not mind", name)
		}
	}
	if d, err := Load(fsys.NewMem().FS()); d != nil || err != nil {
		t.Errorf("%v, %v", d, err)
	}
}

func spoilt(f fsys.FS, name, old, new string) error {
	b, err := fsys.ReadFile(f, name, 1<<20)
	if err != nil {
		return err
	}
	return fsys.WriteFile(f, name, bytes.Replace(b, []byte(old), []byte(new), 1), 0o644)
}

// TestUpdateCrash cuts the power before every change of a first install and of an
// update, and makes every change fail: the machine has the old document or the
// new one, whole, a line for the new one before it counts, and the next try works.
func TestUpdateCrash(t *testing.T) {
	one, two := trustDoc(t, 1, roots, "ann bob", nil), trustDoc(t, 2, roots, "bob cid", nil)
	points := 0
	for name, c := range map[string]struct {
		fresh func() *fsys.Mem
		give  *Document
		old   int64
	}{
		"first": {func() *fsys.Mem { return machineWith(t) }, one, 0},
		"next":  {func() *fsys.Mem { return machineWith(t, one) }, two, 1},
	} {
		run := func(m *fsys.Mem, meter *fsys.Meter) error {
			_, err := Update(state.New(fsys.Watch(m.FS(), meter)), []*Document{c.give}, UpdateOptions{First: c.old == 0, Clock: Clock{Shown: now.Add(3 * time.Hour)}})
			return err
		}
		clean := &fsys.Meter{}
		if err := run(c.fresh(), clean); err != nil {
			t.Fatal(err)
		}
		after := map[int64]int{}
		for k := 1; k <= clean.Count(); k++ {
			m := c.fresh()
			if err := run(m, &fsys.Meter{CrashAt: k}); err == nil && k < clean.Count()-4 {
				t.Fatalf("%s: step %d of %d: no error", name, k, clean.Count())
			}
			for seed := range uint64(6) {
				for _, keep := range []fsys.Keep{fsys.KeepNone, fsys.KeepAll, fsys.KeepPrefix, fsys.KeepSubset} {
					cut := m.Crash(fsys.Policy{Keep: keep, Seed: seed + 100*uint64(k)})
					v := versionOf(t, cut.FS())
					if v != c.old && v != c.give.Version {
						t.Fatalf("%s: step %d: document %d", name, k, v)
					}
					lines, _, err := state.New(cut.FS()).Verify()
					if err != nil || v == c.give.Version && !strings.HasPrefix(lines[len(lines)-1].Reason, c.give.String()) {
						t.Fatalf("%s: step %d: document %d is there, and the log ends %+v, %v", name, k, v, lines, err)
					}
					after[v]++
					points++
					if err := run(cut, &fsys.Meter{}); err != nil || versionOf(t, cut.FS()) != c.give.Version {
						t.Fatalf("%s: step %d: trying again: %v", name, k, err)
					}
				}
			}
			failing := c.fresh()
			err := run(failing, &fsys.Meter{FailAt: k, ShortWrite: true})
			if v := versionOf(t, failing.FS()); v != c.old && v != c.give.Version || err == nil && v != c.give.Version {
				t.Fatalf("%s: fault at step %d: document %d, %v", name, k, v, err)
			}
		}
		if after[c.old] == 0 || after[c.give.Version] == 0 {
			t.Errorf("%s: only one outcome: %v", name, after)
		}
	}
	t.Logf("%d cuts", points)
}

// TestRevoked: a key that was revoked never counts, with what it signed before too.
func TestRevoked(t *testing.T) {
	rex := []signature.SignedDoc{signoff(t, "rex", "release", nil)}
	d := trustDoc(t, 1, roots, "ann bob", nil)
	if _, err := CheckSignoffs(d.Policy(Clock{Shown: now}), patchID, rex, now); err != nil {
		t.Fatal(err)
	}
	gone := func(who string) func(*trustdoc.Document) {
		return func(d *trustdoc.Document) {
			d.Revoked = []trustdoc.Revoked{{Key: signature.Fingerprint(key(t, who).PublicKey()), Reason: "lost"}}
		}
	}
	d = trustDoc(t, 2, "root ann,root bob,release ron", "ann bob", gone("rex"))
	_, err := CheckSignoffs(d.Policy(Clock{Shown: now}), patchID, rex, now)
	if failure.Of(err) != failure.Untrusted || !strings.Contains(fmt.Sprint(err), "signed as \"release\" but it is revoked by trust document 2: lost") {
		t.Errorf("%v", err)
	}
	// The key of somebody whom an authority certified, and that authority.
	dora := []signature.SignedDoc{certSignoff(t, certify(t, "dora", "ca", "qa"), "qa", now.Add(-time.Hour))}
	for who, want := range map[string]string{"": "<nil>", "dora": "it is revoked by trust document 2", "ca": "certified"} {
		list := "root ann,root bob,qa cert-authority ca"
		change := func(*trustdoc.Document) {}
		if who != "" {
			change = gone(who)
		}
		if who == "ca" {
			list, want = "root ann,root bob,qa cert-authority other", "of its authority: it is revoked"
		}
		p := trustDoc(t, 2, list, "ann bob", change).Policy(Clock{Shown: now})
		p.Require = []string{"qa"}
		if _, err := CheckSignoffs(p, patchID, dora, now); !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%q is revoked: %v, want %q", who, err, want)
		}
	}
}

// TestThresholds: the document's count and the machine's, by different keys.
func TestThresholds(t *testing.T) {
	p := policy(t, "release qa", "release alice", "qa bob", "qa carol", "qa,release dan")
	p.Thresholds = map[string]int{"qa": 2, "ops": 3}
	word := func(who, role string) signature.SignedDoc { return signoff(t, who, role, nil) }
	for name, c := range map[string]struct {
		signoffs []signature.SignedDoc
		want     string
	}{
		"enough":           {[]signature.SignedDoc{word("alice", "release"), word("bob", "qa"), word("carol", "qa")}, ""},
		"one of two":       {[]signature.SignedDoc{word("alice", "release"), word("bob", "qa")}, `roles "qa", "qa" need 2 different keys, and the sign-offs found are by`},
		"one twice":        {[]signature.SignedDoc{word("alice", "release"), word("bob", "qa"), word("bob", "qa")}, `roles "qa", "qa" need 2 different keys`},
		"dan cannot both":  {[]signature.SignedDoc{word("dan", "release"), word("bob", "qa"), word("dan", "qa")}, `roles "release", "qa", "qa" need 3 different keys`},
		"dan where needed": {[]signature.SignedDoc{word("dan", "release"), word("bob", "qa"), word("dan", "qa"), word("alice", "release")}, ""},
	} {
		accepted, err := CheckSignoffs(p, patchID, c.signoffs, now)
		if c.want == "" && (err != nil || len(accepted) != 3) || c.want != "" && (failure.Of(err) != failure.Untrusted || !strings.Contains(fmt.Sprint(err), c.want)) {
			t.Errorf("%s: %v, %v, want %q", name, accepted, err, c.want)
		}
	}
	_, err := CheckSignoffs(p, patchID, []signature.SignedDoc{word("alice", "release"), word("bob", "qa")}, now)
	if hint := failure.Hint(err); hint != "relkit sign FILE --as qa --key KEY" {
		t.Errorf("hint %q", hint)
	}
}

// TestVerdicts: a key's last word in a role counts, and one against the patch is
// enough, also in a role that nobody asks for; not by a key that may not speak.
func TestVerdicts(t *testing.T) {
	p := policy(t, "release", "release alice", "qa bob", "qa carol")
	word := func(who, role, verdict string, minutes int) signature.SignedDoc {
		return signoff(t, who, role, func(s *signature.Signoff) {
			s.Verdict, s.Time = verdict, now.Add(time.Duration(minutes-120)*time.Minute)
		})
	}
	release := word("alice", "release", "pass", 0)
	for name, c := range map[string]struct {
		signoffs []signature.SignedDoc
		want     string
	}{
		"against, in another role":       {[]signature.SignedDoc{release, word("bob", "qa", "fail", 1)}, `as "qa" is "fail"`},
		"taken back":                     {[]signature.SignedDoc{release, word("bob", "qa", "fail", 1), word("bob", "qa", "pass", 2)}, ""},
		"for, then against":              {[]signature.SignedDoc{word("bob", "qa", "fail", 2), release, word("bob", "qa", "pass", 1)}, `as "qa" is "fail"`},
		"both at once":                   {[]signature.SignedDoc{release, word("bob", "qa", "pass", 1), word("bob", "qa", "fail", 1)}, `as "qa" is "fail"`},
		"another takes nothing back":     {[]signature.SignedDoc{release, word("bob", "qa", "fail", 1), word("carol", "qa", "pass", 2)}, `as "qa" is "fail"`},
		"any other word":                 {[]signature.SignedDoc{release, word("bob", "qa", "hold", 1), word("bob", "qa", "fail", 1)}, "the verdict of key"},
		"release takes it back":          {[]signature.SignedDoc{release, word("alice", "release", "fail", 1)}, `no sign-off as "release": the verdict`},
		"a stranger's":                   {[]signature.SignedDoc{release, word("mallory", "qa", "fail", 1)}, ""},
		"by a key that is not that role": {[]signature.SignedDoc{release, word("alice", "qa", "fail", 1)}, ""},
	} {
		_, err := CheckSignoffs(p, patchID, c.signoffs, now)
		if c.want == "" && err != nil || c.want != "" && (failure.Of(err) != failure.Untrusted || !strings.Contains(fmt.Sprint(err), c.want)) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestEvidence(t *testing.T) {
	p := policy(t, "release qa", "release alice", "qa bob")
	p.Evidence = []string{"qa"}
	proved := signoff(t, "bob", "qa", func(s *signature.Signoff) {
		s.Evidence = []signature.Evidence{{Name: "junit.xml", Digest: patchID}}
	})
	signoffs := []signature.SignedDoc{signoff(t, "alice", "release", nil), signoff(t, "bob", "qa", nil)}
	if _, err := CheckSignoffs(p, patchID, signoffs, now); failure.Of(err) != failure.Untrusted || !strings.Contains(err.Error(), `no sign-off as "qa": signoffs/qa.json: key `) || !strings.Contains(err.Error(), "without evidence") {
		t.Errorf("%v", err)
	}
	accepted, err := CheckSignoffs(p, patchID, append(signoffs, proved), now)
	if err != nil || len(accepted) != 2 || len(accepted[1].Evidence) != 1 || accepted[1].Evidence[0].Name != "junit.xml" || accepted[0].Evidence != nil {
		t.Errorf("%+v, %v", accepted, err)
	}
}

// TestClock: what was verified or seen before, and when relkit was built, are
// times that have passed.
func TestClock(t *testing.T) {
	m := fsys.NewMem()
	dead := time.Unix(0, 0)
	read := func(shown, built time.Time) Clock {
		t.Helper()
		c, err := ReadClock(m.FS(), shown, built)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	if c := read(dead, time.Time{}); c.Wrong() || !c.Now().Equal(dead) {
		t.Errorf("nothing known: %+v", c)
	}
	if c := read(dead, now); !c.Wrong() || !c.Now().Equal(now) {
		t.Errorf("built: %+v", c)
	}
	// Whoever signs may have a clock that is ahead of this one.
	if c := read(now.Add(-time.Hour), now); c.Wrong() || !c.Now().Equal(now) {
		t.Errorf("an hour behind: %+v", c)
	}
	if err := read(now.Add(time.Hour), now).Remember(m.FS(), time.Time{}); err != nil {
		t.Fatal(err)
	}
	if c := read(dead, time.Time{}); !c.Now().Equal(now.Add(time.Hour)) {
		t.Errorf("what the clock showed: %+v", c)
	}
	if err := read(dead, time.Time{}).Remember(m.FS(), now.Add(2*time.Hour)); err != nil {
		t.Fatal(err)
	}
	if c := read(dead, now); !c.Now().Equal(now.Add(2 * time.Hour)) {
		t.Errorf("a sign-off: %+v", c)
	}
	seen := channel.Seen{Schema: channel.SeenSchema, Product: "fw", Channel: "stable", Newest: now.Add(3 * time.Hour)}
	b, err := seen.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(m.FS().Mkdir("channels", 0o755), fsys.WriteFile(m.FS(), "channels/"+channel.SeenName("fw", "stable"), b, 0o644)); err != nil {
		t.Fatal(err)
	}
	if c := read(dead, now); !c.Now().Equal(now.Add(3 * time.Hour)) {
		t.Errorf("a channel: %+v", c)
	}
	d := trustDoc(t, 1, roots, "ann bob", func(d *trustdoc.Document) { d.Issued = now.Add(4 * time.Hour) })
	if _, err := Update(state.New(m.FS()), []*Document{d}, UpdateOptions{First: true, Clock: read(dead, now)}); err != nil {
		t.Fatal(err)
	}
	if err := Forget(m.FS()); err != nil {
		t.Fatal(err)
	}
	if c := read(dead, now); !c.Now().Equal(now.Add(4 * time.Hour)) {
		t.Errorf("the trust document: %+v", c)
	}
	if err := fsys.WriteFile(m.FS(), "times.json", []byte("{}"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadClock(m.FS(), now, now); failure.Of(err) != failure.Untrusted || !strings.Contains(failure.Hint(err), "--insecure-reset-time") {
		t.Errorf("%v", err)
	}
}

// TestDeadClock: a clock that is known to be wrong locks nobody out, and lets
// nothing in that has expired.
func TestDeadClock(t *testing.T) {
	release := []signature.SignedDoc{signoff(t, "rex", "release", nil)} // an hour before now
	dead := Clock{Shown: time.Unix(0, 0), Floor: now.AddDate(0, -6, 0)}
	for name, c := range map[string]struct {
		line  string
		clock Clock
		want  string
	}{
		"valid since yesterday":        {`release valid-after="20261121Z" rex`, dead, ""},
		"not yet valid when it signed": {`release valid-after="20261122113000Z" rex`, dead, "valid only from"},
		"the clock is right":           {`release valid-after="20261121Z" rex`, Clock{Shown: now.AddDate(0, -6, 0), Floor: now.AddDate(0, -6, 0)}, "valid only from"},
		"expired before the floor":     {`release valid-before="20260401Z" rex`, dead, "valid only until"},
		"expired when it signed":       {`release valid-before="20261001Z" rex`, dead, "valid only until"},
		"expires later":                {`release valid-before="20270401Z" rex`, dead, ""},
	} {
		p := trustDoc(t, 1, "root ann,root bob,"+c.line, "ann bob", nil).Policy(c.clock)
		if _, err := CheckSignoffs(p, patchID, release, c.clock.Now()); c.want == "" && err != nil || c.want != "" && !strings.Contains(fmt.Sprint(err), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}
