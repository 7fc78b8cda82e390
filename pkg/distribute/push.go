package distribute

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/artifact"
	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/patch"
	"github.com/relkit/relkit/pkg/format/signature"
	"github.com/relkit/relkit/pkg/transport/static"
)

// PushOptions say where artifacts go.
type PushOptions struct {
	To []string // destinations: dir:PATH
	// Repo is the repository; "" takes each patch's product.
	Repo   string
	DryRun bool
	Log    *slog.Logger
	// Progress hears of bytes handled; may be nil.
	Progress func(n int64)
}

// Pushed is one artifact in one destination.
type Pushed struct {
	Artifact  string        `json:"artifact"` // as it was named
	Reference string        `json:"reference"`
	Digest    digest.Digest `json:"digest"` // of the file
	Size      int64         `json:"size_bytes"`
	// Status is "pushed", "already" or, in a dry run, "would-push".
	Status string `json:"status"`
}

// file is an artifact on its way.
type file struct {
	name   string
	repo   string
	tag    string
	layer  artifact.Descriptor
	header *patch.Header // of a patch; nil for another file
	// words are the sign-offs in a patch, by role.
	words map[string]signature.Signoff
}

// Push copies each artifact into each destination.
func Push(ctx context.Context, names []string, o PushOptions) ([]Pushed, error) {
	files, err := openFiles(ctx, names, o.Repo)
	if err != nil {
		return nil, err
	}
	warnUnfit(o.Log, files)
	var all []Pushed
	for _, to := range o.To {
		dest, err := openDestination(to, o.DryRun)
		if err != nil {
			return all, err
		}
		for _, f := range files {
			p, err := dest.push(ctx, f, o)
			if err != nil {
				return all, fmt.Errorf("pushing %q to %s: %w", f.name, to, err)
			}
			all = append(all, p)
		}
	}
	return all, nil
}

// counted tells of the bytes that are read from a file.
type counted struct {
	f    *os.File
	done func(n int64)
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.f.Read(b)
	c.done(int64(n))
	return n, err
}

func (c *counted) Close() error { return c.f.Close() }

// destination is a folder that artifacts are pushed into.
type destination struct {
	path string
	dir  *static.Dir // nil in a dry run over a folder that is not there yet
	dry  bool
}

func openDestination(to string, dry bool) (*destination, error) {
	path, ok := strings.CutPrefix(to, "dir:")
	if !ok || path == "" || strings.Contains(path, "#") {
		return nil, failure.Errorf(failure.Usage, "bad destination %q: want dir:PATH", to)
	}
	d := &destination{path: path, dry: dry}
	var err error
	if dry {
		if d.dir, err = static.Open(path); errors.Is(err, fs.ErrNotExist) {
			return d, nil
		}
		return d, err
	}
	d.dir, err = static.Create(path)
	return d, err
}

func (d *destination) push(ctx context.Context, f *file, o PushOptions) (Pushed, error) {
	m := artifact.Manifest{Type: f.layer.MediaType, Layers: []artifact.Descriptor{f.layer}}
	raw, err := m.Encode()
	if err != nil {
		return Pushed{}, err
	}
	ref := Ref{Path: d.path, Repo: f.repo, Name: digest.Of(raw).String()}
	p := Pushed{Artifact: f.name, Reference: ref.String(), Digest: f.layer.Digest, Size: f.layer.Size, Status: "would-push"}
	if d.dir == nil {
		return p, nil
	}
	repo, err := d.dir.Repo(f.repo)
	if err != nil {
		return p, err
	}
	if d.dry {
		has, err := repo.HasBlob(f.layer.Digest, f.layer.Size)
		if has {
			p.Status = "already"
		}
		return p, err
	}
	if err := sparesChannel(ctx, repo, f.tag); err != nil {
		return p, err
	}
	if err := putBytes(ctx, repo, []byte(artifact.Empty)); err != nil {
		return p, err
	}
	left := f.layer.Size // not yet told of
	done := func(n int64) {
		left -= n
		if o.Progress != nil {
			o.Progress(n)
		}
	}
	written, err := repo.PutBlob(ctx, f.layer.Digest, f.layer.Size, func() (io.ReadCloser, error) {
		r, err := os.Open(f.name)
		return &counted{r, done}, err
	})
	if err != nil {
		return p, err
	}
	done(left)
	p.Status = "already"
	if written {
		p.Status = "pushed"
	}
	_, err = repo.PutManifest(raw, f.tag)
	return p, err
}

// sparesChannel refuses a tag that is a channel's: the artifact has its name.
func sparesChannel(ctx context.Context, repo *static.Repo, tag string) error {
	raw, err := repo.Manifest(ctx, tag)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	m, err := artifact.Parse(raw)
	if err == nil && (m.Type == artifact.TypeReleases || m.Type == artifact.TypeStatus) {
		return failure.Errorf(failure.Refused, "its tag would be %q, which is a channel", tag)
	}
	return nil
}

// openFiles reads what there is to know of each artifact, all before anything
// is pushed.
func openFiles(ctx context.Context, names []string, repo string) ([]*file, error) {
	var files []*file
	for _, name := range names {
		f, err := openFile(ctx, name, repo)
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	return files, nil
}

func openFile(ctx context.Context, name, repo string) (*file, error) {
	if name == "-" {
		return nil, failure.Errorf(failure.Usage, "an artifact is called after its file: \"-\" is none")
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, failure.As(failure.Usage, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, failure.Errorf(failure.Usage, "%q is not a file", name)
	}
	base := filepath.Base(name)
	a := &file{name: name, repo: repo, tag: artifact.TagOf(base), layer: artifact.Descriptor{MediaType: artifact.TypeFile, Title: base}}
	hash, size := digest.New(), int64(0)
	r := io.TeeReader(bufio.NewReaderSize(contextReader{ctx, f}, 256<<10), io.MultiWriter(hash, (*tally)(&size)))
	if strings.HasSuffix(base, ".rkp") {
		if err := a.readPatch(r); err != nil {
			return nil, fmt.Errorf("%q: %w", name, err)
		}
	}
	if _, err := io.Copy(io.Discard, r); err != nil {
		return nil, err
	}
	a.layer.Digest, a.layer.Size = hash.Digest(), size
	if _, err := a.layer.FileName(); err != nil {
		return nil, failure.As(failure.Usage, err)
	}
	if a.repo == "" {
		return nil, failure.Errorf(failure.Usage, "%q is no patch, whose product would name the repository: missing flag --repo", name)
	}
	return a, nil
}

// readPatch verifies that a patch is whole: what is published is never damaged
// already. r's digest is then that of the bytes that were verified.
func (a *file) readPatch(r io.Reader) error {
	p, err := patch.Open(r)
	if err == nil {
		err = p.Verify()
	}
	if err != nil {
		return err
	}
	h := p.Header()
	a.header, a.words = h, words(p)
	a.layer.MediaType, a.layer.Title, a.tag = artifact.TypePatch, h.ID+".rkp", artifact.TagOf(h.ID)
	if a.repo == "" {
		a.repo = artifact.RepoOf(h.Product)
	}
	return nil
}

// tally counts the bytes written to it.
type tally int64

func (t *tally) Write(b []byte) (int, error) {
	*t += tally(len(b))
	return len(b), nil
}

// contextReader stops reading when its context ends.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(b []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(b)
}

// TotalSize is the bytes of the artifacts, for a progress bar; files that
// cannot be read count nothing.
func TotalSize(names []string) int64 {
	var total int64
	for _, n := range names {
		if info, err := os.Stat(n); err == nil {
			total += info.Size()
		}
	}
	return total
}
