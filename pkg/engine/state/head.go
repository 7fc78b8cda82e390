package state

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"golang.org/x/crypto/ssh"

	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/format/signature"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// headFile holds the newest head that was signed: see journal.ParseSignedHead.
const headFile = "audit.head"

// SignedHead is a head of the audit log and the key that signed it.
type SignedHead struct {
	journal.Head
	Key ssh.PublicKey
}

// ReadSignedHead reads the newest head that was signed, and verifies its
// signature; nil where none was. Whether the key is the right one, and the head
// one of the log, is for the caller to say.
func (s *State) ReadSignedHead() (*SignedHead, error) {
	b, err := fsys.ReadFile(s.fs, headFile, journal.MaxHead)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", headFile, err)
	}
	head, message, armored, err := journal.ParseSignedHead(b)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", headFile, err)
	}
	key, err := signature.Verify(bytes.NewReader(message), armored, signature.NamespaceAudit)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", headFile, err)
	}
	return &SignedHead{Head: head, Key: key}, nil
}

// SignHead has the head of the log signed, where it is another than the one that
// this key has signed. A log that was cut or written anew since is not: the head
// that is there gives it away, and is to go on doing so. The file is replaced as a whole: after a cut it is of an
// earlier head, and the next run signs the new one.
func (s *State) SignHead(signer ssh.Signer) error {
	t, err := s.readTail()
	if err != nil || t.head.Count == 0 {
		return err
	}
	signed, err := s.ReadSignedHead()
	if err == nil && signed != nil && signed.Head == t.head && signature.Fingerprint(signed.Key) == signature.Fingerprint(signer.PublicKey()) {
		return nil
	}
	if err == nil && signed != nil {
		if err := s.goesOn(signed.Head); err != nil {
			return err
		}
	}
	message, err := t.head.Message()
	if err != nil {
		return err
	}
	armored, err := signature.Sign(signer, signature.NamespaceAudit, bytes.NewReader(message))
	if err != nil {
		return fmt.Errorf("signing the head of the audit log: %w", err)
	}
	return fsys.WriteFile(s.fs, headFile, append(message, armored...), 0o600)
}

// goesOn is an error where the log does not have the line of a head that was
// signed, other than for its age. The newest file mostly has it; only where it
// was begun since are the closed ones unpacked.
func (s *State) goesOn(signed journal.Head) error {
	b, err := fsys.ReadFile(s.fs, auditFile, maxAudit)
	if err != nil {
		return fmt.Errorf("reading %s: %w", auditFile, err)
	}
	lines, head, _, err := journal.ParseAudit(b)
	if err != nil {
		return fmt.Errorf("reading %s: %w", auditFile, err)
	}
	if head == signed || slices.ContainsFunc(lines, func(l journal.AuditLine) bool { return l.Prev == signed.Digest }) {
		return nil
	}
	found := false
	c, err := s.Audit(func(l *journal.AuditLine) error {
		found = found || l.Prev == signed.Digest
		return nil
	})
	if err != nil || found || signed.Count < c.First {
		return err
	}
	return fmt.Errorf("the log does not have the line that was signed as number %d, %s: it was cut or written anew; %s stays until somebody has looked into it and removes it",
		signed.Count, signed.Digest, headFile)
}
