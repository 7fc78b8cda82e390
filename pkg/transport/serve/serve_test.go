package serve

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/relkit/relkit/pkg/format/digest"
)

var quiet = slog.New(slog.DiscardHandler)

// site makes a folder of files, contents by name, and serves it.
func site(t *testing.T, opt Options, files map[string]string) (url, dir string) {
	t.Helper()
	dir = t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	f, err := OpenFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	s := httptest.NewServer(Handler(f, opt))
	t.Cleanup(s.Close)
	return s.URL, dir
}

func ask(t *testing.T, method, url string, body string, header ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(b)
}

func TestFiles(t *testing.T) {
	manifest := `{"mediaType":"application/x-test"}`
	md, blob := digest.Of([]byte(manifest)).String(), digest.Of([]byte("hello")).String()
	url, dir := site(t, Options{}, map[string]string{
		"v2/index.html":                "{}",
		"v2/acme/fw/manifests/v1":      manifest,
		"v2/acme/fw/manifests/" + md:   manifest,
		"v2/acme/fw/manifests/bare":    "{}",
		"v2/acme/fw/manifests/" + blob: "not its content",
		"v2/acme/fw/blobs/" + blob:     "hello",
		"v2/acme/fw/tags/list":         `{"name":"acme/fw","tags":["v1"]}`,
		"boot/vmlinuz":                 "kernel",
		"boot/default.ipxe":            "#!ipxe",
		".relkit.lock":                 "secret",
		"v2/.hidden/x":                 "secret",
		"store/web/1/image.json":       "{}",
		"store/web/1/tree/etc/shadow":  "secret",
		"src/tree/ok":                  "fine",
	})
	for _, link := range [][2]string{{"/etc/passwd", "out"}, {"boot/vmlinuz", "in"}} {
		if err := os.Symlink(link[0], filepath.Join(dir, link[1])); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		path         string
		status       int
		body         string
		kind, digest string
	}{
		{"/v2/", 200, "{}", "application/json", ""},
		{"/v2", 200, "{}", "application/json", ""},
		{"/v2/acme/fw/manifests/v1", 200, manifest, "application/x-test", md},
		{"/v2/acme/fw/manifests/" + md, 200, manifest, "application/x-test", md},
		{"/v2/acme/fw/manifests/bare", 200, "{}", "application/vnd.oci.image.manifest.v1+json", digest.Of([]byte("{}")).String()},
		{"/v2/acme/fw/manifests/" + blob, 500, "", "", ""},
		{"/v2/acme/fw/blobs/" + blob, 200, "hello", "application/octet-stream", blob},
		{"/v2/acme/fw/tags/list", 200, `{"name":"acme/fw","tags":["v1"]}`, "application/json", ""},
		{"/boot/vmlinuz", 200, "kernel", "application/octet-stream", ""},
		{"/in", 200, "kernel", "", ""},
		{"/src/tree/ok", 200, "fine", "", ""},
		{"/", 404, "", "", ""}, {"/boot", 404, "", "", ""}, {"/boot/", 404, "", "", ""}, {"/v2/acme/fw/manifests/", 404, "", "", ""},
		{"/v2/acme/fw/manifests/v2", 404, "", "", ""}, {"/.relkit.lock", 404, "", "", ""}, {"/v2/.hidden/x", 404, "", "", ""},
		{"/out", 404, "", "", ""}, {"/../../../etc/passwd", 404, "", "", ""}, {"/%2e%2e/%2e%2e/etc/passwd", 404, "", "", ""},
		{"/store/web/1/tree/etc/shadow", 404, "", "", ""}, {"/a%00b", 404, "", "", ""},
	} {
		resp, body := ask(t, "GET", url+c.path, "")
		if resp.StatusCode != c.status || c.status == 200 && body != c.body {
			t.Errorf("GET %s: %d %q, want %d %q", c.path, resp.StatusCode, body, c.status, c.body)
		}
		if strings.Contains(body, "secret") || strings.Contains(body, "vmlinuz") || strings.Contains(body, "root:") {
			t.Errorf("GET %s gives away %q", c.path, body)
		}
		if c.kind != "" && resp.Header.Get("Content-Type") != c.kind || resp.Header.Get("Docker-Content-Digest") != c.digest {
			t.Errorf("GET %s: headers %v, want type %q and digest %q", c.path, resp.Header, c.kind, c.digest)
		}
	}
}

