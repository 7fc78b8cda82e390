package syslog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// JournalSocket is where systemd-journald takes entries of fields.
const JournalSocket = "/run/systemd/journal/socket"

// Field is one field of an entry of systemd's journal. Its name is of A to Z, 0
// to 9 and _, and begins with a letter; its value is any bytes. An entry may
// have several of one name.
type Field struct{ Name, Value string }

// Journal is a connection to systemd-journald. It speaks systemd's Native
// Journal Protocol, in which an entry is of fields and of any length.
type Journal struct{ conn *net.UnixConn }

// DialJournal connects to the journald that listens on a socket, with the
// deadline that Dial has.
func DialJournal(socket string, deadline time.Time) (*Journal, error) {
	conn, err := dial(socket, deadline)
	if err != nil {
		return nil, err
	}
	return &Journal{conn}, nil
}

// Send sends one entry: as one datagram, or where that is too long for the
// socket in a memory file, of which the datagram carries only the descriptor.
func (j *Journal) Send(fields []Field) error {
	entry := appendEntry(nil, fields)
	_, err := j.conn.Write(entry)
	if !errors.Is(err, unix.EMSGSIZE) && !errors.Is(err, unix.ENOBUFS) {
		return err
	}
	f, err := sealed(entry)
	if err != nil {
		return fmt.Errorf("making a memory file of %d bytes: %w", len(entry), err)
	}
	defer f.Close()
	return j.sendFile(f)
}

// sendFile sends a descriptor in a datagram without a byte, which is how journald
// knows it. WriteMsgUnix refuses connections of datagrams.
func (j *Journal) sendFile(f *os.File) error {
	raw, err := j.conn.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	err = raw.Write(func(fd uintptr) bool {
		sent = unix.Sendmsg(int(fd), nil, unix.UnixRights(int(f.Fd())), nil, unix.MSG_NOSIGNAL)
		return !errors.Is(sent, unix.EAGAIN)
	})
	if err != nil {
		return err
	}
	return sent
}

// sealed is a memory file of b that nobody can change any more: journald maps
// none that it would have to trust its sender not to shrink.
func sealed(b []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate("relkit-journal", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "relkit-journal")
	_, err = f.Write(b)
	if err == nil {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SEAL|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// appendEntry writes fields as the protocol has them: NAME=value and a newline,
// or for a value of several lines NAME, a newline, the length in 8 bytes, little
// end first, the value, and a newline.
func appendEntry(b []byte, fields []Field) []byte {
	for _, f := range fields {
		b = append(b, f.Name...)
		if strings.Contains(f.Value, "\n") {
			b = append(b, '\n')
			b = binary.LittleEndian.AppendUint64(b, uint64(len(f.Value)))
		} else {
			b = append(b, '=')
		}
		b = append(b, f.Value...)
		b = append(b, '\n')
	}
	return b
}

// Close lets go of the connection.
func (j *Journal) Close() error { return j.conn.Close() }
