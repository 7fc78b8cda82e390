package update

import (
	"context"
	"fmt"
	"slices"

	"github.com/relkit/relkit/pkg/engine/state"
	"github.com/relkit/relkit/pkg/engine/transaction"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/format/patch"
)

// modifies tells whether files that were changed are to be kept or replaced.
func (o *ApplyOptions) modifies() bool {
	return o.OnModified != "" && o.OnModified != transaction.OnModifiedAbort
}

// look verifies the tree and plans the change.
func (a *applier) look(ctx context.Context, h *patch.Header, hooks map[string][]byte, entries *patch.Entries) (*transaction.Survey, error) {
	all, err := a.target.State.Transactions()
	if err != nil {
		return nil, err
	}
	deleted := map[string]bool{}
	for _, d := range state.Deviations(all) {
		if d.Outcome != journal.StaysDeleted {
			continue
		}
		path, err := manifest.Unescape(d.Path)
		if err != nil {
			return nil, err
		}
		deleted[path] = true
	}
	spare, err := a.spare()
	if err != nil {
		return nil, err
	}
	return transaction.Look(ctx, a.target.Root, entries, transaction.Options{
		Spare: spare,
		Jobs:  a.opt.Jobs, Protected: a.protected, Scripts: len(hooks) > 0, Full: h.Full, Remount: a.target.Remount, Root: a.opt.Root,
		Managed: h.Managed, Never: h.Never, Repair: a.o.Repair,
		ConfigFiles: h.ConfigFiles, OnModified: a.o.OnModified, Deleted: deleted,
	})
}

// tell puts what the look found into the result.
func (a *applier) tell(r *Result, s *transaction.Survey) {
	r.Deviations = s.Deviations
	for i := range r.Deviations {
		r.Deviations[i].Patch = r.Patch
	}
	r.Replaced, r.Removed = escaped(s.Replaced), escaped(s.Removed())
	if a.o.Repair {
		r.Repaired = escaped(s.Differing)
	}
}

// lookAfter tells what is no longer as the patch left it, which was applied last: that
// it was applied is no promise of what the files are now. A config file is its
// owner's, and once another patch came, that one may be why.
func (a *applier) lookAfter(ctx context.Context, p *patch.Reader, r *Result) error {
	if newest, err := a.newest(p); err != nil || !newest {
		return err
	}
	b := *a
	b.o.OnModified = "" // nothing is decided here
	l, err := b.inspect(ctx, p)
	if l == nil || l.entries == nil {
		return err
	}
	if err != nil {
		a.opt.Log.Warn("what the patch left is not looked at", "err", err)
		return ctx.Err()
	}
	all, err := a.target.State.Transactions()
	if err != nil {
		return err
	}
	own := map[string]bool{}
	for _, d := range state.Deviations(all) {
		own[d.Path] = true
	}
	paths := slices.Sorted(slices.Values(escaped(l.survey.Changed)))
	r.Modified = slices.DeleteFunc(slices.Compact(paths), func(path string) bool { return own[path] })
	if len(r.Modified) > 0 {
		a.opt.Log.Warn(fmt.Sprintf("patch %s is applied, and %s; what restores them: relkit patch-apply%s --repair FULL.rkp",
			r.Patch, changedSince(r.Modified), a.opt.flags()+a.o.Given.Trust))
	}
	return nil
}

// changedSince lists what is no longer as a patch left it.
func changedSince(paths []string) string {
	const shown = 20
	text := fmt.Sprintf("%d of its paths were changed since:", len(paths))
	if len(paths) == 1 {
		text = "1 of its paths was changed since:"
	}
	for i, path := range paths {
		if i == shown {
			return text + fmt.Sprintf(" … and %d more", len(paths)-shown)
		}
		text += " " + path
	}
	return text
}

// deviations are all that stand once the patch is applied: its own, and those of
// earlier patches at paths that this one does not touch.
func (a *applier) deviations(s *transaction.Survey, r *Result) ([]journal.Deviation, error) {
	all, err := a.target.State.Transactions()
	if err != nil {
		return nil, err
	}
	touched := map[string]bool{}
	for _, path := range s.Touched() {
		touched[manifest.Escape(path)] = true
	}
	var standing []journal.Deviation
	known := map[string]bool{}
	for _, d := range state.Deviations(all) {
		if a.o.Repair && slices.ContainsFunc(r.Deviations, func(own journal.Deviation) bool { return own.Path == d.Path }) {
			known[d.Path] = true // as it was told when it came to be
		} else if touched[d.Path] {
			continue
		}
		standing = append(standing, d)
	}
	for _, d := range r.Deviations {
		if !known[d.Path] {
			standing = append(standing, d)
		}
	}
	return standing, nil
}

func escaped(paths []string) []string {
	var all []string
	for _, path := range paths {
		all = append(all, manifest.Escape(path))
	}
	return all
}

// mismatchError refuses with the list of what is not as the patch expects.
func (a *applier) mismatchError(s *transaction.Survey) error {
	err := listMismatches(s.Mismatches)
	switch {
	case err == nil:
		return nil
	case s.NeedsFull:
		return failure.WithHint(err, "relkit patch-apply%s --repair FULL.rkp  # the full patch of what is installed restores such files", a.opt.flags()+a.o.Given.Trust)
	}
	return failure.WithHint(err, "relkit patch-apply%s --on-modified replace%s  # what stands there is kept for the rollback", a.flags(), a.given)
}

// listMismatches is the error that lists what is not as it should, nil for nothing.
func listMismatches(all []transaction.Mismatch) error {
	all = slices.CompactFunc(all, func(a, b transaction.Mismatch) bool { return a.Path == b.Path })
	if len(all) == 0 {
		return nil
	}
	const shown = 20
	text := fmt.Sprintf("%d of the patch's paths are not as it expects them", len(all))
	if len(all) == 1 {
		text = "1 of the patch's paths is not as it expects it"
	}
	for i, mm := range all {
		if i == shown {
			text += fmt.Sprintf("\n  … and %d more", len(all)-shown)
			break
		}
		text += fmt.Sprintf("\n  %s: %s", manifest.Escape(mm.Path), mm.Why)
	}
	return failure.Errorf(failure.Refused, "%s", text)
}

// flags are those that a hint to apply the same again repeats.
func (a *applier) flags() string {
	text := a.opt.flags() + a.o.Given.Trust + a.o.Given.Checks + a.o.Given.Timing
	if a.o.Repair {
		text += " --repair"
	}
	return text
}

// words are the operands as a shell takes them, each with a blank in front.
func words(sources []Source) string {
	text := ""
	for _, s := range sources {
		switch {
		case s.Once:
			text += " -"
		default:
			text += " " + failure.Word(s.Name)
		}
	}
	return text
}