func TestRangesAndConditions(t *testing.T) {
	blob := digest.Of([]byte("hello")).String()
	url, _ := site(t, Options{}, map[string]string{"v2/fw/blobs/" + blob: "hello"})
	url += "/v2/fw/blobs/" + blob
	etag := `"` + blob + `"`
	for _, c := range []struct {
		method, name, value string
		more                []string
		status              int
		body                string
	}{
		{"GET", "Range", "bytes=2-", nil, 206, "llo"},
		{"GET", "Range", "bytes=1-2", nil, 206, "el"},
		{"GET", "Range", "bytes=-1", nil, 206, "o"},
		{"GET", "Range", "bytes=9-", nil, 416, "invalid range: failed to overlap\n"},
		{"GET", "Range", "bytes=2-", []string{"If-Range", etag}, 206, "llo"},
		{"GET", "Range", "bytes=2-", []string{"If-Range", `"other"`}, 200, "hello"},
		{"GET", "If-None-Match", etag, nil, 304, ""},
		{"HEAD", "X", "", nil, 200, ""},
	} {
		resp, body := ask(t, c.method, url, "", append([]string{c.name, c.value}, c.more...)...)
		if resp.StatusCode != c.status || body != c.body {
			t.Errorf("%s with %s: %s %v: %d %q, want %d %q", c.method, c.name, c.value, c.more, resp.StatusCode, body, c.status, c.body)
		}
		if c.method == "HEAD" && (resp.ContentLength != 5 || resp.Header.Get("ETag") != etag) {
			t.Errorf("HEAD: length %d, headers %v", resp.ContentLength, resp.Header)
		}
	}
}

func TestMethods(t *testing.T) {
	url, dir := site(t, Options{}, map[string]string{"a": "1"})
	for _, method := range []string{"PUT", "DELETE", "POST", "PATCH", "OPTIONS"} {
		if resp, _ := ask(t, method, url+"/a", "x"); resp.StatusCode != 405 {
			t.Errorf("%s = %d, want 405", method, resp.StatusCode)
		}
	}
	if resp, _ := ask(t, "POST", url+"/health", "{}"); resp.StatusCode != 405 {
		t.Errorf("POST without an intake = %d", resp.StatusCode)
	}
	if b, _ := os.ReadFile(filepath.Join(dir, "a")); string(b) != "1" {
		t.Errorf("the file holds %q now", b)
	}
}

