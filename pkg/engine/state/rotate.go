package state

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// AuditOptions bound the audit log.
type AuditOptions struct {
	// MaxSize is the size in bytes from which on audit.jsonl is closed and
	// continued in a new file; 0 means 4 MiB.
	MaxSize int64
	// KeepFiles is how many closed files are kept; 0 means 8.
	KeepFiles int
}

func (o AuditOptions) maxSize() int64 {
	if o.MaxSize == 0 {
		return 4 << 20
	}
	return o.MaxSize
}

func (o AuditOptions) keepFiles() int {
	if o.KeepFiles == 0 {
		return 8
	}
	return o.KeepFiles
}

// SetAudit bounds the audit log.
func (s *State) SetAudit(o AuditOptions) { s.audit = o }

// A closed file of the log is audit-N.jsonl.zst, N being the number of its first
// line with twelve digits or more, so that names sort as the files follow.
const (
	closedPrefix = "audit-"
	closedSuffix = ".jsonl.zst"
)

func closedName(first int64) string {
	return fmt.Sprintf("%s%012d%s", closedPrefix, first, closedSuffix)
}

// closedFirst is the number in a closed file's name; false where it is none.
func closedFirst(name string) (int64, bool) {
	digits, prefixed := strings.CutPrefix(name, closedPrefix)
	digits, suffixed := strings.CutSuffix(digits, closedSuffix)
	n, err := strconv.ParseInt(digits, 10, 64)
	return n, prefixed && suffixed && err == nil && n > 0 && closedName(n) == name
}

// closedFiles are the numbers in the names of the closed files, oldest first.
func (s *State) closedFiles() ([]int64, error) {
	names, err := s.fs.ReadDir(".")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the state folder: %w", err)
	}
	var all []int64
	for _, name := range names {
		if n, ok := closedFirst(name); ok {
			all = append(all, n)
		}
	}
	return all, nil
}

func (s *State) readClosed(first int64) ([]byte, error) {
	b, err := fsys.ReadFile(s.fs, closedName(first), maxAudit)
	if err == nil {
		b, err = unpack(b)
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", closedName(first), err)
	}
	return b, nil
}

func unpack(b []byte) ([]byte, error) {
	z, err := zstd.NewReader(bytes.NewReader(b), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(64<<20))
	if err != nil {
		return nil, err
	}
	defer z.Close()
	out, err := io.ReadAll(io.LimitReader(z, maxAudit+1))
	if err == nil && len(out) > maxAudit {
		err = fmt.Errorf("more than %d bytes", maxAudit)
	}
	return out, err
}

// continueAudit closes audit.jsonl, whose last line says so, and writes lines
// into a new one.
//
// A power cut
//   - after the line "log-closed" is durable: the next run continues here;
//   - after the closed copy is: audit.jsonl still holds the same lines, and
//     whoever reads leaves the copy out; the next run writes it again;
//   - once the new audit.jsonl is: it takes the old one's place in one rename, and
//     its first line names the head of the copy, which is durable before;
//   - while old files are removed: that line says from where on lines are kept,
//     so one that is left is no harm, and goes the next time.
func (s *State) continueAudit(t tail, lines []journal.AuditLine) error {
	first := journal.AuditLine{Event: journal.LogContinued, Time: lines[0].Time, JournalSeq: t.told}
	if t.lost {
		first.Reason = "audit.jsonl was gone: what it told after this is told again as far as journals hold it"
	} else if err := s.packAudit(t); err != nil {
		return fmt.Errorf("closing audit.jsonl: %w", err)
	}
	closed, err := s.closedFiles()
	if err != nil {
		return err
	}
	old := closed[:max(0, len(closed)-s.audit.keepFiles())]
	if len(closed) > 0 {
		first.KeptFrom = closed[len(old)]
	}
	b, _, err := encodeLines(t.head, append([]journal.AuditLine{first}, lines...))
	if err != nil {
		return err
	}
	if err := fsys.WriteFile(s.fs, auditFile, b, 0o600); err != nil {
		return fmt.Errorf("writing audit.jsonl: %w", err)
	}
	for _, n := range old {
		if err := s.fs.Unlink(closedName(n)); err != nil {
			return fmt.Errorf("removing an old file of the audit log: %w", err)
		}
	}
	return nil
}

// packAudit makes the closed copy of audit.jsonl.
func (s *State) packAudit(t tail) error {
	b, err := fsys.ReadFile(s.fs, auditFile, maxAudit)
	if err != nil {
		return err
	}
	z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return err
	}
	return fsys.WriteFile(s.fs, closedName(firstLine(b, t)), z.EncodeAll(b, nil), 0o600)
}

// firstLine is the number of a log file's first line; of one that cannot be
// read, because it was tampered with, that of the last.
func firstLine(b []byte, t tail) int64 {
	text, _, _ := bytes.Cut(b, []byte("\n"))
	var l journal.AuditLine
	if json.Unmarshal(text, &l) != nil || l.Seq < 1 {
		return t.head.Count
	}
	return l.Seq
}

