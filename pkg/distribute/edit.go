package distribute

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/channel"
	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/version"
)

// nextReleases is the releases document as it is to be: the one that is there,
// or a new one where something changes.
func (p *publisher) nextReleases() (*channel.Releases, *document, error) {
	if !p.changesReleases() {
		if p.now.releases == nil {
			return nil, nil, failure.Errorf(failure.Refused, "there is no channel %q in %s of %q: nothing has been published in it", p.o.Channel, p.o.Repo, p.o.To)
		}
		return p.now.releases, p.now.releasesDoc, nil
	}
	next, err := p.edited()
	if err != nil {
		return nil, nil, err
	}
	if p.now.releases != nil && sameReleases(p.now.releases, next) {
		return p.now.releases, p.now.releasesDoc, nil
	}
	body, err := next.Encode()
	if err != nil {
		return nil, nil, failure.As(failure.Usage, err)
	}
	doc, err := signDocument(body, kindReleases, p.o.Signer, p.o.Role)
	return next, doc, err
}

// edited is a changed copy of the releases, with the next serial.
func (p *publisher) edited() (*channel.Releases, error) {
	r := &channel.Releases{Schema: channel.ReleasesSchema, Channel: p.o.Channel, Issued: p.o.Now, Releases: []channel.Release{}, Patches: []channel.Patch{}}
	if old := p.now.releases; old != nil {
		if err := notBefore(p.o.Now, old.Issued); err != nil {
			return nil, err
		}
		r.Product, r.Serial, r.Floor = old.Product, old.Serial, old.Floor
		r.Releases, r.Patches = slices.Clone(old.Releases), slices.Clone(old.Patches)
	}
	r.Serial++
	r.Expires = p.o.Now.Add(max(releasesExpires, p.o.Expires))
	target := ""
	for _, f := range p.patches {
		if r.Product == "" {
			r.Product = f.header.Product
		}
		if r.Product != f.header.Product {
			return nil, failure.Errorf(failure.Refused, "%q is for product %q, and the channel is of %q", f.name, f.header.Product, r.Product)
		}
		if f.header.Expired(p.o.Now) {
			return nil, failure.Errorf(failure.Refused, "%q has expired at %s", f.name, f.header.Expires.Format(time.RFC3339))
		}
		addPatch(r, f)
		if target == "" || version.Compare(f.header.To.Version, target) > 0 {
			target = f.header.To.Version
		}
	}
	return r, p.o.Edit.apply(r, p.edits(r, target), p.o.Now)
}

// edits are the releases that the flags are about: every one that is new, and
// the newest that the patches lead to, which comes last; without patches the
// newest there is.
func (p *publisher) edits(r *channel.Releases, target string) []*channel.Release {
	var all []*channel.Release
	for i := range r.Releases {
		rel := &r.Releases[i]
		known := p.now.releases != nil && slices.ContainsFunc(p.now.releases.Releases, func(old channel.Release) bool { return version.Compare(old.Version, rel.Version) == 0 })
		if !known && version.Compare(rel.Version, target) != 0 {
			all = append(all, rel)
		}
	}
	if len(r.Releases) > 0 && target == "" {
		return append(all, &r.Releases[len(r.Releases)-1])
	}
	if target != "" {
		all = append(all, releaseOf(r, target))
	}
	return all
}

// addPatch lists a patch and the release that it leads to. It takes the place of
// a patch of the same id, and of one between the same versions for the same models.
func addPatch(r *channel.Releases, f *file) {
	h := f.header
	a := channel.Artifact{ID: h.ID, Digest: f.layer.Digest, Size: f.layer.Size, Model: h.Model}
	r.Patches = slices.DeleteFunc(r.Patches, func(p channel.Patch) bool {
		return p.ID == h.ID || h.From != nil && p.From == h.From.Version && p.To == h.To.Version && slices.Equal(p.Model, h.Model)
	})
	for i := range r.Releases {
		if full := r.Releases[i].Full; full != nil && full.ID == h.ID {
			r.Releases[i].Full = nil
		}
	}
	rel := releaseOf(r, h.To.Version)
	if h.From == nil {
		rel.Full = &a
		return
	}
	r.Patches = append(r.Patches, channel.Patch{Artifact: a, From: h.From.Version, To: rel.Version})
	slices.SortFunc(r.Patches, func(a, b channel.Patch) int {
		if c := version.Compare(a.To, b.To); c != 0 {
			return c
		}
		if c := version.Compare(a.From, b.From); c != 0 {
			return c
		}
		return bytes.Compare([]byte(a.ID), []byte(b.ID))
	})
}

