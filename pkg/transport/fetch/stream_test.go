package fetch

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// abrupt serves content and cuts the connection after every limit bytes.
func abrupt(content []byte, limit int, etag string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if etag != "" {
			w.Header().Set("ETag", etag)
		}
		http.ServeContent(&abortWriter{ResponseWriter: w, left: limit}, r, "", time.Time{}, bytes.NewReader(content))
	}
}

type abortWriter struct {
	http.ResponseWriter
	left int
}

func (c *abortWriter) Write(b []byte) (int, error) {
	if len(b) > c.left {
		_, _ = c.ResponseWriter.Write(b[:c.left])
		panic(http.ErrAbortHandler)
	}
	c.left -= len(b)
	return c.ResponseWriter.Write(b)
}

func readURL(t *testing.T, h http.Handler) ([]byte, error) {
	t.Helper()
	server := httptest.NewServer(h)
	defer server.Close()
	body, err := Stream(t.Context(), server.Client(), server.URL, quick)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	return io.ReadAll(body)
}

func TestStream(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789abcdef"), 40000)
	for name, h := range map[string]http.Handler{
		"whole":      abrupt(content, 1<<30, ""),
		"cut often":  abrupt(content, 100_001, `"v1"`),
		"no length":  http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.(http.Flusher).Flush(); w.Write(content) }),
		"late start": flaky(2, abrupt(content, 1<<30, "")),
	} {
		got, err := readURL(t, h)
		if err != nil || !bytes.Equal(got, content) {
			t.Errorf("%s: %d of %d bytes, %v", name, len(got), len(content), err)
		}
	}
}

// flaky answers 503 the first n times.
func flaky(n int, h http.Handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if n--; n >= 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		h.ServeHTTP(w, r)
	}
}

// What cannot be known to be the same content is not put together.
func TestStreamFails(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789abcdef"), 40000)
	version := 0
	for name, c := range map[string]struct {
		h    http.Handler
		want string
	}{
		"cut, no tag":   {abrupt(content, 100_001, ""), "EOF"},
		"cut, weak tag": {abrupt(content, 100_001, `W/"v1"`), "EOF"},
		"changed meanwhile": {http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			version++
			abrupt(content, 100_001, `"v`+string(rune('0'+version))+`"`)(w, r)
		}), "it has changed"},
		"stalls": {http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "100")
			w.Write([]byte("some"))
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}), "nothing came"},
		"not there": {http.NotFoundHandler(), "404"},
	} {
		got, err := readURL(t, c.h)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %d bytes, %v, want %q", name, len(got), err, c.want)
		}
		if name == "not there" && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestStreamCancel(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}))
	defer server.Close()
	ctx, cancel := context.WithCancel(t.Context())
	body, err := Stream(ctx, server.Client(), server.URL, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	time.AfterFunc(50*time.Millisecond, cancel)
	if _, err := body.Read(make([]byte, 1)); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
}
