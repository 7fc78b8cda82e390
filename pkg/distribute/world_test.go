package distribute

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/relkit/relkit/pkg/engine/trust"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/channel"
	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/patch"
	"github.com/relkit/relkit/pkg/format/signature"
	"github.com/relkit/relkit/pkg/transport/fetch"
	"github.com/relkit/relkit/pkg/transport/serve"
)

var t0 = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// key makes the same key for the same name every time.
func key(t testing.TB, name string) ssh.Signer {
	t.Helper()
	seed := sha256.Sum256([]byte(name))
	s, err := ssh.NewSignerFromKey(ed25519.NewKeyFromSeed(seed[:]))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// patchFile writes a patch from and to the versions ("" from: a full one); pad
// makes it larger.
func patchFile(t testing.TB, dir, from, to string, pad int, change func(*patch.Header)) string {
	t.Helper()
	h := patch.Header{ID: "fw-" + from + "-" + to, Product: "fw", To: patch.Side{Version: to, Tree: digest.Of([]byte(to))}, Reboot: patch.RebootNone, Created: t0}
	if from == "" {
		h.ID, h.Full = "fw-"+to+"-full", true
	} else {
		h.From = &patch.Side{Version: from, Tree: digest.Of([]byte(from))}
	}
	h.Hooks.Post = "hooks/post"
	if change != nil {
		change(&h)
	}
	script := "#!/bin/sh\n# " + strings.Repeat("x", pad) + "\n"
	s, err := patch.Seal(h, map[string][]byte{"hooks/post": []byte(script)}, &patch.Entries{}, patch.NewPayload(&bytes.Buffer{}))
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, h.ID+".rkp")
	var b bytes.Buffer
	if err := s.Write(&b, []signature.SignedDoc{signoff(t, s.ID(), "release", signature.VerdictPass, t0)}, &bytes.Buffer{}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

// signoff is a sign-off of alice's.
func signoff(t testing.TB, patch digest.Digest, role, verdict string, at time.Time) signature.SignedDoc {
	t.Helper()
	d := signature.Signoff{Schema: signature.SignoffSchema, Patch: patch, Role: role, Time: at, Verdict: verdict}
	doc, err := d.Encode()
	if err != nil {
		t.Fatal(err)
	}
	sig, err := signature.Sign(key(t, "alice"), signature.NamespaceSignoff, bytes.NewReader(doc))
	if err != nil {
		t.Fatal(err)
	}
	return signature.SignedDoc{Name: "signoffs/" + role + ".json", Doc: doc, Sig: sig}
}

// world is a publisher's folder and a machine.
type world struct {
	t       *testing.T
	dir     string // for patches
	www     string
	state   string
	to      string
	now     time.Time
	machine channel.Machine
	allowed string // allowed_signers, lines "roles name"
	log     bytes.Buffer
}

func newWorld(t *testing.T) *world {
	base := t.TempDir()
	w := &world{t: t, dir: base, www: filepath.Join(base, "www"), state: filepath.Join(base, "state"), to: filepath.Join(base, "in"), now: t0,
		allowed: "release alice\nstatus sam\n", machine: channel.Machine{Key: strings.Repeat("0", 31) + "1"}}
	w.install("fw", "4.0")
	return w
}

func (w *world) install(product, version string) {
	w.t.Helper()
	text := fmt.Sprintf(`{"schema":"relkit.version/v1","product":%q,"version":%q}`+"\n", product, version)
	if err := errors.Join(os.MkdirAll(w.state, 0o755), os.WriteFile(filepath.Join(w.state, "version.json"), []byte(text), 0o644)); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) policy(require ...string) trust.Policy {
	w.t.Helper()
	var text strings.Builder
	for line := range strings.Lines(w.allowed) {
		line = strings.TrimSpace(line)
		cut := strings.LastIndexByte(line, ' ')
		roles, name := line[:cut], line[cut+1:]
		text.WriteString(roles + " " + string(ssh.MarshalAuthorizedKey(key(w.t, name).PublicKey())))
	}
	a, err := signature.ParseAllowedSigners([]byte(text.String()))
	if err != nil {
		w.t.Fatal(err)
	}
	return trust.Policy{Allowed: a, Require: require}
}

// publish changes the channel stable as alice, unless change says otherwise.
func (w *world) publish(change func(*ChannelOptions), patches ...string) (*Published, error) {
	w.t.Helper()
	o := ChannelOptions{To: []string{"dir:" + w.www}, Repo: "fw", Channel: "stable", Signer: key(w.t, "alice"), Role: "release", Now: w.now, Log: slog.New(slog.NewTextHandler(&w.log, nil))}
	if change != nil {
		change(&o)
	}
	_, p, err := Publish(w.t.Context(), patches, o, PushOptions{To: o.To, DryRun: o.DryRun, Log: o.Log})
	return p, err
}

func (w *world) mustPublish(change func(*ChannelOptions), patches ...string) *Published {
	w.t.Helper()
	p, err := w.publish(change, patches...)
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

func (w *world) options() FetchOptions {
	return FetchOptions{To: w.to, State: w.state, Policy: w.policy("release"), Machine: w.machine, Now: func() time.Time { return w.now },
		Network: Network{Fetch: fetch.Options{Pause: time.Millisecond, Retries: 3, Stall: 5 * time.Second}}, Log: slog.New(slog.NewTextHandler(&w.log, nil))}
}

// fetch fetches from a reference, by default the channel in the folder.
func (w *world) fetch(ref string, change func(*FetchOptions)) (*Fetched, error) {
	w.t.Helper()
	if ref == "" {
		ref = "dir:" + w.www + "#fw:stable"
	}
	r, err := ParseRef(ref)
	if err != nil {
		w.t.Fatal(err)
	}
	o := w.options()
	if change != nil {
		change(&o)
	}
	return Fetch(w.t.Context(), r, o)
}

// want fetches and holds the files' ids, or the note, against want.
func (w *world) want(want string) {
	w.t.Helper()
	f, err := w.fetch("", nil)
	if err != nil {
		w.t.Errorf("fetch: %v, want %q", err, want)
		return
	}
	var ids []string
	for _, file := range f.Files {
		ids = append(ids, file.ID)
		if b, err := os.ReadFile(file.Path); err != nil || digest.Of(b) != file.Digest || int64(len(b)) != file.Size {
			w.t.Errorf("%s: %v, or not the content it should have", file.Path, err)
		}
	}
	if got := strings.Join(ids, " "); got != want && !(got == "" && strings.Contains(f.Note, want)) {
		w.t.Errorf("fetch gives %q (note %q), want %q", got, f.Note, want)
	}
}

func (w *world) wantError(kind failure.Kind, text string) {
	w.t.Helper()
	f, err := w.fetch("", nil)
	if err == nil || failure.Of(err) != kind || !strings.Contains(err.Error(), text) {
		w.t.Errorf("fetch = %+v, %v (kind %d), want kind %d with %q", f, err, failure.Of(err), kind, text)
	}
}

func (w *world) serve() (base string, stop func()) {
	w.t.Helper()
	files, err := serve.OpenFiles(w.www)
	if err != nil {
		w.t.Fatal(err)
	}
	s := httptest.NewServer(serve.Handler(files, serve.Options{}))
	w.t.Cleanup(func() { s.Close(); files.Close() })
	return "oci://" + strings.TrimPrefix(s.URL, "http://"), s.Close
}

func readAll(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func snapshot(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		files[strings.TrimPrefix(path, dir+"/")] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func restore(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, b, 0o644); err != nil {
		t.Fatal(err)
	}
}
