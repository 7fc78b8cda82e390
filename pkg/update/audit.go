package update

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/relkit/relkit/pkg/engine/state"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/format/signature"
	"github.com/relkit/relkit/pkg/sys/fsys"
	"github.com/relkit/relkit/pkg/sys/syslog"
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
	if m.opt.DryRun || m.opt.reading || !m.conf.Audit.Syslog {
		return
	}
	if err := m.target.State.StartExport(); err != nil {
		m.opt.Log.Warn("the audit log is not sent to the system's log", "err", err)
	}
}

// publishAudit signs the head of the audit log and sends its new lines to the
// system's log, as machine.toml has it. What fails is told, and is done by the
// next run: it must not fail what was done to the machine.
func (m *machine) publishAudit() {
	if m.target.State == nil || m.opt.DryRun || m.opt.reading {
		return
	}
	if m.conf.Audit.HostKey != "" {
		if err := m.signHead(); err != nil {
			m.opt.Log.Warn("the head of the audit log is not signed", "err", err)
		}
	}
	if m.conf.Audit.Syslog {
		if err := m.sendAudit(); err != nil {
			m.opt.Log.Warn("lines of the audit log are not sent to the system's log; the next run sends them", "err", err)
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

// syslogTime is how long a run waits for the system's log at most.
const syslogTime = 2 * time.Second

// sendAudit sends what was not sent yet. Where no log listens, early at boot for
// one, it is left to a later run.
func (m *machine) sendAudit() error {
	socket := m.opt.Syslog
	if socket == "" {
		socket = syslog.Socket
	}
	log, err := syslog.Dial(socket, time.Now().Add(syslogTime))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer log.Close()
	return m.target.State.Export(func(text []byte, l *journal.AuditLine) error {
		message, err := short(text, l)
		if err != nil {
			return err
		}
		return log.Send(severity(l), l.Time.Local(), message)
	})
}

// severity is how grave a line is to whoever watches the system's log.
func severity(l *journal.AuditLine) syslog.Severity {
	switch l.Event {
	case journal.Mixed:
		return syslog.Error
	case journal.Refused, journal.Undoing, journal.Undone, journal.Aborted, journal.Reapplied:
		return syslog.Warning
	}
	if len(l.Insecure) > 0 {
		return syslog.Warning
	}
	return syslog.Notice
}

// shortened is what stands in the system's log for a line that is too long for it.
type shortened struct {
	Shortened digest.Digest      `json:"shortened"` // the digest of the whole line
	Line      *journal.AuditLine `json:"line"`
}

// short is a line as the system's log takes it: as it is, so that its chain can
// be verified there, or where it is too long for one message without its lists.
func short(text []byte, l *journal.AuditLine) ([]byte, error) {
	if len(text) <= syslog.MaxMessage {
		return text, nil
	}
	const reason = 2000
	bare := *l
	bare.Kept, bare.Deviations, bare.Signoffs = nil, nil, nil
	if len(bare.Reason) > reason {
		cut := reason
		for !utf8.RuneStart(bare.Reason[cut]) {
			cut--
		}
		bare.Reason = bare.Reason[:cut] + "…"
	}
	return json.Marshal(shortened{digest.Of(text), &bare})
}
