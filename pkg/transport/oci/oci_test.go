package oci

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/artifact"
	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/transport/fetch"
	"github.com/relkit/relkit/pkg/transport/serve"
	"github.com/relkit/relkit/pkg/transport/static"
)

var quick = Options{Fetch: fetch.Options{Retries: 2, Pause: time.Millisecond, Stall: 2 * time.Second}}

func listen(t *testing.T, h http.Handler) (host string) {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

func manifestOf(t *testing.T, content string) []byte {
	t.Helper()
	m := artifact.Manifest{Type: artifact.TypeFile, Layers: []artifact.Descriptor{{MediaType: artifact.TypeFile, Digest: digest.Of([]byte(content)), Size: int64(len(content)), Title: "f"}}}
	raw, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// put sends one request that must succeed.
func put(t *testing.T, method, url string, body []byte, contentType string) string {
	t.Helper()
	req, err := http.NewRequest(method, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", contentType)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		b, _ := io.ReadAll(resp.Body)
		t.Fatalf("%s %s: %s %s", method, url, resp.Status, b)
	}
	return resp.Header.Get("Location")
}

// check reads the artifact with the content back by tag and by digest.
func check(t *testing.T, host, repo, content string) {
	t.Helper()
	r, err := Open(t.Context(), host, repo, quick)
	if err != nil {
		t.Fatal(err)
	}
	raw := manifestOf(t, content)
	for _, ref := range []string{"v1", digest.Of(raw).String()} {
		if got, err := r.Manifest(t.Context(), ref); err != nil || !bytes.Equal(got, raw) {
			t.Errorf("Manifest(%s) = %s, %v", ref, got, err)
		}
	}
	if _, err := r.Manifest(t.Context(), "v2"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Manifest of a missing tag = %v", err)
	}
	path := filepath.Join(t.TempDir(), "f")
	want := fetch.Blob{Digest: digest.Of([]byte(content)), Size: int64(len(content))}
	if err := fetch.ToFile(t.Context(), r.Source(want.Digest, want.Size), want, path, quick.Fetch); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(path); string(got) != content {
		t.Errorf("the blob is %q", got)
	}
}

// TestRegistry reads from go-containerregistry's registry.
func TestRegistry(t *testing.T) {
	host := listen(t, registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	base := "http://" + host + "/v2/acme/fw"
	for _, content := range []string{"hello", artifact.Empty} {
		location := put(t, "POST", base+"/blobs/uploads/", nil, "")
		put(t, "PUT", "http://"+host+location+"?digest="+digest.Of([]byte(content)).String(), []byte(content), "application/octet-stream")
	}
	put(t, "PUT", base+"/manifests/v1", manifestOf(t, "hello"), artifact.TypeManifest)
	check(t, host, "acme/fw", "hello")
}

// staticServer is what any web server makes of a static registry.
func staticServer(t *testing.T, content string) string {
	t.Helper()
	dir := t.TempDir()
	d, err := static.Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	r, err := d.Repo("acme/fw")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.PutBlob(t.Context(), digest.Of([]byte(content)), int64(len(content)), func() (io.ReadCloser, error) {
		return io.NopCloser(strings.NewReader(content)), nil
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.PutManifest(manifestOf(t, content), "v1"); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestPlainWebServer(t *testing.T) {
	check(t, listen(t, http.FileServer(http.Dir(staticServer(t, "hello")))), "acme/fw", "hello")
}

// TestOtherClients pulls with go-containerregistry's own client, which is
// crane's, what relkit serves.
func TestOtherClients(t *testing.T) {
	files, err := serve.OpenFiles(staticServer(t, "hello"))
	if err != nil {
		t.Fatal(err)
	}
	defer files.Close()
	host := listen(t, serve.Handler(files, serve.Options{}))
	check(t, host, "acme/fw", "hello")
	ref, err := name.ParseReference(host + "/acme/fw:v1")
	if err != nil {
		t.Fatal(err)
	}
	desc, err := remote.Get(ref)
	if err != nil || string(desc.MediaType) != artifact.TypeManifest || desc.Digest.String() != digest.Of(manifestOf(t, "hello")).String() {
		t.Fatalf("remote.Get = %+v, %v", desc, err)
	}
	image, err := desc.Image()
	if err != nil {
		t.Fatal(err)
	}
	layers, err := image.Layers()
	if err != nil || len(layers) != 1 {
		t.Fatalf("%d layers, %v", len(layers), err)
	}
	body, err := layers[0].Compressed()
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	if b, err := io.ReadAll(body); err != nil || string(b) != "hello" {
		t.Errorf("the layer is %q, %v", b, err)
	}
	tags, err := remote.List(ref.Context())
	if err != nil || len(tags) != 1 || tags[0] != "v1" {
		t.Errorf("tags are %q, %v", tags, err)
	}
}

// TestToken goes through the token dance (distribution specification, "Token
// Authentication"), with credentials as docker login stores them.
func TestToken(t *testing.T) {
	files := http.FileServer(http.Dir(staticServer(t, "hello")))
	var host string
	host = listen(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/token":
			if user, pass, _ := r.BasicAuth(); user != "box" || pass != "pw" {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			fmt.Fprint(w, `{"token":"T"}`)
		case r.Header.Get("Authorization") != "Bearer T":
			w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+host+`/token",service="x"`)
			w.WriteHeader(http.StatusUnauthorized)
		default:
			files.ServeHTTP(w, r)
		}
	}))
	config := t.TempDir()
	t.Setenv("DOCKER_CONFIG", config)
	writeConfig := func(auth string) {
		text := `{"auths":{"` + host + `":{"auth":"` + auth + `"}}}`
		if err := os.WriteFile(filepath.Join(config, "config.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	writeConfig("Ym94OnB3") // box:pw
	check(t, host, "acme/fw", "hello")
	writeConfig("Ym94Ong=") // box:x
	if _, err := Open(t.Context(), host, "acme/fw", quick); err == nil || !strings.Contains(err.Error(), "401") {
		t.Errorf("Open with a wrong password = %v", err)
	}
}

func TestErrors(t *testing.T) {
	endless := listen(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v2/" {
			return
		}
		for r.Context().Err() == nil {
			w.Write(make([]byte, 1<<16))
		}
	}))
	r, err := Open(t.Context(), endless, "fw", quick)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Manifest(t.Context(), "v1"); failure.Of(err) != failure.Untrusted || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("an endless manifest = %v", err)
	}
	other := listen(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write([]byte("{}")) }))
	if r, err = Open(t.Context(), other, "fw", quick); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Manifest(t.Context(), digest.Of(nil).String()); failure.Of(err) != failure.Untrusted || !strings.Contains(err.Error(), "it has digest") {
		t.Errorf("another manifest than asked for = %v", err)
	}
	for _, c := range [][2]string{{"", "fw"}, {"h/x", "fw"}, {"localhost:1", "FW"}, {"localhost:1", "../x"}} {
		if _, err := Open(t.Context(), c[0], c[1], quick); failure.Of(err) != failure.Usage {
			t.Errorf("Open(%q, %q) = %v, want a usage error", c[0], c[1], err)
		}
	}
	for _, ref := range []string{"a/b", "sha256:1"} {
		if _, err := r.Manifest(t.Context(), ref); failure.Of(err) != failure.Usage {
			t.Errorf("Manifest(%q) = %v, want a usage error", ref, err)
		}
	}
	opt := quick
	opt.Fetch.Retries = -1
	if _, err := Open(t.Context(), "127.0.0.1:1", "fw", opt); err == nil || !strings.Contains(err.Error(), "reaching the registry 127.0.0.1:1: dial tcp 127.0.0.1:1: connect: connection refused") {
		t.Errorf("Open where nobody listens = %v", err)
	}
	hang := listen(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	opt.Fetch.Stall = 100 * time.Millisecond
	if _, err := Open(t.Context(), hang, "fw", opt); err == nil || !strings.Contains(err.Error(), "no answer within 100ms") {
		t.Errorf("Open of a registry that never answers = %v", err)
	}
}

// recorder says which URLs were asked for, and answers nothing.
type recorder struct{ urls []string }

func (r *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	r.urls = append(r.urls, req.URL.Scheme+"://"+req.URL.Host)
	return nil, errors.New("nobody there")
}

// TestNoPlainHTTP: go-containerregistry falls back to plain HTTP for names that
// look local; relkit does not unless told to.
func TestNoPlainHTTP(t *testing.T) {
	for _, host := range []string{"10.0.0.1:5000", "192.168.1.1", "box.local", "registry.example.com"} {
		rec := &recorder{}
		opt := Options{Transport: rec, Fetch: fetch.Options{Retries: -1}}
		if _, err := Open(context.Background(), host, "fw", opt); err == nil {
			t.Errorf("%s: no error", host)
		}
		for _, u := range rec.urls {
			if !strings.HasPrefix(u, "https://") {
				t.Errorf("%s was asked at %s", host, u)
			}
		}
		if len(rec.urls) == 0 {
			t.Errorf("%s was not asked at all", host)
		}
	}
	for _, host := range []string{"10.0.0.1:5000"} {
		rec := &recorder{}
		if _, err := Open(context.Background(), host, "fw", Options{Transport: rec, PlainHTTP: true, Fetch: fetch.Options{Retries: -1}}); err == nil {
			t.Errorf("%s: no error", host)
		}
		if len(rec.urls) != 1 || rec.urls[0] != "http://"+host {
			t.Errorf("%s with plain HTTP was asked at %q", host, rec.urls)
		}
	}
	for host, want := range map[string]bool{"localhost": true, "localhost:5000": true, "127.0.0.1:1": true, "[::1]:5": true, "127.9.9.9": true, "example.com": false, "10.0.0.1": false, "localhost.example.com": false} {
		if got := isLoopback(host); got != want {
			t.Errorf("isLoopback(%q) = %v", host, got)
		}
	}
}
