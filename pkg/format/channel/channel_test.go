package channel

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/digest"
)

var t0 = time.Date(2026, 12, 1, 2, 0, 0, 0, time.UTC)

func art(id string, size int64) Artifact {
	return Artifact{ID: id, Digest: digest.Of([]byte(id)), Size: size}
}

func patch(from, to string, size int64) Patch {
	return Patch{art("fw-"+from+"-"+to, size), from, to}
}

// fixture is a channel with three releases, of which 4.2 is rolled out in stages.
func fixture() *Releases {
	full := art("fw-4.2-full", 1000)
	return &Releases{
		Schema: ReleasesSchema, Product: "fw", Channel: "stable", Serial: 7, Issued: t0, Expires: t0.AddDate(1, 0, 0),
		Releases: []Release{
			{Version: "4.0"}, {Version: "4.1"},
			{Version: "4.2", Full: &full, Rollout: []Stage{{t0, 100}, {t0.Add(24 * time.Hour), 1000}, {t0.Add(72 * time.Hour), 10000}}},
		},
		Patches: []Patch{patch("4.0", "4.1", 100), patch("4.1", "4.2", 50), patch("4.0", "4.2", 400)},
	}
}

func statusOf(r *Releases) *Status {
	return &Status{Schema: StatusSchema, Product: r.Product, Channel: r.Channel, Serial: 3, Issued: t0, Expires: t0.AddDate(0, 0, 30), State: Active,
		CapBasisPoints: WholeShare, Releases: ReleasesRef{r.Serial, digest.Of([]byte("doc")), digest.Of([]byte("manifest"))}}
}

func TestRoundTrip(t *testing.T) {
	r := fixture()
	r.Floor = "4.0"
	r.Releases[2].MinBase = "3.9"
	r.Releases[2].Selector = Selector{Model: []string{"r3000-*"}, Labels: map[string]string{"ring": "beta"}, Allow: []string{strings.Repeat("a", 32)}, Deny: []string{strings.Repeat("0", 32)}}
	b, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ParseReleases(b); err != nil || !reflect.DeepEqual(got, r) {
		t.Errorf("ParseReleases = %+v, %v, want %+v", got, err, r)
	}
	s := statusOf(r)
	if b, err = s.Encode(); err != nil {
		t.Fatal(err)
	}
	if got, err := ParseStatus(b); err != nil || !reflect.DeepEqual(got, s) {
		t.Errorf("ParseStatus = %+v, %v, want %+v", got, err, s)
	}
}

