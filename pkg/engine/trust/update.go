package trust

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/relkit/relkit/pkg/engine/state"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/journal"
)

// UpdateOptions say how trust may change.
type UpdateOptions struct {
	// First makes a document the first one of a machine. Nothing but whoever asks
	// vouches for it. Without First, what is there has to vouch for what comes.
	First bool
	Clock Clock
	// DryRun checks all of it and changes nothing.
	DryRun bool
	// Flags are those that name this machine, for hints, with a blank in front of each.
	Flags string
}

// Updated is how trust changed.
type Updated struct {
	// Before is nil where there was none; After is Before where there was nothing to do.
	Before, After *Document
	// Accepted are the root keys that signed After, by its own count.
	Accepted []Accepted
}

// Update gives a machine a newer trust document, by way of those in between where
// several are given. Each must be signed as the one before it wants, and as it
// wants itself; the last must not have expired, be for another product, or be
// older than the one there. The lock of the machine is held. Refusals are
// failure.Untrusted or failure.Refused, and change nothing; what is accepted is
// written into the audit log, and then done: a cut in between leaves a line that
// comes again with the next try, never a change that nobody told of.
func Update(s *state.State, docs []*Document, o UpdateOptions) (*Updated, error) {
	current, err := Load(s.FS())
	if err != nil {
		return nil, err
	}
	docs = slices.SortedFunc(slices.Values(docs), func(a, b *Document) int { return cmp.Compare(a.Version, b.Version) })
	if len(docs) == 0 {
		return nil, failure.Errorf(failure.Usage, "no trust document is given")
	}
	u := &Updated{Before: current, After: current}
	if current != nil && o.First && docs[len(docs)-1].Digest != current.Digest {
		return nil, failure.WithHint(failure.Errorf(failure.Refused, "this machine has trust document %d already, and only that one's root keys can name the next", current.Version),
			"relkit trust%s --update %s", o.Flags, failure.Word(docs[len(docs)-1].Name))
	}
	if current == nil && !o.First {
		return nil, failure.WithHint(failure.Errorf(failure.Refused, "this machine has no trust document that could vouch for another"),
			"relkit trust%s --install %s  # on your own word", o.Flags, failure.Word(docs[0].Name))
	}
	if err := u.follow(docs, o.Clock); err != nil {
		return nil, err
	}
	if u.After == current {
		return u, nil
	}
	installed, err := s.Version()
	if err != nil {
		return nil, err
	}
	if err := u.After.Valid(installed.Product, o.Clock); err != nil || o.DryRun {
		return u, err
	}
	if err := s.Note(u.auditLine(o.Clock)); err != nil {
		return nil, err
	}
	if err := u.After.put(s.FS()); err != nil {
		return nil, fmt.Errorf("writing the trust document: %w", err)
	}
	return u, o.Clock.Remember(s.FS(), u.After.Issued)
}

// follow goes from document to document as far as they lead.
func (u *Updated) follow(docs []*Document, clock Clock) error {
	last := docs[len(docs)-1]
	if u.Before != nil && last.Version < u.Before.Version {
		return failure.Errorf(failure.Untrusted, "%q is trust document %d, and this machine has %d: trust never goes back", last.Name, last.Version, u.Before.Version)
	}
	for _, d := range docs {
		if u.After != nil && d.Version == u.After.Version && d.Digest != u.After.Digest {
			return failure.Errorf(failure.Untrusted, "%q is trust document %d, and so is another one (%s, not %s): a version is given once", d.Name, d.Version, d.Digest, u.After.Digest)
		}
		if u.After != nil && d.Version <= u.After.Version {
			continue
		}
		if err := u.step(d, clock); err != nil {
			return err
		}
	}
	return nil
}

func (u *Updated) step(d *Document, clock Clock) (err error) {
	u.Accepted, err = d.Check(u.After, clock)
	u.After = d
	return err
}

// Check tells whether d is signed as it wants itself and, where there is one, as
// the document before it wants; who signed it, by its own count.
func (d *Document) Check(before *Document, clock Clock) ([]Accepted, error) {
	if before != nil && d.Product != before.Product {
		return nil, failure.Errorf(failure.Untrusted, "trust document %d is for product %q, and %d for %q", d.Version, d.Product, before.Version, before.Product)
	}
	if before != nil && d.Version <= before.Version {
		return nil, failure.Errorf(failure.Untrusted, "trust document %d does not come after %d", d.Version, before.Version)
	}
	if before != nil {
		if _, err := d.signedBy(before, clock); err != nil {
			return nil, err
		}
	}
	return d.signedBy(d, clock)
}

func (u *Updated) auditLine(clock Clock) journal.AuditLine {
	l := journal.AuditLine{Time: clock.Shown, Event: journal.TrustInstalled, Reason: u.After.String()}
	if u.Before != nil {
		l.Event, l.Reason = journal.TrustUpdated, fmt.Sprintf("%s in place of %d", u.After, u.Before.Version)
	}
	for _, a := range u.Accepted {
		l.Signoffs = append(l.Signoffs, a.String())
	}
	return l
}
