package update

import (
	"cmp"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/relkit/relkit/pkg/engine/state"
	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/sys/syslog"
)

// auditReader is a log of the system that the audit log is sent to.
type auditReader struct {
	name string // for messages
	mark state.Reader
	// dial connects to it until a deadline; send sends it one line.
	dial func(deadline time.Time) (send func(text []byte, l *journal.AuditLine) error, done io.Closer, err error)
}

// auditReaders are those that machine.toml names.
func (m *machine) auditReaders() (all []auditReader) {
	if m.conf.Audit.Syslog {
		all = append(all, auditReader{"the system's log", state.Syslog, m.dialSyslog})
	}
	if m.conf.Audit.Journald {
		all = append(all, auditReader{"systemd-journald", state.Journald, m.dialJournald})
	}
	return all
}

// readerTime is how long a run waits for a log of the system at most.
const readerTime = 2 * time.Second

// sendAudit sends what was not sent yet. Where no log listens, early at boot for
// one, it is left to a later run.
func (m *machine) sendAudit(r auditReader) error {
	send, done, err := r.dial(time.Now().Add(readerTime))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer done.Close()
	return m.target.State.Export(r.mark, send)
}

func (m *machine) dialSyslog(deadline time.Time) (func([]byte, *journal.AuditLine) error, io.Closer, error) {
	log, err := syslog.Dial(cmp.Or(m.opt.Syslog, syslog.Socket), deadline)
	if err != nil {
		return nil, nil, err
	}
	return func(text []byte, l *journal.AuditLine) error {
		message, err := short(text, l)
		if err != nil {
			return err
		}
		return log.Send(severity(l), l.Time.Local(), message)
	}, log, nil
}

func (m *machine) dialJournald(deadline time.Time) (func([]byte, *journal.AuditLine) error, io.Closer, error) {
	log, err := syslog.DialJournal(cmp.Or(m.opt.Journald, syslog.JournalSocket), deadline)
	if err != nil {
		return nil, nil, err
	}
	return func(text []byte, l *journal.AuditLine) error { return log.Send(journaldFields(text, l)) }, log, nil
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

// journaldFields are the entry of a line in systemd's journal: words for people,
// what one looks for in a field each, and RELKIT_LINE, the line as it stands, so
// that its chain can be verified there. relkit-audit(1) lists them.
func journaldFields(text []byte, l *journal.AuditLine) []syslog.Field {
	message := strings.Join(strings.Fields(string(l.Event)+" "+l.PatchID), " ")
	if detail := l.Detail(); detail != "" {
		message += ": " + detail
	}
	fields := []syslog.Field{
		{Name: "MESSAGE", Value: message},
		{Name: "PRIORITY", Value: strconv.Itoa(int(severity(l)))},
		{Name: "SYSLOG_IDENTIFIER", Value: "relkit"},
		{Name: "SYSLOG_FACILITY", Value: strconv.Itoa(syslog.Facility)},
		{Name: "RELKIT_SEQ", Value: strconv.FormatInt(l.Seq, 10)},
		{Name: "RELKIT_TIME", Value: l.Time.UTC().Format(time.RFC3339Nano)},
		{Name: "RELKIT_EVENT", Value: string(l.Event)},
	}
	add := func(name string, values ...string) {
		for _, v := range values {
			if v != "" {
				fields = append(fields, syslog.Field{Name: "RELKIT_" + name, Value: v})
			}
		}
	}
	add("TRANSACTION", l.Transaction)
	add("PATCH_ID", l.PatchID)
	if l.Patch != (digest.Digest{}) {
		add("PATCH", l.Patch.String())
	}
	if l.To != nil {
		add("PRODUCT", l.To.Product)
		add("TO", l.To.Version)
	}
	if l.From != nil {
		add("FROM", l.From.Version)
	}
	add("SIGNOFF", l.Signoffs...)
	add("INSECURE", l.Insecure...)
	add("REASON", l.Reason)
	add("HOOK", l.Hook)
	add("RESULT", l.Result)
	add("LINE", string(text))
	return fields
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
