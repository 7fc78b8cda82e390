package distribute

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/relkit/relkit/pkg/engine/trust"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/channel"
	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/signature"
	"github.com/relkit/relkit/pkg/transport/fetch"
	"github.com/relkit/relkit/pkg/transport/static"
)

// How long documents are valid, and how long a publisher waits for another.
const (
	defaultExpires  = 30 * 24 * time.Hour
	releasesExpires = 365 * 24 * time.Hour
	lockWait        = 30 * time.Second
)

// ChannelOptions say what is changed in a channel.
type ChannelOptions struct {
	To      []string // destinations: dir:PATH; all get the same documents
	Repo    string   // "" takes the patches' product
	Channel string
	Signer  ssh.Signer
	Role    string // names the signature's file
	// Policy tells whose documents are taken over; nil means only what Signer signed.
	Policy *trust.Policy
	Now    time.Time
	// Expires is how long the status is valid; 0 means 30 days.
	Expires time.Duration
	// State is a channel.State to go to, "" to stay.
	State string
	// Cap is a share such as "5%" that holds the newest release back; "" to stay.
	Cap string
	// Edit changes the releases.
	Edit   Edit
	DryRun bool
	Log    *slog.Logger
}

// Edit is what changes in the releases; the zero Edit changes nothing.
type Edit struct {
	// Rollout is the schedule (channel.ParseRollout) of every release that the
	// patches make, and of the newest that they lead to; without patches of the
	// newest there is. "" leaves it.
	Rollout string
	Floor   string // security floor; "" leaves it
	MinBase string // of the newest of those releases; "" leaves it
	// Labels, Allow and Deny replace the selectors of those releases where any is given.
	Labels      map[string]string
	Allow, Deny []string
}

func (e *Edit) isZero() bool {
	return e.Rollout == "" && e.Floor == "" && e.MinBase == "" && e.Labels == nil && e.Allow == nil && e.Deny == nil
}

// Published is the state of a channel after it was changed.
type Published struct {
	Product        string    `json:"product"`
	Channel        string    `json:"channel"`
	ReleasesSerial int64     `json:"releases_serial"`
	StatusSerial   int64     `json:"status_serial"`
	State          string    `json:"state"`
	Expires        time.Time `json:"expires"`
	// References name the status documents, one a destination.
	References []string `json:"references"`
}

// Publish pushes patches and makes them a channel's; without patches it changes
// the channel alone.
func Publish(ctx context.Context, names []string, o ChannelOptions, push PushOptions) ([]Pushed, *Published, error) {
	if err := channel.ValidName(o.Channel); err != nil {
		return nil, nil, failure.As(failure.Usage, err)
	}
	files, err := openFiles(ctx, names, o.Repo)
	if err != nil {
		return nil, nil, err
	}
	if err := releasable(files); err != nil {
		return nil, nil, err
	}
	if o.Repo == "" && len(files) > 0 {
		o.Repo = files[0].repo
	}
	if o.Repo == "" {
		return nil, nil, failure.Errorf(failure.Usage, "missing flag --repo: no patch says which repository the channel is in")
	}
	o.Now = o.Now.UTC().Truncate(time.Second)
	if err := o.maySign(); err != nil {
		return nil, nil, err
	}
	p := &publisher{o: o, patches: files}
	defer p.unlock()
	if err := p.open(ctx); err != nil {
		return nil, nil, err
	}
	var pushed []Pushed
	for _, dest := range p.dests {
		for _, f := range files {
			one, err := dest.push(ctx, f, push)
			if err != nil {
				return pushed, nil, fmt.Errorf("pushing %q to dir:%s: %w", f.name, dest.path, err)
			}
			pushed = append(pushed, one)
		}
	}
	published, err := p.publish(ctx)
	return pushed, published, err
}

// maySign holds that the policy, where one is given, lists the key for the role:
// machines would refuse what it signs.
func (o *ChannelOptions) maySign() error {
	if o.Policy == nil || o.Policy.Allowed == nil {
		return nil
	}
	key, file := o.Signer.PublicKey(), cmp.Or(o.Policy.File, "the policy")
	roles := o.Policy.Allowed.Roles(key, signature.NamespaceChannel, o.Now, o.Now)
	switch {
	case slices.Contains(roles, o.Role):
		return nil
	case len(roles) == 0:
		return failure.Errorf(failure.Untrusted, "key %s may not sign channels, says %s", signature.Fingerprint(key), file)
	}
	return failure.Errorf(failure.Untrusted, "key %s may not sign as %q but as %q, says %s", signature.Fingerprint(key), o.Role, roles, file)
}

// releasable holds that the files are patches from and to named versions, of one
// product, that machines may be offered.
func releasable(files []*file) error {
	for _, f := range files {
		switch {
		case f.header == nil:
			return failure.Errorf(failure.Usage, "%q is no patch (.rkp), and a channel offers patches", f.name)
		case f.header.To.Version == "" || f.header.From != nil && f.header.From.Version == "":
			return failure.WithHint(failure.Errorf(failure.Usage, "%q does not say from which version to which it goes", f.name),
				"relkit patch-make --from-version V --to-version V …")
		case f.header.Product != files[0].header.Product:
			return failure.Errorf(failure.Usage, "%q is for product %q, %q for %q", f.name, f.header.Product, files[0].name, files[0].header.Product)
		}
		if err := f.unfit(); err != nil {
			return err
		}
	}
	return nil
}

// publisher edits one channel in all its destinations.
type publisher struct {
	o       ChannelOptions
	patches []*file
	dests   []*destination
	repos   []*static.Repo
	unlocks []func() error
	now     held // the newest state of the channel that a destination holds
}

