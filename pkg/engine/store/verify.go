package store

import (
	"context"
	"fmt"
	"io"
	"iter"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/sys/fsys"
	"github.com/relkit/relkit/pkg/sys/tree"
)

// everything is a state folder that no tree has, so that none is left out.
const everything = "/"

// Verify reads an image's whole tree and tells how it differs from its
// manifest. That the manifest is not the one in the record is an error
// (failure.No).
func (s *Store) Verify(ctx context.Context, r Ref, jobs int) iter.Seq2[tree.Difference, error] {
	return func(yield func(tree.Difference, error) bool) {
		if err := s.verify(ctx, r, jobs, yield); err != nil {
			yield(tree.Difference{}, err)
		}
	}
}

func (s *Store) verify(ctx context.Context, r Ref, jobs int, yield func(tree.Difference, error) bool) error {
	rec, err := s.Record(r)
	if err != nil {
		return failure.As(failure.No, err)
	}
	f, err := s.fs.Open(r.dir() + "/" + ManifestName)
	if err != nil {
		return failure.As(failure.No, err)
	}
	defer f.Close()
	d, _, err := digest.OfReader(f)
	if err != nil {
		return err
	}
	if d != rec.Tree {
		return failure.Errorf(failure.No, "image %s: %s has the digest %s, the record says %s", r, ManifestName, d, rec.Tree)
	}
	files, err := fsys.Open(s.image(r).Tree)
	if err != nil {
		return failure.As(failure.No, err)
	}
	defer files.Close()
	want := tree.ReadManifest(manifest.NewReader(io.NewSectionReader(f, 0, 1<<62)))
	got := tree.Capture(ctx, files, tree.Options{Jobs: jobs, State: everything})
	for diff, err := range tree.Compare(want, got) {
		if err != nil {
			return fmt.Errorf("image %s: %w", r, err)
		}
		if !yield(diff, nil) {
			return nil
		}
	}
	return nil
}