// eachFile gives the content of each file of the log, oldest first. The closed
// copy of one that is still audit.jsonl is left out. Where there are closed
// files and no audit.jsonl, the last has the content nil.
func (s *State) eachFile(each func(name string, b []byte) error) error {
	current, err := fsys.ReadFile(s.fs, auditFile, maxAudit)
	missing := errors.Is(err, fs.ErrNotExist)
	if err != nil && !missing {
		return fmt.Errorf("reading audit.jsonl: %w", err)
	}
	closed, err := s.closedFiles()
	if err != nil || missing && len(closed) == 0 {
		return err
	}
	if n := len(closed); n > 0 && !missing && firstLine(current, tail{}) == closed[n-1] {
		closed = closed[:n-1]
	}
	for _, n := range closed {
		b, err := s.readClosed(n)
		if err != nil {
			return err
		}
		if err := each(closedName(n), b); err != nil {
			return err
		}
	}
	return each(auditFile, current)
}

// Chain is what a walk over the audit log has found.
type Chain struct {
	// First is the number of the first line that is kept: 1 unless older files
	// were removed for their age; 0 where there is no log.
	First int64
	// Start is the head before that line, whose own lines are gone.
	Start journal.Head
	Head  journal.Head
	Files int
	// told is the JournalSeq of the line before the first that is kept, or its own.
	told int64
	// keptFrom is what the newest file says.
	keptFrom int64
}

// Audit re-chains the whole audit log and gives each line, oldest first. An
// error names the file and its first line that does not continue the chain.
func (s *State) Audit(each func(*journal.AuditLine) error) (Chain, error) {
	var c Chain
	err := s.eachFile(func(name string, b []byte) error {
		if err := c.add(name, b, each); err != nil {
			return fmt.Errorf("reading %s: %w", name, err)
		}
		return nil
	})
	if err == nil && c.keptFrom > 0 && c.First > c.keptFrom {
		err = fmt.Errorf("lines %d to %d of the audit log are gone, and were to be kept", c.keptFrom, c.First-1)
	}
	return c, err
}

// add goes on with the next file.
func (c *Chain) add(name string, b []byte, each func(*journal.AuditLine) error) error {
	if b == nil {
		return errors.New("it is gone, and older files of the log are there")
	}
	lines, head, whole, err := journal.ParseAudit(b)
	if len(lines) > 0 && c.Files > 0 && lines[0].Before() != c.Head {
		return fmt.Errorf("line 1: number %d, after %s, does not continue the file before, which ends with number %d, %s: the log was changed",
			lines[0].Seq, lines[0].Prev, c.Head.Count, c.Head.Digest)
	}
	if len(lines) > 0 {
		if c.Files == 0 {
			c.First, c.Start = lines[0].Seq, lines[0].Before()
		}
		if c.Files == 0 && lines[0].Event == journal.LogContinued {
			c.told = lines[0].JournalSeq
		}
		c.keptFrom = lines[0].KeptFrom
	}
	for i := range lines {
		if err := each(&lines[i]); err != nil {
			return err
		}
	}
	if err != nil {
		return err
	}
	if name != auditFile && (whole < len(b) || len(lines) == 0 || lines[len(lines)-1].Event != journal.LogClosed) {
		return errors.New("it does not end as a closed file does: the log was changed")
	}
	c.Head = head
	c.Files++
	return nil
}

// Verify is Audit with all lines in memory.
func (s *State) Verify() (lines []journal.AuditLine, head journal.Head, err error) {
	c, err := s.Audit(func(l *journal.AuditLine) error {
		lines = append(lines, *l)
		return nil
	})
	return lines, c.Head, err
}

// VerifyNewest re-chains audit.jsonl alone, from the head on that its first
// line names: what is asked for often does not unpack the closed files.
func (s *State) VerifyNewest() (journal.Head, error) {
	b, err := fsys.ReadFile(s.fs, auditFile, maxAudit)
	if errors.Is(err, fs.ErrNotExist) {
		closed, err := s.closedFiles()
		if err == nil && len(closed) > 0 {
			err = errors.New("audit.jsonl is gone, and older files of the log are there")
		}
		return journal.Head{}, err
	}
	if err != nil {
		return journal.Head{}, fmt.Errorf("reading audit.jsonl: %w", err)
	}
	_, head, _, err := journal.ParseAudit(b)
	if err != nil {
		err = fmt.Errorf("reading audit.jsonl: %w", err)
	}
	return head, err
}

// AuditHolds tells whether the log has, or had before its oldest line, a line
// with that digest: one that was its head at some time.
func (s *State) AuditHolds(line digest.Digest) (bool, error) {
	found := false
	c, err := s.Audit(func(l *journal.AuditLine) error {
		found = found || l.Prev == line
		return nil
	})
	return found || c.Head.Digest == line, err
}
