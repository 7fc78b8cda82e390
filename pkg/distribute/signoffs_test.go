package distribute

import (
	"bytes"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/channel"
	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/patch"
	"github.com/relkit/relkit/pkg/format/signature"
)

// TestDamagedPatches: not one bit of a patch may be wrong, or nothing is written.
func TestDamagedPatches(t *testing.T) {
	w := newWorld(t)
	good := []byte(readAll(t, patchFile(t, w.dir, "4.0", "4.1", 3000, nil)))
	flipped := bytes.Clone(good)
	flipped[bytes.Index(good, []byte("xxxx"))] ^= 1 // in a hook: what patch.json lists
	for name, b := range map[string][]byte{"flipped": flipped, "truncated": good[:len(good)-1500], "longer": append(bytes.Clone(good), make([]byte, 5000)...)} {
		file := filepath.Join(w.dir, name+".rkp")
		if err := os.WriteFile(file, b, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := w.publish(nil, file); failure.Of(err) != failure.Untrusted {
			t.Errorf("Publish of a patch that is %s = %v, want it not trusted", name, err)
		}
		if _, err := Push(t.Context(), []string{file}, PushOptions{To: []string{"dir:" + w.www}, Log: slog.New(slog.DiscardHandler)}); failure.Of(err) != failure.Untrusted {
			t.Errorf("Push of a patch that is %s = %v, want it not trusted", name, err)
		}
	}
	if _, err := os.Stat(w.www); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("something was written: %v", err)
	}
}

// addSignoffs makes a patch with other sign-offs than patchFile's.
func addSignoffs(t *testing.T, name string, docs func(p *patch.Reader) []signature.SignedDoc) {
	t.Helper()
	r, err := patch.Open(strings.NewReader(readAll(t, name)))
	if err != nil {
		t.Fatal(err)
	}
	hooks, err := r.Hooks()
	if err != nil {
		t.Fatal(err)
	}
	s, err := patch.Seal(*r.Header(), hooks, &patch.Entries{}, patch.NewPayload(&bytes.Buffer{}))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := s.Write(&b, docs(r), &bytes.Buffer{}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestSignoffsOfPublished: a channel offers nothing that no machine would take,
// nor what a role has failed; a copy is made with a warning.
func TestSignoffsOfPublished(t *testing.T) {
	named := func(d signature.SignedDoc, name string) signature.SignedDoc {
		d.Name = "signoffs/" + name + ".json"
		return d
	}
	for name, c := range map[string]struct {
		docs func(p *patch.Reader) []signature.SignedDoc
		want string // "" publishes
	}{
		"none": {func(*patch.Reader) []signature.SignedDoc { return nil }, "is signed off by nobody"},
		"of another patch": {func(*patch.Reader) []signature.SignedDoc {
			return []signature.SignedDoc{signoff(t, digest.Of([]byte("other")), "release", "pass", t0)}
		}, "is signed off by nobody"},
		"no signature": {func(p *patch.Reader) []signature.SignedDoc {
			d := signoff(t, p.ID(), "release", "pass", t0)
			d.Sig = bytes.Replace(d.Sig, []byte("A"), []byte("B"), 30)
			return []signature.SignedDoc{d}
		}, "is signed off by nobody"},
		"failed by qa": {func(p *patch.Reader) []signature.SignedDoc {
			return []signature.SignedDoc{signoff(t, p.ID(), "release", "pass", t0), signoff(t, p.ID(), "qa", "fail", t0)}
		}, `the verdict of role "qa" is "fail"`},
		"failed, then passed": {func(p *patch.Reader) []signature.SignedDoc {
			return []signature.SignedDoc{signoff(t, p.ID(), "qa", "fail", t0), named(signoff(t, p.ID(), "qa", "pass", t0.Add(time.Hour)), "qa-2")}
		}, ""},
		"passed, then failed": {func(p *patch.Reader) []signature.SignedDoc {
			return []signature.SignedDoc{signoff(t, p.ID(), "qa", "pass", t0), named(signoff(t, p.ID(), "qa", "fail", t0.Add(time.Hour)), "qa-2")}
		}, `the verdict of role "qa" is "fail"`},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			file := patchFile(t, w.dir, "4.0", "4.1", 0, nil)
			addSignoffs(t, file, c.docs)
			_, err := w.publish(nil, file)
			if c.want == "" {
				if err != nil {
					t.Errorf("Publish = %v", err)
				}
				return
			}
			if failure.Of(err) != failure.Refused || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(failure.Hint(err), "relkit sign "+file+" --as ") {
				t.Errorf("Publish = %v (hint %q), want %q refused", err, failure.Hint(err), c.want)
			}
			if _, err := os.Stat(w.www); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("something was written: %v", err)
			}
			if _, err := Push(t.Context(), []string{file}, PushOptions{To: []string{"dir:" + w.www}, Log: slog.New(slog.NewTextHandler(&w.log, nil))}); err != nil {
				t.Errorf("Push = %v", err)
			}
			if said := strings.ReplaceAll(w.log.String(), `\"`, `"`); !strings.Contains(said, "level=WARN") || !strings.Contains(said, c.want) {
				t.Errorf("Push says %s, want a warning with %s", said, c.want)
			}
		})
	}
}

