package distribute

import (
	"bytes"
	"maps"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/relkit/relkit/pkg/engine/state"
	"github.com/relkit/relkit/pkg/engine/trust"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/signature"
	"github.com/relkit/relkit/pkg/format/trustdoc"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// trust gives the machine a trust document of those lines ("release alice"),
// signed by rita, its root.
func (w *world) trust(version int64, lines string, change func(*trustdoc.Document)) {
	w.t.Helper()
	d := &trustdoc.Document{Schema: trustdoc.Schema, Product: "fw", Version: version, Issued: t0.Add(-time.Hour), Expires: t0.AddDate(1, 0, 0), Thresholds: map[string]int{"root": 1}}
	for line := range strings.SplitSeq("root rita\n"+lines, "\n") {
		roles, name, _ := strings.Cut(line, " ")
		d.AllowedSigners += roles + " " + string(ssh.MarshalAuthorizedKey(key(w.t, name).PublicKey()))
	}
	if change != nil {
		change(d)
	}
	raw, err := d.Encode()
	if err != nil {
		w.t.Fatal(err)
	}
	sig, err := signature.Sign(key(w.t, "rita"), signature.NamespaceTrust, bytes.NewReader(raw))
	if err != nil {
		w.t.Fatal(err)
	}
	doc, err := trust.NewDocument("trust.json", raw, sig)
	if err != nil {
		w.t.Fatal(err)
	}
	dir, err := fsys.Open(w.state)
	if err != nil {
		w.t.Fatal(err)
	}
	defer dir.Close()
	if _, err := trust.Update(state.New(dir), []*trust.Document{doc}, trust.UpdateOptions{First: version == 1, Clock: trust.Clock{Shown: t0}}); err != nil {
		w.t.Fatal(err)
	}
}

// TestFetchTrust: where the machine has a trust document, that says who may sign
// channels, and what time it is at least.
func TestFetchTrust(t *testing.T) {
	const people = "release alice\nstatus sam"
	start := func(t *testing.T) *world {
		w := newWorld(t)
		w.mustPublish(nil, patchFile(t, w.dir, "4.0", "4.1", 0, nil))
		w.allowed = "release mallory\n" // says nothing any more
		return w
	}
	t.Run("it decides", func(t *testing.T) {
		w := start(t)
		w.wantError(failure.Untrusted, "is not in allowed_signers")
		w.trust(1, people, nil)
		if _, err := w.fetch("", func(o *FetchOptions) { o.SignersGiven = true }); err != nil || !strings.Contains(w.log.String(), "trust document 1 of this machine says who may sign") {
			t.Errorf("%v, log %s", err, w.log.String())
		}
		w.want("fw-4.0-4.1")
		if _, err := w.fetch("", func(o *FetchOptions) { o.Policy = trust.Policy{Require: []string{"qa"}} }); failure.Of(err) != failure.Untrusted {
			t.Errorf("a role that has not signed: %v", err)
		}
	})
	t.Run("one key of each role", func(t *testing.T) {
		w := start(t)
		w.trust(1, people+"\nrelease carol", func(d *trustdoc.Document) { maps.Copy(d.Thresholds, map[string]int{"release": 2}) })
		w.want("fw-4.0-4.1")
	})
	t.Run("revoked", func(t *testing.T) {
		w := start(t)
		w.trust(1, people, nil)
		w.want("fw-4.0-4.1")
		w.trust(2, "release carol\nstatus sam", func(d *trustdoc.Document) {
			d.Revoked = []trustdoc.Revoked{{Key: signature.Fingerprint(key(t, "alice").PublicKey()), Reason: "lost"}}
		})
		w.wantError(failure.Untrusted, "it is revoked by trust document 2: lost")
	})
	t.Run("another product", func(t *testing.T) {
		w := start(t)
		w.install("os", "1")
		w.trust(1, people, func(d *trustdoc.Document) { d.Product = "os" })
		w.wantError(failure.Untrusted, `trust document 1 is for product "os", not "fw"`)
	})
	t.Run("expired", func(t *testing.T) {
		w := start(t)
		w.trust(1, people, func(d *trustdoc.Document) { d.Expires = t0.Add(time.Hour) })
		w.now = t0.Add(2 * time.Hour)
		w.wantError(failure.Untrusted, "trust document 1 expired at")
	})
	t.Run("a dead clock", func(t *testing.T) {
		w := start(t)
		w.trust(1, `release,status alice`, func(d *trustdoc.Document) {
			d.AllowedSigners = strings.Replace(d.AllowedSigners, "release,status", `release,status valid-after="20261122113000Z"`, 1)
		})
		w.now = time.Unix(0, 0)
		w.want("fw-4.0-4.1")
	})
	t.Run("damaged", func(t *testing.T) {
		w := start(t)
		w.trust(1, people, nil)
		dir, err := fsys.Open(w.state)
		if err != nil {
			t.Fatal(err)
		}
		defer dir.Close()
		if err := fsys.WriteFile(dir, "trust/1.json", []byte("{}"), 0o644); err != nil {
			t.Fatal(err)
		}
		w.wantError(failure.Untrusted, "the trust document of this machine is damaged")
	})
}
