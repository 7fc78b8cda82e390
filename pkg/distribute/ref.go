// Package distribute publishes artifacts and channels, and fetches them.
//
// A channel is two artifacts of a repository: the tag CHANNEL holds the
// releases document with its signatures, the tag CHANNEL.status the status
// document (pkg/format/channel). Publishing edits them under a lock; fetching
// verifies them, decides, and downloads patches in the order to apply.
package distribute

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/artifact"
	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/transport/fetch"
	"github.com/relkit/relkit/pkg/transport/oci"
	"github.com/relkit/relkit/pkg/transport/static"
)

// Ref says where an artifact is: oci://HOST[:PORT]/REPO or dir:PATH#REPO, with
// :TAG or @sha256:HEX behind.
type Ref struct {
	Host string // of oci://
	Path string // of dir:
	Repo string
	// Name is the tag or the digest; "" where none was given.
	Name string
}

// ParseRef reads a reference. Its error is a failure.Usage.
func ParseRef(s string) (Ref, error) {
	var r Ref
	var rest string
	var ok bool
	switch {
	case strings.HasPrefix(s, "oci://"):
		r.Host, rest, ok = strings.Cut(strings.TrimPrefix(s, "oci://"), "/")
		ok = ok && r.Host != ""
	case strings.HasPrefix(s, "dir:"):
		at := strings.LastIndexByte(s, '#')
		if ok = at > len("dir:"); ok {
			r.Path, rest = s[len("dir:"):at], s[at+1:]
		}
	}
	if !ok {
		return r, failure.Errorf(failure.Usage, "bad reference %q: want oci://HOST/REPO:TAG or dir:PATH#REPO:TAG (or @sha256:… for the tag)", s)
	}
	repo, name, byDigest := strings.Cut(rest, "@")
	var err error
	if byDigest {
		r.Repo, r.Name = repo, name
		_, err = digest.Parse(name)
	} else if repo, tag, tagged := strings.Cut(rest, ":"); tagged {
		r.Repo, r.Name = repo, tag
		err = artifact.ValidTag(tag)
	} else {
		r.Repo = rest
	}
	if err == nil {
		err = artifact.ValidRepo(r.Repo)
	}
	if err != nil {
		return r, failure.Errorf(failure.Usage, "bad reference %q: %w", s, err)
	}
	return r, nil
}

// ByDigest tells whether the reference can only ever mean one artifact.
func (r Ref) ByDigest() bool { return strings.HasPrefix(r.Name, "sha256:") }

// At is the reference with another tag or digest.
func (r Ref) At(name string) Ref { r.Name = name; return r }

// String is the written form.
func (r Ref) String() string {
	s := "oci://" + r.Host + "/" + r.Repo
	if r.Host == "" {
		s = "dir:" + r.Path + "#" + r.Repo
	}
	switch {
	case r.Name == "":
		return s
	case r.ByDigest():
		return s + "@" + r.Name
	}
	return s + ":" + r.Name
}

// repository is what fetching needs of a place that holds artifacts.
type repository interface {
	// Manifest is the raw manifest by tag or digest; fs.ErrNotExist where there
	// is none. By digest it is checked.
	Manifest(ctx context.Context, name string) ([]byte, error)
	// Source is where a blob comes from.
	Source(d digest.Digest, size int64) fetch.Source
}

// Network says how to reach a repository; the zero Network works.
type Network struct {
	PlainHTTP bool
	Fetch     fetch.Options
}

func openRepository(ctx context.Context, r Ref, n Network) (repository, error) {
	if r.Host != "" {
		return oci.Open(ctx, r.Host, r.Repo, oci.Options{PlainHTTP: n.PlainHTTP, Fetch: n.Fetch})
	}
	dir, err := static.Open(r.Path)
	if err != nil {
		return nil, err
	}
	repo, err := dir.Repo(r.Repo)
	return local{repo}, err
}

// local is a repository of plain files on this machine.
type local struct{ *static.Repo }

func (l local) Source(d digest.Digest, _ int64) fetch.Source {
	return func(ctx context.Context, offset int64) (io.ReadCloser, int64, error) {
		body, err := l.Blob(ctx, d, offset)
		return body, offset, fetch.Final(err)
	}
}

// readArtifact reads a manifest of relkit's making.
func readArtifact(ctx context.Context, repo repository, r Ref) (*artifact.Manifest, digest.Digest, error) {
	raw, err := repo.Manifest(ctx, r.Name)
	if err != nil {
		return nil, digest.Digest{}, err
	}
	m, err := artifact.Parse(raw)
	if err != nil {
		return nil, digest.Digest{}, failure.As(failure.Untrusted, fmt.Errorf("%s: %w", r, err))
	}
	return m, digest.Of(raw), nil
}
