package journal

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/strict"
)

// AuditSchema is the schema field of every audit line.
const AuditSchema = "relkit.audit/v1"

// The audit events that no journal holds.
const (
	Refused Event = "refused" // relkit said no
	Found   Event = "found"   // the tree had all of a patch, and version.json now says so
	Mixed   Event = "mixed"   // a tree could not be brought back: it is neither old nor new

	LogClosed    Event = "log-closed"    // the last line of a file that another continues
	LogContinued Event = "log-continued" // the first line of one that continues another

	// TrustInstalled and TrustUpdated: a trust document is the machine's from here on.
	TrustInstalled Event = "trust-installed"
	TrustUpdated   Event = "trust-updated"
	// TimeReset: what was remembered of time was forgotten.
	TimeReset Event = "time-reset"
)

// AuditLine is one line of audit.jsonl. Prev is the digest of the line before
// (its bytes without the newline), zero in the first: so no line can be
// changed, dropped or moved without every later Prev being wrong.
type AuditLine struct {
	Schema string    `json:"schema"`
	Seq    int64     `json:"seq"` // from 1
	Time   time.Time `json:"time"`
	Event  Event     `json:"event"`
	// Transaction and Record name the journal line it is derived from; "" and 0 where there is none.
	Transaction string `json:"transaction,omitempty"`
	Record      int    `json:"record,omitempty"` // from 1

	Patch    digest.Digest `json:"patch,omitzero"`
	PatchID  string        `json:"patch_id,omitempty"`
	From     *Version      `json:"from,omitempty"`
	To       *Version      `json:"to,omitempty"`
	Signoffs []string      `json:"signoffs,omitempty"`
	Insecure []string      `json:"insecure,omitempty"`
	Reason   string        `json:"reason,omitempty"`
	Kept     []string      `json:"kept,omitempty"`
	// Hook, Attempt and Result are a hook's, as in Record.
	Hook    string `json:"hook,omitempty"`
	Attempt int    `json:"attempt,omitempty"`
	Result  string `json:"result,omitempty"`
	Output  string `json:"output,omitempty"`
	// Deviations are what the patch, or its rollback, met that its owner had changed.
	Deviations []Deviation `json:"deviations,omitempty"`
	// JournalSeq is the Record.Seq up to which the log tells, with this line, of
	// all records of the journals; 0 for none.
	JournalSeq int64 `json:"journal_seq,omitempty"`
	// KeptFrom is the sequence number from which on the lines are kept, others
	// having been removed for their age: with LogContinued.
	KeptFrom int64 `json:"kept_from,omitempty"`
	// TornTail is the number of bytes of a half-written line that were set aside before this one.
	TornTail int64         `json:"torn_tail_bytes,omitempty"`
	Prev     digest.Digest `json:"prev"`
}

// AuditOf is the audit line that record number n (from 1) of a transaction gives.
func AuditOf(transaction string, n int, r *Record) AuditLine {
	met := r.Deviations
	if r.Event == Begin {
		met = OfPatch(met, r.PatchID)
	}
	return AuditLine{
		Time: r.Time, Event: r.Event, Transaction: transaction, Record: n, JournalSeq: r.Seq,
		Patch: r.Patch, PatchID: r.PatchID, From: r.From, To: r.To,
		Signoffs: r.Signoffs, Insecure: r.Insecure, Reason: r.Reason, Kept: r.Kept,
		Hook: r.Hook, Attempt: r.Attempt, Result: r.Result, Output: r.Output,
		Deviations: met,
	}
}

// Head is the end of an audit log: how many lines it has and the digest of the last.
type Head struct {
	Count  int64         `json:"count"`
	Digest digest.Digest `json:"digest"`
}

// AppendAudit adds line to b as the successor of head, and returns the new head.
func AppendAudit(b []byte, head Head, line AuditLine) ([]byte, Head, error) {
	line.Schema = AuditSchema
	line.Seq = head.Count + 1
	line.Prev = head.Digest
	text, err := json.Marshal(&line)
	if err != nil {
		return nil, head, err
	}
	b = append(b, text...)
	return append(b, '\n'), Head{Count: line.Seq, Digest: digest.Of(text)}, nil
}

// ParseAudit reads and re-chains one file of an audit log. whole is the length
// in bytes of the lines that end in a newline; what follows is a torn tail. A
// line that does not continue the chain is an error that names it.
//
// A file that begins with LogContinued continues another, whose head that line
// names (see Before). head counts the lines of both.
func ParseAudit(b []byte) (lines []AuditLine, head Head, whole int, err error) {
	for n := 1; whole < len(b); n++ {
		rest := b[whole:]
		end := bytes.IndexByte(rest, '\n')
		if end < 0 {
			break
		}
		if end > MaxLine {
			return nil, head, whole, fmt.Errorf("line %d: %d bytes, at most %d", n, end, MaxLine)
		}
		l, err := parseAuditLine(rest[:end])
		if err == nil && n == 1 && l.Event == LogContinued {
			head = l.Before()
		}
		if err == nil {
			err = head.continues(l)
		}
		if err != nil {
			return lines, head, whole, fmt.Errorf("line %d: %w", n, err)
		}
		head = Head{Count: l.Seq, Digest: digest.Of(rest[:end])}
		lines = append(lines, *l)
		whole += end + 1
	}
	return lines, head, whole, nil
}

func parseAuditLine(text []byte) (*AuditLine, error) {
	if err := Newer(text, AuditSchema); err != nil {
		return nil, err
	}
	l := new(AuditLine)
	if err := strict.Decode(text, MaxLine, l); err != nil {
		return nil, err
	}
	if l.Schema != AuditSchema {
		return nil, fmt.Errorf("schema %q, want %q", l.Schema, AuditSchema)
	}
	if l.Seq < 1 {
		return nil, fmt.Errorf("sequence number %d, want 1 or more", l.Seq)
	}
	return l, nil
}

// Before is the head of the log before the line.
func (l *AuditLine) Before() Head { return Head{Count: l.Seq - 1, Digest: l.Prev} }

// continues holds that l is the line after h.
func (h Head) continues(l *AuditLine) error {
	switch {
	case l.Seq != h.Count+1:
		return fmt.Errorf("sequence number %d, want %d", l.Seq, h.Count+1)
	case l.Prev != h.Digest:
		return fmt.Errorf("names %s as the line before, which is %s: the log was changed", orNone(l.Prev), orNone(h.Digest))
	}
	return nil
}

// Substance is the digest of what the line says, without its place in the log:
// equal for a line and for what AuditOf makes of the record that it tells of.
func (l *AuditLine) Substance() (digest.Digest, error) {
	bare := *l
	bare.Schema, bare.Seq, bare.Prev, bare.TornTail = "", 0, digest.Digest{}, 0
	b, err := json.Marshal(&bare)
	return digest.Of(b), err
}

func orNone(d digest.Digest) string {
	if d.IsZero() {
		return "nothing"
	}
	return d.String()
}
