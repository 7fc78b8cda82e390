// Package state is what relkit knows about the machine it runs on: what is
// installed, every transaction's journal and plan, and the audit log.
//
// The state folder holds
//
//	version.json               what is installed now
//	transactions/NNNNNN/journal, plan, plan-DIGEST, patch
//	ended                      which transactions have ended, derived from the journals
//	audit.jsonl                the tamper-evident log, derived from the journals
//	audit-N.jsonl.zst          what it held before, from line N on
//
// The journals are the truth; version.json and the audit log follow from them,
// so that a power cut between two writes is mended by Settle.
package state

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"

	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

const (
	transactionsDir = "transactions"
	journalFile     = "journal"
	// givenFile is the head of the patch, as the caller wants it kept.
	givenFile = "patch"
	// maxJournal bounds what is read of one journal, in bytes.
	maxJournal = 256 << 20
	// maxGiven bounds what is kept of a patch itself, in bytes.
	maxGiven = 256 << 20
)

// State is an open state folder. It is not safe for concurrent use: the lock
// of the machine is held by whoever changes it.
type State struct {
	fs fsys.FS
	// seq is the number of the last record of all journals, once they were read.
	seq   int64
	audit AuditOptions
}

// New is the state in the folder that fs is rooted at.
func New(fs fsys.FS) *State { return &State{fs: fs} }

// FS is the state folder.
func (s *State) FS() fsys.FS { return s.fs }

// Transaction is one transaction's journal as it stands.
type Transaction struct {
	ID      string // six digits or more
	Records []journal.Record
	// Short says that the transaction has ended and that Records are only those
	// that tell how it began and ended; State.Whole has all.
	Short bool
	// size of the journal's whole lines in bytes; torn when more follows them.
	size int64
	torn bool
}

// Status is the last event that is no hook's; "" for a transaction that never began.
func (t *Transaction) Status() journal.Event {
	for i := len(t.Records) - 1; i >= 0; i-- {
		if e := t.Records[i].Event; e != journal.Hook {
			return e
		}
	}
	return ""
}

// Find is the last record of an event, nil for none.
func (t *Transaction) Find(e journal.Event) *journal.Record {
	for i := len(t.Records) - 1; i >= 0; i-- {
		if t.Records[i].Event == e {
			return &t.Records[i]
		}
	}
	return nil
}

// turn are the records since the transaction was taken back last: all, where it
// never was. One that is committed again goes through its states anew.
func (t *Transaction) turn() []journal.Record {
	for i := len(t.Records) - 2; i >= 0; i-- { // of one that is taken back, those that led there
		if t.Records[i].Event == journal.RolledBack {
			return t.Records[i+1:]
		}
	}
	return t.Records
}

// Since are the records behind the last one of an event, none where there is no such.
func (t *Transaction) Since(e journal.Event) []journal.Record {
	for i := len(t.Records) - 1; i >= 0; i-- {
		if t.Records[i].Event == e {
			return t.Records[i+1:]
		}
	}
	return nil
}

// This is Find among the records since the transaction was taken back last.
func (t *Transaction) This(e journal.Event) *journal.Record {
	for _, r := range slices.Backward(t.turn()) {
		if r.Event == e {
			return &r
		}
	}
	return nil
}

// Active tells whether the transaction was applied, stands, and can be rolled back.
func (t *Transaction) Active() bool {
	return t.Status() == journal.Applied || t.Status() == journal.Reapplied
}

// Pending tells whether the transaction waits for somebody, or for the next
// boot: it was not interrupted, and a recovery leaves it alone.
func (t *Transaction) Pending() bool {
	switch t.Status() {
	case journal.Ready, journal.Armed, journal.Awaiting, journal.Booted, journal.Withdrawn:
		return true
	}
	return false
}

// Boots is how many boots a transaction that awaits confirmation has seen: the
// one that committed it is the first.
func (t *Transaction) Boots() int {
	n := 0
	for _, r := range t.turn() {
		if r.Event == journal.Awaiting || r.Event == journal.Booted {
			n++
		}
	}
	return n
}

