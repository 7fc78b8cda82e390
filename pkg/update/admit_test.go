package update

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/relkit/relkit/pkg/engine/state"
	"github.com/relkit/relkit/pkg/engine/transaction"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/format/patch"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

var now = time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)

// newApplier is for a machine in memory that has patch "hotfix-1" applied.
func newApplier(t *testing.T) *applier {
	t.Helper()
	m := fsys.NewMem()
	o := Options{Root: "/", Now: func() time.Time { return now }, Log: slog.New(slog.DiscardHandler)}
	s := state.New(m.Sub("var/lib/relkit"))
	a := &applier{machine: &machine{opt: o, target: transaction.Target{Root: m.FS(), State: s, Now: o.Now, Log: o.Log}}}
	to := journal.Version{Product: "fw", Version: "4.1"}
	tx, err := s.Begin(journal.Record{PatchID: "hotfix-1", To: &to})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range []journal.Event{journal.Staged, journal.Committing, journal.Committed, journal.Applied} {
		if err := s.Append(tx, journal.Record{Event: e}); err != nil {
			t.Fatal(err)
		}
	}
	return a
}

func TestAdmit(t *testing.T) {
	fw41 := journal.Version{Product: "fw", Version: "4.1"}
	base := func(change func(*patch.Header)) *patch.Header {
		h := &patch.Header{ID: "p", Product: "fw", From: &patch.Side{Version: "4.1"}, To: patch.Side{Version: "4.2"}, Reboot: patch.RebootNone}
		change(h)
		return h
	}
	for _, c := range []struct {
		name      string
		h         *patch.Header
		installed journal.Version
		want      string // "" for admitted
	}{
		{"as made", base(func(*patch.Header) {}), fw41, ""},
		{"nothing known", base(func(*patch.Header) {}), journal.Version{}, ""},
		{"already there", base(func(*patch.Header) {}), journal.Version{Product: "fw", Version: "4.2"}, ""},
		{"other product", base(func(h *patch.Header) { h.Product = "os" }), fw41, `for product "os", installed is "fw"`},
		{"other base", base(func(h *patch.Header) { h.From.Version = "4.0" }), fw41, "from version 4.0 to 4.2, installed is 4.1"},
		{"downgrade", base(func(h *patch.Header) { h.To.Version = "4.0.9" }), fw41, "would downgrade fw from 4.1 to 4.0.9"},
		{"downgrade by suffix", base(func(h *patch.Header) { h.To.Version = "4.1~rc1" }), fw41, "would downgrade"},
		{"full", base(func(h *patch.Header) { h.Full, h.From = true, nil }), fw41, ""},
		{"full downgrade", base(func(h *patch.Header) { h.Full, h.From, h.To.Version = true, nil, "3" }), fw41, "would downgrade"},
		{"expired", base(func(h *patch.Header) { h.Expires = now }), fw41, "expired at 2026-06-01"},
		{"expires later", base(func(h *patch.Header) { h.Expires = now.Add(time.Second) }), fw41, ""},
		{"requires the product", base(func(h *patch.Header) { h.Requires = "fw (>= 4.1), hotfix-1" }), fw41, ""},
		{"requires another version", base(func(h *patch.Header) { h.Requires = "fw (>> 4.1)" }), fw41, "requires fw (>> 4.1)"},
		{"requires another patch", base(func(h *patch.Header) { h.Requires = "hotfix-1, hotfix-2" }), fw41, "requires hotfix-2"},
		{"conflicts", base(func(h *patch.Header) { h.Conflicts = "hotfix-1" }), fw41, "conflicts with hotfix-1"},
		{"no conflict", base(func(h *patch.Header) { h.Conflicts = "hotfix-9, fw (<< 4)" }), fw41, ""},
		{"model", base(func(h *patch.Header) { h.Model = []string{"x2-*"} }), fw41, "machine.toml does not say"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := newApplier(t).admit(c.h, c.installed)
			switch {
			case c.want == "" && err != nil:
				t.Fatal(err)
			case c.want != "" && (err == nil || failure.Of(err) != failure.Refused || !strings.Contains(err.Error(), c.want)):
				t.Fatalf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestAdmitModel(t *testing.T) {
	for _, c := range []struct {
		file, want string
	}{
		{`compatible = ["x2-pro", "x2"]`, ""},
		{`compatible = ["x3"]`, `is for model ["x2-*"], this machine is ["x3"]`},
		{`compatible = "x2-pro"`, "machine.toml:1:"},
		{`modle = ["x2-pro"]`, `unknown key "modle"`},
	} {
		a := newApplier(t)
		if err := fsys.MkdirAll(a.target.Root, "etc/relkit", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := fsys.WriteFile(a.target.Root, MachineFile, []byte(c.file), 0o644); err != nil {
			t.Fatal(err)
		}
		err := a.admitModel(&patch.Header{ID: "p", Model: []string{"x2-*"}})
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: got %v, want %q", c.file, err, c.want)
		}
	}
}

// A patch may require one that is to be applied before it in the same run.
func TestAdmitAssumed(t *testing.T) {
	a := newApplier(t)
	h := &patch.Header{ID: "p", Product: "fw", To: patch.Side{Version: "5"}, Requires: "hotfix-2"}
	if err := a.admit(h, journal.Version{}); failure.Of(err) != failure.Refused {
		t.Fatalf("got %v", err)
	}
	a.assumed = []string{"hotfix-2"}
	if err := a.admit(h, journal.Version{}); err != nil {
		t.Fatal(err)
	}
}
