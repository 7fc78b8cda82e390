package notify

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/relkit/relkit/pkg/config"
)

// deadline bounds one delivery, whatever the other side does.
const deadline = 30 * time.Second

// Options of Open.
type Options struct {
	// Dir is what relative paths of the configuration start from.
	Dir string
	// LookupEnv is the caller's environment.
	LookupEnv func(string) (string, bool)
	// Env is the environment of commands, "KEY=value".
	Env []string
	// Deadline bounds a delivery; 0 is 30 s.
	Deadline time.Duration
	// Roots are the authorities that servers are checked against; nil is the system's.
	Roots *x509.CertPool
	// Backoff is how long a webhook waits before its second try, and twice that
	// before its third; 0 is 1 s.
	Backoff time.Duration
}

// target is one [[notify]].
type target struct {
	*config.Notify
	o *Options
}

// key says who is told, the same from one run to the next, without what may be
// secret. A mail server is not part of it: what waits because its name was
// mistyped goes through the right one. Two tables for the same tell once.
func (t target) key() string {
	who := config.Notify{To: t.To, Domains: t.Domains, Webhook: t.Webhook, Command: t.Command, File: t.File}
	b, _ := json.Marshal(who) // strings and lists of them
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:8])
}

// label says which target it is, without what may be secret: the path of a
// webhook's URL often is.
func (t target) label() string {
	switch {
	case t.Mail != "":
		u, _ := url.Parse(t.Mail)
		if u == nil {
			return "mail"
		}
		return "mail by " + u.Scheme + "://" + u.Host
	case t.Sendmail:
		return "mail by sendmail"
	case t.Webhook != "":
		u, err := url.Parse(t.Webhook)
		if err != nil || u.Host == "" {
			return "webhook " + t.Webhook // file: or env:
		}
		return "webhook " + u.Scheme + "://" + u.Host
	case len(t.Command) > 0:
		return "command " + t.Command[0]
	}
	return "file " + t.File
}

// byMail tells whether the target has recipients.
func (t target) byMail() bool { return t.Mail != "" || t.Sendmail }

// sender is the address that mail comes from.
func (t target) sender() string {
	if t.From != "" {
		return t.From
	}
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "localhost"
	}
	return "relkit@" + host
}

// abs is a path of the configuration.
func (t target) abs(path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(t.o.Dir, path)
}

// indirect reads "file:PATH" and "env:NAME"; other text is not for it.
func (t target) indirect(text string) (value string, ok bool, err error) {
	if name, is := strings.CutPrefix(text, "env:"); is {
		v, set := t.o.LookupEnv(name)
		if !set || v == "" {
			return "", true, fmt.Errorf("the environment has no %s", name)
		}
		return v, true, nil
	}
	name, is := strings.CutPrefix(text, "file:")
	if !is {
		return "", false, nil
	}
	b, err := os.ReadFile(t.abs(name))
	if err != nil {
		return "", true, err
	}
	if v := strings.TrimSpace(string(b)); v != "" {
		return v, true, nil
	}
	return "", true, fmt.Errorf("%q is empty", t.abs(name))
}

// secret is what the target is let in with, "" where it needs nothing.
func (t target) secret() (string, error) {
	if t.Secret == "" {
		return "", nil
	}
	v, _, err := t.indirect(t.Secret)
	if err != nil {
		return "", fmt.Errorf("reading notify.secret: %w", err)
	}
	return v, nil
}

// rejected is an error that another try would meet again: the message itself is
// refused.
type rejected struct{ error }

func (r rejected) Unwrap() error { return r.error }

// deliver tells the target. Where some recipients have it and others are still
// to be tried, e.To is the others and the error says why.
func (t target) deliver(ctx context.Context, e *entry) error {
	secret, err := t.secret()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, t.o.Deadline)
	defer cancel()
	switch {
	case t.Mail != "":
		err = t.smtp(ctx, e, secret)
	case t.Sendmail:
		err = t.sendmail(ctx, e)
	case t.Webhook != "":
		err = t.post(ctx, e, secret)
	case len(t.Command) > 0:
		err = t.run(ctx, e)
	default:
		err = t.append(ctx, e)
	}
	if err != nil && late(ctx, err) {
		err = fmt.Errorf("no answer within %v", t.o.Deadline)
	}
	return scrub(err, secret)
}

// scrub takes secrets out of an error, which is read by many.
func scrub(err error, secrets ...string) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	for _, s := range secrets {
		if len(s) > 1 {
			text = strings.ReplaceAll(text, s, "***")
		}
	}
	var r rejected
	switch {
	case text == err.Error():
		return err
	case errors.As(err, &r):
		return rejected{errors.New(text)}
	}
	return errors.New(text)
}

// late tells whether what failed did so because the time was over.
func late(ctx context.Context, err error) bool {
	var ne net.Error
	return errors.Is(ctx.Err(), context.DeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) || errors.As(err, &ne) && ne.Timeout()
}
