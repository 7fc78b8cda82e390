package trustdoc

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/relkit/relkit/pkg/format/signature"
)

// Edit is what a new document says otherwise than the one before it.
type Edit struct {
	// Product may be "" where there is a document before.
	Product         string
	Issued, Expires time.Time
	// AllowedSigners, where not nil, replaces the text.
	AllowedSigners *string
	// Thresholds replace those of the same roles; 0 takes one away.
	Thresholds map[string]int
	// Revoke adds to the keys that are revoked; their lines are dropped.
	Revoke []Revoked
}

// Next is the document that follows prev, nil for the first one. What e does not
// speak of stays.
func Next(prev *Document, e Edit) (*Document, error) {
	d := &Document{Schema: Schema, Product: e.Product, Version: 1, Issued: e.Issued, Expires: e.Expires, Thresholds: map[string]int{}}
	if prev != nil {
		d.Product, d.Version = cmp.Or(e.Product, prev.Product), prev.Version+1
		d.AllowedSigners, d.Revoked = prev.AllowedSigners, slices.Clone(prev.Revoked)
		maps.Copy(d.Thresholds, prev.Thresholds)
	}
	if e.AllowedSigners != nil {
		d.AllowedSigners = *e.AllowedSigners
	}
	for role, n := range e.Thresholds {
		if d.Thresholds[role] = n; n == 0 {
			delete(d.Thresholds, role)
		}
	}
	d.revoke(e.Revoke)
	return d, d.check()
}

// revoke adds keys to those revoked, a later reason replacing an earlier one, and
// takes their lines off the list.
func (d *Document) revoke(keys []Revoked) {
	for _, k := range keys {
		d.Revoked = slices.DeleteFunc(d.Revoked, func(r Revoked) bool { return r.Key == k.Key })
		d.Revoked = append(d.Revoked, k)
		d.AllowedSigners = withoutKey(d.AllowedSigners, k.Key)
	}
	slices.SortFunc(d.Revoked, func(a, b Revoked) int { return cmp.Compare(a.Key, b.Key) })
}

// withoutKey is text without the lines of a key. One that cannot be read as it
// is stays, for check to say what is wrong with it.
func withoutKey(text, print string) string {
	var kept strings.Builder
	for line := range strings.Lines(text) {
		a, err := signature.ParseAllowedSigners([]byte(line))
		if err == nil && len(a.Signers) == 1 && signature.Fingerprint(a.Signers[0].Key) == print {
			continue
		}
		kept.WriteString(line)
	}
	return kept.String()
}