func TestChecks(t *testing.T) {
	for want, spoil := range map[string]func(*Releases, *Status){
		`schema "x"`:                  func(r *Releases, s *Status) { r.Schema, s.Schema = "x", "x" },
		"serial 0":                    func(r *Releases, s *Status) { r.Serial, s.Serial = 0, 0 },
		"whole seconds":               func(r *Releases, s *Status) { r.Issued = t0.Add(1); s.Issued = t0.In(time.FixedZone("", 60)) },
		"is not after issued":         func(r *Releases, s *Status) { r.Expires, s.Expires = t0, t0 },
		"product: empty name":         func(r *Releases, s *Status) { r.Product, s.Product = "", "" },
		`bad channel name "../x"`:     func(r *Releases, s *Status) { r.Channel, s.Channel = "../x", "../x" },
		`bad channel name "a.status"`: func(r *Releases, s *Status) { r.Channel, s.Channel = "a.status", "a.status" },
	} {
		r := fixture()
		s := statusOf(r)
		spoil(r, s)
		if _, err := r.Encode(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Releases.Encode = %v, want %q", err, want)
		}
		if _, err := s.Encode(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Status.Encode = %v, want %q", err, want)
		}
	}
	for want, spoil := range map[string]func(*Releases){
		`release "4.1": does not come after "4.1"`: func(r *Releases) { r.Releases[0].Version = "4.1" },
		`bad character`:                       func(r *Releases) { r.Releases[0].Version = "4 0" },
		`release "4.2": full: needs a digest`: func(r *Releases) { r.Releases[2].Full.Size = 0 },
		`id "fw-4.1-4.2" stands twice`:        func(r *Releases) { r.Releases[2].Full.ID = "fw-4.1-4.2" },
		`stage 1: begins at`:                  func(r *Releases) { r.Releases[2].Rollout[1].At = t0 },
		`stage 1: share 100 is not above`:     func(r *Releases) { r.Releases[2].Rollout[1].ShareBasisPoints = 100 },
		`stage 2: share_basis_points 10001`:   func(r *Releases) { r.Releases[2].Rollout[2].ShareBasisPoints = 10001 },
		`to "4.3": no such release`:           func(r *Releases) { r.Patches[0].To = "4.3" },
		`not forward`:                         func(r *Releases) { r.Patches[0].From = "4.1" },
		`bad pattern "["`:                     func(r *Releases) { r.Patches[0].Model = []string{"["} },
		`machine key "xyz"`:                   func(r *Releases) { r.Releases[0].Selector.Deny = []string{"xyz"} },
		`floor: version "?"`:                  func(r *Releases) { r.Floor = "?" },
		`min_base: version "?"`:               func(r *Releases) { r.Releases[0].MinBase = "?" },
	} {
		r := fixture()
		spoil(r)
		if _, err := r.Encode(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Releases.Encode = %v, want %q", err, want)
		}
	}
	for want, spoil := range map[string]func(*Status){
		`state "stopped"`:        func(s *Status) { s.State = "stopped" },
		"cap_basis_points 10001": func(s *Status) { s.CapBasisPoints = 10001 },
		"needs a serial":         func(s *Status) { s.Releases.Manifest = digest.Digest{} },
	} {
		s := statusOf(fixture())
		spoil(s)
		if _, err := s.Encode(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Status.Encode = %v, want %q", err, want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	b, err := statusOf(fixture()).Encode()
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	for _, c := range []struct {
		in, want string
		kind     failure.Kind
	}{
		{strings.Replace(text, "status/v1", "status/v2", 1), "update relkit first", failure.Refused},
		{strings.Replace(text, "channel-status/v1", "channel-releases/v1", 1), `schema "relkit.channel-releases/v1"`, failure.Failed},
		{strings.Replace(text, `"serial"`, `"mirrors":[],"serial"`, 1), `unknown field "mirrors"`, failure.Untrusted},
		{text + "{}", "text after the document", failure.Untrusted},
		{text + strings.Repeat(" ", MaxStatus), "at most", failure.Untrusted},
	} {
		if _, err := ParseStatus([]byte(c.in)); err == nil || !strings.Contains(err.Error(), c.want) || failure.Of(err) != c.kind {
			t.Errorf("ParseStatus(%.80s) = %v (kind %d), want %q (kind %d)", c.in, err, failure.Of(err), c.want, c.kind)
		}
	}
}

func TestPairCheck(t *testing.T) {
	now := t0.Add(time.Hour)
	fresh := func() *Pair {
		r := fixture()
		return &Pair{r, digest.Of([]byte("doc")), statusOf(r), digest.Of([]byte("status"))}
	}
	seen, err := fresh().Check("fw", "stable", nil, now)
	if err != nil || seen.Releases != (SeenDoc{7, digest.Of([]byte("doc"))}) || seen.Status.Serial != 3 || !seen.Newest.Equal(t0) {
		t.Fatalf("Check = %+v, %v", seen, err)
	}
	if again, err := fresh().Check("", "stable", seen, now); err != nil || *again != *seen {
		t.Errorf("Check of the same again = %+v, %v, want %+v", again, err, seen)
	}
	b, _ := seen.Encode()
	if back, err := ParseSeen(b); err != nil || *back != *seen {
		t.Errorf("ParseSeen = %+v, %v, want %+v", back, err, seen)
	}
	for want, spoil := range map[string]func(p *Pair, seen *Seen){
		`channels "beta" and "stable"`:                 func(p *Pair, _ *Seen) { p.Releases.Channel = "beta" },
		`products "x" and "x"; this machine runs "fw"`: func(p *Pair, _ *Seen) { p.Releases.Product, p.Status.Product = "x", "x" },
		`products "fw" and "x"`:                        func(p *Pair, _ *Seen) { p.Status.Product = "x" },
		"the status goes with releases 8":              func(p *Pair, _ *Seen) { p.Status.Releases.Serial = 8 },
		"not with 7":                                   func(p *Pair, _ *Seen) { p.ReleasesDigest = digest.Of(nil) },
		"releases document has serial 7, and 8":        func(_ *Pair, s *Seen) { s.Releases.Serial = 8 },
		"status document has serial 3, and 4":          func(_ *Pair, s *Seen) { s.Status.Serial = 4 },
		"status document has serial 3 as one seen":     func(p *Pair, _ *Seen) { p.StatusDigest = digest.Of(nil) },
		"status document expired at 2026-12-01T03":     func(p *Pair, _ *Seen) { p.Status.Expires = now },
		"releases document expired":                    func(p *Pair, _ *Seen) { p.Releases.Expires = now.Add(-1) },
		"status document expired at 2026-12-31":        func(_ *Pair, s *Seen) { s.Newest = t0.AddDate(0, 2, 0) },
	} {
		p, s := fresh(), *seen
		spoil(p, &s)
		if next, err := p.Check("fw", "stable", &s, now); err == nil || failure.Of(err) != failure.Untrusted || !strings.Contains(err.Error(), want) || next != nil {
			t.Errorf("Check = %v, %v, want an untrusted error with %q", next, err, want)
		}
	}
	if got := SeenName("acme/fw", "stable"); got != "acme%2Ffw@stable.json" {
		t.Errorf("SeenName = %q", got)
	}
}

func FuzzReleases(f *testing.F) {
	seed, _ := fixture().Encode()
	f.Add(seed)
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseReleases(b)
		if err != nil {
			return
		}
		once, err := r.Encode()
		if err != nil {
			t.Fatalf("%s is read, but not written: %v", b, err)
		}
		again, err := ParseReleases(once)
		if err != nil {
			t.Fatalf("%s is written as %s, which is not read: %v", b, once, err)
		}
		if twice, _ := again.Encode(); !bytes.Equal(once, twice) {
			t.Errorf("%s is written as %s, then as %s", b, once, twice)
		}
	})
}

func FuzzStatus(f *testing.F) {
	seed, _ := statusOf(fixture()).Encode()
	f.Add(seed)
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ParseStatus(b)
		if err != nil {
			return
		}
		once, err := s.Encode()
		if err != nil {
			t.Fatalf("%s is read, but not written: %v", b, err)
		}
		again, err := ParseStatus(once)
		if err != nil || !reflect.DeepEqual(s, again) {
			t.Errorf("%s is read as %+v, written and read again as %+v, %v", b, s, again, err)
		}
	})
}
