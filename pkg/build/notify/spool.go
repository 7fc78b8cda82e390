package notify

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/relkit/relkit/pkg/config"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/record"
	"github.com/relkit/relkit/pkg/format/strict"
	"github.com/relkit/relkit/pkg/sys/fsys"
	"github.com/relkit/relkit/pkg/sys/lock"
)

// Bounds on what waits.
const (
	maxEntries = 100
	maxAge     = 3 * 24 * time.Hour
	// maxEntry bounds one in bytes: the log in it is in base64.
	maxEntry = record.MaxBuildNotice + 2*MaxLog
	// The first two tries are as soon as relkit runs; each later one waits twice
	// as long as the one before.
	firstWait = 5 * time.Minute
	maxWait   = 4 * time.Hour
	// patience is the part of the deadline after which a target that failed is not
	// tried again by the same process.
	patience = 6
)

const entryExt = ".json"

// entry is a file of the spool: one [[notify]] to be told of one build.
//
// An entry is written before it is delivered for the first time and removed
// when it has been. A relkit that is killed in between leaves it, and the next
// delivers it, perhaps for the second time: with the same Message-ID.
type entry struct {
	Schema string `json:"schema"`
	// Target is the key of a target, never what the configuration says of it.
	Target string `json:"target"`
	Label  string `json:"label"`
	// From is the sender; All are the recipients and To those that have it not yet.
	From string   `json:"from,omitempty"`
	All  []string `json:"all,omitempty"`
	To   []string `json:"to,omitempty"`
	// Thread is the ID of what the failures that this belongs to began with.
	Thread string              `json:"thread,omitempty"`
	Notice *record.BuildNotice `json:"notice"`
	// Log is attached where there is one.
	Log     []byte    `json:"log,omitempty"`
	LogName string    `json:"log_name,omitempty"`
	Queued  time.Time `json:"queued"`
	// Attempts counts the tries, Last is the time of the latest and Error what it said.
	Attempts int       `json:"attempts,omitempty"`
	Last     time.Time `json:"last,omitzero"`
	Error    string    `json:"error,omitempty"`

	path string // without entryExt
	was  string // Label as the file has it
}

const entrySchema = "relkit.build-spool/v1"

// due tells whether it is time for another try.
func (e *entry) due(now time.Time) bool {
	if e.Attempts < 2 {
		return true
	}
	wait := firstWait << min(e.Attempts-2, 20)
	return !now.Before(e.Last.Add(min(wait, maxWait))) || now.Before(e.Last) // a clock that was set back
}

// Outcome is what became of one try.
type Outcome struct {
	Builder string
	Number  int
	// Label is who was to be told.
	Label string
	// Err is why that failed, nil where it did not; GivenUp tells that there
	// will be no other try.
	Err     error
	GivenUp bool
	// Again tells that it was not the first try; Label was Was then.
	Again bool
	Was   string
}

// Text is Err as one line.
func (o Outcome) Text() string { return clean(o.Err.Error(), maxLine) }

// Spool is a folder of what is still to be told.
type Spool struct {
	dir     string
	targets []target
	now     func() time.Time

	mu sync.Mutex
	// tried are the entries that this process has tried; silent are the targets
	// that kept it waiting for nothing, which the next entries do not do again.
	tried, silent map[string]bool
}

// Open makes a spool of a folder, which need not exist.
func Open(dir string, list []config.Notify, o Options) *Spool {
	if o.Deadline == 0 {
		o.Deadline = deadline
	}
	if o.Backoff == 0 {
		o.Backoff = time.Second
	}
	if o.LookupEnv == nil {
		o.LookupEnv = os.LookupEnv
	}
	s := &Spool{dir: dir, now: time.Now, tried: map[string]bool{}, silent: map[string]bool{}}
	for i := range list {
		s.targets = append(s.targets, target{&list[i], &o})
	}
	return s
}

