package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// Stream reads what is at a URL from start to end, for who verifies it as it
// comes. A cut connection is taken up again where it was cut, as long as the
// server gives the content a strong entity tag (RFC 9110 section 8.8.3) and a
// length, so that it is known to be the same; a source that stalls is given up.
func Stream(ctx context.Context, client *http.Client, url string, opt Options) (io.ReadCloser, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	s := &stream{ctx: ctx, cancel: cancel, client: client, url: url, opt: opt.withDefaults()}
	if err := Retry(ctx, s.opt, func(context.Context) error { return s.begin() }); err != nil {
		cancel(nil)
		return nil, err
	}
	return s, nil
}

type stream struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	client *http.Client
	url    string
	opt    Options

	body io.ReadCloser
	etag string
	// size is -1 where the server does not tell; pos is what has been read.
	size, pos int64
	// failed counts the tries since something last came.
	failed int
}

func (s *stream) begin() error {
	req, err := http.NewRequestWithContext(s.ctx, http.MethodGet, s.url, nil)
	if err != nil {
		return Final(err)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		return fmt.Errorf("%s: %w", s.url, StatusError(resp))
	}
	s.body, s.size = resp.Body, resp.ContentLength
	if tag := resp.Header.Get("ETag"); !strings.HasPrefix(tag, "W/") {
		s.etag = tag
	}
	return nil
}

// Read implements io.Reader.
func (s *stream) Read(p []byte) (int, error) {
	for {
		n, err := s.read(p)
		s.pos += int64(n)
		if n > 0 {
			s.failed = 0
			s.opt.Progress(int64(n))
			return n, nil
		}
		if err == nil || errors.Is(err, io.EOF) && (s.size < 0 || s.pos == s.size) {
			return 0, err
		}
		if err := s.again(err); err != nil {
			return 0, err
		}
	}
}

// read is one read, given up when nothing comes for too long.
func (s *stream) read(p []byte) (int, error) {
	body := s.body
	stalled := fmt.Errorf("%s: nothing came in %s", s.url, s.opt.Stall)
	dog := time.AfterFunc(s.opt.Stall, func() { body.Close() })
	n, err := body.Read(p)
	if !dog.Stop() && n == 0 {
		return 0, &RetryError{Err: stalled}
	}
	if s.ctx.Err() != nil && n == 0 {
		return 0, context.Cause(s.ctx)
	}
	return n, err
}

// again takes the transfer up where it was cut, after a pause.
func (s *stream) again(cause error) error {
	s.body.Close()
	if s.ctx.Err() != nil {
		return context.Cause(s.ctx)
	}
	if errors.Is(cause, io.EOF) {
		cause = fmt.Errorf("%s: it ends after %d of %d bytes", s.url, s.pos, s.size)
	}
	s.failed++
	if s.etag == "" || s.size < 0 || s.failed > s.opt.Retries || final(cause) {
		return cause
	}
	if err := s.opt.wait(s.ctx, s.opt.Pause, cause); err != nil {
		return err
	}
	source := HTTP(s.client, s.url, s.etag, s.size)
	return Retry(s.ctx, s.opt, func(context.Context) error {
		body, start, err := source(s.ctx, s.pos)
		if err != nil {
			return err
		}
		if start != s.pos {
			body.Close()
			return Final(fmt.Errorf("%s: it has changed, or the server cannot go on from byte %d", s.url, s.pos))
		}
		s.body = body
		return nil
	})
}

// Close ends the transfer.
func (s *stream) Close() error {
	s.cancel(nil)
	return s.body.Close()
}