// HookRuns is how often a hook was started since the transaction was taken back
// last, and how it ended last, "" where it did not. Of one that is taken back those
// are the hooks of tries to commit it again that did not begin.
func (t *Transaction) HookRuns(name string) (started int, result string) {
	turn := t.turn()
	if t.TakenBack() {
		turn = t.Since(journal.RolledBack)
	}
	for i := range turn {
		if r := &turn[i]; r.Event == journal.Hook && r.Hook == name {
			started, result = max(started, r.Attempt), r.Result
		}
	}
	return started, result
}

// Closed tells whether nothing of the transaction is left to be finished or undone.
func (t *Transaction) Closed() bool {
	return t.Active() || t.TakenBack() || t.Status() == journal.Freed
}

// TakenBack tells whether the transaction was taken back and its slots are still
// there: what it brought can be committed again.
func (t *Transaction) TakenBack() bool { return t.Status() == journal.RolledBack }

// lastSeq is the Seq of its last record, 0 for none.
func (t *Transaction) lastSeq() int64 {
	if len(t.Records) == 0 {
		return 0
	}
	return t.Records[len(t.Records)-1].Seq
}

// Slot is the name of its slot folder on each file system.
func (t *Transaction) Slot() string { return t.Records[0].Slot }

func (t *Transaction) dir() string { return transactionsDir + "/" + t.ID }

// Transactions are all transactions, oldest first; those that have ended may be
// Short.
func (s *State) Transactions() ([]*Transaction, error) { return s.transactions(true) }

// Journals are all transactions, each journal read as a whole.
func (s *State) Journals() ([]*Transaction, error) { return s.transactions(false) }

func (s *State) transactions(short bool) ([]*Transaction, error) {
	names, err := s.fs.ReadDir(transactionsDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the transactions: %w", err)
	}
	var ended map[string]*Transaction
	if short {
		ended = s.readEnded(names)
	}
	var all []*Transaction
	for _, name := range names {
		if _, err := strconv.ParseUint(name, 10, 32); err != nil {
			continue
		}
		t := ended[name]
		if t == nil {
			if t, err = s.load(name); err != nil {
				return nil, fmt.Errorf("reading the journal of transaction %s: %w", name, err)
			}
		}
		s.seq = max(s.seq, t.lastSeq())
		all = append(all, t)
	}
	return all, nil
}

func (s *State) load(id string) (*Transaction, error) {
	t := &Transaction{ID: id}
	b, err := fsys.ReadFile(s.fs, t.dir()+"/"+journalFile, maxJournal)
	if errors.Is(err, fs.ErrNotExist) {
		return t, nil
	}
	if err != nil {
		return nil, err
	}
	records, whole, err := journal.Parse(b)
	if err != nil {
		return nil, err
	}
	t.Records, t.size, t.torn = records, int64(whole), whole != len(b)
	if !t.torn {
		return t, nil
	}
	// A power cut tears a record that nothing was derived from yet. One that the
	// audit log has was whole: undoing by what is left would be wrong.
	last, err := s.lastRecords()
	if err != nil {
		return nil, err
	}
	if told := last[id]; told > len(records) {
		return nil, fmt.Errorf("damaged: it has %d whole records, and the audit log tells of %d", len(records), told)
	}
	return t, nil
}

// Begin makes a new transaction; its first record is durable when Begin returns.
func (s *State) Begin(r journal.Record) (*Transaction, error) {
	r.Event = journal.Begin
	all, err := s.Transactions()
	if err != nil {
		return nil, err
	}
	next := uint64(1)
	if len(all) > 0 {
		last, err := strconv.ParseUint(all[len(all)-1].ID, 10, 32)
		if err != nil {
			return nil, err
		}
		next = last + 1
	}
	t := &Transaction{ID: fmt.Sprintf("%06d", next)}
	if err := s.create(t, &r); err != nil {
		return nil, errors.Join(fmt.Errorf("beginning transaction %s: %w", t.ID, err), s.Discard(t))
	}
	return t, nil
}

