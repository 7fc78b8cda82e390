package ssh

import (
	"net"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// promptConn acknowledges at once what it has read, tcp(7), TCP_QUICKACK, until it
// is told that this is enough. Until a program runs, OpenSSH's sshd(8) sends no
// second small packet before the first is acknowledged (Nagle's algorithm), which
// a client that has nothing to say meanwhile does after 40 ms: this one has to wait
// for the second, as it opens its session.
type promptConn struct {
	net.Conn
	enough atomic.Bool
}

func (c *promptConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if s, ok := c.Conn.(syscall.Conn); ok && n > 0 && !c.enough.Load() {
		if raw, rerr := s.SyscallConn(); rerr == nil {
			// It holds for a while only. Without it all works, more slowly.
			_ = raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1) })
		}
	}
	return n, err
}
