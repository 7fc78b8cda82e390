package update

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/relkit/relkit/pkg/engine/state"
	"github.com/relkit/relkit/pkg/engine/transaction"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/channel"
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
			a := newApplier(t)
			w := worldOf(t, a)
			w.installed = c.installed
			err := a.admit(c.h, w)
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

// worldOf is what the machine of a has.
func worldOf(t *testing.T, a *applier) *world {
	t.Helper()
	w, err := a.world()
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// A patch may require one that is to be applied before it in the same run, by
// its id, by what it supersedes and by what it provides.
func TestAdmitAfter(t *testing.T) {
	a := newApplier(t)
	w := worldOf(t, a)
	for _, requires := range []string{"hotfix-2", "hotfix-0", "schema (>= 7)", "tls"} {
		h := &patch.Header{ID: "p", Product: "fw", To: patch.Side{Version: "5"}, Requires: requires}
		if err := a.admit(h, w); failure.Of(err) != failure.Refused {
			t.Fatalf("%s: %v", requires, err)
		}
		later := w.clone()
		err := later.apply(&patch.Header{ID: "hotfix-2", Product: "fw", To: patch.Side{Version: "4.1"}, Supersedes: []string{"hotfix-0"}, Provides: "schema (= 7.1), tls"})
		if err != nil {
			t.Fatal(err)
		}
		if err := a.admit(h, later); err != nil {
			t.Fatalf("%s: %v", requires, err)
		}
		if err := a.admit(&patch.Header{ID: "hotfix-0", Product: "fw"}, later); err == nil || !strings.Contains(err.Error(), "superseded by hotfix-2, which is applied") {
			t.Fatal(err)
		}
	}
}

// What is applied counts as long as it stands, its rollback copies kept or not;
// what it was has its say through the journals.
func TestWorldOfJournals(t *testing.T) {
	a := newApplier(t)
	s := a.target.State
	to := journal.Version{Product: "fw", Version: "4.2"}
	record := func(r journal.Record, events ...journal.Event) {
		t.Helper()
		tx, err := s.Begin(r)
		for _, e := range events {
			if err == nil {
				err = s.Append(tx, journal.Record{Event: e})
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	done := []journal.Event{journal.Staged, journal.Committing, journal.Committed, journal.Applied}
	record(journal.Record{PatchID: "b", To: &to, Supersedes: []string{"a"}, Provides: "k (= 1)"}, append(done, journal.Freeing, journal.Freed)...)
	record(journal.Record{PatchID: "c", To: &to, Floor: "4.2"}, append(done, journal.Rollback, journal.RolledBack, journal.Freed)...)
	record(journal.Record{PatchID: "d", To: &to, Floor: "9", Provides: "no"}, journal.Aborted, journal.Freed)
	for range 2 { // the second reads the list of what has ended
		if err := s.Settle(); err != nil {
			t.Fatal(err)
		}
	}
	a.target.State = state.New(s.FS())
	w := worldOf(t, a)
	for name, want := range map[string]bool{"hotfix-1": true, "a": true, "b": true, "k": true, "c": false, "d": false, "no": false} {
		if _, there := w.lookup(name); there != want {
			t.Errorf("%s: %v", name, there)
		}
	}
	if w.names["k"] != "1" || w.by["a"] != "b" || w.floors["fw"] != "4.2" {
		t.Errorf("%+v", w)
	}
	// What was taken back has left its floor; what never was applied has none.
	for version, want := range map[string]bool{"4.1.9": false, "4.2": true, "4.3": true} {
		h := &patch.Header{ID: "p", Product: "fw", To: patch.Side{Version: version}}
		if err := a.admit(h, w); (err == nil) != want {
			t.Errorf("to %s: %v", version, err)
		}
		a.o.AllowDowngrade = true
		if err := a.admit(h, w); err != nil {
			t.Error(err)
		}
		a.o.AllowDowngrade = false
	}
}

// A channel that was fetched from has its say too; what of it cannot be read does
// not keep a machine from being mended.
func TestFloorOfChannel(t *testing.T) {
	a := newApplier(t)
	f := a.target.State.FS()
	if err := f.Mkdir("channels", 0o755); err != nil {
		t.Fatal(err)
	}
	b, err := (&channel.Seen{Schema: channel.SeenSchema, Product: "fw", Channel: "stable", Floor: "4.1.5"}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"fw@stable.json": b, "fw@beta.json": []byte("{"), "fw@stable.json.lock": nil} {
		if err := fsys.WriteFile(f, "channels/"+name, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got := worldOf(t, a).floors["fw"]; got != "4.1.5" {
		t.Errorf("floor %q", got)
	}
	all, err := a.target.State.Transactions()
	if err != nil {
		t.Fatal(err)
	}
	all[0].Records[0].From = &journal.Version{Product: "fw", Version: "4.1"}
	if below, err := a.belowFloor(all, RollbackOptions{}); !below || failure.Of(err) != failure.Refused {
		t.Errorf("below %v, %v", below, err)
	}
	if below, err := a.belowFloor(all, RollbackOptions{BelowFloor: true}); !below || err != nil {
		t.Errorf("below %v, %v", below, err)
	}
	all[0].Records[0].From.Version = "4.1.5"
	if below, err := a.belowFloor(all, RollbackOptions{}); below || err != nil {
		t.Errorf("below %v, %v", below, err)
	}
}

func TestAdmitNeeds(t *testing.T) {
	a := newApplier(t)
	root := a.target.Root
	for _, dir := range []string{"etc/relkit", "usr/sbin", "opt/tool/bin"} {
		if err := fsys.MkdirAll(root, dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, mode := range map[string]uint32{"opt/tool/bin/tool": 0o755, "usr/sbin/text": 0o644} {
		if err := fsys.WriteFile(root, name, []byte("x"), mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := fsys.WriteFile(root, MachineFile, []byte("labels = { ring = \"beta\", site = \"b\" }\nprovides = [\"boot (= 2.06)\"]"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{"sbin": "usr/sbin", "usr/sbin/tool": "/opt/../opt/tool/./bin/tool", "usr/sbin/loop": "loop", "usr/sbin/dangling": "/nowhere"} {
		if err := root.Symlink(to, name); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		h    patch.Header
		want string
	}{
		{patch.Header{Labels: map[string]string{"ring": "beta"}}, ""},
		{patch.Header{Labels: map[string]string{"ring": "alpha"}}, "is for machines labelled ring=alpha, and /etc/relkit/machine.toml says ring=beta"},
		{patch.Header{Labels: map[string]string{"zone": "1"}}, "says nothing of zone"},
		{patch.Header{RequiresCommands: []string{"tool"}}, ""},
		{patch.Header{RequiresCommands: []string{"tool", "text", "loop", "dangling", "none"}}, "requires text, loop, dangling, none, and"},
		{patch.Header{Requires: "boot (>= 2)"}, ""},
		{patch.Header{Requires: "boot (>= 3)"}, "requires boot (>= 3)"},
	} {
		c.h.ID, c.h.Product = "p", "fw"
		err := a.admit(&c.h, worldOf(t, a))
		if c.want == "" && err != nil || c.want != "" && (failure.Of(err) != failure.Refused || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%+v: %v, want %q", c.h, err, c.want)
		}
	}
}