// Queue writes down whom a build is to be told to. It answers what had to make
// room in a spool that is full.
func (s *Spool) Queue(sit *Situation, f *Facts) ([]Outcome, error) {
	var dropped []Outcome
	queued := map[string]bool{}
	for i := range s.targets {
		e := s.targets[i].compose(sit, f)
		if e == nil || queued[e.Target] {
			continue
		}
		queued[e.Target] = true
		if err := os.MkdirAll(s.dir, 0o755); err != nil {
			return dropped, fmt.Errorf("writing a notice: %w", err)
		}
		more, err := s.makeRoom()
		dropped = append(dropped, more...)
		if err != nil {
			return dropped, err
		}
		e.Queued = s.now().UTC().Truncate(time.Second)
		e.path = filepath.Join(s.dir, e.Notice.ID)
		if err := e.save(); err != nil {
			return dropped, err
		}
	}
	return dropped, nil
}

// compose is what the target is told of a situation; nil where that is nothing.
func (t target) compose(sit *Situation, f *Facts) *entry {
	if !sit.concerns(t.Notify) {
		return nil
	}
	e := &entry{Schema: entrySchema, Target: t.key(), Label: t.label(), Notice: sit.Notice(f, t.Attach != "none")}
	e.Notice.ID = id(sit.Build, e.Target)
	if t.byMail() {
		if e.All = sit.recipients(t.Notify); len(e.All) == 0 {
			return nil // only "blame", and nobody is to
		}
		e.From, e.To = t.sender(), e.All
		if sit.first != nil {
			e.Thread = id(sit.first, e.Target)
		}
	}
	if step := Step(sit.Build); t.Attach == "log" && step != nil && len(f.Log) > 0 {
		e.Log, e.LogName = f.Log[max(0, len(f.Log)-MaxLog):], step.Name+".log"
	}
	return e
}

// save makes an entry durable.
func (e *entry) save() error {
	data, err := strict.Encode(e)
	if err != nil {
		return fmt.Errorf("writing a notice: %w", err)
	}
	a, err := fsys.NewAtomic(e.path+entryExt, 0o644)
	if err == nil {
		if _, err = a.Write(data); err == nil {
			return a.Commit()
		}
		err = errors.Join(err, a.Abort())
	}
	return fmt.Errorf("writing a notice: %w", err)
}

// load reads an entry; nil where it is there no more.
func (s *Spool) load(id string) (*entry, error) {
	path := filepath.Join(s.dir, id)
	data, err := os.ReadFile(path + entryExt)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading a notice: %w", err)
	}
	e := &entry{path: path}
	if err := strict.Decode(data, maxEntry, e); err != nil {
		return nil, fmt.Errorf("reading a notice: %s: %w", path+entryExt, err)
	}
	if e.Schema != entrySchema || e.Notice == nil || e.Notice.ID != id {
		return nil, fmt.Errorf("reading a notice: %s: schema %q, want %q", path+entryExt, e.Schema, entrySchema)
	}
	e.was = e.Label
	return e, nil
}

// ids lists the entries, the oldest file first: a build that failed is told
// before the one that mends it.
func (s *Spool) ids() ([]string, error) {
	list, err := os.ReadDir(s.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("reading the notices: %w", err)
	}
	type aged struct {
		id string
		at time.Time
	}
	var found []aged
	for _, f := range list {
		id, ok := strings.CutSuffix(f.Name(), entryExt)
		if info, err := f.Info(); ok && err == nil && info.Mode().IsRegular() {
			found = append(found, aged{id, info.ModTime()})
		}
	}
	slices.SortStableFunc(found, func(a, b aged) int { return a.at.Compare(b.at) })
	var ids []string
	for _, f := range found {
		ids = append(ids, f.id)
	}
	return ids, nil
}

