package relkittest

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// madeLog is a write log of one-sector entries: "Ax" writes sector full of x at
// A, "-A" discards sector A, "!" flushes.
func madeLog(entries ...string) []byte {
	const sector = 512
	var log bytes.Buffer
	put := func(values ...uint64) {
		head := make([]byte, sector)
		for i, v := range values {
			binary.LittleEndian.PutUint64(head[8*i:], v)
		}
		log.Write(head)
	}
	put(logMagic, 1, uint64(len(entries)), sector)
	for _, e := range entries {
		switch e[0] {
		case '!':
			put(0, 0, logFlush)
		case '-':
			put(uint64(e[1]-'0'), 1, logDiscard)
		default:
			put(uint64(e[0]-'0'), 1, 0)
			log.Write(bytes.Repeat([]byte{e[1]}, sector))
		}
	}
	return log.Bytes()
}

// replayed is what Replay shows, a letter a sector.
func replayed(t *testing.T, loose bool, seed uint64, entries ...string) []string {
	t.Helper()
	dir := t.TempDir()
	base, log := filepath.Join(dir, "base"), filepath.Join(dir, "log")
	must(t, os.WriteFile(base, bytes.Repeat([]byte("."), 3*512), 0600), os.WriteFile(log, madeLog(entries...), 0600))
	var shown []string
	n := Replay(t, base, log, loose, seed, func(point int, image string) {
		data, err := os.ReadFile(image)
		must(t, err)
		shown = append(shown, strings.ReplaceAll(string([]byte{data[0], data[512], data[1024+511]}), "\x00", "0"))
		must(t, os.WriteFile(image, []byte("spoilt"), 0600))
	})
	if n != len(shown) {
		t.Errorf("%d points, %d told", len(shown), n)
	}
	return shown
}

func TestReplay(t *testing.T) {
	got := replayed(t, false, 0, "0a", "1b", "!", "-0", "2c", "!", "1d")
	if want := []string{"...", "ab.", "0bc", "0dc"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	seen := map[string]bool{}
	for seed := range uint64(40) {
		got := replayed(t, true, seed, "0a", "1b", "!", "0c")
		seen[got[0]] = true
		if (got[1] != "ab." && got[1] != "cb.") || got[2] != "cb." {
			t.Fatalf("seed %d: %q", seed, got)
		}
	}
	for _, want := range []string{"...", "a..", ".b.", "ab."} {
		if !seen[want] {
			t.Errorf("40 times, and never %q", want)
		}
	}
}

func TestWriteLogErrors(t *testing.T) {
	good := madeLog("0a", "!")
	for name, log := range map[string][]byte{
		"empty": nil, "cut head": good[:100], "cut entry": good[:700], "cut data": good[:1500], "magic": append([]byte("x"), good[1:]...),
	} {
		l, err := openWriteLog(bytes.NewReader(log))
		for err == nil {
			_, err = l.next()
		}
		if !strings.HasPrefix(err.Error(), "reading write log: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
	huge := slices.Clone(good)
	binary.LittleEndian.PutUint64(huge[512+8:], 1<<50)
	l, err := openWriteLog(bytes.NewReader(huge))
	must(t, err)
	if _, err := l.next(); err == nil || !strings.Contains(err.Error(), "sectors") {
		t.Errorf("an entry of a petabyte: %v", err)
	}
}
