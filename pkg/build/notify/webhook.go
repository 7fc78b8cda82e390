package notify

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// tries is how often a webhook is called for one delivery.
const tries = 3

// post gives the notice to an HTTP server as JSON. A server that has trouble
// (5xx), is busy (429) or cannot be reached is asked again within the deadline.
func (t target) post(ctx context.Context, e *entry, secret string) error {
	line, err := e.Notice.Encode()
	if err != nil {
		return rejected{err}
	}
	address, indirect, err := t.indirect(t.Webhook)
	if err != nil {
		return fmt.Errorf("reading notify.webhook: %w", err)
	}
	if !indirect {
		address = t.Webhook
	}
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
		return errors.New("notify.webhook leads to no URL of http or https")
	}
	if secret != "" && u.Scheme != "https" {
		return errors.New("notify.secret is for https alone")
	}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true, ForceAttemptHTTP2: true,
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: t.o.Roots}}
	client := &http.Client{Transport: transport,
		// What is told, and the secret, are for this address and no other.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	pause := t.o.Backoff
	for left := tries - 1; ; left-- {
		again, err := postOnce(ctx, client, u, line, e.Notice.ID, secret)
		// A server may repeat the address, which is often the whole secret.
		err = scrub(err, u.RequestURI(), u.EscapedPath(), u.Path, u.RawQuery)
		if err == nil || !again || left == 0 || ctx.Err() != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
			pause *= 2
		}
	}
}

// postOnce tells whether it may be tried again. Errors do not name the URL.
func postOnce(ctx context.Context, c *http.Client, u *url.URL, body []byte, id, secret string) (again bool, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), bytes.NewReader(body))
	if err != nil {
		return false, errors.New("bad URL")
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "relkit")
	// The same for every try, so that a server can tell a repetition.
	req.Header.Set("Idempotency-Key", id)
	if secret != "" {
		req.Header.Set("Authorization", "Bearer "+secret)
	}
	resp, err := c.Do(req)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err
		}
		return true, err
	}
	defer resp.Body.Close()
	answer, _ := io.ReadAll(io.LimitReader(resp.Body, maxSaid))
	switch code := resp.StatusCode; {
	case code/100 == 2:
		return false, nil
	case code >= 500, code == http.StatusTooManyRequests, code == http.StatusRequestTimeout, code == http.StatusTooEarly:
		return true, fmt.Errorf("%s%s", resp.Status, said(answer))
	case code == http.StatusBadRequest, code == http.StatusRequestEntityTooLarge, code == http.StatusUnsupportedMediaType, code == http.StatusUnprocessableEntity:
		return false, rejected{fmt.Errorf("%s%s", resp.Status, said(answer))}
	default: // a wrong address or secret: somebody may put that right
		return false, fmt.Errorf("%s%s", resp.Status, said(answer))
	}
}
