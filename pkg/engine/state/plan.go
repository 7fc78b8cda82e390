package state

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

const (
	planFile = "plan"
	// maxPlan bounds what is read of one plan, in bytes.
	maxPlan = 2 << 30
	// replanPrefix and its digest in hex name the plan as it stood when a commit long
	// after the staging began: what is restored with it may have changed since.
	replanPrefix = planFile + "-"
)

// WritePlan writes t's plan whole and durably, and returns its digest. That of
// a transaction that is staged already is the one of its commit: it counts once
// the record journal.Committing names its digest, until then the one before does.
//
// A transaction can be committed many times, each time by another plan. The one that
// counts is not touched, and lies under a name of its own: a cut before the record
// that names the new one leaves it, and one after that has both. What no record
// names, of a commit before it or one that never began, is removed first.
func (s *State) WritePlan(t *Transaction, p *journal.Plan) (digest.Digest, error) {
	h := digest.New()
	if t.Find(journal.Staged) == nil {
		err := fsys.WriteWith(s.fs, t.dir()+"/"+planFile, 0o600, func(w io.Writer) error {
			return journal.WritePlan(io.MultiWriter(w, h), p)
		})
		return h.Digest(), err
	}
	_, counts := t.planName()
	if err := s.dropReplans(t, counts); err != nil {
		return digest.Digest{}, err
	}
	if err := journal.WritePlan(h, p); err != nil {
		return digest.Digest{}, err
	}
	err := fsys.WriteWith(s.fs, t.dir()+"/"+replanName(h.Digest()), 0o600, func(w io.Writer) error {
		return journal.WritePlan(w, p)
	})
	return h.Digest(), err
}

func replanName(d digest.Digest) string { return replanPrefix + d.Hex() }

// planName is the digest of the plan that counts and the name of its file; "" for none.
// A commit whose record names no plan went by the one before it.
func (t *Transaction) planName() (digest.Digest, string) {
	for _, r := range slices.Backward(t.Records) {
		if r.Event == journal.Committing && !r.Plan.IsZero() {
			return r.Plan, replanName(r.Plan)
		}
	}
	if r := t.Find(journal.Staged); r != nil {
		return r.Plan, planFile
	}
	return digest.Digest{}, ""
}

// dropReplans removes the plans of commits but the file called keep.
func (s *State) dropReplans(t *Transaction, keep string) error {
	names, err := s.fs.ReadDir(t.dir())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, name := range names {
		if name == keep || !strings.HasPrefix(name, replanPrefix) {
			continue
		}
		if err := s.fs.Unlink(t.dir() + "/" + name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// ReadPlan reads t's plan, checked against the digest in its journal.
func (s *State) ReadPlan(t *Transaction) (*journal.Plan, error) {
	want, name := t.planName()
	if name == "" {
		return nil, fmt.Errorf("transaction %s has no plan", t.ID)
	}
	p, err := s.readPlan(t.dir()+"/"+name, want)
	if err != nil {
		return nil, fmt.Errorf("reading the plan of transaction %s: %w", t.ID, err)
	}
	return p, nil
}

// readPlan reads a plan and holds its digest. A plan that is wrong in itself is
// told as that only where it has the digest.
func (s *State) readPlan(name string, want digest.Digest) (*journal.Plan, error) {
	f, err := s.fs.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	h := digest.New()
	from := io.TeeReader(io.LimitReader(f, maxPlan), h)
	p, wrong := journal.ReadPlan(from)
	if _, err := io.Copy(io.Discard, from); err != nil {
		return nil, err
	}
	if got := h.Digest(); got != want {
		return nil, fmt.Errorf("digest %s, want %s", got, want)
	}
	return p, wrong
}

// DropPlan removes the plan of a freed transaction: nothing can use it any more.
func (s *State) DropPlan(t *Transaction) error {
	for _, name := range []string{planFile, givenFile} {
		if err := s.fs.Unlink(t.dir() + "/" + name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return s.dropReplans(t, "")
}
