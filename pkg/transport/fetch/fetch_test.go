package fetch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/digest"
)

// content is 300 kB that do not repeat.
func content() []byte {
	b := make([]byte, 300_000)
	r := rand.NewChaCha8([32]byte{1})
	r.Read(b)
	return b
}

// quick retries without waiting long.
var quick = Options{Pause: time.Millisecond, Stall: 500 * time.Millisecond, Retries: 3}

// serve answers each request with the handler of that number, the last for all after.
func serve(t *testing.T, handlers ...http.HandlerFunc) (url string, requests *atomic.Int32) {
	t.Helper()
	requests = new(atomic.Int32)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := int(requests.Add(1)) - 1
		handlers[min(n, len(handlers)-1)](w, r)
	}))
	t.Cleanup(s.Close)
	return s.URL + "/blob", requests
}

func whole(b []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"x"`)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b))
	}
}

// cut serves as whole does and drops the connection after n bytes.
func cut(b []byte, n int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		whole(b)(&cutWriter{w, n}, r)
		panic(http.ErrAbortHandler)
	}
}

type cutWriter struct {
	http.ResponseWriter
	left int
}

func (c *cutWriter) Write(p []byte) (int, error) {
	if len(p) > c.left {
		n, _ := c.ResponseWriter.Write(p[:c.left])
		c.left = 0
		c.ResponseWriter.(http.Flusher).Flush()
		return n, io.ErrShortWrite
	}
	c.left -= len(p)
	return c.ResponseWriter.Write(p)
}

func answer(status int, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
	}
}

func wantOf(b []byte) Blob { return Blob{digest.Of(b), int64(len(b))} }

func get(t *testing.T, url, path string, want Blob, opt Options) error {
	t.Helper()
	return ToFile(t.Context(), HTTP(&http.Client{Transport: Transport()}, url, `"x"`, want.Size), want, path, opt)
}

func wantFile(t *testing.T, path string, b []byte) {
	t.Helper()
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, b) {
		t.Errorf("%s holds %d bytes, %v, want the %d of the blob", path, len(got), err, len(b))
	}
	wantNoParts(t, path)
}

func wantNoParts(t *testing.T, path string) {
	t.Helper()
	if left, _ := filepath.Glob(path + ".*"); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestToFile(t *testing.T) {
	b := content()
	for name, c := range map[string]struct {
		handlers []http.HandlerFunc
		requests int32
	}{
		"plain":     {[]http.HandlerFunc{whole(b)}, 1},
		"cut twice": {[]http.HandlerFunc{cut(b, 100_000), cut(b, 70_000), whole(b)}, 3},
		"cut more often than it retries, getting on": {[]http.HandlerFunc{cut(b, 66_000), cut(b, 66_000), cut(b, 66_000), cut(b, 66_000), whole(b)}, 5},
		"busy":           {[]http.HandlerFunc{answer(503), answer(429), whole(b)}, 3},
		"cut, then busy": {[]http.HandlerFunc{cut(b, 10), answer(500), whole(b)}, 3},
		"ignores ranges": {[]http.HandlerFunc{cut(b, 100_000), func(w http.ResponseWriter, _ *http.Request) { w.Write(b) }}, 2},
		"changed etag": {[]http.HandlerFunc{cut(b, 100_000), func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("ETag", `"y"`)
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b))
		}}, 2},
		"a first part that is wrong": {[]http.HandlerFunc{cut(make([]byte, len(b)), 100_000), whole(b)}, 3},
	} {
		t.Run(name, func(t *testing.T) {
			url, requests := serve(t, c.handlers...)
			path := filepath.Join(t.TempDir(), "f.rkp")
			var progress int64
			opt := quick
			opt.Progress = func(n int64) { progress += n }
			if err := get(t, url, path, wantOf(b), opt); err != nil {
				t.Fatal(err)
			}
			wantFile(t, path, b)
			if n := requests.Load(); n != c.requests {
				t.Errorf("%d requests, want %d", n, c.requests)
			}
			if progress != int64(len(b)) {
				t.Errorf("progress adds up to %d, want %d", progress, len(b))
			}
			if err := get(t, url, path, wantOf(b), quick); err != nil || requests.Load() != c.requests {
				t.Errorf("what is there already was asked for again (%v)", err)
			}
		})
	}
}

// TestResumeAcrossRuns has a run fail and the next go on where it stopped.
func TestResumeAcrossRuns(t *testing.T) {
	b := content()
	var ranges []string
	url, _ := serve(t, cut(b, 200_000), answer(404), func(w http.ResponseWriter, r *http.Request) {
		ranges = append(ranges, r.Header.Get("Range")+" "+r.Header.Get("If-Range"))
		whole(b)(w, r)
	})
	path := filepath.Join(t.TempDir(), "f.rkp")
	stale := path + ".0123456789ab.part"
	if err := os.WriteFile(stale, []byte("of another release"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := get(t, url, path, wantOf(b), quick); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("first run = %v, want not found", err)
	}
	info, err := os.Stat(partName(path, wantOf(b)))
	if err != nil || info.Size() == 0 || info.Size() > 200_000 {
		t.Fatalf("after the first run: %v, %v", info, err)
	}
	if _, err := os.Stat(stale); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the part of another content is still there: %v", err)
	}
	if err := get(t, url, path, wantOf(b), quick); err != nil {
		t.Fatal(err)
	}
	wantFile(t, path, b)
	if want := fmt.Sprintf(`bytes=%d- "x"`, info.Size()); len(ranges) != 1 || ranges[0] != want {
		t.Errorf("the second run asked for %q, want %q", ranges, want)
	}
}

func TestToFileRefuses(t *testing.T) {
	b := content()
	other := append([]byte("x"), b[1:]...)
	for name, c := range map[string]struct {
		handlers []http.HandlerFunc
		kind     failure.Kind
		want     string
	}{
		"other bytes":      {[]http.HandlerFunc{whole(other)}, failure.Untrusted, "it has digest"},
		"other bytes, cut": {[]http.HandlerFunc{cut(other, 100_000), whole(other)}, failure.Untrusted, "it has digest"},
		"longer, said":     {[]http.HandlerFunc{whole(append(other, 'x'))}, failure.Untrusted, "it has 300001 bytes, want 300000"},
		"shorter, said":    {[]http.HandlerFunc{whole(b[:10])}, failure.Untrusted, "it has 10 bytes, want 300000"},
		"endless": {[]http.HandlerFunc{func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				w.Write(b)
			}
		}}, failure.Untrusted, "longer than the 300000 bytes"},
		"ends early":    {[]http.HandlerFunc{func(w http.ResponseWriter, _ *http.Request) { w.(http.Flusher).Flush(); w.Write(b[:0]) }}, failure.Failed, "it ends after 0 of 300000 bytes"},
		"missing":       {[]http.HandlerFunc{answer(404)}, failure.Failed, "404 Not Found"},
		"forbidden":     {[]http.HandlerFunc{answer(403)}, failure.Failed, "403 Forbidden"},
		"always busy":   {[]http.HandlerFunc{answer(503)}, failure.Failed, "503 Service Unavailable"},
		"shrunk":        {[]http.HandlerFunc{cut(b, 100_000), answer(416)}, failure.Untrusted, "the server has fewer than"},
		"wrong range":   {[]http.HandlerFunc{cut(b, 100_000), answer(206, "Content-Range", "bytes 5-299999/300000")}, failure.Failed, "got them from 5"},
		"bad range":     {[]http.HandlerFunc{cut(b, 100_000), answer(206, "Content-Range", "lines 1-2/3")}, failure.Failed, "bad Content-Range"},
		"other total":   {[]http.HandlerFunc{cut(b, 100_000), answer(206, "Content-Range", "bytes 100000-300000/300001")}, failure.Untrusted, "it has 300001 bytes"},
		"redirect loop": {[]http.HandlerFunc{answer(302, "Location", "/blob")}, failure.Failed, "stopped after 10 redirects"},
		"stalls at once": {[]http.HandlerFunc{func(w http.ResponseWriter, r *http.Request) {
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}}, failure.Failed, "fewer than 1024 bytes came in"},
		"trickles": {[]http.HandlerFunc{func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				w.Write([]byte{1})
				w.(http.Flusher).Flush()
				time.Sleep(5 * time.Millisecond)
			}
		}}, failure.Failed, "fewer than 1024 bytes came in"},
		"never answers": {[]http.HandlerFunc{func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }}, failure.Failed, "fewer than 1024 bytes came in"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, _ := serve(t, c.handlers...)
			path := filepath.Join(t.TempDir(), "f.rkp")
			opt := quick
			opt.Retries = 1
			err := get(t, url, path, wantOf(b), opt)
			if err == nil || failure.Of(err) != c.kind || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error = %v (kind %d), want %q (kind %d)", err, failure.Of(err), c.want, c.kind)
			}
			if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("something stands under the final name: %v", err)
			}
			if c.kind == failure.Untrusted && name != "shrunk" && name != "other total" {
				wantNoParts(t, path)
			}
		})
	}
}

func TestRetryAfter(t *testing.T) {
	b := content()
	url, _ := serve(t, answer(503, "Retry-After", "1"), whole(b))
	path := filepath.Join(t.TempDir(), "f")
	begin := time.Now()
	if err := get(t, url, path, wantOf(b), quick); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(begin); d < time.Second {
		t.Errorf("tried again after %s, the server had asked for 1 s", d)
	}
}

func TestStopsWhenTold(t *testing.T) {
	b := content()
	started := make(chan struct{})
	url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Write(b[:100])
		w.(http.Flusher).Flush()
		close(started)
		<-r.Context().Done()
	})
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("told to stop")
	go func() { <-started; cancel(stop) }()
	err := ToFile(ctx, HTTP(http.DefaultClient, url, "", int64(len(b))), wantOf(b), filepath.Join(t.TempDir(), "f"), Options{})
	if !errors.Is(err, stop) {
		t.Errorf("error = %v, want the cancellation's cause", err)
	}
}

func TestBusyPart(t *testing.T) {
	b := content()
	path := filepath.Join(t.TempDir(), "f")
	p, err := openPart(path, wantOf(b))
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	url, _ := serve(t, whole(b))
	if err := get(t, url, path, wantOf(b), quick); failure.Of(err) != failure.Busy {
		t.Errorf("a second download of the file = %v, want busy", err)
	}
}

func TestEmptyBlob(t *testing.T) {
	url, _ := serve(t, whole(nil))
	path := filepath.Join(t.TempDir(), "f")
	if err := get(t, url, path, wantOf(nil), quick); err != nil {
		t.Fatal(err)
	}
	wantFile(t, path, nil)
}

func TestBytes(t *testing.T) {
	url, _ := serve(t, answer(502), whole([]byte("document")))
	do := func(ctx context.Context) (*http.Response, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return nil, err
		}
		return http.DefaultClient.Do(req)
	}
	if b, h, err := Bytes(t.Context(), do, 8, quick); err != nil || string(b) != "document" || h.Get("ETag") != `"x"` {
		t.Errorf("Bytes = %q, %v, %v", b, h, err)
	}
	if _, _, err := Bytes(t.Context(), do, 7, quick); failure.Of(err) != failure.Untrusted {
		t.Errorf("Bytes over the limit = %v", err)
	}
}

func TestSmall(t *testing.T) {
	b := []byte("document")
	for name, c := range map[string]struct {
		handlers []http.HandlerFunc
		limit    int64
		want     string
	}{
		"good":       {[]http.HandlerFunc{answer(503), whole(b)}, 8, ""},
		"too long":   {[]http.HandlerFunc{whole(b)}, 7, "at most 7"},
		"other":      {[]http.HandlerFunc{whole([]byte("DOCUMENT"))}, 8, "not the blob"},
		"other size": {[]http.HandlerFunc{whole([]byte("documents"))}, 8, "it has 9 bytes, want 8"},
	} {
		url, _ := serve(t, c.handlers...)
		got, err := Small(t.Context(), HTTP(http.DefaultClient, url, "", 8), wantOf(b), c.limit, quick)
		switch {
		case c.want == "" && (err != nil || string(got) != "document"):
			t.Errorf("%s: Small = %q, %v", name, got, err)
		case c.want != "" && (failure.Of(err) != failure.Untrusted || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: Small = %v, want an untrusted error with %q", name, err, c.want)
		}
	}
}
