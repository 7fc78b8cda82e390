package transaction

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/relkit/relkit/pkg/engine/state"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/delta"
	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/format/patch"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// Tx is one transaction, open.
type Tx struct {
	Target
	Journal *state.Transaction
	plan    *journal.Plan
	survey  *Survey // nil for one that was read back
	// stays are folders that the patch removes and that hold something else, vis(3)-escaped.
	stays []string
	// tops are the file systems as they are now, of one that is committed again.
	tops []journal.Top
	// replanned says that the plan is another than the one that was staged.
	replanned bool
	skip      map[int]bool
	decided   decisions // of the rollback under way
	kept      []string
	asides    []aside
	// unwritten is why the journal does not say yet that the old tree is back.
	unwritten error
	scripts   map[string][]byte
	// Visible is how long Commit took from the first change of the tree to the last.
	Visible time.Duration
	// Insecure and Reason, where they are set before Commit, go into the record with
	// which it begins: of what was taken back, of which "begin" tells how it was once
	// admitted, they tell what was waived this time. They are durable with that record,
	// so before anything is visible.
	Insecure []string
	Reason   string
	// Progress, where it is set before Stage, hears of bytes that were staged.
	Progress func(n int64)
}

// scriptName is where a script of a transaction lies, relative to the root.
func scriptName(slot, name string) string { return SlotDir(".", slot) + "/script-" + name }

// Scripts are kept with the transaction, executable, for as long as it can be
// taken back. They are given before Stage; Options.Scripts must have been set.
func (x *Tx) Scripts(scripts map[string][]byte) { x.scripts = scripts }

// Script is the path of a script that is kept with a transaction, relative to
// the root, verified by its digest; "" where there is none of that name.
func Script(t Target, j *state.Transaction, name string) (string, error) {
	staged := j.Find(journal.Staged)
	if staged == nil {
		return "", fmt.Errorf("transaction %s is not staged", j.ID)
	}
	want, ok := staged.Scripts[name]
	if !ok {
		return "", nil
	}
	path := scriptName(j.Slot(), name)
	b, err := fsys.ReadFile(t.Root, path, maxScript)
	if err != nil {
		return "", fmt.Errorf("reading the %s script: %w", name, err)
	}
	if got := digest.Of(b); got != want {
		return "", failure.Errorf(failure.Refused, "the %s script was changed: its digest is %s, want %s", name, got, want)
	}
	return path, nil
}

// maxScript bounds a script, in bytes.
const maxScript = 16 << 20

// Segments is where the verified segments of a patch come from, in order.
type Segments interface {
	NextSegment() (patch.Segment, int64, []byte, error)
}

// Begin opens a transaction for what the survey planned. r says what is done
// and why; its event, time and tops are filled in. Nothing visible changes.
func Begin(t Target, s *Survey, r journal.Record) (*Tx, error) {
	if len(s.Mismatches) > 0 {
		return nil, failure.Errorf(failure.Refused, "the tree is not as expected: %q %s", s.Mismatches[0].Path, s.Mismatches[0].Why)
	}
	r.Time, r.Slot, r.ConfigFiles = t.Now(), newSlot(), s.o.ConfigFiles
	for i, top := range s.Plan.Tops {
		info, err := t.Root.Lstat(top.Path)
		if err != nil {
			return nil, err
		}
		r.Tops = append(r.Tops, journal.Top{Path: manifest.Escape(top.Path), Sec: info.ModTime.Sec, Nsec: info.ModTime.Nsec, Remount: s.remounts[i]})
	}
	j, err := t.State.Begin(r)
	if err != nil {
		return nil, err
	}
	x := &Tx{Target: t, Journal: j, plan: s.Plan, survey: s}
	for _, path := range s.Kept {
		x.stays = append(x.stays, manifest.Escape(path))
	}
	return x, nil
}

// Stage makes every new inode, complete and durable, in the slots. On an error
// the transaction is aborted: nothing visible has changed.
func (x *Tx) Stage(ctx context.Context, segments Segments) error {
	err := x.stage(ctx, segments)
	if err == nil {
		return nil
	}
	if abort := x.Abort(err.Error()); abort != nil {
		x.Log.Warn("the slots are left for the next run to clean up", "err", abort)
	}
	return err
}