// makeRoom gives up the oldest entries of a spool that is full.
func (s *Spool) makeRoom() ([]Outcome, error) {
	ids, err := s.ids()
	if err != nil || len(ids) < maxEntries {
		return nil, err
	}
	var dropped []Outcome
	for _, id := range ids[:len(ids)-maxEntries+1] {
		e, err := s.load(id)
		if err != nil {
			e = nil // it cannot be delivered either
		}
		if err := os.Remove(filepath.Join(s.dir, id+entryExt)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return dropped, err
		}
		if e != nil {
			dropped = append(dropped, e.outcome(fmt.Errorf("%d notices wait, this is the oldest", len(ids)), true))
		}
	}
	return dropped, nil
}

func (e *entry) outcome(err error, givenUp bool) Outcome {
	return Outcome{e.Notice.Builder, e.Notice.Number, e.Label, err, givenUp, e.Attempts > 0, e.was}
}

// Deliver tries what waits, each entry once in the life of a process. One that
// another process is trying is left to that.
func (s *Spool) Deliver(ctx context.Context) ([]Outcome, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ids, err := s.ids()
	due, derr := s.due(ids)
	err = errors.Join(err, derr)
	var done []Outcome
	for _, id := range ids {
		if ctx.Err() != nil {
			break
		}
		if s.tried[id] {
			continue
		}
		o, tried, terr := s.try(ctx, id, due)
		err = errors.Join(err, terr)
		if tried {
			done = append(done, o)
		}
	}
	return done, err
}

// due are the targets for which the time of an entry has come: then all of theirs
// are tried, in order, lest "works again" arrives before "fails".
func (s *Spool) due(ids []string) (map[string]bool, error) {
	due := map[string]bool{}
	var errs []error
	for _, id := range ids {
		e, err := s.load(id)
		if errs = append(errs, err); e == nil {
			continue
		}
		// A target whose address somebody has mended is tried at once.
		if to := s.target(e.Target); to == nil || to.label() != e.Label || e.due(s.now()) {
			due[e.Target] = true
		}
	}
	return due, errors.Join(errs...)
}

// target is the one of this key; nil where the configuration has none.
func (s *Spool) target(key string) *target {
	i := slices.IndexFunc(s.targets, func(t target) bool { return t.key() == key })
	if i < 0 {
		return nil
	}
	return &s.targets[i]
}

// try delivers one entry under its lock.
func (s *Spool) try(ctx context.Context, id string, due map[string]bool) (o Outcome, tried bool, err error) {
	lockFile := filepath.Join(s.dir, id+".lock")
	l, err := lock.Try(lockFile)
	if failure.Of(err) == failure.Busy {
		return o, false, nil
	}
	if err != nil {
		return o, false, fmt.Errorf("delivering a notice: %w", err)
	}
	defer func() { err = errors.Join(err, os.Remove(lockFile), l.Release()) }()
	e, err := s.load(id)
	if e == nil || err != nil || !due[e.Target] {
		return o, false, nil // due has told the error
	}
	to := s.target(e.Target)
	switch {
	case to == nil:
		o = e.outcome(errors.New("the configuration has it no more"), true)
		return o, true, e.remove()
	case s.silent[e.Target]:
		return o, false, nil
	}
	s.tried[id] = true
	e.Label = to.label() // what it is called now
	start := time.Now()
	derr := to.deliver(ctx, e)
	if ctx.Err() != nil && derr != nil {
		return o, false, e.save() // not the target's fault; To may be shorter
	}
	if derr == nil {
		return e.outcome(nil, false), true, e.remove()
	}
	var r rejected
	if errors.As(derr, &r) {
		return e.outcome(derr, true), true, e.remove()
	}
	s.silent[e.Target] = time.Since(start) > to.o.Deadline/patience
	o = e.outcome(derr, s.now().Sub(e.Queued) > maxAge)
	if o.GivenUp {
		return o, true, e.remove()
	}
	e.Attempts++
	e.Last, e.Error = s.now().UTC().Truncate(time.Second), o.Text()
	return o, true, e.save()
}

func (e *entry) remove() error {
	err := os.Remove(e.path + entryExt)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // to make room
	}
	return err
}
