package fetch

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/digest"
)

// Transport is an HTTP transport in which nothing takes for ever but the body,
// which the reader watches. It honours HTTP_PROXY, HTTPS_PROXY and NO_PROXY.
func Transport() *http.Transport {
	dialer := &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            dialer.DialContext,
		ForceAttemptHTTP2:      true,
		MaxIdleConnsPerHost:    8,
		IdleConnTimeout:        60 * time.Second,
		TLSHandshakeTimeout:    10 * time.Second,
		ResponseHeaderTimeout:  30 * time.Second,
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: 64 << 10,
		// What is asked for is asked for by digest and range: no other encoding.
		DisableCompression: true,
	}
}

// HTTP is a source at a URL. From an offset it asks by Range (RFC 9110 section
// 14), with If-Range so that a changed file comes whole. size is what the whole
// must have. etag, where known, is the strong entity tag of the content ("" else).
func HTTP(client *http.Client, url, etag string, size int64) Source {
	return func(ctx context.Context, offset int64) (io.ReadCloser, int64, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return nil, 0, Final(err)
		}
		if offset > 0 {
			req.Header.Set("Range", fmt.Sprintf("bytes=%d-", offset))
			if etag != "" {
				req.Header.Set("If-Range", etag)
			}
		}
		resp, err := client.Do(req)
		if err != nil {
			return nil, 0, err
		}
		start, err := check(resp, offset, size)
		if err != nil {
			resp.Body.Close()
			return nil, 0, fmt.Errorf("%s: %w", url, err)
		}
		return resp.Body, start, nil
	}
}

// check tells where the body of a response begins.
func check(resp *http.Response, offset, size int64) (start int64, err error) {
	switch resp.StatusCode {
	case http.StatusOK:
		if resp.ContentLength >= 0 && resp.ContentLength != size {
			return 0, failure.Errorf(failure.Untrusted, "it has %d bytes, want %d", resp.ContentLength, size)
		}
		return 0, nil
	case http.StatusPartialContent:
		start, total, err := contentRange(resp.Header.Get("Content-Range"))
		if err == nil && total >= 0 && total != size {
			err = failure.Errorf(failure.Untrusted, "it has %d bytes, want %d", total, size)
		}
		if err == nil && start != offset {
			err = fmt.Errorf("asked for bytes from %d, got them from %d", offset, start)
		}
		return start, err
	case http.StatusRequestedRangeNotSatisfiable:
		// Ours reach within size, so the file there is shorter than that.
		return 0, failure.Errorf(failure.Untrusted, "the server has fewer than %d bytes of it", offset+1)
	}
	return 0, StatusError(resp)
}

// StatusError is the error of a response that is no success: fs.ErrNotExist,
// final, or a *RetryError.
func StatusError(resp *http.Response) error {
	err := fmt.Errorf("the server answers %s", resp.Status)
	switch code := resp.StatusCode; {
	case code == http.StatusNotFound || code == http.StatusGone:
		return fmt.Errorf("%w: %w", err, fs.ErrNotExist)
	case code == http.StatusRequestTimeout || code == http.StatusTooManyRequests || code >= 500 && code != http.StatusNotImplemented:
		return &RetryError{Err: err, After: retryAfter(resp.Header.Get("Retry-After"))}
	}
	return Final(err)
}

// contentRange reads "bytes START-END/TOTAL"; total is -1 for "*".
func contentRange(s string) (start, total int64, err error) {
	bad := fmt.Errorf("bad Content-Range %q", s)
	rest, ok := strings.CutPrefix(s, "bytes ")
	span, all, ok2 := strings.Cut(rest, "/")
	first, _, ok3 := strings.Cut(span, "-")
	if !ok || !ok2 || !ok3 {
		return 0, 0, bad
	}
	start, err = strconv.ParseInt(first, 10, 64)
	if err != nil || start < 0 {
		return 0, 0, bad
	}
	if all == "*" {
		return start, -1, nil
	}
	total, err = strconv.ParseInt(all, 10, 64)
	if err != nil || total < 0 {
		return 0, 0, bad
	}
	return start, total, nil
}

// retryAfter reads a number of seconds; a date is not worth a clock's error.
func retryAfter(s string) time.Duration {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil {
		return 0
	}
	return time.Duration(n) * time.Second
}

// Bytes reads all of a small document, of at most limit bytes, as ToFile reads
// a blob: with retries, and with Stall as the time it may take.
func Bytes(ctx context.Context, do func(ctx context.Context) (*http.Response, error), limit int64, opt Options) (b []byte, header http.Header, err error) {
	err = Retry(ctx, opt, func(ctx context.Context) error {
		resp, err := do(ctx)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return StatusError(resp)
		}
		header = resp.Header
		b, err = io.ReadAll(io.LimitReader(resp.Body, limit+1))
		if err == nil && int64(len(b)) > limit {
			err = failure.Errorf(failure.Untrusted, "it is longer than %d bytes", limit)
		}
		return err
	})
	return b, header, err
}

// Small reads all of a blob that is no longer than limit bytes, and verifies it.
func Small(ctx context.Context, source Source, want Blob, limit int64, opt Options) ([]byte, error) {
	if want.Size < 0 || want.Size > limit {
		return nil, failure.Errorf(failure.Untrusted, "blob %s is said to have %d bytes: at most %d", want.Digest, want.Size, limit)
	}
	var b []byte
	err := Retry(ctx, opt, func(ctx context.Context) error {
		body, start, err := source(ctx, 0)
		if err != nil {
			return err
		}
		defer body.Close()
		if start != 0 {
			return fmt.Errorf("asked for bytes from 0, got them from %d", start)
		}
		b, err = io.ReadAll(io.LimitReader(body, want.Size+1))
		if err == nil && (int64(len(b)) != want.Size || digest.Of(b) != want.Digest) {
			err = failure.Errorf(failure.Untrusted, "it is not the blob %s of %d bytes", want.Digest, want.Size)
		}
		return err
	})
	return b, err
}