func (x *Tx) stage(ctx context.Context, segments Segments) error {
	if err := x.writable(); err != nil {
		return failure.As(failure.Refused, err)
	}
	for i := range x.plan.Tops {
		if err := x.makeSlot(&x.plan.Tops[i]); err != nil {
			return fmt.Errorf("making the slots of %q: %w", x.plan.Tops[i].Path, err)
		}
	}
	scripts := map[string]digest.Digest{}
	for name, script := range x.scripts {
		if err := fsys.WriteFile(x.Root, scriptName(x.Journal.Slot(), name), script, 0o700); err != nil {
			return fmt.Errorf("keeping the %s script: %w", name, err)
		}
		scripts[name] = digest.Of(script)
	}
	st := &stager{x: x, ctx: ctx, staged: make([]bool, len(x.plan.Steps)), groups: map[int]int{}, labels: labels{x.Root, map[labelled][]byte{}}}
	if err := st.run(segments); err != nil {
		return err
	}
	for _, top := range x.plan.Tops {
		if err := x.Root.SyncFS(top.Path); err != nil {
			return fmt.Errorf("syncing %q: %w", top.Path, err)
		}
	}
	plan, err := x.State.WritePlan(x.Journal, x.plan)
	if err != nil {
		return fmt.Errorf("writing the plan: %w", err)
	}
	return x.State.Append(x.Journal, journal.Record{Event: journal.Staged, Time: x.Now(), Plan: plan, Scripts: scripts})
}

// makeSlot makes the slot folder on one file system, and finds out whether two
// names can be exchanged there by exchanging two files.
func (x *Tx) makeSlot(top *journal.PlanTop) error {
	slots, dir := join(top.Path, SlotsDir), SlotDir(top.Path, x.Journal.Slot())
	before, err := x.Root.Lstat(top.Path)
	if err != nil {
		return err
	}
	info, found, err := present(x.Root, slots)
	switch {
	case err != nil:
		return err
	case found && info.Kind != manifest.Dir:
		return failure.Errorf(failure.Refused, "%q is a %s", slots, info.Kind)
	case !found:
		err = errors.Join(x.Root.Mkdir(slots, 0o700), x.Root.SetModTime(top.Path, before.ModTime), x.Root.SyncDir(top.Path))
	}
	if err != nil {
		return err
	}
	if err := x.Root.Mkdir(dir, 0o700); err != nil {
		return err
	}
	if err := x.ownSlots(slots, dir); err != nil {
		return err
	}
	if err := x.Root.SyncDir(slots); err != nil {
		return err
	}
	return x.probe(top, dir)
}

// ownSlots holds that nobody else can reach into the slots: what is in them is
// renamed into the tree. Someone who may write at the top of a file system
// could have made the folder first. dir has just been made, so it has our owner.
func (x *Tx) ownSlots(slots, dir string) error {
	above, err := x.Root.Lstat(slots)
	if err != nil {
		return err
	}
	ours, err := x.Root.Lstat(dir)
	if err != nil {
		return err
	}
	// FAT shows one mode for all folders: there the mount decides who may enter.
	if above.Kind != manifest.Dir || above.UID != ours.UID || above.Mode&0o077 != 0 && above.Mode != ours.Mode {
		return failure.WithHint(failure.Errorf(failure.Refused, "%q is not relkit's own: it has owner %d and mode %04o, want owner %d and mode 0700",
			slots, above.UID, above.Mode, ours.UID), "look at what is in it, then remove it")
	}
	return nil
}

