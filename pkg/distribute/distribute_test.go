package distribute

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/relkit/relkit/pkg/engine/trust"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/artifact"
	"github.com/relkit/relkit/pkg/format/channel"
	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/patch"
)

func TestPublishAndFetch(t *testing.T) {
	w := newWorld(t)
	p := w.mustPublish(nil, patchFile(t, w.dir, "4.0", "4.1", 1000, nil))
	if p.ReleasesSerial != 1 || p.StatusSerial != 1 || p.State != channel.Active || !p.Expires.Equal(t0.AddDate(0, 0, 30)) {
		t.Errorf("published %+v", p)
	}
	w.want("fw-4.0-4.1")
	w.want("fw-4.0-4.1") // again, nothing to download
	w.mustPublish(nil, patchFile(t, w.dir, "4.1", "4.2", 10, nil), patchFile(t, w.dir, "", "4.2", 30000, nil))
	w.want("fw-4.0-4.1 fw-4.1-4.2")
	w.mustPublish(nil, patchFile(t, w.dir, "4.0", "4.2", 20, nil))
	w.want("fw-4.0-4.2")
	w.install("fw", "3.0")
	w.want("fw-4.2-full")
	w.install("fw", "4.2")
	w.want("4.2 is installed, and nothing in the channel is newer")

	// The same over HTTP, into another folder, as a machine that has seen it already.
	w.install("fw", "4.1")
	base, _ := w.serve()
	f, err := w.fetch(base+"/fw:stable", func(o *FetchOptions) { o.To = filepath.Join(w.to, "http") })
	if err != nil || len(f.Files) != 1 || f.Files[0].ID != "fw-4.1-4.2" {
		t.Errorf("over HTTP: %+v, %v", f, err)
	}
	again := w.mustPublish(nil, filepath.Join(w.dir, "fw-4.0-4.2.rkp"))
	if again.ReleasesSerial != 3 || again.StatusSerial != 4 {
		t.Errorf("publishing what is there gives %+v, want releases 3 as before and status 4", again)
	}
	l, err := List(t.Context(), "dir:"+w.www, "", "", w.now)
	if err != nil || len(l) != 1 {
		t.Fatalf("List = %+v, %v", l, err)
	}
	if got, want := strings.Join(l[0].Lines(w.now), "\n"), "dir:"+w.www+"#fw:stable  product fw  active  releases-serial 3  status-serial 4  expires 2026-12-22T12:00:00Z\n"+
		"  4.1  100 %  from 4.0\n  4.2  100 %  from 4.0 4.1  full"; got != want {
		t.Errorf("List says\n%s\nwant\n%s", got, want)
	}
}

