package source

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/relkit/relkit/pkg/config"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/relkittest"
)

// archiveServer is a web server with one archive under many addresses.
type archiveServer struct {
	*httptest.Server
	mu   sync.Mutex
	seen []string // the requests
}

func newArchiveServer(t *testing.T, data []byte) *archiveServer {
	s := &archiveServer{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.seen = append(s.seen, r.Method+" "+r.URL.Path)
		s.mu.Unlock()
		if user, password, _ := r.BasicAuth(); r.URL.Path == "/private" && (user != "ci" || password != "hunter2") {
			http.Error(w, "no", http.StatusUnauthorized)
			return
		}
		switch r.URL.Path {
		case "/whole", "/private":
			_, _ = w.Write(data)
		case "/moved":
			http.Redirect(w, r, "/again", http.StatusMovedPermanently)
		case "/again":
			http.Redirect(w, r, "/whole", http.StatusFound)
		case "/circle":
			http.Redirect(w, r, "/circle", http.StatusFound)
		case "/short": // the length is told, and not kept to
			w.Header().Set("Content-Length", strconv.Itoa(len(data)))
			_, _ = w.Write(data[:len(data)/2])
		case "/cut": // the connection breaks between chunks
			_, _ = w.Write(data[:len(data)/2])
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		case "/less": // a whole answer that is not the whole archive
			_, _ = w.Write(data[:len(data)/2])
		case "/trouble":
			http.Error(w, "later", http.StatusServiceUnavailable)
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *archiveServer) requests() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	text := strings.Join(s.seen, ", ")
	s.seen = nil
	return text
}

func packed(t *testing.T, files ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for _, name := range files {
		text := strings.Repeat(name+"\n", 10000)
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestArchiveByHTTP: one request gets an archive, none asks whether it has
// changed, and whatever is wrong with the answer leaves no tree.
func TestArchiveByHTTP(t *testing.T) {
	relkittest.Need(t, "tar", "gzip")
	data := packed(t, "in", "sub/x")
	digest := fmt.Sprintf("%x", sha256.Sum256(data))
	web := newArchiveServer(t, data)
	r := newRow(t, &upstream{vcs: "tar", private: ".relkit", begin: "true", pinned: true})
	get := func(path, digest string) error {
		r.d = r.open(config.Source{Name: "data", VCS: "tar", SHA256: digest}, strings.Replace(web.URL, "://", "://ci:hunter2@", 1)+path)
		head, err := r.d.Head(t.Context(), "")
		if err != nil {
			return err
		}
		if seen := web.requests(); seen != "" {
			t.Errorf("asking for the head of %s: %s", path, seen)
		}
		if err := r.d.Fetch(t.Context(), r.repo, head); err != nil {
			return err
		}
		return r.d.Checkout(t.Context(), r.repo, head.ID, true)
	}
	for path, c := range map[string]struct {
		kind          failure.Kind
		want, request string
	}{
		"/nothing": {failure.Failed, "/nothing: 404 Not Found", "GET /nothing"},
		"/trouble": {failure.Failed, "/trouble: 503 Service Unavailable", "GET /trouble"},
		"/short":   {failure.Failed, "unexpected EOF", "GET /short"},
		"/cut":     {failure.Failed, "unexpected EOF", "GET /cut"},
		"/less":    {failure.Untrusted, "/less has the SHA-256 digest ", "GET /less"},
		"/circle":  {failure.Failed, "stopped after 10 redirects", strings.Repeat("GET /circle, ", 9) + "GET /circle"},
	} {
		err := get(path, digest)
		if failure.Of(err) != c.kind || !strings.Contains(fmt.Sprint(err), c.want) || strings.Contains(fmt.Sprint(err), "hunter2") {
			t.Errorf("%s: %v", path, err)
		}
		if seen := web.requests(); seen != c.request {
			t.Errorf("%s: %s", path, seen)
		}
		left, err := r.host.Find(t.Context(), r.repo, "**")
		if err == nil && len(left.Files) > 0 {
			t.Errorf("%s left %+v", path, left.Files)
		}
	}
	if err := get("/whole", strings.Repeat("0", 64)); failure.Of(err) != failure.Untrusted || !strings.Contains(err.Error(), "digest "+digest+", want 0000") {
		t.Errorf("a wrong sha256: %v", err)
	}
	if err := get("/whole", "abc"); failure.Of(err) != failure.Usage {
		t.Errorf("a bad sha256: %v", err)
	}
	web.requests()
	for i, path := range []string{"/whole", "/moved", "/private"} {
		if err := os.RemoveAll(r.repo); err != nil {
			t.Fatal(err)
		}
		if err := get(path, digest); err != nil {
			t.Fatal(err)
		}
		text := strings.TrimSpace(strings.Repeat("in\n", 10000))
		if got := r.tree(); !strings.HasPrefix(got, "in="+text+" sub/x=") {
			t.Errorf("%s: a tree of %d bytes", path, len(got))
		}
		want := []string{"GET /whole", "GET /moved, GET /again, GET /whole", "GET /private"}[i]
		if seen := web.requests(); seen != want {
			t.Errorf("%s: %s", path, seen)
		}
		// Another build of the same: it is there.
		if err := get(path, digest); err != nil || web.requests() != "" {
			t.Errorf("%s, again: %v", path, err)
		}
	}
	short, cancel := context.WithCancel(t.Context())
	cancel()
	if err := os.RemoveAll(r.repo); err != nil {
		t.Fatal(err)
	}
	if err := r.d.Fetch(short, r.repo, Revision{ID: idHead + digest}); err == nil {
		t.Error("got though it was to stop")
	}
}
