package state

import (
	"errors"
	"fmt"

	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// endedFile lists the transactions that have ended, in short. A journal that
// has ended does not change any more, so that on a machine with a thousand of
// them this one file is read instead. It follows from the journals: where it is
// not there or does not fit, they are read, and it is made anew. It is not
// synced, and not being able to write it is no failure.
const endedFile = "ended"

const maxEnded = 256 << 20

// readEnded is the list by transaction; nil where it is to be made anew.
func (s *State) readEnded(names []string) map[string]*Transaction {
	b, err := fsys.ReadFile(s.fs, endedFile, maxEnded)
	if err != nil {
		return nil
	}
	all, err := journal.ParseEnded(b)
	if err != nil {
		return nil
	}
	byID := make(map[string]*Transaction, len(all))
	for i := range all {
		byID[all[i].Transaction] = &Transaction{ID: all[i].Transaction, Records: all[i].Records, Short: true}
	}
	there := 0
	for _, name := range names {
		if byID[name] != nil {
			there++
		}
	}
	if there != len(all) {
		return nil // it lists what is gone
	}
	return byID
}

// noteEnded adds the transactions that have ended, and of which the audit log
// tells, to the list.
func (s *State) noteEnded(all []*Transaction) {
	var b []byte
	listed := false
	for _, t := range all {
		listed = listed || t.Short
		if t.Short || t.Status() != journal.Freed {
			continue
		}
		var err error
		e := journal.EndedOf(t.ID, t.Records)
		if b, err = journal.AppendEnded(b, &e); err != nil {
			return
		}
	}
	if len(b) > 0 && s.writeEnded(b, listed) != nil {
		_ = s.fs.Unlink(endedFile)
	}
}

func (s *State) writeEnded(b []byte, more bool) error {
	var w fsys.Writer
	var err error
	if more {
		w, err = s.fs.Append(endedFile)
	} else {
		_ = s.fs.Unlink(endedFile) // one that does not fit
		w, err = s.fs.Create(endedFile, 0o600)
	}
	if err != nil {
		return err
	}
	_, err = w.Write(b)
	return errors.Join(err, w.Close())
}

// Whole is t with all its records, where Transactions gave it in short.
func (s *State) Whole(t *Transaction) (*Transaction, error) {
	if !t.Short {
		return t, nil
	}
	whole, err := s.load(t.ID)
	if err != nil {
		return nil, fmt.Errorf("reading the journal of transaction %s: %w", t.ID, err)
	}
	return whole, nil
}