func (x *Tx) probe(top *journal.PlanTop, dir string) error {
	a, b := dir+"/probe-a", dir+"/probe-b"
	for _, name := range []string{a, b} {
		w, err := x.Root.Create(name, 0o600)
		if err != nil {
			return err
		}
		if err := w.Close(); err != nil {
			return err
		}
	}
	err := x.Root.Rename(a, b, fsys.Exchange)
	if err != nil && !fsys.IsUnsupported(err) {
		return err
	}
	top.Exchange = err == nil
	if !top.Exchange {
		err := x.Root.Link(a, b+"-link")
		if err == nil {
			err = x.Root.Unlink(b + "-link")
		} else if fsys.IsLinkless(err) {
			top.NoLinks, err = true, nil
		}
		if err != nil {
			return err
		}
	}
	return errors.Join(x.Root.Unlink(a), x.Root.Unlink(b))
}

// stager fills the slots of one transaction.
type stager struct {
	x      *Tx
	ctx    context.Context
	staged []bool
	// groups maps a new hard-link group to the step whose slot has its inode.
	groups map[int]int
	labels labels
	buf    []byte
}

func (st *stager) run(segments Segments) error {
	contents := st.x.survey.entries.Contents()
	byChange := map[int]int{}
	for i, c := range st.x.survey.change {
		if c >= 0 {
			byChange[c] = i
		}
	}
	if err := st.stream(contents, byChange, segments); err != nil {
		return err
	}
	for _, c := range contents {
		if err := st.copies(c, byChange); err != nil {
			return err
		}
	}
	for i := range st.staged {
		if err := st.rest(i); err != nil {
			return err
		}
	}
	return nil
}

// stream unpacks the segments into the slot of the first step of each content.
func (st *stager) stream(contents []patch.Content, byChange map[int]int, segments Segments) error {
	sink := &sink{st: st, wrong: failure.Untrusted}
	for _, c := range contents {
		step := -1
		if k := slices.IndexFunc(c.Changes, func(n int) bool { _, ok := byChange[n]; return ok }); k >= 0 {
			step = byChange[c.Changes[k]]
		}
		sink.parts = append(sink.parts, part{step: step, size: c.Size})
	}
	bases := newBases(st.x.Root, st.x.survey.entries)
	defer bases.Close()
	var decoder delta.Decoder
	defer decoder.Close()
	for {
		if err := st.ctx.Err(); err != nil {
			return errors.Join(context.Cause(st.ctx), sink.abort())
		}
		seg, offset, b, err := segments.NextSegment()
		if err == io.EOF {
			return sink.end()
		}
		if err == nil {
			err = decoder.Decode(seg.Method, b, seg.Output, bases.open, sink)
		}
		if err != nil {
			return errors.Join(fmt.Errorf("unpacking the content at %d: %w", offset, err), sink.abort())
		}
	}
}

// copies stages the other files that have the same content.
func (st *stager) copies(c patch.Content, byChange map[int]int) error {
	first := -1
	for _, n := range c.Changes {
		i, ok := byChange[n]
		switch {
		case !ok || st.staged[i] && first >= 0:
		case st.staged[i]:
			first = i
		case st.linked(i):
		default:
			if err := st.copy(i, st.x.slot(first)); err != nil {
				return err
			}
		}
	}
	return nil
}

// linked tells whether step i is one more name of an inode that is staged already.
func (st *stager) linked(i int) bool {
	link := st.x.plan.Steps[i].New.Link
	_, ok := st.groups[link]
	return link != 0 && ok
}

// rest stages step i where no segment carries its content.
func (st *stager) rest(i int) error {
	step := &st.x.plan.Steps[i]
	e := step.New
	if e == nil || step.Do == journal.Meta || st.staged[i] {
		return nil
	}
	if err := st.ctx.Err(); err != nil {
		return context.Cause(st.ctx)
	}
	if st.linked(i) {
		first := st.groups[e.Link]
		if err := st.x.Root.Link(st.x.slot(first), st.x.slot(i)); err != nil {
			return fmt.Errorf("staging %q: %w", e.Path, err)
		}
		step.NewInode = st.x.plan.Steps[first].NewInode
		st.staged[i] = true
		return nil
	}
	if e.Kind == manifest.File && e.Size > 0 {
		from := e.Path
		if n := st.x.survey.entries.Changes[st.x.survey.change[i]].Base; n >= 0 {
			b, ok := st.x.survey.entries.Base(n)
			if !ok {
				return fmt.Errorf("staging %q: no base %d", e.Path, n)
			}
			from = b.Path
		}
		return st.copy(i, from)
	}
	if err := st.make(i); err != nil {
		return fmt.Errorf("staging %q: %w", e.Path, err)
	}
	return st.finish(i)
}