// TestLargeFile goes through the paced writer several slices long, in one and in ranges.
func TestLargeFile(t *testing.T) {
	content := strings.Repeat("0123456789abcdef", 5*writeSlice/16) + "end"
	log := &safeBuffer{}
	url, _ := site(t, Options{Log: slog.New(slog.NewTextHandler(log, nil)), Access: true}, map[string]string{"big": content})
	if _, body := ask(t, "GET", url+"/big", ""); body != content {
		t.Errorf("got %d bytes, want the %d of the file", len(body), len(content))
	}
	if _, body := ask(t, "GET", url+"/big", "", "Range", "bytes=100-3000000"); body != content[100:3000001] {
		t.Errorf("got %d bytes of the range", len(body))
	}
	// The line is written when the client has had its answer already.
	want := fmt.Sprintf("status=200 bytes=%d", len(content))
	for end := time.Now().Add(5 * time.Second); !strings.Contains(log.String(), want); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the access log has no %q: %s", want, log.String())
		}
	}
}

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func TestIntake(t *testing.T) {
	clock := time.Date(2026, 11, 22, 23, 59, 59, 0, time.UTC)
	dir := filepath.Join(t.TempDir(), "in")
	in, err := NewIntake(dir, func() time.Time { return clock }, quiet)
	if err != nil {
		t.Fatal(err)
	}
	url, _ := site(t, Options{Intake: in}, nil)
	lines := func(day string) string { b, _ := os.ReadFile(filepath.Join(dir, day+".jsonl")); return string(b) }

	if resp, body := ask(t, "POST", url+"/health", "{\n \"schema\": \"relkit.health/v1\",\n \"status\": \"ok <\\n>\"\n}\n"); resp.StatusCode != 204 || body != "" {
		t.Fatalf("POST = %d %q", resp.StatusCode, body)
	}
	if resp, _ := ask(t, "POST", url+"/", `{"schema":"x"}`); resp.StatusCode != 204 {
		t.Errorf("POST / = %d", resp.StatusCode)
	}
	want := `{"schema":"relkit.health/v1","status":"ok <\n>"}` + "\n" + `{"schema":"x"}` + "\n"
	if got := lines("2026-11-22"); got != want {
		t.Errorf("the day's file is %q, want %q", got, want)
	}
	for body, c := range map[string]struct {
		status int
		text   string
	}{
		"":                             {400, "not one JSON document"},
		"{":                            {400, "not one JSON document"},
		`{"schema":"x"}{"schema":"x"}`: {400, "not one JSON document"},
		`{"schema":"x"} x`:             {400, "offset 16"},
		`[]`:                           {400, `no JSON object with a "schema"`},
		`{"a":1}`:                      {400, `no JSON object with a "schema"`},
		`{"schema":1}`:                 {400, `no JSON object with a "schema"`},
		`"` + strings.Repeat("a", MaxReport) + `"`: {413, "longer than 1048576 bytes"},
	} {
		if resp, text := ask(t, "POST", url+"/", body); resp.StatusCode != c.status || !strings.Contains(text, c.text) {
			t.Errorf("POST %.40q = %d %q, want %d %q", body, resp.StatusCode, text, c.status, c.text)
		}
	}
	if resp, _ := ask(t, "POST", url+"/", "\x1f\x8b", "Content-Encoding", "gzip"); resp.StatusCode != 415 {
		t.Errorf("POST of gzip = %d", resp.StatusCode)
	}
	if resp, _ := ask(t, "POST", url+"/elsewhere", `{"schema":"x"}`); resp.StatusCode != 405 {
		t.Errorf("POST elsewhere = %d", resp.StatusCode)
	}
	if got := lines("2026-11-22"); got != want {
		t.Errorf("after what was refused the file is %q", got)
	}

	clock = clock.Add(time.Second)
	if err := os.WriteFile(filepath.Join(dir, "2026-11-23.jsonl"), []byte(`{"torn`), 0o644); err != nil {
		t.Fatal(err)
	}
	if resp, _ := ask(t, "POST", url+"/", `{"schema":"y"}`); resp.StatusCode != 204 {
		t.Errorf("POST = %d", resp.StatusCode)
	}
	if got := lines("2026-11-23"); got != "{\"torn\n{\"schema\":\"y\"}\n" {
		t.Errorf("the next day's file is %q", got)
	}

	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if resp, _ := ask(t, "POST", url+"/", `{"schema":"y"}`); resp.StatusCode != 500 {
		t.Errorf("POST with the folder gone = %d, want 500", resp.StatusCode)
	}
}

func TestIntakeConcurrently(t *testing.T) {
	dir := t.TempDir()
	in, err := NewIntake(dir, func() time.Time { return time.Unix(0, 0) }, quiet)
	if err != nil {
		t.Fatal(err)
	}
	url, _ := site(t, Options{Intake: in}, nil)
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			body := fmt.Sprintf(`{"schema":"x","n":%d,"pad":"%s"}`, i, strings.Repeat("p", 20000))
			if resp, text := ask(t, "POST", url+"/", body); resp.StatusCode != 204 {
				t.Errorf("POST = %d %s", resp.StatusCode, text)
			}
		})
	}
	wg.Wait()
	b, _ := os.ReadFile(filepath.Join(dir, "1970-01-01.jsonl"))
	seen := map[string]bool{}
	for line := range strings.Lines(string(b)) {
		if _, err := oneLine([]byte(line)); err != nil {
			t.Errorf("a line is broken: %v", err)
		}
		seen[line[:30]] = true
	}
	if len(seen) != 40 {
		t.Errorf("%d different lines, want 40", len(seen))
	}
}

func TestRunStops(t *testing.T) {
	_, dir := site(t, Options{}, map[string]string{"a": "1"})
	f, err := OpenFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	entered := make(chan struct{})
	slow := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(entered)
		time.Sleep(50 * time.Millisecond)
		io.WriteString(w, "done")
	})
	ctx, cancel := context.WithCancelCause(t.Context())
	told := errors.New("told to stop")
	ended := make(chan error)
	go func() { ended <- Run(ctx, l, slow, quiet) }()
	got := make(chan string)
	go func() {
		resp, err := http.Get("http://" + l.Addr().String() + "/")
		if err != nil {
			got <- err.Error()
			return
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		got <- string(b)
	}()
	<-entered
	cancel(told)
	if body := <-got; body != "done" {
		t.Errorf("the request under way got %q", body)
	}
	if err := <-ended; !errors.Is(err, told) {
		t.Errorf("Run = %v, want the cancellation's cause", err)
	}
}
