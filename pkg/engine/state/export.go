package state

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// Reader is whom the log is sent to: the name of the file that holds the head up
// to which it was.
type Reader string

// The readers.
const (
	Syslog   Reader = "audit.sent"
	Journald Reader = "audit.sent-journald"
)

// Export gives every line of the log that was not sent to a reader yet, oldest
// first, as it stands and read, and remembers how far that went: a line for which send
// returns nil is not given again, unless the power is cut before that is
// written. The first error of send ends it, and is returned.
//
// A log of which nothing was ever sent to it begins with what comes after the first
// call of StartExport.
func (s *State) Export(to Reader, send func(text []byte, l *journal.AuditLine) error) error {
	sent, _, err := s.readSent(to)
	if err != nil {
		return err
	}
	t, err := s.readTail()
	if err != nil || t.head == sent {
		return err
	}
	if t.head.Count < sent.Count {
		sent = journal.Head{} // the log was cut or begun anew: whoever keeps a copy is to see that
	}
	texts, err := s.textsAfter(sent.Count)
	if err != nil {
		return err
	}
	was := sent
	for _, text := range texts {
		var l journal.AuditLine
		if json.Unmarshal(text, &l) != nil {
			continue // tampered with: Audit says so
		}
		if err = send(text, &l); err != nil {
			break
		}
		sent = journal.Head{Count: l.Seq, Digest: digest.Of(text)}
	}
	if sent == was {
		return err
	}
	return errors.Join(err, s.writeSent(to, sent))
}

// StartExport notes where the log stands, unless some of it was sent already.
func (s *State) StartExport(to Reader) error {
	_, there, err := s.readSent(to)
	if err != nil || there {
		return err
	}
	t, err := s.readTail()
	if err != nil {
		return err
	}
	return s.writeSent(to, t.head)
}

// readSent is the head up to which the log was sent. A file that cannot be
// understood is as none: what it said is not worth a failure.
func (s *State) readSent(to Reader) (h journal.Head, there bool, err error) {
	b, err := fsys.ReadFile(s.fs, string(to), journal.MaxHead)
	if errors.Is(err, fs.ErrNotExist) {
		return h, false, nil
	}
	if err != nil {
		return h, false, fmt.Errorf("reading %s: %w", to, err)
	}
	if h, _, _, err = journal.ParseSignedHead(b); err != nil {
		return journal.Head{}, false, nil
	}
	return h, true, nil
}

func (s *State) writeSent(to Reader, h journal.Head) error {
	b, err := h.Message()
	if err != nil {
		return err
	}
	if err := fsys.WriteFile(s.fs, string(to), b, 0o600); err != nil {
		return fmt.Errorf("writing %s: %w", to, err)
	}
	return nil
}

// textsAfter are the lines after number n, without their newlines.
func (s *State) textsAfter(n int64) ([][]byte, error) {
	current, err := fsys.ReadFile(s.fs, auditFile, maxAudit)
	if err != nil {
		return nil, fmt.Errorf("reading audit.jsonl: %w", err)
	}
	if firstLine(current, tail{}) <= n+1 {
		return newestTexts(current, n), nil
	}
	var all [][]byte
	err = s.eachFile(func(_ string, b []byte) error {
		all = append(all, newestTexts(b, n)...)
		return nil
	})
	return all, err
}

// newestTexts looks for the lines after number n from the end of a file on.
func newestTexts(b []byte, n int64) [][]byte {
	var found [][]byte
	for end := bytes.LastIndexByte(b, '\n'); end >= 0; {
		start := bytes.LastIndexByte(b[:end], '\n')
		text := b[start+1 : end]
		var l struct {
			Seq int64 `json:"seq"`
		}
		if json.Unmarshal(text, &l) == nil && l.Seq <= n {
			break
		}
		found = append(found, text)
		end = start
	}
	slices.Reverse(found)
	return found
}
