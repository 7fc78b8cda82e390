// Package oci reads artifacts from a registry, or from any web server over the
// same layout (OCI distribution specification 1.1). go-containerregistry does
// names, credentials and tokens; the bytes come by pkg/transport/fetch, which
// resumes.
package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/artifact"
	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/transport/fetch"
)

// maxReply bounds every answer but blobs: tokens, errors, manifests.
const maxReply = 2 * artifact.MaxManifest

// Options; the zero Options works.
type Options struct {
	// PlainHTTP allows http:// to hosts other than this machine.
	PlainHTTP bool
	// Fetch says how patiently to try.
	Fetch fetch.Options
	// Transport is for tests; nil means fetch.Transport().
	Transport http.RoundTripper
}

// Repo is one repository of a registry.
type Repo struct {
	client *http.Client
	url    string // SCHEME://HOST/v2/REPO
	opt    Options
}

// Open gets ready to read a repository: it asks the registry how it wants its
// clients to identify themselves, and does so with what `docker login` has stored.
func Open(ctx context.Context, host, repo string, opt Options) (*Repo, error) {
	registry, err := name.NewRegistry(host, name.StrictValidation)
	if err == nil {
		err = artifact.ValidRepo(repo)
	}
	if err != nil {
		return nil, failure.As(failure.Usage, err)
	}
	scheme := "https"
	if opt.PlainHTTP || isLoopback(host) {
		scheme = "http"
		registry, err = name.NewRegistry(host, name.StrictValidation, name.Insecure)
		if err != nil {
			return nil, err
		}
	}
	if opt.Transport == nil {
		opt.Transport = fetch.Transport()
	}
	base := &guard{next: opt.Transport, host: registry.RegistryStr(), scheme: scheme}
	r := &Repo{url: scheme + "://" + registry.RegistryStr() + "/v2/" + repo, opt: opt}
	err = fetch.Retry(ctx, opt.Fetch, func(ctx context.Context) error {
		auth, err := authn.Resolve(ctx, authn.DefaultKeychain, registry)
		if err != nil {
			return fetch.Final(fmt.Errorf("reading the credentials for %s: %w", host, err))
		}
		scope := registry.Repo(repo).Scope(transport.PullScope)
		rt, err := transport.NewWithContext(ctx, registry, auth, transport.NewUserAgent(base, "relkit"), []string{scope})
		if err != nil {
			return classify(base.cause(err))
		}
		r.client = &http.Client{Transport: rt}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reaching the registry %s: %w", host, err)
	}
	return r, nil
}

// Manifest is the raw manifest by tag or digest; fs.ErrNotExist where there is
// none. By digest it is checked.
func (r *Repo) Manifest(ctx context.Context, ref string) ([]byte, error) {
	var want digest.Digest
	var err error
	if strings.HasPrefix(ref, "sha256:") {
		want, err = digest.Parse(ref)
	} else {
		err = artifact.ValidTag(ref)
	}
	if err != nil {
		return nil, failure.As(failure.Usage, err)
	}
	url := r.url + "/manifests/" + ref
	do := func(ctx context.Context) (*http.Response, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return nil, fetch.Final(err)
		}
		req.Header.Set("Accept", strings.Join([]string{artifact.TypeManifest, artifact.TypeIndex, "application/vnd.docker.distribution.manifest.v2+json"}, ", "))
		return r.client.Do(req)
	}
	raw, _, err := fetch.Bytes(ctx, do, artifact.MaxManifest, r.opt.Fetch)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", url, classify(err))
	}
	if got := digest.Of(raw); !want.IsZero() && got != want {
		return nil, failure.Errorf(failure.Untrusted, "reading %s: it has digest %s", url, got)
	}
	return raw, nil
}

// Source is where a blob comes from.
func (r *Repo) Source(d digest.Digest, size int64) fetch.Source {
	// A registry's entity tag of a blob is its digest.
	source := fetch.HTTP(r.client, r.url+"/blobs/"+d.String(), `"`+d.String()+`"`, size)
	return func(ctx context.Context, offset int64) (io.ReadCloser, int64, error) {
		return source(context.WithValue(ctx, blobKey{}, true), offset)
	}
}

// blobKey marks the context of a request for a blob, wherever it is redirected to.
type blobKey struct{}

// classify makes of a registry's error what fetch tells apart.
func classify(err error) error {
	var te *transport.Error
	if !errors.As(err, &te) {
		return err
	}
	switch {
	case te.StatusCode == http.StatusNotFound:
		return fmt.Errorf("%w: %w", err, fs.ErrNotExist)
	case te.Temporary():
		return err
	}
	return fetch.Final(err)
}

// isLoopback tells whether a HOST[:PORT] is this machine.
func isLoopback(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.Trim(host, "[]")
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// guard holds a registry to one scheme, so that credentials and requests never
// go out in the clear because a name looks local or the port of TLS is shut;
// and it bounds replies that are read as a whole.
type guard struct {
	next         http.RoundTripper
	host, scheme string

	mu     sync.Mutex
	failed error // the last failure of next
}

// cause is what lies under err, the sum of go-containerregistry's attempts:
// among them those that the guard itself refused.
func (g *guard) cause(err error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.failed == nil || errors.As(err, new(*transport.Error)) {
		return err
	}
	return g.failed
}

func (g *guard) RoundTrip(req *http.Request) (*http.Response, error) {
	switch {
	case req.URL.Host == g.host && req.URL.Scheme != g.scheme:
		return nil, fetch.Final(fmt.Errorf("%s is spoken to by %s only", g.host, g.scheme))
	case req.URL.Scheme != "https" && g.scheme == "https":
		return nil, fetch.Final(fmt.Errorf("%s leads to %s by plain HTTP (--plain-http allows it)", g.host, req.URL.Host))
	}
	resp, err := g.next.RoundTrip(req)
	if err != nil {
		g.mu.Lock()
		g.failed = err
		g.mu.Unlock()
	}
	if err == nil && req.Context().Value(blobKey{}) == nil {
		resp.Body = &boundedBody{resp.Body, maxReply}
	}
	return resp, err
}

type boundedBody struct {
	io.ReadCloser
	left int64
}

func (b *boundedBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, fetch.Final(errors.New("the answer has no end"))
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}
