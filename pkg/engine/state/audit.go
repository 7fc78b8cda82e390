package state

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

const (
	auditFile = "audit.jsonl"
	// tornFile holds a half-written line until a whole one tells of it.
	tornFile = "audit.torn"
	maxAudit = 1 << 30
	// tailChunk is what is read of the end of the log at first.
	tailChunk = 64 << 10
)

// tail is what appending needs of an audit log.
type tail struct {
	head journal.Head
	// told is the Seq of the newest journal record that the log tells of.
	told int64
	// last is the event of the last line.
	last journal.Event
	// size is that of audit.jsonl in bytes, whole that of its whole lines.
	size, whole int64
	exists      bool
	// lost says that there are closed files and no audit.jsonl.
	lost bool
}

// readTail reads the end of the log without judging its chain: a log that was
// tampered with goes on from its last line, so that the break stays where it is
// and Audit shows it, and the machine can still be patched. A line of a newer
// relkit is failure.Refused.
func (s *State) readTail() (tail, error) {
	f, err := s.fs.Open(auditFile)
	if errors.Is(err, fs.ErrNotExist) {
		return s.closedTail()
	}
	if err != nil {
		return tail{}, fmt.Errorf("reading audit.jsonl: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err == nil && info.Size > maxAudit {
		err = fmt.Errorf("%d bytes, at most %d", info.Size, maxAudit)
	}
	if err != nil {
		return tail{}, fmt.Errorf("reading audit.jsonl: %w", err)
	}
	for n := int64(tailChunk); ; n *= 16 {
		at := max(0, info.Size-n)
		b := make([]byte, info.Size-at)
		if _, err := io.ReadFull(io.NewSectionReader(f, at, info.Size-at), b); err != nil {
			return tail{}, fmt.Errorf("reading audit.jsonl: %w", err)
		}
		t, enough, err := scanTail(b, at)
		if err != nil {
			return t, fmt.Errorf("reading audit.jsonl: %w", err)
		}
		if enough || at == 0 {
			t.exists, t.size = true, info.Size
			return t, nil
		}
	}
}

// closedTail is the tail of a log that has no audit.jsonl: nothing, or what its
// newest closed file says.
func (s *State) closedTail() (tail, error) {
	closed, err := s.closedFiles()
	if err != nil || len(closed) == 0 {
		return tail{}, err
	}
	b, err := s.readClosed(closed[len(closed)-1])
	if err != nil {
		return tail{}, err
	}
	t, _, err := scanTail(b, 0)
	return tail{head: t.head, told: t.told, lost: true}, err
}

// scanTail reads lines from b, which stands at an offset of the log and ends
// with it. enough says that one of them can be read.
func scanTail(b []byte, at int64) (t tail, enough bool, err error) {
	pos := 0
	if at > 0 { // within a line, as a rule
		pos = bytes.IndexByte(b, '\n') + 1
		if pos == 0 {
			return t, false, nil
		}
	}
	t.whole = at + int64(pos)
	for {
		text, rest, ok := bytes.Cut(b[pos:], []byte("\n"))
		if !ok {
			return t, enough, nil
		}
		pos = len(b) - len(rest)
		t.whole = at + int64(pos)
		var l journal.AuditLine
		err := json.Unmarshal(text, &l)
		if l.Schema != journal.AuditSchema {
			if err := journal.Newer(text, journal.AuditSchema); err != nil {
				return t, false, fmt.Errorf("after line %d: %w", t.head.Count, err)
			}
		}
		if err == nil && l.Seq > 0 {
			t.head.Count, t.told, t.last, enough = l.Seq, l.JournalSeq, l.Event, true
		}
		t.head.Digest = digest.Of(text)
	}
}

// Settle makes version.json and the audit log say what the journals say. It is
// run after every change and at every start, and does nothing where nothing is
// missing: a record's version is written before its audit line, so a line that
// is there tells that the version was.
//
// What is missing are the records above the Seq that the log's last line names:
// neither the log nor the journals of transactions that have ended are read.
func (s *State) Settle() error {
	all, err := s.Transactions()
	if err != nil {
		return err
	}
	t, err := s.readTail()
	if err != nil {
		return err
	}
	if t.told > s.seq { // nobody but another hand wrote that
		if t.told, err = s.toldByLines(all); err != nil {
			return err
		}
	}
	missing, err := s.missing(all, t.told)
	if err != nil {
		return err
	}
	for _, m := range slices.Backward(missing) {
		if v := m.version(); v != nil {
			if err := s.SetVersion(*v); err != nil {
				return err
			}
			break
		}
	}
	lines := make([]journal.AuditLine, len(missing))
	for i, m := range missing {
		lines[i] = journal.AuditOf(m.tx.ID, m.n+1, m.record())
	}
	if err := s.appendAudit(t, lines); err != nil {
		return err
	}
	s.noteEnded(all)
	return nil
}

// missing are the records above told, in the order in which they were written.
func (s *State) missing(all []*Transaction, told int64) ([]missingLine, error) {
	var missing []missingLine
	for _, tx := range all {
		if tx.lastSeq() <= told {
			continue
		}
		tx, err := s.Whole(tx)
		if err != nil {
			return nil, err
		}
		for n := range tx.Records {
			if tx.Records[n].Seq > told {
				missing = append(missing, missingLine{tx: tx, n: n})
			}
		}
	}
	slices.SortFunc(missing, func(a, b missingLine) int { return cmp.Compare(a.record().Seq, b.record().Seq) })
	return missing, nil
}

// toldByLines is the Seq of the newest record that the log has a line of, for a
// log whose last line says what cannot be.
func (s *State) toldByLines(all []*Transaction) (told int64, err error) {
	last, err := s.lastRecords()
	if err != nil {
		return 0, err
	}
	for _, tx := range all {
		if tx, err = s.Whole(tx); err != nil {
			return 0, err
		}
		if n := min(last[tx.ID], len(tx.Records)); n > 0 {
			told = max(told, tx.Records[n-1].Seq)
		}
	}
	return told, nil
}

// lastRecords is for each transaction the number of the last record that the
// log has a line of. It reads all of the log, without judging it.
func (s *State) lastRecords() (map[string]int, error) {
	last := map[string]int{}
	err := s.eachFile(func(_ string, b []byte) error {
		for text := range bytes.Lines(b) {
			var l journal.AuditLine
			if json.Unmarshal(text, &l) == nil && l.Transaction != "" {
				last[l.Transaction] = max(last[l.Transaction], l.Record)
			}
		}
		return nil
	})
	return last, err
}

// missingLine is record n of a transaction, which the audit log does not tell of.
type missingLine struct {
	tx *Transaction
	n  int
}

func (m missingLine) record() *journal.Record { return &m.tx.Records[m.n] }

func (m missingLine) version() *journal.Version { return versionAfter(m.tx, m.record().Event) }

// versionAfter is what is installed once event e of t has happened, nil where it does not change.
func versionAfter(t *Transaction, e journal.Event) *journal.Version {
	begin := t.Find(journal.Begin)
	switch {
	case e == journal.Applied || e == journal.Awaiting:
		return begin.To
	case e == journal.RolledBack && begin.From == nil:
		return &journal.Version{}
	case e == journal.RolledBack:
		return begin.From
	}
	return nil
}

// Note adds an event that no journal holds (a refusal) to the audit log.
func (s *State) Note(l journal.AuditLine) error {
	t, err := s.readTail()
	if err != nil {
		return err
	}
	l.JournalSeq = t.told
	return s.appendAudit(t, []journal.AuditLine{l})
}

// appendAudit adds lines behind t, in a new file where that is called for.
func (s *State) appendAudit(t tail, lines []journal.AuditLine) error {
	if err := s.setTornAside(&t); err != nil {
		return fmt.Errorf("setting a torn line of audit.jsonl aside: %w", err)
	}
	if len(lines) == 0 {
		return nil
	}
	if t.whole >= s.audit.maxSize() && t.last != journal.LogClosed {
		closing := journal.AuditLine{Event: journal.LogClosed, Time: lines[0].Time, JournalSeq: t.told}
		if err := s.appendLines(&t, []journal.AuditLine{closing}); err != nil {
			return err
		}
	}
	if t.last == journal.LogClosed || t.lost {
		return s.continueAudit(t, lines)
	}
	return s.appendLines(&t, lines)
}

func (s *State) appendLines(t *tail, lines []journal.AuditLine) error {
	torn, err := s.fs.Lstat(tornFile)
	isTorn := err == nil
	if isTorn {
		lines[0].TornTail = torn.Size
	}
	first := t.head.Count + 1
	b, head, err := encodeLines(t.head, lines)
	if err != nil {
		return err
	}
	if t.exists {
		err = appendSync(s.fs, auditFile, b)
	} else {
		err = fsys.WriteFile(s.fs, auditFile, b, 0o600)
	}
	if err != nil {
		return fmt.Errorf("writing audit.jsonl: %w", err)
	}
	t.exists, t.head, t.last = true, head, lines[len(lines)-1].Event
	t.whole += int64(len(b))
	if isTorn {
		return s.fs.Rename(tornFile, fmt.Sprintf("%s-%d", tornFile, first), fsys.Replace)
	}
	return nil
}

func encodeLines(head journal.Head, lines []journal.AuditLine) (b []byte, _ journal.Head, err error) {
	for _, l := range lines {
		if b, head, err = journal.AppendAudit(b, head, l); err != nil {
			return nil, head, err
		}
	}
	return b, head, nil
}

// setTornAside moves what follows the last whole line into a file of its own.
func (s *State) setTornAside(t *tail) error {
	if t.whole == t.size {
		return nil
	}
	b, err := fsys.ReadFile(s.fs, auditFile, maxAudit)
	if err != nil {
		return err
	}
	if err := fsys.WriteFile(s.fs, tornFile, b[t.whole:], 0o600); err != nil {
		return err
	}
	if err := s.fs.Truncate(auditFile, t.whole); err != nil {
		return err
	}
	t.size = t.whole
	return s.fs.SyncFile(auditFile)
}
