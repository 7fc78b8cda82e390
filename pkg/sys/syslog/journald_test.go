package syslog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/relkit/relkit/pkg/relkittest"
)

// parseEntry reads an entry of the Native Journal Protocol.
func parseEntry(b []byte) (fields []Field, err error) {
	for len(b) > 0 {
		line, rest, ok := bytes.Cut(b, []byte("\n"))
		name, value, text := bytes.Cut(line, []byte("="))
		switch {
		case !ok:
			return fields, fmt.Errorf("no newline after %q", line)
		case !text && len(rest) < 9:
			return fields, fmt.Errorf("%q: no length", name)
		case !text:
			n := binary.LittleEndian.Uint64(rest)
			if rest = rest[8:]; n >= uint64(len(rest)) || rest[n] != '\n' {
				return fields, fmt.Errorf("%q: %d bytes, and there are %d", name, n, len(rest))
			}
			value, rest = rest[:n], rest[n+1:]
		}
		fields, b = append(fields, Field{string(name), string(value)}), rest
	}
	return fields, nil
}

// entries are what is sent to journald: of one line and several, of bytes that are
// no text, and longer than a datagram of the socket's.
func entries() map[string][]Field {
	return map[string][]Field{
		"small":    {{"MESSAGE", "refused"}, {"PRIORITY", "4"}, {"RELKIT_SIGNOFF", "a"}, {"RELKIT_SIGNOFF", "b=c"}},
		"lines":    {{"MESSAGE", "one\ntwo\n"}, {"RELKIT_REASON", "\n"}, {"RELKIT_EMPTY", ""}},
		"bytes":    {{"MESSAGE", "\xff\x00=\n\x01"}},
		"datagram": {{"MESSAGE", strings.Repeat("x", 100_000)}},
		"memfd":    {{"MESSAGE", "large"}, {"RELKIT_LINE", strings.Repeat("ä\n", 1<<20)}},
	}
}

// TestJournal: what arrives is one datagram an entry, or the descriptor of a
// memory file that nobody can change.
func TestJournal(t *testing.T) {
	reader, path := listen(t)
	j, err := DialJournal(path, time.Now().Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	for name, want := range entries() {
		if err := j.Send(want); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		b, oob := make([]byte, 1<<20), make([]byte, 256)
		n, oobn, _, _, err := reader.ReadMsgUnix(b, oob)
		if err != nil {
			t.Fatal(err)
		}
		if b = b[:n]; (name == "memfd") != (n == 0) {
			t.Errorf("%s: a datagram of %d bytes", name, n)
		}
		if n == 0 {
			b = readSealed(t, oob[:oobn])
		}
		if got, err := parseEntry(b); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %.200q, %v", name, got, err)
		}
	}
}

// readSealed reads the file whose descriptor came along.
func readSealed(t *testing.T, oob []byte) []byte {
	t.Helper()
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil || len(messages) != 1 {
		t.Fatalf("%d control messages, %v", len(messages), err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		t.Fatalf("%d descriptors, %v", len(fds), err)
	}
	f := os.NewFile(uintptr(fds[0]), "entry")
	defer f.Close()
	const all = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	if seals, err := unix.FcntlInt(f.Fd(), unix.F_GET_SEALS, 0); err != nil || seals != all {
		t.Errorf("seals %#x, %v", seals, err)
	}
	b, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<30))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestJournalNobodyReads: a journald that does not read holds nobody up, neither
// with a datagram nor with a descriptor.
func TestJournalNobodyReads(t *testing.T) {
	for _, name := range []string{"small", "memfd"} {
		_, path := listen(t)
		start := time.Now()
		j, err := DialJournal(path, start.Add(500*time.Millisecond))
		if err != nil {
			t.Fatal(err)
		}
		defer j.Close()
		for range 100000 {
			if err = j.Send(entries()[name]); err != nil {
				break
			}
		}
		if took := time.Since(start); !errors.Is(err, os.ErrDeadlineExceeded) || took > 10*time.Second {
			t.Errorf("%s: %v after %v", name, err, took)
		}
	}
}

// TestJournald: systemd's own journald takes each entry, and journalctl finds it
// with every field as it was sent.
func TestJournald(t *testing.T) {
	d := relkittest.StartJournald(t)
	j, err := DialJournal(d.Socket, time.Now().Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	for name, fields := range entries() {
		if err := j.Send(append(fields, Field{"RELKIT_TEST", name})); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got := d.Entries(t, 1, "RELKIT_TEST="+name)
		if len(got) != 1 || got[0]["_TRANSPORT"] != "journal" {
			t.Fatalf("%s: %d entries", name, len(got))
		}
		want := map[string][]string{}
		for _, f := range fields {
			want[f.Name] = append(want[f.Name], f.Value)
		}
		for field, values := range want {
			if have := stringsOf(got[0][field]); !reflect.DeepEqual(have, values) {
				t.Errorf("%s: %s: got %.200q, want %.200q", name, field, have, values)
			}
		}
	}
}

// stringsOf are the values of a field as journalctl writes it: a string, numbers
// where it is no text, or a list of these.
func stringsOf(v any) (values []string) {
	switch v := v.(type) {
	case string:
		return []string{v}
	case []any:
		var b []byte
		for _, e := range v {
			if n, ok := e.(float64); ok {
				b = append(b, byte(n))
			} else {
				values = append(values, stringsOf(e)...)
			}
		}
		if b != nil {
			values = append(values, string(b))
		}
	}
	return values
}
