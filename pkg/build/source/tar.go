package source

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"net/url"
	"os"
	"path"
	"regexp"
	"strings"
	"time"

	"github.com/relkit/relkit/pkg/config"
	"github.com/relkit/relkit/pkg/failure"
)

// archive is the driver of one tar archive, which its digest names: a file, or
// one that HTTP gets. It goes through this machine, which checks it.
type archive struct {
	pristine
	url, digest string
}

var hexDigest = regexp.MustCompile(`^[0-9a-f]{64}$`)

// Head is what relkit.toml says: an archive does not change.
func (a *archive) Head(context.Context, string) (Revision, error) {
	if !hexDigest.MatchString(a.digest) {
		return Revision{}, failure.Errorf(failure.Usage, "bad sha256 %q, want 64 digits of 0 to 9 and a to f", a.digest)
	}
	return Revision{ID: idHead + a.digest}, nil
}

func (a *archive) Fetch(ctx context.Context, repo string, rev Revision) error {
	if has, err := a.has(ctx, repo, rev.ID); err != nil || has {
		return err
	}
	dir, err := a.fresh(ctx, repo, rev.ID)
	if err != nil {
		return err
	}
	in, err := a.open(ctx)
	if err != nil {
		return err
	}
	file := dir + ".tar"
	err = a.host.Put(ctx, file, 0o600, &checked{r: in, h: sha256.New(), url: a.shown(), want: a.digest})
	if cerr := in.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = Unpack(ctx, a.host, a.env, file, dir)
	}
	if rerr := a.host.Remove(ctx, file); err == nil {
		err = rerr
	}
	if err != nil {
		return err
	}
	inside, err := a.host.Find(ctx, dir, "**")
	if err != nil {
		return err
	}
	var list []listed
	for _, f := range inside.Files {
		list = append(list, listed{a.digest, f.ModTime, f.Path})
	}
	return a.done(ctx, repo, rev.ID, list)
}

// open opens the archive. One that stops coming is given up.
func (a *archive) open(ctx context.Context) (io.ReadCloser, error) {
	if path.IsAbs(a.url) {
		return os.Open(a.url)
	}
	if !strings.HasPrefix(a.url, "http://") && !strings.HasPrefix(a.url, "https://") {
		return nil, failure.Errorf(failure.Usage, "bad URL %q of an archive, want a path, http:// or https://", a.shown())
	}
	ctx, cancel := context.WithCancelCause(ctx)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.url, nil)
	if err != nil { // which repeats the URL
		cancel(nil)
		return nil, failure.Errorf(failure.Usage, "bad URL %q of an archive", a.shown())
	}
	idle := &idleReader{cancel: cancel}
	idle.timer = time.AfterFunc(pollTimeout, func() { cancel(fmt.Errorf("%s: nothing came for %v", a.shown(), pollTimeout)) })
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		idle.stop()
		var at *url.Error
		if errors.As(err, &at) { // it names what was redirected to, with what the server signed it by
			err = fmt.Errorf("getting %s: %w", config.Redact(at.URL), at.Err)
		}
		return nil, err
	}
	if answer.StatusCode != http.StatusOK {
		idle.stop()
		return nil, fmt.Errorf("getting %s: %s", a.shown(), answer.Status)
	}
	idle.ReadCloser = answer.Body
	return idle, nil
}

// shown is the URL as records and errors may have it.
func (a *archive) shown() string { return config.Redact(a.url) }

// idleReader cancels what it reads from where nothing comes for too long.
type idleReader struct {
	io.ReadCloser
	timer  *time.Timer
	cancel context.CancelCauseFunc
}

func (r *idleReader) Read(p []byte) (int, error) {
	r.timer.Reset(pollTimeout)
	return r.ReadCloser.Read(p)
}

func (r *idleReader) stop() {
	r.timer.Stop()
	r.cancel(nil)
}

func (r *idleReader) Close() error {
	err := r.ReadCloser.Close()
	r.stop()
	return err
}

// checked is an error at its end where what was read does not have the digest.
type checked struct {
	r         io.Reader
	h         hash.Hash
	url, want string
}

func (c *checked) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.h.Write(p[:n])
	if err == io.EOF {
		if got := hex.EncodeToString(c.h.Sum(nil)); got != c.want {
			return n, failure.Errorf(failure.Untrusted, "%s has the SHA-256 digest %s, want %s", c.url, got, c.want)
		}
	}
	return n, err
}

func (a *archive) Resolve(ctx context.Context, repo, name string) (string, error) {
	head, err := a.Head(ctx, "")
	if err != nil {
		return "", err
	}
	return a.resolve(ctx, repo, name, head, a.Fetch)
}
