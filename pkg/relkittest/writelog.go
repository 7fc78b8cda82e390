package relkittest

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// The log of QEMU's blklogwrites driver: the format of Linux' dm-log-writes
// (Documentation/admin-guide/device-mapper/log-writes.rst), little-endian, each
// entry a sector followed by its data.
const (
	logMagic    = 0x6a736677736872
	logFlush    = 1 << 0
	logFUA      = 1 << 1
	logDiscard  = 1 << 2
	maxLogEntry = 1 << 30 // bytes of one write
)

// logEntry is one write; with neither data nor discard it is a bare flush.
type logEntry struct {
	off     int64
	data    []byte
	discard int64 // bytes
	flush   bool  // everything before is on the disk
	fua     bool  // this write is on the disk when it is done
}

// writeLog reads a log.
type writeLog struct {
	r      *bufio.Reader
	sector int64
	left   uint64 // entries
}

func openWriteLog(r io.Reader) (*writeLog, error) {
	l := &writeLog{r: bufio.NewReader(r)}
	head := make([]byte, 512)
	if _, err := io.ReadFull(l.r, head); err != nil {
		return nil, fmt.Errorf("reading write log: %w", err)
	}
	magic, version := binary.LittleEndian.Uint64(head), binary.LittleEndian.Uint64(head[8:])
	l.left, l.sector = binary.LittleEndian.Uint64(head[16:]), int64(binary.LittleEndian.Uint32(head[24:]))
	if magic != logMagic || version != 1 || l.sector < 512 || l.sector > 1<<16 {
		return nil, fmt.Errorf("reading write log: got magic %#x, version %d, sectors of %d bytes", magic, version, l.sector)
	}
	_, err := l.r.Discard(int(l.sector) - len(head))
	return l, err
}

// next is the next entry; io.EOF after the last that the log's head counts.
func (l *writeLog) next() (logEntry, error) {
	if l.left == 0 {
		return logEntry{}, io.EOF
	}
	l.left--
	head := make([]byte, l.sector)
	if _, err := io.ReadFull(l.r, head); err != nil {
		return logEntry{}, fmt.Errorf("reading write log: %w", err)
	}
	size := binary.LittleEndian.Uint64(head[8:])
	flags := binary.LittleEndian.Uint64(head[16:])
	e := logEntry{off: int64(binary.LittleEndian.Uint64(head)) * l.sector, flush: flags&logFlush != 0, fua: flags&logFUA != 0}
	if size > uint64(maxLogEntry/l.sector) && flags&logDiscard == 0 {
		return logEntry{}, fmt.Errorf("reading write log: an entry of %d sectors", size)
	}
	if flags&logDiscard != 0 {
		e.discard = int64(size) * l.sector
		return e, nil
	}
	e.data = make([]byte, int64(size)*l.sector)
	if _, err := io.ReadFull(l.r, e.data); err != nil {
		return logEntry{}, fmt.Errorf("reading write log: %w", err)
	}
	return e, nil
}

// Replay shows what the disk holds if the power goes just before a flush, once for
// each flush in the log and at the end: an image on which all writes up to the
// flush before are done and, where loose, a random choice of those that came
// after it. A last point has everything. base is the image as it was when the
// machine started; visit gets a copy that it may mount. The number of points is
// returned; it is the same for one log.
func Replay(t testing.TB, base, log string, loose bool, seed uint64, visit func(point int, image string)) int {
	t.Helper()
	f, err := os.Open(log)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	l, err := openWriteLog(f)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	disk, shown := filepath.Join(dir, "disk.raw"), filepath.Join(dir, "shown.raw")
	copyImage(t, base, disk)
	random := rand.New(rand.NewPCG(seed, 4))
	points := 0
	var pending []logEntry // since the last flush
	for {
		e, err := l.next()
		if err != nil && err != io.EOF {
			t.Fatal(err)
		}
		if err == io.EOF || e.flush {
			copyImage(t, disk, shown)
			writeEntries(t, shown, pending, func(e logEntry) bool { return e.fua || loose && random.IntN(2) == 0 })
			visit(points, shown)
			points++
			writeEntries(t, disk, pending, nil)
			pending = nil
		}
		if err == io.EOF {
			copyImage(t, disk, shown)
			visit(points, shown)
			return points + 1
		}
		pending = append(pending, e)
	}
}

// writeEntries does those writes that are chosen; all where choose is nil.
func writeEntries(t testing.TB, image string, entries []logEntry, choose func(logEntry) bool) {
	t.Helper()
	f, err := os.OpenFile(image, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if choose != nil && !choose(e) {
			continue
		}
		_, werr := f.WriteAt(e.data, e.off)
		// Discarded is undefined; zeros are what disks mostly give.
		_, zerr := io.CopyN(io.NewOffsetWriter(f, e.off), zeros{}, e.discard)
		err = errors.Join(err, werr, zerr)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// copyImage copies a raw image, its holes as holes.
func copyImage(t testing.TB, from, to string) {
	t.Helper()
	runOn(t, []string{"cp", "--sparse=always", "--reflink=auto", from}, to)
}
