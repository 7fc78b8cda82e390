package syslog

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"
)

func listen(t *testing.T) (*net.UnixConn, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "log")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, path
}

// TestSend: what arrives is what syslog(3) sends.
func TestSend(t *testing.T) {
	reader, path := listen(t)
	l, err := Dial(path, time.Now().Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := l.Send(Notice, time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), []byte(`{"seq":1}`)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1<<16)
	n, err := reader.Read(b)
	if err != nil || !regexp.MustCompile(`^<85>Jan  2 03:04:05 relkit\[\d+\]: \{"seq":1\}$`).Match(b[:n]) {
		t.Fatalf("%q, %v", b[:n], err)
	}
}

// TestNobodyReads: a log that does not read holds nobody up beyond the deadline.
func TestNobodyReads(t *testing.T) {
	_, path := listen(t)
	start := time.Now()
	l, err := Dial(path, start.Add(200*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for range 100000 {
		if err = l.Send(Notice, start, make([]byte, 1000)); err != nil {
			break
		}
	}
	if took := time.Since(start); !errors.Is(err, os.ErrDeadlineExceeded) || took > 10*time.Second {
		t.Fatalf("%v after %v", err, took)
	}
}

func TestNobodyListens(t *testing.T) {
	if _, err := Dial(filepath.Join(t.TempDir(), "log"), time.Now().Add(time.Second)); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("got %v", err)
	}
}
