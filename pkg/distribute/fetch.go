package distribute

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/relkit/relkit/pkg/engine/trust"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/artifact"
	"github.com/relkit/relkit/pkg/format/channel"
	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/transport/fetch"
)

// FetchOptions say for whom, from where and to where.
type FetchOptions struct {
	Network
	// To is the folder for the files; File, where not "", is the one file that
	// an artifact's content goes to instead.
	To, File string
	// State is where relkit keeps what it knows of the machine.
	State string
	// Policy is who may sign channels; its Require is the roles of the releases
	// document. Policy.Allowed nil refuses every channel. Where the machine has a
	// trust document, that says who may sign instead; SignersGiven has it said so.
	Policy       trust.Policy
	SignersGiven bool
	// Machine is who asks; Force takes a release whatever its share.
	Machine channel.Machine
	Force   bool
	DryRun  bool
	// Now is the clock, NotBefore a time that it cannot be before.
	Now       func() time.Time
	NotBefore time.Time
	Log       *slog.Logger
	// Given are the other flags to give again in a hint, with a blank in front of each.
	Given string
	// Start hears how many bytes are going to be downloaded; may be nil.
	Start func(total int64, what string)
}

// given are the flags to give again in a hint.
func (o *FetchOptions) given() string {
	if o.SignersGiven {
		return " --allowed-signers " + failure.Word(o.Policy.File) + o.Given
	}
	return o.Given
}

// Fetched is what was done about a channel or an artifact.
type Fetched struct {
	Source  string `json:"source"`
	Product string `json:"product,omitempty"`
	Channel string `json:"channel,omitempty"`
	// State is the channel's; "" for an artifact.
	State string `json:"state,omitempty"`
	// Installed and Target are versions; "" where not known, or nothing to do.
	Installed string `json:"installed,omitempty"`
	Target    string `json:"target,omitempty"`
	Note      string `json:"note,omitempty"`
	// Files are what is to be applied, in that order.
	Files []FetchedFile `json:"files"`
}

// FetchedFile is one file.
type FetchedFile struct {
	Path   string        `json:"path"`
	ID     string        `json:"id,omitempty"`
	From   string        `json:"from,omitempty"`
	To     string        `json:"to,omitempty"`
	Digest digest.Digest `json:"digest"`
	Size   int64         `json:"size_bytes"`
}

func (o *FetchOptions) now() time.Time {
	now := o.Now()
	if now.Before(o.NotBefore) {
		return o.NotBefore
	}
	return now
}

// Fetch gets what a reference stands for: the patches that a channel has for
// this machine, or the files of an artifact.
func Fetch(ctx context.Context, ref Ref, o FetchOptions) (*Fetched, error) {
	if ref.Name == "" {
		return nil, failure.Errorf(failure.Usage, "bad reference %q: no channel, tag or digest", ref)
	}
	repo, err := openRepository(ctx, ref, o.Network)
	if err != nil {
		return nil, err
	}
	m, d, err := readArtifact(ctx, repo, ref)
	if err != nil {
		return nil, err
	}
	if m.Type == artifact.TypeReleases && !ref.ByDigest() {
		if o.File != "" {
			return nil, failure.WithHint(failure.Errorf(failure.Usage, "%s is a channel, which may have several files for this machine", ref), "relkit fetch %s --to DIR%s", failure.Word(ref.String()), o.given())
		}
		return fetchChannel(ctx, repo, ref, o)
	}
	if err := notChannel(ref, d, o); err != nil {
		return nil, err
	}
	files, err := fetchFiles(ctx, repo, m, o)
	if failure.Of(err) == failure.Refused && o.File != "" {
		err = failure.WithHint(err, "relkit fetch %s --to DIR%s", failure.Word(ref.String()), o.given())
	}
	return &Fetched{Source: ref.At(d.String()).String(), Files: files}, err
}

// notChannel refuses what has been a channel and now says that it is something
// else: whoever can write to the repository would get round its signatures.
func notChannel(ref Ref, d digest.Digest, o FetchOptions) error {
	if ref.ByDigest() {
		return nil
	}
	if knowsChannel(o.State, ref.Name) {
		return failure.WithHint(failure.Errorf(failure.Untrusted, "%s is no channel, and this machine knows a channel of that name", ref),
			"relkit fetch %s%s  # gets it all the same", failure.Word(ref.At(d.String()).String()), o.given())
	}
	o.Log.Warn("this is an artifact by its tag, not a signed channel: nothing vouches for it but the repository", "reference", ref.String())
	return nil
}

// fetchFiles downloads every named layer of an artifact.
func fetchFiles(ctx context.Context, repo repository, m *artifact.Manifest, o FetchOptions) ([]FetchedFile, error) {
	if o.File != "" {
		if len(m.Layers) != 1 {
			return nil, failure.Errorf(failure.Refused, "the artifact has %d files", len(m.Layers))
		}
		files := []FetchedFile{{Path: o.File, Digest: m.Layers[0].Digest, Size: m.Layers[0].Size}}
		return files, download(ctx, repo, files, o)
	}
	files := []FetchedFile{}
	for _, l := range m.Layers {
		name, err := l.FileName()
		if err != nil {
			return nil, failure.As(failure.Untrusted, err)
		}
		for _, f := range files {
			if filepath.Base(f.Path) == name {
				return nil, failure.Errorf(failure.Untrusted, "the artifact has two files %q", name)
			}
		}
		files = append(files, FetchedFile{Path: filepath.Join(o.To, name), Digest: l.Digest, Size: l.Size})
	}
	return files, download(ctx, repo, files, o)
}