func TestRolloutHaltResume(t *testing.T) {
	w := newWorld(t)
	one := patchFile(t, w.dir, "4.0", "4.1", 0, nil)
	w.mustPublish(func(o *ChannelOptions) { o.Edit.Rollout = "0.01%,100%@24h" }, one)
	w.want("4.1: it is out for 0.01 % of the machines, and this one is not among them yet")
	if f, err := w.fetch("", func(o *FetchOptions) { o.Force = true }); err != nil || len(f.Files) != 1 {
		t.Errorf("forced: %+v, %v", f, err)
	}
	audit, err := os.ReadFile(filepath.Join(w.state, "audit.jsonl"))
	if err != nil || !strings.Contains(string(audit), `"insecure":["force"]`) {
		t.Errorf("the audit log does not tell of --force: %s %v", audit, err)
	}
	w.now = t0.Add(25 * time.Hour)
	w.want("fw-4.0-4.1")
	status := func(state string) { w.mustPublish(func(o *ChannelOptions) { o.State = state }) }
	status(channel.Halted)
	w.want("the channel is halted")
	if f, err := w.fetch("", func(o *FetchOptions) { o.Force = true }); err != nil || len(f.Files) != 0 {
		t.Errorf("halted and forced: %+v, %v", f, err)
	}
	two := patchFile(t, w.dir, "4.1", "4.2", 0, nil)
	w.mustPublish(nil, two)
	w.want("the channel is halted")
	if !strings.Contains(w.log.String(), "until --resume") {
		t.Errorf("publishing into a halted channel says nothing: %s", w.log.String())
	}
	status(channel.Paused)
	w.want("the channel is paused")
	status(channel.Active)
	w.want("fw-4.0-4.1 fw-4.1-4.2")
	w.mustPublish(func(o *ChannelOptions) { o.Cap = "0.01%" })
	w.want("fw-4.0-4.1")
	w.mustPublish(nil, patchFile(t, w.dir, "4.2", "4.3", 0, nil))
	w.want("fw-4.0-4.1 fw-4.1-4.2 fw-4.2-4.3") // the cap was on 4.2
	w.mustPublish(func(o *ChannelOptions) { o.Edit = Edit{Rollout: "0.01%"} })
	w.want("fw-4.0-4.1 fw-4.1-4.2")
	w.mustPublish(func(o *ChannelOptions) { o.Edit = Edit{Allow: []string{w.machine.Key}} })
	w.want("fw-4.0-4.1 fw-4.1-4.2 fw-4.2-4.3")
	w.mustPublish(func(o *ChannelOptions) { o.Edit = Edit{Deny: []string{w.machine.Key}, Floor: "4.2"} })
	w.want("fw-4.0-4.1 fw-4.1-4.2")
	seen, err := os.ReadFile(filepath.Join(w.state, "channels", "fw@stable.json"))
	if err != nil || !strings.Contains(string(seen), `"floor":"4.2"`) {
		t.Errorf("the machine remembers %s, %v; want the floor", seen, err)
	}
}

// TestStagesNeedFreshStatus: a status that is held back widens by one stage at most.
func TestStagesNeedFreshStatus(t *testing.T) {
	w := newWorld(t)
	w.mustPublish(func(o *ChannelOptions) { o.Edit.Rollout = "0.01%,0.02%@24h,100%@48h" }, patchFile(t, w.dir, "4.0", "4.1", 0, nil))
	w.now = t0.Add(100 * time.Hour)
	w.want("it is out for 0.02 % of the machines")
	w.mustPublish(func(o *ChannelOptions) { o.Signer, o.Role, o.Policy = key(t, "sam"), "status", ptr(w.policy()) })
	w.want("fw-4.0-4.1")
}

func ptr[T any](v T) *T { return &v }

