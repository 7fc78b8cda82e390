package update

import (
	"errors"
	"fmt"
	"strings"

	"github.com/relkit/relkit/pkg/engine/state"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/format/signature"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// refuse writes a refusal into the audit log, when there is one to write to,
// and that a tree is mixed, which no journal says.
func (m *machine) refuse(err error, l journal.AuditLine) error {
	switch failure.Of(err) {
	case failure.Refused, failure.Untrusted, failure.No:
		m.note(journal.Refused, err, l)
	case failure.Mixed:
		m.note(journal.Mixed, err, l)
	}
	return err
}

// auditOfBegin names the patch of a transaction.
func auditOfBegin(t *state.Transaction) journal.AuditLine {
	begin := &t.Records[0]
	return journal.AuditLine{Patch: begin.Patch, PatchID: begin.PatchID, To: begin.To}
}

// note adds an event that no journal holds to the audit log.
func (m *machine) note(event journal.Event, err error, l journal.AuditLine) {
	if m.opt.DryRun || err == nil {
		return
	}
	l.Event, l.Time, l.Reason = event, m.opt.Now(), err.Error()
	if noted := m.target.State.Note(l); noted != nil {
		m.opt.Log.Warn("this could not be written to the audit log: "+err.Error(), "err", noted)
	}
}

// prepareAudit sets the audit log up as machine.toml has it.
func (m *machine) prepareAudit() {
	m.target.State.SetAudit(state.AuditOptions{MaxSize: int64(m.conf.Audit.MaxSize), KeepFiles: m.conf.Audit.KeepFiles})
	if m.opt.DryRun || m.opt.reading {
		return
	}
	for _, r := range m.auditReaders() {
		if err := m.target.State.StartExport(r.mark); err != nil {
			m.opt.Log.Warn("the audit log is not sent to "+r.name, "err", err)
		}
	}
}

// publishAudit signs the head of the audit log and sends its new lines to who
// reads it, as machine.toml has it. What fails is told, and is done by the next
// run: it must not fail what was done to the machine.
func (m *machine) publishAudit() {
	if m.target.State == nil || m.opt.DryRun || m.opt.reading {
		return
	}
	if m.conf.Audit.HostKey != "" {
		if err := m.signHead(); err != nil {
			m.opt.Log.Warn("the head of the audit log is not signed", "err", err)
		}
	}
	for _, r := range m.auditReaders() {
		if err := m.sendAudit(r); err != nil {
			m.opt.Log.Warn("lines of the audit log are not sent to "+r.name+"; the next run sends them", "err", err)
		}
	}
}

func (m *machine) signHead() error {
	name := strings.Trim(m.conf.Audit.HostKey, "/")
	b, err := fsys.ReadFile(m.root, name, 64<<10)
	if err != nil {
		return fmt.Errorf("reading the host key: %w", err)
	}
	signer, err := signature.ParsePrivateKey(b, func() ([]byte, error) { return nil, errors.New("it has a passphrase, and nobody is asked for it") })
	if err != nil {
		return fmt.Errorf("reading the host key %q: %w", m.conf.Audit.HostKey, err)
	}
	return m.target.State.SignHead(signer)
}
