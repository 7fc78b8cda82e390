package state

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
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
)

// ReadAudit is the audit log's bytes; none where there is no log.
func (s *State) ReadAudit() ([]byte, error) {
	b, err := fsys.ReadFile(s.fs, auditFile, maxAudit)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading audit.jsonl: %w", err)
	}
	return b, nil
}

// tail is what appending needs of an audit log: the head, and for each
// transaction the number of the last record that has its line.
type tail struct {
	head  journal.Head
	whole int64
	last  map[string]int
}

// readTail reads the log without judging its chain: a log that was tampered
// with goes on from its last line, so that the break stays where it is and
// Verify shows it, and the machine can still be patched. A line of a newer
// relkit is failure.Refused.
func readTail(b []byte) (tail, error) {
	t := tail{last: map[string]int{}}
	for {
		text, rest, ok := bytes.Cut(b[t.whole:], []byte("\n"))
		if !ok {
			return t, nil
		}
		t.whole = int64(len(b) - len(rest))
		var l journal.AuditLine
		err := json.Unmarshal(text, &l)
		if l.Schema != journal.AuditSchema {
			if err := journal.Newer(text, journal.AuditSchema); err != nil {
				return t, fmt.Errorf("reading audit.jsonl: after line %d: %w", t.head.Count, err)
			}
		}
		if err == nil {
			t.head.Count = l.Seq
			if l.Transaction != "" {
				t.last[l.Transaction] = max(t.last[l.Transaction], l.Record)
			}
		}
		t.head.Digest = digest.Of(text)
	}
}

// Settle makes version.json and the audit log say what the journals say. It is
// run after every change and at every start, and does nothing where nothing is
// missing: a record's version is written before its audit line, so a line that
// is there tells that the version was.
func (s *State) Settle() error {
	all, err := s.Transactions()
	if err != nil {
		return err
	}
	b, err := s.ReadAudit()
	if err != nil {
		return err
	}
	t, err := readTail(b)
	if err != nil {
		return err
	}
	var missing []missingLine
	var newest missingLine // the last record of all that says what is installed
	for _, tx := range all {
		for n := range tx.Records {
			m := missingLine{tx: tx, n: n, told: n < t.last[tx.ID]}
			if !m.told {
				missing = append(missing, m)
			}
			if m.version() != nil && (newest.tx == nil || m.record().Seq > newest.record().Seq) {
				newest = m
			}
		}
	}
	if newest.tx != nil && !newest.told {
		if err := s.SetVersion(*newest.version()); err != nil {
			return err
		}
	}
	slices.SortFunc(missing, func(a, b missingLine) int { return cmp.Compare(a.record().Seq, b.record().Seq) })
	var lines []journal.AuditLine
	for _, m := range missing {
		lines = append(lines, journal.AuditOf(m.tx.ID, m.n+1, m.record()))
	}
	return s.appendAudit(b, t, lines)
}

// missingLine is record n of a transaction, and whether the audit log has told of it.
type missingLine struct {
	tx   *Transaction
	n    int
	told bool
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
	b, err := s.ReadAudit()
	if err != nil {
		return err
	}
	t, err := readTail(b)
	if err != nil {
		return err
	}
	return s.appendAudit(b, t, []journal.AuditLine{l})
}

func (s *State) appendAudit(old []byte, t tail, lines []journal.AuditLine) error {
	if err := s.setTornAside(old, t.whole); err != nil {
		return fmt.Errorf("setting a torn line of audit.jsonl aside: %w", err)
	}
	if len(lines) == 0 {
		return nil
	}
	torn, err := s.fs.Lstat(tornFile)
	isTorn := err == nil
	if isTorn {
		lines[0].TornTail = torn.Size
	}
	var b []byte
	head := t.head
	for _, l := range lines {
		if b, head, err = journal.AppendAudit(b, head, l); err != nil {
			return err
		}
	}
	if err := s.appendAuditBytes(len(old) > 0, b); err != nil {
		return fmt.Errorf("writing audit.jsonl: %w", err)
	}
	if isTorn {
		kept := fmt.Sprintf("%s-%d", tornFile, t.head.Count+1)
		if err := s.fs.Rename(tornFile, kept, fsys.Replace); err != nil {
			return err
		}
	}
	return nil
}

func (s *State) appendAuditBytes(exists bool, b []byte) error {
	if !exists {
		return fsys.WriteFile(s.fs, auditFile, b, 0o600)
	}
	return appendSync(s.fs, auditFile, b)
}

// setTornAside moves what follows the last whole line into a file of its own.
func (s *State) setTornAside(b []byte, whole int64) error {
	if whole == int64(len(b)) {
		return nil
	}
	if err := fsys.WriteFile(s.fs, tornFile, b[whole:], 0o600); err != nil {
		return err
	}
	if err := s.fs.Truncate(auditFile, whole); err != nil {
		return err
	}
	return s.fs.SyncFile(auditFile)
}

// Verify re-chains the audit log and returns its lines and head. An error
// names the first line that does not continue the chain.
func (s *State) Verify() ([]journal.AuditLine, journal.Head, error) {
	b, err := s.ReadAudit()
	if err != nil {
		return nil, journal.Head{}, err
	}
	lines, head, _, err := journal.ParseAudit(b)
	if err != nil {
		return lines, head, fmt.Errorf("reading audit.jsonl: %w", err)
	}
	return lines, head, nil
}

// AuditHolds tells whether the log has a line with that digest: one that was
// its head at some time.
func (s *State) AuditHolds(line digest.Digest) (bool, error) {
	b, err := s.ReadAudit()
	if err != nil {
		return false, err
	}
	for text := range bytes.Lines(b) {
		if text, whole := bytes.CutSuffix(text, []byte("\n")); whole && digest.Of(text) == line {
			return true, nil
		}
	}
	return false, nil
}
