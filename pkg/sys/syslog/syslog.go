// Package syslog speaks to the system's log the way syslog(3) does: one
// datagram a message to a local socket. Both systemd-journald and rsyslog read
// the form that glibc's syslog(3) sends (RFC 3164 without a host name); of
// RFC 5424 journald would take the header for text. To journald it speaks also
// natively, in entries of fields.
package syslog

import (
	"fmt"
	"net"
	"os"
	"time"
)

// Socket is where the system's log listens.
const Socket = "/dev/log"

// Severity is how grave a message is, as in RFC 3164, section 4.1.1.
type Severity int

// The severities that are sent.
const (
	Error   Severity = 3
	Warning Severity = 4
	Notice  Severity = 5
)

// Facility is authpriv's: of messages that not everybody may read.
const Facility = 10

// MaxMessage is the length in bytes that every reader takes in one piece: what
// rsyslog takes by default is 8 KiB with the header.
const MaxMessage = 8000

// Log is a connection to the system's log.
type Log struct{ conn net.Conn }

// Dial connects to the log that listens on a socket. Everything sent together
// takes no longer than until the deadline: a log that does not read stops nobody.
func Dial(socket string, deadline time.Time) (*Log, error) {
	conn, err := dial(socket, deadline)
	if err != nil {
		return nil, err
	}
	return &Log{conn}, nil
}

func dial(socket string, deadline time.Time) (*net.UnixConn, error) {
	conn, err := net.DialTimeout("unixgram", socket, time.Until(deadline))
	if err != nil {
		return nil, err
	}
	if err := conn.SetDeadline(deadline); err != nil {
		conn.Close()
		return nil, err
	}
	return conn.(*net.UnixConn), nil
}

// Send sends one message of one line.
func (l *Log) Send(s Severity, at time.Time, message []byte) error {
	b := fmt.Appendf(nil, "<%d>%s relkit[%d]: ", Facility*8+int(s), at.Format(time.Stamp), os.Getpid())
	_, err := l.conn.Write(append(b, message...))
	return err
}

// Close lets go of the connection.
func (l *Log) Close() error { return l.conn.Close() }