func TestFetchRefuses(t *testing.T) {
	t.Run("expired", func(t *testing.T) {
		w := newWorld(t)
		w.mustPublish(func(o *ChannelOptions) { o.Expires = time.Hour }, patchFile(t, w.dir, "4.0", "4.1", 0, nil))
		w.now = t0.Add(time.Hour)
		w.wantError(failure.Untrusted, "status document expired at 2026-11-22T13:00:00Z")
	})
	t.Run("a clock turned back after expiry", func(t *testing.T) {
		w := newWorld(t)
		w.mustPublish(func(o *ChannelOptions) { o.Expires = time.Hour }, patchFile(t, w.dir, "4.0", "4.1", 0, nil))
		old := snapshot(t, w.www)
		w.now = t0.Add(2 * time.Hour)
		w.mustPublish(nil)
		w.want("fw-4.0-4.1")
		restore(t, w.www, old)
		w.now = t0.Add(time.Minute)
		w.wantError(failure.Untrusted, "serial 1, and 2 has been seen")
	})
	t.Run("replayed", func(t *testing.T) {
		w := newWorld(t)
		w.mustPublish(nil, patchFile(t, w.dir, "4.0", "4.1", 0, nil))
		old := snapshot(t, w.www)
		w.mustPublish(func(o *ChannelOptions) { o.State = channel.Halted })
		w.want("the channel is halted")
		restore(t, w.www, old)
		w.wantError(failure.Untrusted, "status document has serial 1, and 2 has been seen: it is an old one")
	})
	t.Run("another document with the serial seen", func(t *testing.T) {
		w := newWorld(t)
		w.mustPublish(nil, patchFile(t, w.dir, "4.0", "4.1", 0, nil))
		w.want("fw-4.0-4.1")
		w.www = filepath.Join(w.dir, "fork")
		w.mustPublish(nil, patchFile(t, w.dir, "4.0", "4.1", 7, nil))
		w.wantError(failure.Untrusted, "has serial 1 as one seen before, but is another")
	})
	t.Run("wrong channel", func(t *testing.T) {
		w := newWorld(t)
		w.mustPublish(func(o *ChannelOptions) { o.Channel = "beta" }, patchFile(t, w.dir, "4.0", "4.1", 0, nil))
		for _, suffix := range []string{"", ".status"} {
			copyFile(t, filepath.Join(w.www, "v2/fw/manifests/beta"+suffix), filepath.Join(w.www, "v2/fw/manifests/stable"+suffix))
		}
		w.wantError(failure.Untrusted, `the documents are of channels "beta" and "beta", not "stable"`)
	})
	t.Run("wrong product", func(t *testing.T) {
		w := newWorld(t)
		w.mustPublish(nil, patchFile(t, w.dir, "4.0", "4.1", 0, func(h *patch.Header) { h.Product = "camera" }))
		w.wantError(failure.Untrusted, `this machine runs "fw"`)
	})
	t.Run("unknown signer", func(t *testing.T) {
		w := newWorld(t)
		w.mustPublish(func(o *ChannelOptions) { o.Signer = key(t, "mallory") }, patchFile(t, w.dir, "4.0", "4.1", 0, nil))
		w.wantError(failure.Untrusted, `verifying status.json: no signature as "status", "release"`)
	})
	t.Run("unsigned", func(t *testing.T) {
		w := newWorld(t)
		w.mustPublish(nil, patchFile(t, w.dir, "4.0", "4.1", 0, nil))
		tag := filepath.Join(w.www, "v2/fw/manifests/stable.status")
		m, err := artifact.Parse([]byte(readAll(t, tag)))
		if err != nil {
			t.Fatal(err)
		}
		m.Layers = m.Layers[:1]
		raw, err := m.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(tag, raw, 0o644); err != nil {
			t.Fatal(err)
		}
		w.wantError(failure.Untrusted, `no signature as "status", "release": there is no signature at all`)
	})
	t.Run("the status key signs releases", func(t *testing.T) {
		w := newWorld(t)
		w.mustPublish(func(o *ChannelOptions) { o.Signer = key(t, "sam") }, patchFile(t, w.dir, "4.0", "4.1", 0, nil))
		w.wantError(failure.Untrusted, `verifying releases.json: no signature as "release"`)
	})
	t.Run("two roles wanted, one signed", func(t *testing.T) {
		w := newWorld(t)
		w.mustPublish(nil, patchFile(t, w.dir, "4.0", "4.1", 0, nil))
		if _, err := w.fetch("", func(o *FetchOptions) { o.Policy.Require = []string{"release", "qa"} }); failure.Of(err) != failure.Untrusted || !strings.Contains(err.Error(), `no signature as "qa"`) {
			t.Errorf("fetch = %v", err)
		}
	})
	t.Run("no allowed signers", func(t *testing.T) {
		w := newWorld(t)
		w.mustPublish(nil, patchFile(t, w.dir, "4.0", "4.1", 0, nil))
		if _, err := w.fetch("", func(o *FetchOptions) { o.Policy = trust.Policy{} }); failure.Of(err) != failure.Usage {
			t.Errorf("fetch = %v", err)
		}
	})
	t.Run("no way", func(t *testing.T) {
		w := newWorld(t)
		w.mustPublish(nil, patchFile(t, w.dir, "4.0", "4.1", 0, nil))
		w.install("fw", "3.0")
		w.wantError(failure.Refused, `no patches lead from "3.0" to "4.1"`)
	})
	t.Run("memory that cannot be read", func(t *testing.T) {
		w := newWorld(t)
		w.mustPublish(nil, patchFile(t, w.dir, "4.0", "4.1", 0, nil))
		w.want("fw-4.0-4.1")
		if err := os.WriteFile(filepath.Join(w.state, "channels/fw@stable.json"), []byte("{"), 0o644); err != nil {
			t.Fatal(err)
		}
		w.wantError(failure.Failed, "the document ends early")
	})
	t.Run("no channel", func(t *testing.T) {
		w := newWorld(t)
		w.mustPublish(func(o *ChannelOptions) { o.Channel = "beta" }, patchFile(t, w.dir, "4.0", "4.1", 0, nil))
		if _, err := w.fetch("", nil); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("fetch = %v", err)
		}
	})
	t.Run("no status", func(t *testing.T) {
		w := newWorld(t)
		w.mustPublish(nil, patchFile(t, w.dir, "4.0", "4.1", 0, nil))
		if err := os.Remove(filepath.Join(w.www, "v2/fw/manifests/stable.status")); err != nil {
			t.Fatal(err)
		}
		w.wantError(failure.Untrusted, "the channel has no status")
	})
	t.Run("a channel that has become an artifact", func(t *testing.T) {
		w := newWorld(t)
		file := patchFile(t, w.dir, "4.0", "4.1", 0, nil)
		w.mustPublish(nil, file)
		w.want("fw-4.0-4.1")
		copyFile(t, filepath.Join(w.www, "v2/fw/manifests/fw-4.0-4.1"), filepath.Join(w.www, "v2/fw/manifests/stable"))
		w.wantError(failure.Untrusted, "is no channel, and this machine knows a channel of that name")
	})
	t.Run("a patch with other bytes", func(t *testing.T) {
		w := newWorld(t)
		file := patchFile(t, w.dir, "4.0", "4.1", 0, nil)
		w.mustPublish(nil, file)
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		blob := filepath.Join(w.www, "v2/fw/blobs", digest.Of(b).String())
		b[600] ^= 1
		if err := os.WriteFile(blob, b, 0o644); err != nil {
			t.Fatal(err)
		}
		w.wantError(failure.Untrusted, "it has digest")
		if left, _ := os.ReadDir(w.to); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	})
}

