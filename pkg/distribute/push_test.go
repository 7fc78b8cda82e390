package distribute

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/channel"
	"github.com/relkit/relkit/pkg/format/patch"
	"github.com/relkit/relkit/pkg/transport/serve"
)

func TestParseRef(t *testing.T) {
	hex := strings.Repeat("ab", 32)
	for in, want := range map[string]Ref{
		"oci://h/fw:stable":              {Host: "h", Repo: "fw", Name: "stable"},
		"oci://h:5000/a/b@sha256:" + hex: {Host: "h:5000", Repo: "a/b", Name: "sha256:" + hex},
		"oci://h/fw":                     {Host: "h", Repo: "fw"},
		"dir:/srv/w#w#fw:v1":             {Path: "/srv/w#w", Repo: "fw", Name: "v1"},
		"dir:www#a/b@sha256:" + hex:      {Path: "www", Repo: "a/b", Name: "sha256:" + hex},
	} {
		got, err := ParseRef(in)
		if err != nil || got != want || got.String() != in {
			t.Errorf("ParseRef(%q) = %+v, %v, written %q, want %+v", in, got, err, got, want)
		}
	}
	for _, in := range []string{"", "fw:stable", "oci://", "oci://h", "oci:///fw:x", "oci://h/:x", "oci://h/FW:x", "oci://h/fw:", "oci://h/fw:a/b", "oci://h/fw@sha256:1",
		"oci://h/fw@md5:" + hex, "dir:www", "dir:#fw", "dir:www#", "dir:www#../x:y", "http://h/fw:x", "oci://h/../fw:x"} {
		if _, err := ParseRef(in); failure.Of(err) != failure.Usage || err == nil {
			t.Errorf("ParseRef(%q) = %v, want a usage error", in, err)
		}
	}
}

