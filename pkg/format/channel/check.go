package channel

import (
	"errors"
	"fmt"

	"github.com/relkit/relkit/pkg/format/version"
)

func (s *Status) check() error {
	if err := checkHead(s.Schema, StatusSchema, s.Product, s.Channel, s.Serial, s.Issued, s.Expires); err != nil {
		return err
	}
	switch s.State {
	case Active, Paused, Halted:
	default:
		return fmt.Errorf("state %q: want active, paused or halted", s.State)
	}
	switch {
	case s.CapBasisPoints < 0 || s.CapBasisPoints > WholeShare:
		return fmt.Errorf("cap_basis_points %d: want 0 to %d", s.CapBasisPoints, WholeShare)
	case s.Releases.Serial < 1 || s.Releases.Digest.IsZero() || s.Releases.Manifest.IsZero():
		return errors.New("releases: needs a serial, a digest and a manifest")
	}
	return nil
}

func (r *Releases) check() error {
	if err := checkHead(r.Schema, ReleasesSchema, r.Product, r.Channel, r.Serial, r.Issued, r.Expires); err != nil {
		return err
	}
	if len(r.Releases) > maxReleases || len(r.Patches) > maxPatches {
		return fmt.Errorf("%d releases and %d patches: at most %d and %d", len(r.Releases), len(r.Patches), maxReleases, maxPatches)
	}
	if r.Floor != "" {
		if err := version.Valid(r.Floor); err != nil {
			return fmt.Errorf("floor: %w", err)
		}
	}
	ids := map[string]bool{}
	listed := map[string]bool{}
	for i, rel := range r.Releases {
		if err := rel.check(ids); err != nil {
			return fmt.Errorf("release %q: %w", rel.Version, err)
		}
		if i > 0 && version.Compare(r.Releases[i-1].Version, rel.Version) >= 0 {
			return fmt.Errorf("release %q: does not come after %q", rel.Version, r.Releases[i-1].Version)
		}
		listed[rel.Version] = true
	}
	for _, p := range r.Patches {
		if err := p.check(ids, listed); err != nil {
			return fmt.Errorf("patch %q: %w", p.ID, err)
		}
	}
	return nil
}

func (r *Release) check(ids map[string]bool) error {
	if err := version.Valid(r.Version); err != nil {
		return err
	}
	if r.MinBase != "" {
		if err := version.Valid(r.MinBase); err != nil {
			return fmt.Errorf("min_base: %w", err)
		}
	}
	if r.Full != nil {
		if err := r.Full.check(ids); err != nil {
			return fmt.Errorf("full: %w", err)
		}
	}
	if err := r.Selector.check(); err != nil {
		return fmt.Errorf("selector: %w", err)
	}
	return checkStages(r.Rollout)
}

func checkStages(stages []Stage) error {
	if len(stages) > maxStages {
		return fmt.Errorf("%d stages: at most %d", len(stages), maxStages)
	}
	for i, s := range stages {
		switch {
		case s.ShareBasisPoints < 1 || s.ShareBasisPoints > WholeShare:
			return fmt.Errorf("stage %d: share_basis_points %d: want 1 to %d", i, s.ShareBasisPoints, WholeShare)
		case !validTime(s.At):
			return fmt.Errorf("stage %d: at: want a time in UTC and whole seconds", i)
		case i > 0 && !s.At.After(stages[i-1].At):
			return fmt.Errorf("stage %d: begins at %s, not after the one before", i, stamp(s.At))
		case i > 0 && s.ShareBasisPoints <= stages[i-1].ShareBasisPoints:
			return fmt.Errorf("stage %d: share %d is not above that of the one before", i, s.ShareBasisPoints)
		}
	}
	return nil
}

func (a *Artifact) check(ids map[string]bool) error {
	if err := version.ValidName(a.ID); err != nil {
		return fmt.Errorf("id: %w", err)
	}
	switch {
	case ids[a.ID]:
		return fmt.Errorf("id %q stands twice", a.ID)
	case a.Digest.IsZero() || a.Size <= 0:
		return errors.New("needs a digest and a size")
	}
	ids[a.ID] = true
	return checkGlobs(a.Model)
}

func (p *Patch) check(ids, listed map[string]bool) error {
	if err := p.Artifact.check(ids); err != nil {
		return err
	}
	if err := version.Valid(p.From); err != nil {
		return fmt.Errorf("from: %w", err)
	}
	switch {
	case !listed[p.To]:
		return fmt.Errorf("to %q: no such release", p.To)
	case version.Compare(p.From, p.To) >= 0:
		return fmt.Errorf("from %q to %q: not forward", p.From, p.To)
	}
	return nil
}