// TestEveryBit flips one bit in each fifth byte of everything that the channel
// is made of: nothing else than what was published is ever accepted. What may
// be changed without harm is what nobody reads: the patch's own manifest (a
// patch is found by the digest in the releases), the manifest under the
// channel's tag (the releases are found by the digest in the status; the tag
// only says that this is a channel), and of the status's manifest what only
// describes its layers.
func TestEveryBit(t *testing.T) {
	w := newWorld(t)
	file := patchFile(t, w.dir, "4.0", "4.1", 0, nil)
	w.mustPublish(nil, file)
	w.want("fw-4.0-4.1")
	before := snapshot(t, w.www)
	unread := map[string]bool{"v2/fw/manifests/stable": true, "v2/fw/manifests/fw-4.0-4.1": true}
	unread["v2/fw/manifests/"+digest.Of([]byte(before["v2/fw/manifests/fw-4.0-4.1"])).String()] = true
	unread["v2/fw/manifests/"+digest.Of([]byte(before["v2/fw/manifests/stable.status"])).String()] = true
	unread["v2/fw/blobs/"+digest.Of([]byte("{}")).String()] = true
	for name, content := range before {
		if strings.HasPrefix(name, ".") || strings.HasSuffix(name, ".html") || strings.HasSuffix(name, "/list") || name == "v2/fw/blobs/"+digest.Of([]byte(readAll(t, file))).String() {
			continue // the patch itself is on the machine already
		}
		path := filepath.Join(w.www, name)
		for i := 0; i < len(content); i += 5 {
			bad := []byte(content)
			bad[i] ^= 1 << (i % 8)
			if err := os.WriteFile(path, bad, 0o644); err != nil {
				t.Fatal(err)
			}
			f, err := w.fetch("", func(o *FetchOptions) { o.Fetch.Retries = -1 })
			if err == nil && (!unread[name] && name != "v2/fw/manifests/stable.status" || len(f.Files) != 1 || f.Files[0].ID != "fw-4.0-4.1") {
				t.Fatalf("%s with byte %d changed: fetch gives %+v", name, i, f)
			}
			if err != nil && failure.Of(err) != failure.Untrusted && !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s with byte %d changed: %v (kind %d)", name, i, err, failure.Of(err))
			}
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