func TestPush(t *testing.T) {
	w := newWorld(t)
	notes := filepath.Join(w.dir, "read me.txt")
	if err := os.WriteFile(notes, []byte("some notes"), 0o644); err != nil {
		t.Fatal(err)
	}
	rkp := patchFile(t, w.dir, "4.0", "4.1", 0, nil)
	log := slog.New(slog.DiscardHandler)
	o := PushOptions{To: []string{"dir:" + w.www, "dir:" + w.www + "2"}, Repo: "docs", Log: log}
	pushed, err := Push(t.Context(), []string{notes, rkp}, o)
	if err != nil || len(pushed) != 4 || pushed[0].Status != "pushed" {
		t.Fatalf("Push = %+v, %v", pushed, err)
	}
	again, err := Push(t.Context(), []string{notes, rkp}, o)
	if err != nil || again[0].Status != "already" || again[0].Reference != pushed[0].Reference {
		t.Errorf("Push again = %+v, %v", again, err)
	}
	for _, ref := range []string{pushed[0].Reference, pushed[2].Reference, "dir:" + w.www + "2#docs:read_me.txt"} {
		f, err := w.fetch(ref, nil)
		if err != nil || len(f.Files) != 1 || f.Files[0].Path != filepath.Join(w.to, "read me.txt") || readAll(t, f.Files[0].Path) != "some notes" {
			t.Errorf("fetch %s = %+v, %v", ref, f, err)
		}
	}
	f, err := w.fetch(pushed[1].Reference, func(o *FetchOptions) { o.File = filepath.Join(w.dir, "x.rkp") })
	if err != nil || f.Source != pushed[1].Reference || readAll(t, filepath.Join(w.dir, "x.rkp")) != readAll(t, rkp) {
		t.Errorf("fetch to a file = %+v, %v", f, err)
	}
	dry, err := Push(t.Context(), []string{notes}, PushOptions{To: []string{"dir:" + w.www + "3"}, Repo: "docs", DryRun: true, Log: log})
	if err != nil || dry[0].Status != "would-push" {
		t.Errorf("dry run = %+v, %v", dry, err)
	}
	if _, err := os.Stat(w.www + "3"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the dry run made the folder: %v", err)
	}
	notPatch := filepath.Join(w.dir, "fake.rkp")
	if err := os.WriteFile(notPatch, []byte("no patch"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]failure.Kind{notPatch: failure.Untrusted, filepath.Join(w.dir, "missing"): failure.Usage, w.dir: failure.Usage, "-": failure.Usage} {
		if _, err := Push(t.Context(), []string{name}, o); failure.Of(err) != want || err == nil {
			t.Errorf("Push of %q = %v (kind %d), want kind %d", name, err, failure.Of(err), want)
		}
	}
}

// TestPublishersWait has several publish at once: nobody's patch is lost.
func TestPublishersWait(t *testing.T) {
	w := newWorld(t)
	var files []string
	for i := range 6 {
		files = append(files, patchFile(t, w.dir, "4.0", fmt.Sprint("4.", i+1), 0, nil))
	}
	var wg sync.WaitGroup
	for _, f := range files {
		wg.Go(func() {
			o := ChannelOptions{To: []string{"dir:" + w.www}, Channel: "stable", Signer: key(t, "alice"), Role: "release", Now: t0, Log: slog.New(slog.DiscardHandler)}
			if _, _, err := Publish(t.Context(), []string{f}, o, PushOptions{To: o.To}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	l, err := List(t.Context(), "dir:"+w.www, "fw", "stable", t0)
	if err != nil || len(l) != 1 || l[0].ReleasesSerial != 6 || l[0].StatusSerial != 6 || len(l[0].Releases) != 6 {
		t.Errorf("List = %+v, %v, want 6 releases, serials of 6", l, err)
	}
}

func TestPublishRefuses(t *testing.T) {
	w := newWorld(t)
	one := patchFile(t, w.dir, "4.0", "4.1", 0, nil)
	two := patchFile(t, w.dir, "4.1", "4.2", 0, nil)
	unnamed := patchFile(t, w.dir, "4.0", "9", 0, func(h *patch.Header) { h.To.Version = "" })
	camera := patchFile(t, w.dir, "4.0", "8", 0, func(h *patch.Header) { h.Product = "camera" })
	expired := patchFile(t, w.dir, "4.0", "7", 0, func(h *patch.Header) { h.Created, h.Expires = t0.Add(-2*time.Hour), t0.Add(-time.Hour) })
	grabby := patchFile(t, w.dir, "4.0", "6", 0, func(h *patch.Header) { h.ID = "stable" })
	w.mustPublish(nil, one)
	for name, c := range map[string]struct {
		change  func(*ChannelOptions)
		patches []string
		kind    failure.Kind
		want    string
	}{
		"a name that is no channel": {func(o *ChannelOptions) { o.Channel = "a/b" }, []string{two}, failure.Usage, "bad channel name"},
		"no versions":               {nil, []string{unnamed}, failure.Usage, "does not say from which version"},
		"two products":              {nil, []string{two, camera}, failure.Usage, `is for product "camera"`},
		"another product":           {nil, []string{camera}, failure.Refused, `and the channel is of "fw"`},
		"expired patch":             {nil, []string{expired}, failure.Refused, "has expired"},
		"the channel's own tag":     {nil, []string{grabby}, failure.Refused, "which is a channel"},
		"rollout":                   {func(o *ChannelOptions) { o.Edit.Rollout = "x" }, []string{two}, failure.Usage, "reading --rollout"},
		"cap":                       {func(o *ChannelOptions) { o.Cap = "x" }, nil, failure.Usage, "reading --cap"},
		"floor":                     {func(o *ChannelOptions) { o.Edit.Floor = "?" }, nil, failure.Usage, "floor"},
		"deny":                      {func(o *ChannelOptions) { o.Edit.Deny = []string{"?"} }, nil, failure.Usage, `machine key "?"`},
		"back in time":              {func(o *ChannelOptions) { o.Now = t0.Add(-time.Hour) }, []string{two}, failure.Refused, "the clock says"},
		"another's documents":       {func(o *ChannelOptions) { o.Signer = key(t, "mallory") }, []string{two}, failure.Untrusted, "not signed with the key given"},
		"the status key publishes": {func(o *ChannelOptions) {
			o.Signer, o.Role = key(t, "sam"), "status"
			p := w.policy()
			p.Allowed.Signers = p.Allowed.Signers[1:]
			o.Policy = &p
		},
			[]string{two}, failure.Untrusted, "is not in allowed_signers"},
		"a destination without the older patches": {func(o *ChannelOptions) { o.To = append(o.To, "dir:"+w.www+"2") }, []string{two}, failure.Refused, `patch "fw-4.0-4.1"`},
		"a channel that is not there":             {func(o *ChannelOptions) { o.Channel = "beta"; o.State = channel.Halted }, nil, failure.Refused, `there is no channel "beta"`},
	} {
		p, err := w.publish(c.change, c.patches...)
		if err == nil || failure.Of(err) != c.kind || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: Publish = %+v, %v (kind %d), want kind %d with %q", name, p, err, failure.Of(err), c.kind, c.want)
		}
	}
	l, err := List(t.Context(), "dir:"+w.www, "fw", "stable", t0)
	if err != nil || l[0].StatusSerial != 1 {
		t.Errorf("after all that the channel is %+v, %v", l, err)
	}
}

// TestTamperedReleasesAreNotSignedAgain: somebody who can write to the
// destination changes what the publisher is going to sign next.
func TestTamperedReleasesAreNotSignedAgain(t *testing.T) {
	w := newWorld(t)
	w.mustPublish(nil, patchFile(t, w.dir, "4.0", "4.1", 0, nil))
	evil := patchFile(t, w.dir, "4.0", "6.6", 0, nil)
	theirs := *w
	theirs.allowed += "release mallory\n"
	theirs.mustPublish(func(o *ChannelOptions) { o.Signer, o.Policy = key(t, "mallory"), ptr(theirs.policy()) }, evil)
	_, err := w.publish(nil, patchFile(t, w.dir, "4.1", "4.2", 0, nil))
	if failure.Of(err) != failure.Untrusted {
		t.Errorf("Publish over another's document = %v", err)
	}
}

func TestTwoDestinations(t *testing.T) {
	w := newWorld(t)
	both := func(o *ChannelOptions) { o.To = append(o.To, "dir:"+w.www+"2") }
	one := patchFile(t, w.dir, "4.0", "4.1", 0, nil)
	w.mustPublish(both, one)
	w.mustPublish(nil, patchFile(t, w.dir, "4.1", "4.2", 0, nil)) // to the first alone
	w.want("fw-4.0-4.1 fw-4.1-4.2")
	w.mustPublish(both, filepath.Join(w.dir, "fw-4.1-4.2.rkp"))
	f, err := w.fetch("dir:"+w.www+"2#fw:stable", nil)
	if err != nil || f.Target != "4.2" {
		t.Errorf("the second destination has %+v, %v", f, err)
	}
	for _, name := range []string{"stable", "stable.status"} {
		if readAll(t, filepath.Join(w.www, "v2/fw/manifests", name)) != readAll(t, filepath.Join(w.www+"2", "v2/fw/manifests", name)) {
			t.Errorf("%s differs between the destinations", name)
		}
	}
}

// TestCutConnections fetches a channel from a server that drops every third
// answer in the middle.
func TestCutConnections(t *testing.T) {
	w := newWorld(t)
	w.mustPublish(nil, patchFile(t, w.dir, "4.0", "4.1", 400_000, nil))
	files, err := serve.OpenFiles(w.www)
	if err != nil {
		t.Fatal(err)
	}
	defer files.Close()
	var n atomic.Int32
	var ranges atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Range") != "" {
			ranges.Add(1)
		}
		if i := n.Add(1); i%3 == 0 || i == 14 {
			files.ServeHTTP(&half{ResponseWriter: rw}, r)
			panic(http.ErrAbortHandler)
		}
		files.ServeHTTP(rw, r)
	}))
	defer s.Close()
	host := strings.TrimPrefix(s.URL, "http://")
	for range 3 {
		f, err := w.fetch("oci://"+host+"/fw:stable", nil)
		if err != nil || len(f.Files) != 1 {
			t.Fatalf("fetch = %+v, %v", f, err)
		}
		if err := os.Remove(f.Files[0].Path); err != nil {
			t.Fatal(err)
		}
	}
	if ranges.Load() == 0 {
		t.Error("no download was resumed: the test cuts nothing that matters")
	}
}

