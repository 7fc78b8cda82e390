package ssh

import (
	"io"
	"net"
	"testing"
	"time"
)

// A server that answers in two small packets, as sshd(8) does before a program
// runs, is not kept waiting for an acknowledgement.
func TestPromptConn(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		_ = c.(*net.TCPConn).SetNoDelay(false)
		var b [1]byte
		for {
			if _, err := io.ReadFull(c, b[:]); err != nil {
				return
			}
			for range 2 {
				if _, err := c.Write(b[:]); err != nil {
					return
				}
			}
		}
	}()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fastest := func(c net.Conn) time.Duration {
		least := time.Hour
		for i := range 20 {
			start := time.Now()
			if _, err := c.Write([]byte{'x'}); err != nil {
				t.Fatal(err)
			}
			var b [2]byte
			if _, err := io.ReadFull(c, b[:]); err != nil {
				t.Fatal(err)
			}
			if i >= 10 { // a connection begins by being prompt
				least = min(least, time.Since(start))
			}
		}
		return least
	}
	p := &promptConn{Conn: conn}
	if d := fastest(p); d > 30*time.Millisecond {
		t.Errorf("prompt: %v", d)
	}
	p.enough.Store(true)
	t.Logf("otherwise: %v", fastest(p)) // about 45 ms
}
