package channel

import (
	"fmt"
	"time"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/strict"
)

// SeenSchema is what a Seen says it is.
const SeenSchema = "relkit.channel-seen/v1"

// Seen is what a machine remembers of a channel, so that nobody can show it an
// older state of it. It is kept as <state>/channels/PRODUCT@CHANNEL.json.
type Seen struct {
	Schema  string `json:"schema"`
	Product string `json:"product"`
	Channel string `json:"channel"`
	// Releases and Status are the highest serial of each document, and which one that was.
	Releases SeenDoc `json:"releases"`
	Status   SeenDoc `json:"status"`
	// Newest is the latest time that a verified document said it was issued:
	// a clock that shows less is wrong.
	Newest time.Time `json:"newest"`
	// Floor is the oldest version that a rollback may go to; "" for any.
	Floor string `json:"floor,omitempty"`
}

// SeenDoc is one document seen.
type SeenDoc struct {
	Serial int64         `json:"serial"`
	Digest digest.Digest `json:"digest"`
}

// MaxSeen bounds a Seen in bytes.
const MaxSeen = 16 << 10

// ParseSeen reads what Encode wrote.
func ParseSeen(b []byte) (*Seen, error) {
	s := new(Seen)
	if err := strict.Decode(b, MaxSeen, s); err != nil {
		return nil, err
	}
	if s.Schema != SeenSchema {
		return nil, fmt.Errorf("schema %q: want %q", s.Schema, SeenSchema)
	}
	return s, nil
}

// Encode writes it.
func (s *Seen) Encode() ([]byte, error) { return strict.Encode(s) }

// SeenName is the file's name under <state>/channels.
func SeenName(product, channel string) string {
	return escapeSlash(product) + "@" + channel + ".json"
}

func escapeSlash(s string) string {
	out := make([]byte, 0, len(s))
	for i := range len(s) {
		if s[i] == '/' {
			out = append(out, '%', '2', 'F')
			continue
		}
		out = append(out, s[i])
	}
	return string(out)
}

// Pair is the two documents with the digests of their bytes, their signatures checked.
type Pair struct {
	Releases       *Releases
	ReleasesDigest digest.Digest
	Status         *Status
	StatusDigest   digest.Digest
}

// Check tells whether the documents may be acted on at a time: they are of the
// product ("" where the machine does not know its own) and channel asked for,
// belong together, have not expired, and are not older than what was seen (nil
// for nothing). It returns what is to be remembered from now on. The error is
// a failure.Untrusted.
func (p *Pair) Check(product, channel string, seen *Seen, now time.Time) (*Seen, error) {
	if err := p.belongs(product, channel); err != nil {
		return nil, err
	}
	next := &Seen{Schema: SeenSchema, Product: p.Releases.Product, Channel: channel, Floor: p.Releases.Floor,
		Releases: SeenDoc{p.Releases.Serial, p.ReleasesDigest}, Status: SeenDoc{p.Status.Serial, p.StatusDigest},
		Newest: later(p.Releases.Issued, p.Status.Issued)}
	if seen != nil {
		if err := seen.Releases.allows("releases", next.Releases); err != nil {
			return nil, err
		}
		if err := seen.Status.allows("status", next.Status); err != nil {
			return nil, err
		}
		next.Newest = later(seen.Newest, next.Newest)
	}
	now = later(now, next.Newest)
	for _, doc := range []struct {
		name    string
		expires time.Time
	}{{"status", p.Status.Expires}, {"releases", p.Releases.Expires}} {
		if !now.Before(doc.expires) {
			return nil, failure.Errorf(failure.Untrusted, "the channel's %s document expired at %s", doc.name, stamp(doc.expires))
		}
	}
	return next, nil
}

func (p *Pair) belongs(product, channel string) error {
	r, s := p.Releases, p.Status
	switch {
	case r.Channel != channel || s.Channel != channel:
		return failure.Errorf(failure.Untrusted, "the documents are of channels %q and %q, not %q", r.Channel, s.Channel, channel)
	case r.Product != s.Product || product != "" && r.Product != product:
		return failure.Errorf(failure.Untrusted, "the documents are for products %q and %q; this machine runs %q", r.Product, s.Product, product)
	case s.Releases.Serial != r.Serial || s.Releases.Digest != p.ReleasesDigest:
		return failure.Errorf(failure.Untrusted, "the status goes with releases %d (%s), not with %d (%s)",
			s.Releases.Serial, s.Releases.Digest, r.Serial, p.ReleasesDigest)
	}
	return nil
}

func (d SeenDoc) allows(name string, next SeenDoc) error {
	switch {
	case next.Serial < d.Serial:
		return failure.Errorf(failure.Untrusted, "the channel's %s document has serial %d, and %d has been seen: it is an old one", name, next.Serial, d.Serial)
	case next.Serial == d.Serial && next.Digest != d.Digest:
		return failure.Errorf(failure.Untrusted, "the channel's %s document has serial %d as one seen before, but is another (%s, not %s)", name, d.Serial, next.Digest, d.Digest)
	}
	return nil
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
