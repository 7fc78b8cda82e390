package state

import (
	"fmt"
	"slices"

	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/journal"
)

// Checked is what a comparison of the audit log with the journals has found.
type Checked struct {
	Chain
	// Told counts the lines that tell of records of the journals, Untold the
	// newest records that have none yet: the next run of relkit adds them.
	Told, Untold int
	// Wrong are the places where the two say different things, in words.
	Wrong []string
}

// lineKey names a line by the record that it tells of.
type lineKey struct {
	transaction string
	record      int
}

// Check re-chains the whole log and holds it against every journal: each tells
// the same events in the same words, as far back as the log is kept.
func (s *State) Check() (c Checked, err error) {
	told := map[lineKey]digest.Digest{}
	var newest int64
	c.Chain, err = s.Audit(func(l *journal.AuditLine) (err error) {
		newest = l.JournalSeq
		if l.Transaction == "" {
			return nil
		}
		key := lineKey{l.Transaction, l.Record}
		if _, twice := told[key]; twice {
			c.Wrong = append(c.Wrong, fmt.Sprintf("line %d tells of record %d of transaction %s again", l.Seq, l.Record, l.Transaction))
		}
		told[key], err = l.Substance()
		c.Told++
		return err
	})
	if err != nil {
		return c, err
	}
	journals, err := s.Journals()
	if err != nil {
		return c, err
	}
	for _, t := range journals {
		if err := c.compare(t, told, newest); err != nil {
			return c, err
		}
	}
	for key := range told {
		c.Wrong = append(c.Wrong, fmt.Sprintf("the log tells of record %d of transaction %s, which no journal has", key.record, key.transaction))
	}
	slices.Sort(c.Wrong)
	return c, nil
}

// compare takes what the log tells of t out of told.
func (c *Checked) compare(t *Transaction, told map[lineKey]digest.Digest, newest int64) error {
	for i := range t.Records {
		r, key := &t.Records[i], lineKey{t.ID, i + 1}
		has, there := told[key]
		delete(told, key)
		line := journal.AuditOf(t.ID, i+1, r)
		want, err := line.Substance()
		switch {
		case err != nil:
			return err
		case !there && r.Seq > newest:
			c.Untold++
		case !there && r.Seq > c.told:
			c.Wrong = append(c.Wrong, fmt.Sprintf("the log does not tell of %q of transaction %s (record %d)", r.Event, t.ID, i+1))
		case there && has != want:
			c.Wrong = append(c.Wrong, fmt.Sprintf("the journal of transaction %s says otherwise than the log about %q (record %d)", t.ID, r.Event, i+1))
		}
	}
	return nil
}