// makeFolder makes the folder To where it is missing, and no other: a name that
// was mistyped leaves no trace.
func (o *FetchOptions) makeFolder() error {
	if o.File == "" {
		if err := os.Mkdir(o.To, 0o755); !errors.Is(err, fs.ErrExist) {
			return err
		}
		return nil
	}
	if _, err := os.Stat(filepath.Dir(o.File)); err != nil {
		return fmt.Errorf("writing %q: %w", o.File, err)
	}
	return nil
}

// download gets every file that is not there already.
func download(ctx context.Context, repo repository, files []FetchedFile, o FetchOptions) error {
	if o.DryRun || len(files) == 0 {
		return nil
	}
	var total int64
	for _, f := range files {
		total += f.Size
	}
	if o.Start != nil {
		o.Start(total, "downloading")
	}
	if err := o.makeFolder(); err != nil {
		return err
	}
	for _, f := range files {
		want := fetch.Blob{Digest: f.Digest, Size: f.Size}
		if err := fetch.ToFile(ctx, repo.Source(f.Digest, f.Size), want, f.Path, o.Fetch); err != nil {
			return err
		}
	}
	return nil
}

// fetchChannel verifies a channel, decides, and downloads.
func fetchChannel(ctx context.Context, repo repository, ref Ref, o FetchOptions) (*Fetched, error) {
	document, err := o.readTrust()
	if err != nil {
		return nil, err
	}
	if o.Policy.Allowed == nil {
		return nil, failure.WithHint(failure.Errorf(failure.Usage, "verifying a channel: there is no %s to say who may sign it", cmp.Or(o.Policy.File, "allowed_signers")),
			"relkit fetch %s%s --allowed-signers FILE", failure.Word(ref.String()), o.Given)
	}
	pair, err := readChannel(ctx, repo, ref, o)
	if err != nil {
		return nil, err
	}
	if document != nil {
		if err := document.Valid(pair.Releases.Product, trust.Clock{Shown: o.now()}); err != nil {
			return nil, err
		}
	}
	installed, err := readVersion(o.State)
	if err != nil {
		return nil, err
	}
	out := &Fetched{Source: ref.String(), Product: pair.Releases.Product, Channel: ref.Name, State: pair.Status.State, Installed: installed.Version, Files: []FetchedFile{}}
	mem := memory{state: o.State, product: pair.Releases.Product, channel: ref.Name, dry: o.DryRun}
	unlock, err := mem.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	seen, err := mem.load()
	if err != nil {
		return nil, err
	}
	next, err := pair.Check(installed.Product, ref.Name, seen, o.now())
	if err != nil {
		return nil, err
	}
	if err := mem.save(seen, next); err != nil {
		return nil, err
	}
	now := o.now()
	if now.Before(next.Newest) {
		o.Log.Warn("the clock is behind the channel", "clock", now.Format(time.RFC3339), "channel", next.Newest.Format(time.RFC3339))
		now = next.Newest
	}
	decision, err := channel.Plan(pair.Releases, pair.Status, o.Machine, installed.Version, now, channel.Options{Force: o.Force})
	if err != nil {
		return nil, err
	}
	out.Target, out.Note = decision.Target, decision.Note
	for _, s := range decision.Steps {
		name, err := artifact.Descriptor{Digest: s.Digest, Title: s.ID + ".rkp"}.FileName()
		if err != nil {
			return nil, failure.As(failure.Untrusted, err)
		}
		out.Files = append(out.Files, FetchedFile{filepath.Join(o.To, name), s.ID, s.From, s.To, s.Digest, s.Size})
	}
	if o.Force && !o.DryRun && out.Target != "" {
		if err := noteForced(o, out); err != nil {
			return nil, err
		}
	}
	return out, download(ctx, repo, out.Files, o)
}

// readChannel reads and verifies the two documents, the signatures before
// anything that they say.
func readChannel(ctx context.Context, repo repository, ref Ref, o FetchOptions) (*channel.Pair, error) {
	statusDoc, err := readDocument(ctx, repo, ref.At(ref.Name+channel.StatusSuffix), kindStatus, o.Fetch)
	if errors.Is(err, fs.ErrNotExist) {
		err = failure.As(failure.Untrusted, fmt.Errorf("the channel has no status: %w", err))
	}
	if err != nil {
		return nil, err
	}
	policy := o.Policy
	policy.Require = []string{"status|release"}
	if err := statusDoc.verify(policy, kindStatus, o.now()); err != nil {
		return nil, err
	}
	p := &channel.Pair{StatusDigest: digest.Of(statusDoc.body)}
	if p.Status, err = channel.ParseStatus(statusDoc.body); err != nil {
		return nil, untrustedUnlessRefused(err)
	}
	// By the digest in the status: the tag may be a moment ahead of it.
	doc, err := readDocument(ctx, repo, ref.At(p.Status.Releases.Manifest.String()), kindReleases, o.Fetch)
	if err != nil {
		return nil, err
	}
	if err := doc.verify(o.Policy, kindReleases, o.now()); err != nil {
		return nil, err
	}
	p.ReleasesDigest = digest.Of(doc.body)
	if p.Releases, err = channel.ParseReleases(doc.body); err != nil {
		return nil, untrustedUnlessRefused(err)
	}
	return p, nil
}

// untrustedUnlessRefused: a document that cannot be read is not trusted, but a
// newer schema is only newer.
func untrustedUnlessRefused(err error) error {
	if failure.Of(err) == failure.Refused {
		return err
	}
	return failure.As(failure.Untrusted, err)
}
