package transaction

import (
	"errors"
	"fmt"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// part is one content of a stream: the step whose slot it goes to, -1 for one
// that nothing wants any more.
type part struct {
	step int
	size int64
}

// sink cuts a stream into its parts. Each becomes a file in a slot, and its
// digest is held against what the patch promises when its last byte is in.
type sink struct {
	st    *stager
	parts []part
	// wrong is what kind of failure other content than the patch promises is.
	wrong failure.Kind
	// left is what is still to come of parts[0].
	open bool
	left int64
	w    *fsys.SparseWriter
	hash digest.Hash
}

func (s *sink) Write(b []byte) (int, error) {
	n := 0
	for n < len(b) {
		if len(s.parts) == 0 {
			return n, errors.New("more content than files")
		}
		if !s.open {
			if err := s.begin(); err != nil {
				return n, err
			}
		}
		take := b[n:]
		if int64(len(take)) > s.left {
			take = take[:s.left]
		}
		if s.w != nil {
			if _, err := s.w.Write(take); err != nil {
				return n, s.named(err)
			}
			s.hash.Write(take)
		}
		if s.st.x.Progress != nil {
			s.st.x.Progress(int64(len(take)))
		}
		n += len(take)
		s.left -= int64(len(take))
		if s.left == 0 {
			if err := s.finish(); err != nil {
				return n, err
			}
		}
	}
	return n, nil
}

func (s *sink) begin() (err error) {
	p := s.parts[0]
	s.open, s.left = true, p.size
	if p.step < 0 {
		return nil
	}
	s.hash = digest.New()
	if s.w, err = fsys.CreateSparse(s.st.x.Root, s.st.x.slot(p.step), 0o600); err != nil {
		return s.named(err)
	}
	return nil
}

func (s *sink) finish() error {
	p := s.parts[0]
	if s.w != nil {
		e := s.st.x.plan.Steps[p.step].New
		w := s.w
		s.w = nil
		if err := w.Close(); err != nil {
			return s.named(err)
		}
		if got := s.hash.Digest(); got != e.Digest {
			return failure.Errorf(s.wrong, "staging %q: content is %s, want %s", e.Path, got, e.Digest)
		}
		if err := s.st.finish(p.step); err != nil {
			return err
		}
	}
	s.open = false
	s.parts = s.parts[1:]
	return nil
}

func (s *sink) named(err error) error {
	return fmt.Errorf("staging %q: %w", s.st.x.plan.Steps[s.parts[0].step].Path(), err)
}

// end holds that every part is complete.
func (s *sink) end() error {
	if len(s.parts) == 0 {
		return nil
	}
	path := "a file that is not wanted"
	if s.parts[0].step >= 0 {
		path = s.st.x.plan.Steps[s.parts[0].step].Path()
	}
	return errors.Join(fmt.Errorf("staging %q: content ends early", path), s.abort())
}

// abort closes what is open; the slots are removed by whoever aborts.
func (s *sink) abort() error {
	if s.w == nil {
		return nil
	}
	w := s.w
	s.w = nil
	return w.Close()
}