func (s *State) create(t *Transaction, r *journal.Record) error {
	r.Seq = s.seq + 1
	if err := fsys.MkdirAll(s.fs, transactionsDir, 0o700); err != nil {
		return err
	}
	if err := s.fs.Mkdir(t.dir(), 0o700); err != nil {
		return err
	}
	line, err := journal.Append(nil, r)
	if err != nil {
		return err
	}
	if err := fsys.WriteFile(s.fs, t.dir()+"/"+journalFile, line, 0o600); err != nil {
		return err
	}
	if err := s.fs.SyncDir(transactionsDir); err != nil {
		return err
	}
	t.Records, t.size = []journal.Record{*r}, int64(len(line))
	s.seq++
	return nil
}

// Append adds a record to t's journal; it is durable when Append returns nil.
// After an error the journal may hold the record or not.
func (s *State) Append(t *Transaction, r journal.Record) error {
	if !journal.Follows(t.Status(), r.Event) {
		return fmt.Errorf("transaction %s: %q cannot follow %q", t.ID, r.Event, t.Status())
	}
	if s.seq < t.lastSeq() {
		if _, err := s.Transactions(); err != nil { // this State has not counted yet
			return err
		}
	}
	r.Seq = s.seq + 1
	line, err := journal.Append(nil, &r)
	if err != nil {
		return err
	}
	if err := s.appendLine(t, line); err != nil {
		t.torn = true
		return fmt.Errorf("writing %q to the journal of transaction %s: %w", r.Event, t.ID, err)
	}
	t.size += int64(len(line))
	t.Records = append(t.Records, r)
	s.seq++
	return nil
}

func (s *State) appendLine(t *Transaction, line []byte) error {
	if err := s.Repair(t); err != nil {
		return err
	}
	return appendSync(s.fs, t.dir()+"/"+journalFile, line)
}

// Repair cuts off what stands behind the last whole record of t's journal: a
// line torn by a power cut, or one whose writing failed and that therefore
// must not count.
func (s *State) Repair(t *Transaction) error {
	if !t.torn {
		return nil
	}
	name := t.dir() + "/" + journalFile
	if err := s.fs.Truncate(name, t.size); err != nil {
		return err
	}
	if err := s.fs.SyncFile(name); err != nil {
		return err
	}
	t.torn = false
	return nil
}

// appendSync adds b at the end of a file and makes it durable.
func appendSync(f fsys.FS, name string, b []byte) error {
	w, err := f.Append(name)
	if err != nil {
		return err
	}
	_, err = w.Write(b)
	if err == nil {
		err = w.Sync()
	}
	return errors.Join(err, w.Close())
}

// WriteGiven keeps what the caller wants of a patch, for as long as its plan is kept.
func (s *State) WriteGiven(t *Transaction, b []byte) error {
	return fsys.WriteFile(s.fs, t.dir()+"/"+givenFile, b, 0o600)
}

// ReadGiven is what WriteGiven kept; fs.ErrNotExist where that was nothing.
func (s *State) ReadGiven(t *Transaction) ([]byte, error) {
	return fsys.ReadFile(s.fs, t.dir()+"/"+givenFile, maxGiven)
}

// Discard removes the folder of a transaction that never began.
func (s *State) Discard(t *Transaction) error {
	if t.Status() != "" {
		return fmt.Errorf("transaction %s has begun", t.ID)
	}
	return fsys.RemoveAll(s.fs, t.dir())
}

// Ensure makes the state folder at path below root, where it does not exist.
// Times of the folders above it stay as they are: to a manifest the state
// folder is not there.
func Ensure(root fsys.FS, path string) error {
	if _, err := root.Lstat(path); err == nil {
		return nil
	}
	parent := manifest.Parent(path)
	if parent != "." {
		if _, err := root.Lstat(parent); errors.Is(err, fs.ErrNotExist) {
			if err := Ensure(root, parent); err != nil {
				return err
			}
		}
	}
	before, err := root.Lstat(parent)
	if err != nil {
		return err
	}
	if err := root.Mkdir(path, 0o755); err != nil {
		return err
	}
	if err := root.SetModTime(parent, before.ModTime); err != nil {
		return err
	}
	return root.SyncDir(parent)
}