// TestRolloutOfSeveral: every release of a run gets the schedule and the
// selector, and what was there keeps its own.
func TestRolloutOfSeveral(t *testing.T) {
	w := newWorld(t)
	w.mustPublish(nil, patchFile(t, w.dir, "4.0", "4.1", 0, nil))
	w.mustPublish(func(o *ChannelOptions) { o.Edit.Rollout, o.Edit.MinBase = "1%", "4.0" },
		patchFile(t, w.dir, "4.1", "4.2", 0, nil), patchFile(t, w.dir, "4.2", "4.3", 0, nil))
	shares := func(want ...int) {
		t.Helper()
		l, err := List(t.Context(), "dir:"+w.www, "", "", w.now)
		if err != nil || len(l) != 1 || len(l[0].Releases) != len(want) {
			t.Fatalf("List = %+v, %v", l, err)
		}
		for i, r := range l[0].Releases {
			if int(r.ShareBasisPoints) != want[i] {
				t.Errorf("release %s is out for %d, want %d", r.Version, r.ShareBasisPoints, want[i])
			}
		}
	}
	shares(10000, 100, 100)
	w.want("fw-4.0-4.1")
	w.mustPublish(func(o *ChannelOptions) { o.Edit.Rollout = "2%" }) // the newest alone
	shares(10000, 100, 200)
	w.mustPublish(func(o *ChannelOptions) { o.Edit = Edit{Rollout: "3%", Labels: map[string]string{"site": "lab"}} },
		patchFile(t, w.dir, "4.3", "4.4", 0, nil), patchFile(t, w.dir, "4.4", "4.5", 0, nil))
	shares(10000, 100, 200, 300, 300)
	w.mustPublish(func(o *ChannelOptions) { o.Edit.Rollout = "100%" }, filepath.Join(w.dir, "fw-4.1-4.2.rkp")) // one that was there
	shares(10000, 10000, 200, 300, 300)
}

// TestKeyMustHaveTheRole: what --allowed-signers lists is what machines list.
func TestKeyMustHaveTheRole(t *testing.T) {
	w := newWorld(t)
	one := patchFile(t, w.dir, "4.0", "4.1", 0, nil)
	for name, c := range map[string]struct {
		as   func(*ChannelOptions)
		want string
	}{
		"unknown":      {func(o *ChannelOptions) { o.Signer = key(t, "mallory") }, "may not sign channels"},
		"another role": {func(o *ChannelOptions) { o.Signer = key(t, "sam") }, `may not sign as "release" but as ["status"]`},
	} {
		_, err := w.publish(func(o *ChannelOptions) { o.Policy = ptr(w.policy()); c.as(o) }, one)
		if failure.Of(err) != failure.Untrusted || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: Publish = %v, want %q", name, err, c.want)
		}
	}
	if _, err := os.Stat(w.www); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("something was written: %v", err)
	}
	w.mustPublish(func(o *ChannelOptions) { o.Policy = ptr(w.policy()) }, one)
	w.mustPublish(func(o *ChannelOptions) {
		o.Policy, o.Signer, o.Role, o.State = ptr(w.policy()), key(t, "sam"), "status", channel.Halted
	})
}
