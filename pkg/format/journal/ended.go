package journal

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// Ended is what a list of ended transactions keeps of one: enough to say what
// was done and whether it stands, so that its journal need not be read.
type Ended struct {
	Transaction string `json:"transaction"`
	// Records are those of its journal that tell how it began and ended: Begin
	// with what identifies it, Applied, Reapplied, RolledBack, Undone, Aborted, Freed.
	Records []Record `json:"records"`
}

// EndedOf abridges the records of a transaction that has ended.
func EndedOf(transaction string, records []Record) Ended {
	e := Ended{Transaction: transaction}
	for _, r := range records {
		short := Record{Seq: r.Seq, Event: r.Event, Time: r.Time}
		switch r.Event {
		case Begin:
			short.Patch, short.PatchID, short.From, short.To, short.Deviations = r.Patch, r.PatchID, r.From, r.To, r.Deviations
			short.Supersedes, short.Provides, short.Floor = r.Supersedes, r.Provides, r.Floor
		case Rollback:
			short.Deviations = r.Deviations
		case Awaiting, Applied, Reapplied, RolledBack, Undone, Aborted, Freed:
		default:
			continue
		}
		e.Records = append(e.Records, short)
	}
	return e
}

// AppendEnded adds e's line to b; lines are as those of a journal.
func AppendEnded(b []byte, e *Ended) ([]byte, error) {
	text, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	return appendLine(b, text), nil
}

// ParseEnded reads a list of ended transactions, each named once. It is a list
// of what journals say: one with a line that is damaged is to be made anew.
func ParseEnded(b []byte) ([]Ended, error) {
	var all []Ended
	seen := map[string]bool{}
	for n := 1; len(b) > 0; n++ {
		line, rest, whole := bytes.Cut(b, []byte("\n"))
		text, err := lineText(line)
		if err == nil && !whole {
			err = errTorn
		}
		var e Ended
		if err == nil {
			err = json.Unmarshal(text, &e)
		}
		if err == nil && (len(e.Records) < 2 || e.Records[0].Event != Begin || e.Records[len(e.Records)-1].Event != Freed || seen[e.Transaction]) {
			err = fmt.Errorf("transaction %q did not begin and end", e.Transaction)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		seen[e.Transaction] = true
		all, b = append(all, e), rest
	}
	return all, nil
}