// make makes an inode that has no content to be copied.
func (st *stager) make(i int) error {
	e, name, root := st.x.plan.Steps[i].New, st.x.slot(i), st.x.Root
	switch e.Kind {
	case manifest.File:
		w, err := root.Create(name, 0o600)
		if err != nil {
			return err
		}
		return w.Close()
	case manifest.Dir:
		return root.Mkdir(name, 0o700)
	case manifest.Symlink:
		return root.Symlink(e.Target, name)
	case manifest.CharDev, manifest.BlockDev, manifest.FIFO:
		return root.Mknod(name, e.Kind, 0o600, e.Major, e.Minor)
	}
	return fmt.Errorf("cannot make a %s", e.Kind)
}

// copy stages step i with the content of another file, verified.
func (st *stager) copy(i int, from string) error {
	e := st.x.plan.Steps[i].New
	src, err := st.x.Root.Open(from)
	if err != nil {
		return fmt.Errorf("staging %q: %w", e.Path, err)
	}
	defer src.Close()
	// The source was as it should when it was looked at.
	sink := &sink{st: st, parts: []part{{step: i, size: e.Size}}, wrong: failure.Refused}
	if st.buf == nil {
		st.buf = make([]byte, 1<<20)
	}
	// One byte more than wanted shows a file that has grown.
	_, err = io.CopyBuffer(struct{ io.Writer }{sink}, io.LimitReader(src, e.Size+1), st.buf)
	if err != nil {
		return errors.Join(err, sink.abort())
	}
	return sink.end()
}

// finish gives a staged inode its metadata and notes its number. All are made
// durable at once, by syncfs(2) before the plan is written: a thousand small
// files take half the time that fsync(2) of each does, and Linux reports errors
// of writing back through either since 5.8.
func (st *stager) finish(i int) error {
	step := &st.x.plan.Steps[i]
	e, name := step.New, st.x.slot(i)
	info, err := st.x.Root.Lstat(name)
	switch {
	case err != nil:
	case isFAT(st.x.survey.tops.mounts[step.Top].Type):
		err = st.asKept(i)
	default:
		err = setMetadata(st.x.Root, name, info, e, e.Kind == manifest.Dir)
		if err == nil {
			err = st.label(name, step)
		}
	}
	if err != nil {
		return fmt.Errorf("staging %q: %w", e.Path, err)
	}
	step.NewInode = info.Ino
	st.staged[i] = true
	if e.Link != 0 {
		st.groups[e.Link] = i
	}
	return nil
}

// bases opens the old files that segments copy from, each once.
type bases struct {
	root    fsys.FS
	entries *patch.Entries
	files   map[int]fsys.File
}

func newBases(root fsys.FS, entries *patch.Entries) *bases {
	return &bases{root: root, entries: entries, files: map[int]fsys.File{}}
}

// maxOpenBases bounds the file descriptors that stay open.
const maxOpenBases = 64

func (b *bases) open(ordinal int) (io.ReaderAt, int64, error) {
	base, ok := b.entries.Base(ordinal)
	if !ok {
		return nil, 0, failure.Errorf(failure.Untrusted, "no base %d", ordinal)
	}
	if f := b.files[ordinal]; f != nil {
		return f, base.Size, nil
	}
	if len(b.files) >= maxOpenBases {
		b.Close()
	}
	f, err := b.root.Open(base.Path)
	if err != nil {
		return nil, 0, err
	}
	b.files[ordinal] = f
	return f, base.Size, nil
}

// Close closes what is open; reading needs no answer from it.
func (b *bases) Close() {
	for n, f := range b.files {
		_ = f.Close()
		delete(b.files, n)
	}
}