// half drops all after 200 kB, or after 10 bytes of what is small.
type half struct {
	http.ResponseWriter
	sent int
}

func (h *half) Write(p []byte) (int, error) {
	limit := 200_000
	if len(p) < 20_000 {
		limit = 10
	}
	if h.sent+len(p) > limit {
		p = p[:max(0, limit-h.sent)]
	}
	n, err := h.ResponseWriter.Write(p)
	h.ResponseWriter.(http.Flusher).Flush()
	h.sent += n
	if err == nil && h.sent >= limit {
		err = errors.New("cut")
	}
	return n, err
}

// TestCertifiedPublisher: whoever signs with a new certificate every day is the
// same publisher; machines take what was issued while the certificate was valid.
func TestCertifiedPublisher(t *testing.T) {
	w := newWorld(t)
	w.allowed = "release cert-authority ca\n"
	certified := func(from, to time.Time) ssh.Signer {
		cert := &ssh.Certificate{Key: key(t, "alice").PublicKey(), CertType: ssh.UserCert, ValidPrincipals: []string{"release"},
			ValidAfter: uint64(from.Unix()), ValidBefore: uint64(to.Unix())}
		if err := cert.SignCert(rand.Reader, key(t, "ca")); err != nil {
			t.Fatal(err)
		}
		s, err := ssh.NewCertSigner(cert, key(t, "alice"))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	today := certified(t0.Add(-time.Hour), t0.Add(24*time.Hour))
	w.mustPublish(func(o *ChannelOptions) { o.Signer = today }, patchFile(t, w.dir, "4.0", "4.1", 0, nil))
	w.want("fw-4.0-4.1")
	w.now = t0.Add(25 * time.Hour)
	w.want("fw-4.0-4.1")
	if _, err := w.publish(func(o *ChannelOptions) { o.Signer = today }, patchFile(t, w.dir, "4.1", "4.2", 0, nil)); err != nil {
		t.Fatal(err)
	}
	w.wantError(failure.Untrusted, "its certificate was valid only until 2026-11-23T12:00:00Z, and it signed on 2026-11-23T13:00:00Z")
	tomorrow := certified(t0.Add(24*time.Hour), t0.Add(48*time.Hour))
	w.mustPublish(func(o *ChannelOptions) { o.Signer, o.Edit.Floor = tomorrow, "4.1" })
	w.want("fw-4.0-4.1 fw-4.1-4.2")
	if _, err := w.publish(func(o *ChannelOptions) { o.Signer, o.Edit.Rollout = key(t, "mallory"), "100%" }); failure.Of(err) != failure.Untrusted {
		t.Errorf("another key changes the channel: %v", err)
	}
}
