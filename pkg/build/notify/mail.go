package notify

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/textproto"
	"net/url"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/wneessen/go-mail"
	"github.com/wneessen/go-mail/smtp"
)

// message is the mail of an entry.
func (t target) message(e *entry) (*mail.Msg, error) {
	m := mail.NewMsg(mail.WithNoDefaultUserAgent())
	if err := m.From(e.From); err != nil {
		return nil, fmt.Errorf("from %q: %w", e.From, err)
	}
	if err := m.To(e.All...); err != nil {
		return nil, fmt.Errorf("to %q: %w", e.All, err)
	}
	m.Subject(e.Notice.Subject)
	m.SetDateWithValue(e.Queued)
	m.SetMessageIDWithValue(e.messageID(e.Notice.ID))
	if len(e.roots) > 0 {
		m.SetGenHeader(mail.HeaderInReplyTo, "<"+e.messageID(e.roots[0])+">")
		var all []string
		for _, root := range e.roots {
			all = append(all, "<"+e.messageID(root)+">")
		}
		m.SetGenHeader(mail.HeaderReferences, strings.Join(all, " "))
	}
	// RFC 3834: no vacation notice answers.
	m.SetGenHeader("Auto-Submitted", "auto-generated")
	m.SetGenHeader("X-Relkit-Project", e.Notice.Project)
	m.SetGenHeader("X-Relkit-Builder", e.Notice.Builder)
	m.SetGenHeader("X-Relkit-Event", e.Notice.Event)
	m.SetBodyString(mail.TypeTextPlain, e.Notice.Text)
	logs := e.more
	if len(e.Log) > 0 {
		logs = append(logs, attachment{e.LogName, e.Log})
	}
	for _, l := range logs {
		// As bytes: a log may be in any encoding.
		if err := m.AttachReader(l.name, bytes.NewReader(l.log), mail.WithFileContentType(mail.TypeAppOctetStream)); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// messageID is a Message-ID (RFC 5322) without its brackets: of the sender's
// domain, since that is whose name it is.
func (e *entry) messageID(id string) string {
	domain := "localhost"
	if at := strings.LastIndexByte(e.From, '@'); at >= 0 {
		domain = strings.TrimRight(e.From[at+1:], "> ")
	}
	return "relkit." + id + "@" + domain
}

// smtp hands the mail to a server. Without credentials the connection is
// encrypted where the server can, whoever it proves to be (RFC 7435): refusing
// it then would send in the clear, or not at all. With credentials it is
// encrypted and the server proven, or nothing is sent.
func (t target) smtp(ctx context.Context, e *entry, secret string) error {
	u, err := url.Parse(t.Mail)
	if err != nil {
		return errors.New("notify.mail is no URL")
	}
	m, err := t.message(e)
	if err != nil {
		return rejected{err}
	}
	tlsConfig := &tls.Config{ServerName: u.Hostname(), MinVersion: tls.VersionTLS12, RootCAs: t.o.Roots}
	d := &dialer{whole: ctx, tls: tlsConfig, implicit: u.Scheme == "smtps"}
	defer d.close()
	opts := []mail.Option{mail.WithDialContextFunc(d.dial), mail.WithTLSConfig(tlsConfig), mail.WithTimeout(t.o.Deadline), mail.WithPort(25)}
	user := u.User.Username()
	switch {
	case d.implicit:
		opts = append(opts, mail.WithPort(465), mail.WithSSL())
	case user != "":
		opts = append(opts, mail.WithPort(587), mail.WithTLSPolicy(mail.TLSMandatory))
	default:
		tlsConfig.InsecureSkipVerify = true
		opts = append(opts, mail.WithTLSPolicy(mail.TLSOpportunistic))
	}
	if user != "" {
		opts = append(opts, mail.WithUsername(user), mail.WithPassword(secret),
			mail.WithOpportunisticSMTPAuth(mail.SMTPAuthPlain, mail.SMTPAuthLogin, mail.SMTPAuthSCRAMSHA256, mail.SMTPAuthSCRAMSHA1, mail.SMTPAuthCramMD5))
	}
	if port, err := strconv.Atoi(u.Port()); err == nil {
		opts = append(opts, mail.WithPort(port))
	}
	c, err := mail.NewClient(u.Hostname(), opts...)
	if err != nil {
		return err
	}
	s, err := c.DialToSMTPClientWithContext(ctx)
	if err != nil {
		return err
	}
	return e.transact(s, m)
}

// transact is one mail transaction (RFC 5321, 3.3). A recipient that the server
// refuses is no reason to keep the mail from the others.
func (e *entry) transact(s *smtp.Client, m *mail.Msg) error {
	from, err := m.GetSender(false)
	if err != nil {
		return rejected{err}
	}
	if err := s.Mail(from); err != nil {
		return ofReply(fmt.Errorf("sender %s: %w", from, err))
	}
	var later, never []string
	var errs []error
	for _, to := range e.To {
		err := s.Rcpt(to)
		var reply *textproto.Error
		switch {
		case err == nil:
			continue
		case !errors.As(err, &reply):
			return err // the connection
		case reply.Code/100 == 5:
			never = append(never, to)
		default:
			later = append(later, to)
		}
		errs = append(errs, fmt.Errorf("recipient %s: %d %s", to, reply.Code, reply.Msg))
	}
	if len(never)+len(later) < len(e.To) {
		w, err := s.Data()
		if err != nil {
			return ofReply(err)
		}
		if _, err := m.WriteTo(w); err != nil {
			return err
		}
		if err := w.Close(); err != nil {
			return ofReply(err)
		}
		_ = s.Quit() // the server has taken it
	}
	e.To = later
	if err = errors.Join(errs...); len(later) == 0 && err != nil {
		return rejected{err}
	}
	return err
}

// ofReply tells a server's lasting refusal from what may pass.
func ofReply(err error) error {
	var reply *textproto.Error
	if errors.As(err, &reply) && reply.Code/100 == 5 {
		return rejected{err}
	}
	return err
}

// dialer makes the one connection of a delivery.
type dialer struct {
	// whole is the delivery's; the library's own ends when it has logged in.
	whole    context.Context
	tls      *tls.Config
	implicit bool
	conn     net.Conn
	stop     func() bool
}

func (d *dialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	end, ok := d.whole.Deadline()
	if !ok {
		end = time.Now().Add(deadline)
	}
	b := &boundConn{conn, end}
	_ = b.SetDeadline(end)
	d.conn = b
	d.stop = context.AfterFunc(d.whole, func() { _ = conn.Close() })
	if !d.implicit {
		return b, nil
	}
	secure := tls.Client(b, d.tls)
	return secure, secure.HandshakeContext(ctx)
}

func (d *dialer) close() {
	if d.conn != nil {
		d.stop()
		_ = d.conn.Close()
	}
}

// boundConn has a deadline that nobody can move: the mail library counts anew
// for each command.
type boundConn struct {
	net.Conn
	end time.Time
}

func (b *boundConn) SetDeadline(time.Time) error      { return b.Conn.SetDeadline(b.end) }
func (b *boundConn) SetReadDeadline(time.Time) error  { return b.Conn.SetReadDeadline(b.end) }
func (b *boundConn) SetWriteDeadline(time.Time) error { return b.Conn.SetWriteDeadline(b.end) }

// sendmail hands the mail to sendmail(8). It is not under the supervisor, which
// would end the delivery that some of them do in the background.
func (t target) sendmail(ctx context.Context, e *entry) error {
	m, err := t.message(e)
	if err != nil {
		return rejected{err}
	}
	var text, stderr bytes.Buffer
	if _, err := m.WriteTo(&text); err != nil {
		return rejected{err}
	}
	program, err := t.sendmailPath()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, program, "-t", "-oi")
	cmd.Env, cmd.Dir = t.o.Env, "/"
	cmd.Stdin, cmd.Stderr = &text, &capped{&stderr}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second // for what runs on in the background with its standard error
	err = cmd.Run()
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil // it has ended well
	}
	if err != nil {
		return fmt.Errorf("%s -t: %w%s", program, err, said(stderr.Bytes()))
	}
	return nil
}

// sendmailPath looks in PATH and where sendmail has always been: cron's PATH has neither.
func (t target) sendmailPath() (string, error) {
	path, _ := t.o.LookupEnv("PATH")
	for _, dir := range append(strings.Split(path, ":"), "/usr/sbin", "/usr/lib") {
		if strings.HasPrefix(dir, "/") {
			if found, err := exec.LookPath(dir + "/sendmail"); err == nil {
				return found, nil
			}
		}
	}
	return "", errors.New("there is no sendmail")
}
