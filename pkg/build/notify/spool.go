package notify

import (
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
	"github.com/relkit/relkit/pkg/format/record"
	"github.com/relkit/relkit/pkg/format/strict"
	"github.com/relkit/relkit/pkg/sys/fsys"
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
	// MaxHold is how long a mail waits for others that are to be told with it: what
	// has failed is not kept back for long by what hangs.
	MaxHold = 10 * time.Minute
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
	// Parts are those of the notice's text, of what goes by mail.
	Parts *parts `json:"parts,omitempty"`
	// Log is attached where there is one.
	Log     []byte    `json:"log,omitempty"`
	LogName string    `json:"log_name,omitempty"`
	Queued  time.Time `json:"queued"`
	// Attempts counts the tries, Last is the time of the latest and Error what it said.
	Attempts int       `json:"attempts,omitempty"`
	Last     time.Time `json:"last,omitzero"`
	Error    string    `json:"error,omitempty"`

	path  string       // without entryExt
	was   string       // Label as the file has it
	roots []string     // what told of what this belongs to, without itself
	more  []attachment // the logs of a bundle
}

// attachment is a log beside a text.
type attachment struct {
	name string
	log  []byte
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

// Spool is a folder of what is still to be told.
type Spool struct {
	// Hold tells whether more builds of a builder are about to end, whose mails are
	// to be one; nil is never.
	Hold func(builder string) bool
	// HoldFor is how long at most; 0 is MaxHold.
	HoldFor time.Duration

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
		e.Parts = sit.parts(f, t.Attach != "none")
		if sit.first != nil {
			e.Thread = id(sit.first, e.Target)
		}
	}
	if step := Step(sit.Build); t.Attach == "log" && step != nil && len(f.Log) > 0 {
		e.Log, e.LogName = f.Log[max(0, len(f.Log)-MaxLog):], step.Name+".log"
	}
	return e
}

func (e *entry) encode() ([]byte, error) {
	data, err := strict.Encode(e)
	if err != nil {
		return nil, fmt.Errorf("writing a notice: %w", err)
	}
	return data, nil
}

// save makes an entry durable.
func (e *entry) save() error {
	data, err := e.encode()
	if err != nil {
		return err
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
	e, err := decodeEntry(data)
	if err == nil && e.Notice.ID != id {
		err = fmt.Errorf("it is that of %q", e.Notice.ID)
	}
	if err != nil {
		return nil, fmt.Errorf("reading a notice: %s: %w", path+entryExt, err)
	}
	e.path, e.was = path, e.Label
	return e, nil
}

func decodeEntry(data []byte) (*entry, error) {
	e := &entry{}
	if err := strict.Decode(data, maxEntry, e); err != nil {
		return nil, err
	}
	if e.Schema != entrySchema || e.Notice == nil {
		return nil, fmt.Errorf("schema %q, want %q", e.Schema, entrySchema)
	}
	if err := e.Notice.Check(); err != nil {
		return nil, fmt.Errorf("notice: %w", err)
	}
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
