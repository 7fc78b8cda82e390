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
	// Deviations are what the patch met that its owner had changed.
	Deviations []Deviation `json:"deviations,omitempty"`
	// TornTail is the number of bytes of a half-written line that were set aside before this one.
	TornTail int64         `json:"torn_tail_bytes,omitempty"`
	Prev     digest.Digest `json:"prev"`
}

// AuditOf is the audit line that record number n (from 1) of a transaction gives.
func AuditOf(transaction string, n int, r *Record) AuditLine {
	return AuditLine{
		Time: r.Time, Event: r.Event, Transaction: transaction, Record: n,
		Patch: r.Patch, PatchID: r.PatchID, From: r.From, To: r.To,
		Signoffs: r.Signoffs, Insecure: r.Insecure, Reason: r.Reason, Kept: r.Kept,
		Hook: r.Hook, Attempt: r.Attempt, Result: r.Result,
		Deviations: OfPatch(r.Deviations, r.PatchID),
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

// ParseAudit reads and re-chains an audit log. whole is the length in bytes of
// the lines that end in a newline; what follows is a torn tail. A line that
// does not continue the chain is an error that names it.
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
		text := rest[:end]
		if err := Newer(text, AuditSchema); err != nil {
			return lines, head, whole, fmt.Errorf("line %d: %w", n, err)
		}
		var l AuditLine
		if err := strict.Decode(text, MaxLine, &l); err != nil {
			return lines, head, whole, fmt.Errorf("line %d: %w", n, err)
		}
		switch {
		case l.Schema != AuditSchema:
			return lines, head, whole, fmt.Errorf("line %d: schema %q, want %q", n, l.Schema, AuditSchema)
		case l.Seq != head.Count+1:
			return lines, head, whole, fmt.Errorf("line %d: sequence number %d, want %d", n, l.Seq, head.Count+1)
		case l.Prev != head.Digest:
			return lines, head, whole, fmt.Errorf("line %d: names %s as the line before, which is %s: the log was changed", n, orNone(l.Prev), orNone(head.Digest))
		}
		head = Head{Count: l.Seq, Digest: digest.Of(text)}
		lines = append(lines, l)
		whole += end + 1
	}
	return lines, head, whole, nil
}

func orNone(d digest.Digest) string {
	if d.IsZero() {
		return "nothing"
	}
	return d.String()
}