// held is what a channel holds; its fields are nil where it does not exist.
type held struct {
	status      *channel.Status
	releases    *channel.Releases
	releasesDoc *document
}

// open locks every destination and reads the channel.
func (p *publisher) open(ctx context.Context) error {
	for _, to := range p.o.To {
		dest, err := openDestination(to, p.o.DryRun)
		if err != nil {
			return err
		}
		p.dests = append(p.dests, dest)
		if dest.dir == nil {
			continue
		}
		if !p.o.DryRun {
			unlock, err := dest.dir.Lock(ctx, lockWait)
			if err != nil {
				return err
			}
			p.unlocks = append(p.unlocks, unlock)
		}
		repo, err := dest.dir.Repo(p.o.Repo)
		if err != nil {
			return err
		}
		p.repos = append(p.repos, repo)
		found, err := p.load(ctx, local{repo}, Ref{Path: dest.path, Repo: p.o.Repo})
		if err != nil {
			return err
		}
		if found.status != nil && (p.now.status == nil || found.status.Serial > p.now.status.Serial) {
			p.now = found
		}
	}
	return nil
}

func (p *publisher) unlock() {
	for _, u := range p.unlocks {
		if err := u(); err != nil {
			p.o.Log.Warn("giving the publisher lock back", "error", err)
		}
	}
}

// load reads what one destination holds. A document that is going to be signed
// again must be signed already, or whoever can write to the destination could
// have anything signed.
func (p *publisher) load(ctx context.Context, repo repository, at Ref) (held, error) {
	tag := at.At(p.o.Channel + channel.StatusSuffix)
	doc, err := readDocument(ctx, repo, tag, kindStatus, fetch.Options{})
	if errors.Is(err, fs.ErrNotExist) {
		return held{}, nil
	}
	if err == nil {
		err = p.vouched(doc, kindStatus, "status|release", tag)
	}
	if err != nil {
		return held{}, err
	}
	h := held{}
	if h.status, err = channel.ParseStatus(doc.body); err != nil {
		return held{}, failure.As(failure.Untrusted, err)
	}
	if h.status.Channel != p.o.Channel {
		return held{}, failure.Errorf(failure.Untrusted, "%s holds the status of channel %q", tag, h.status.Channel)
	}
	exact := at.At(h.status.Releases.Manifest.String())
	if h.releasesDoc, err = readDocument(ctx, repo, exact, kindReleases, fetch.Options{}); err != nil {
		return held{}, err
	}
	if digest.Of(h.releasesDoc.body) != h.status.Releases.Digest {
		return held{}, failure.Errorf(failure.Untrusted, "%s: the releases are not those that the status names", exact)
	}
	if p.changesReleases() {
		if err := p.vouched(h.releasesDoc, kindReleases, "release", exact); err != nil {
			return held{}, err
		}
	}
	h.releases, err = channel.ParseReleases(h.releasesDoc.body)
	return h, failure.As(failure.Untrusted, err)
}

// vouched tells whether a document is signed by the publisher's own key, or as
// the policy asks.
func (p *publisher) vouched(doc *document, k kind, role string, at Ref) error {
	if doc.signedBy(p.o.Signer.PublicKey()) {
		return nil
	}
	if p.o.Policy == nil {
		return failure.WithHint(failure.Errorf(failure.Untrusted, "%s is not signed with the key given but with another, or not at all", at),
			"--allowed-signers FILE says whose documents may be changed")
	}
	policy := *p.o.Policy
	policy.Require = []string{role}
	return doc.verify(policy, k, p.o.Now)
}

func (p *publisher) changesReleases() bool { return len(p.patches) > 0 || !p.o.Edit.isZero() }

// publish makes the documents and writes them, the releases before the status
// that names them.
func (p *publisher) publish(ctx context.Context) (*Published, error) {
	releases, releasesDoc, err := p.nextReleases()
	if err != nil {
		return nil, err
	}
	status, err := p.nextStatus(releases, releasesDoc)
	if err != nil {
		return nil, err
	}
	body, err := status.Encode()
	if err != nil {
		return nil, failure.As(failure.Usage, err)
	}
	statusDoc, err := signDocument(body, kindStatus, p.o.Signer, p.o.Role)
	if err != nil {
		return nil, err
	}
	out := &Published{Product: status.Product, Channel: status.Channel, ReleasesSerial: releases.Serial, StatusSerial: status.Serial,
		State: status.State, Expires: status.Expires}
	for _, dest := range p.dests {
		out.References = append(out.References, Ref{Path: dest.path, Repo: p.o.Repo, Name: statusDoc.manifest.String()}.String())
	}
	if p.o.DryRun {
		return out, nil
	}
	for i, repo := range p.repos {
		if err := complete(repo, releases); err != nil {
			return nil, fmt.Errorf("dir:%s: %w", p.dests[i].path, err)
		}
	}
	for _, repo := range p.repos {
		if err := releasesDoc.put(ctx, repo, kindReleases, p.o.Channel); err != nil {
			return nil, err
		}
		if err := statusDoc.put(ctx, repo, kindStatus, p.o.Channel+channel.StatusSuffix); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// complete holds that a destination has every patch that the channel lists.
func complete(repo *static.Repo, r *channel.Releases) error {
	all := []channel.Artifact{}
	for _, p := range r.Patches {
		all = append(all, p.Artifact)
	}
	for _, rel := range r.Releases {
		if rel.Full != nil {
			all = append(all, *rel.Full)
		}
	}
	for _, a := range all {
		size, err := repo.BlobSize(a.Digest)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err != nil || size != a.Size {
			return failure.Errorf(failure.Refused, "patch %q (%s), which the channel lists, is not there: push it too", a.ID, a.Digest)
		}
	}
	return nil
}