// releaseOf finds the release of a version, or makes it.
func releaseOf(r *channel.Releases, v string) *channel.Release {
	i, found := slices.BinarySearchFunc(r.Releases, v, func(rel channel.Release, v string) int { return version.Compare(rel.Version, v) })
	if !found {
		r.Releases = slices.Insert(r.Releases, i, channel.Release{Version: v})
	}
	return &r.Releases[i]
}

// apply makes the changes that are no patches, to releases of r. What a release
// is reached from is said of the last of them alone: those before it are on the way.
func (e *Edit) apply(r *channel.Releases, releases []*channel.Release, now time.Time) error {
	if e.isZero() {
		return nil
	}
	if len(releases) == 0 {
		return failure.Errorf(failure.Refused, "the channel has no releases")
	}
	if e.Rollout != "" {
		stages, err := channel.ParseRollout(e.Rollout, now)
		if err != nil {
			return failure.As(failure.Usage, fmt.Errorf("reading --rollout: %w", err))
		}
		for _, rel := range releases {
			rel.Rollout = slices.Clone(stages)
		}
	}
	if e.Floor != "" {
		r.Floor = e.Floor
	}
	if e.MinBase != "" {
		releases[len(releases)-1].MinBase = e.MinBase
	}
	if e.Labels != nil || e.Allow != nil || e.Deny != nil {
		for _, rel := range releases {
			rel.Selector.Labels, rel.Selector.Allow, rel.Selector.Deny = e.Labels, e.Allow, e.Deny
		}
	}
	return nil
}

// sameReleases tells whether two documents differ in serial and times only.
func sameReleases(a, b *channel.Releases) bool {
	x := *b
	x.Serial, x.Issued, x.Expires = a.Serial, a.Issued, a.Expires
	ab, aerr := a.Encode()
	xb, xerr := x.Encode()
	return aerr == nil && xerr == nil && bytes.Equal(ab, xb)
}

// nextStatus is the status that goes with releases.
func (p *publisher) nextStatus(r *channel.Releases, doc *document) (*channel.Status, error) {
	s := &channel.Status{Schema: channel.StatusSchema, Product: r.Product, Channel: p.o.Channel, Issued: p.o.Now, State: channel.Active, CapBasisPoints: channel.WholeShare}
	if old := p.now.status; old != nil {
		if err := notBefore(p.o.Now, old.Issued); err != nil {
			return nil, err
		}
		s.Serial, s.State = old.Serial, old.State
		if newest(r) == newest(p.now.releases) {
			s.CapBasisPoints = old.CapBasisPoints
		}
	}
	s.Serial++
	expires := p.o.Expires
	if expires == 0 {
		expires = defaultExpires
	}
	s.Expires = p.o.Now.Add(expires)
	if p.o.State != "" {
		s.State = p.o.State
	}
	if p.o.Cap != "" {
		limit, err := channel.ParseShare(p.o.Cap)
		if err != nil {
			return nil, failure.As(failure.Usage, fmt.Errorf("reading --cap: %w", err))
		}
		s.CapBasisPoints = limit
	}
	if s.State != channel.Active && len(p.patches) > 0 {
		p.o.Log.Warn(fmt.Sprintf("the channel is %s: machines take nothing until --resume", s.State))
	}
	if left := r.Expires.Sub(p.o.Now); left < defaultExpires {
		p.o.Log.Warn("the releases document expires soon: publish, or change its rollout, with the release key", "expires", r.Expires.Format(time.RFC3339))
	}
	s.Releases = channel.ReleasesRef{Serial: r.Serial, Digest: digest.Of(doc.body), Manifest: doc.manifest}
	return s, nil
}

func newest(r *channel.Releases) string {
	if r == nil || len(r.Releases) == 0 {
		return ""
	}
	return r.Releases[len(r.Releases)-1].Version
}

// notBefore refuses to go back in time: machines take the issue times of
// documents for a floor under their clocks.
func notBefore(now, issued time.Time) error {
	if now.Before(issued) {
		return failure.Errorf(failure.Refused, "the clock says %s, and the channel was changed at %s", now.Format(time.RFC3339), issued.Format(time.RFC3339))
	}
	return nil
}
