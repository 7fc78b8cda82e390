package source

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/relkit/relkit/pkg/sys/fsys"
)

// Memory is a folder of this machine where drivers keep what spares them reading
// whole files to find that nothing has changed; the zero value keeps nothing.
type Memory struct {
	Dir string
	// ReadOnly uses what is there and writes nothing.
	ReadOnly bool

	now func() time.Time // nil is time.Now
}

// stamp is what stat(2) says of a file. Who writes to it changes one of these:
// the time of the last change (ctime) cannot be set.
type stamp struct {
	size, mtime, ctime int64 // bytes, and nanoseconds of the epoch
	device, inode      uint64
}

func stampOf(info fs.FileInfo) (stamp, bool) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return stamp{}, false
	}
	return stamp{st.Size, st.Mtim.Nano(), st.Ctim.Nano(), uint64(st.Dev), st.Ino}, true
}

// racy is how long a file must have been left alone when it is read for its stamp
// to stand for what is in it: one that is written twice within the same tick of a
// file system's clock has one stamp for both (git calls that racily clean). The
// coarsest clock ticks every 2 s (FAT), and a file server's may be slow.
const racy = 10 * time.Second

func (s stamp) settled(now time.Time) bool {
	return max(s.mtime, s.ctime) < now.Add(-racy).UnixNano()
}

// known is a file that was read.
type known struct {
	stamp
	digest string // hex, SHA-256
}

// digests are what is known of files, by their paths.
type digests struct {
	Memory
	name    string
	was, is map[string]known
}

const (
	digestsHead = "relkit.digests/v1 "
	// maxDigests bounds what is read of a memory, in bytes.
	maxDigests = 256 << 20
)

// open recalls what is known of a source's files. A memory that cannot be read is
// none: its only use is time.
func (m Memory) open(name string) *digests {
	if m.now == nil {
		m.now = time.Now
	}
	d := &digests{Memory: m, name: name, is: map[string]known{}}
	if m.Dir == "" || name == "" {
		return d
	}
	f, err := os.Open(d.file())
	if err != nil {
		return d
	}
	defer f.Close()
	if data, err := io.ReadAll(io.LimitReader(f, maxDigests+1)); err == nil && len(data) <= maxDigests {
		d.was, _ = decodeDigests(data)
	}
	return d
}

func (d *digests) file() string { return filepath.Join(d.Dir, d.name+".digests") }

// of is the digest of a file's content, out of the memory where the file is the
// one that was read and fresh is false.
func (d *digests) of(name string, info fs.FileInfo, fresh bool) (string, error) {
	before, ok := stampOf(info)
	if k, kept := d.was[name]; ok && kept && k.stamp == before && !fresh {
		d.is[name] = k
		return k.digest, nil
	}
	began := d.now()
	digest, after, err := digestFile(name)
	if err != nil {
		return "", err
	}
	if now, same := stampOf(after); ok && same && now == before && now.settled(began) {
		d.is[name] = known{now, digest}
	}
	return digest, nil
}

// save keeps what is known now, and of no other files.
func (d *digests) save() error {
	if d.Dir == "" || d.name == "" || d.ReadOnly || maps.Equal(d.was, d.is) {
		return nil
	}
	if err := os.MkdirAll(d.Dir, 0o755); err != nil {
		return err
	}
	a, err := fsys.NewAtomic(d.file(), 0o644)
	if err != nil {
		return err
	}
	if _, err := a.Write(encodeDigests(d.is)); err != nil {
		return errors.Join(err, a.Abort())
	}
	return a.Commit()
}

// encodeDigests writes a memory: a line of what it is with the digest of the rest,
// and "DIGEST SIZE MTIME CTIME DEVICE INODE PATH", each ended by a zero byte,
// sorted by path.
func encodeDigests(files map[string]known) []byte {
	var b bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(files)) {
		k := files[name]
		fmt.Fprintf(&b, "%s %d %d %d %d %d %s\x00", k.digest, k.size, k.mtime, k.ctime, k.device, k.inode, name)
	}
	sum := sha256.Sum256(b.Bytes())
	return append([]byte(digestsHead+hex.EncodeToString(sum[:])+"\n"), b.Bytes()...)
}

// decodeDigests reads what encodeDigests has written and nothing else: what a
// power cut or a full disk has left of it is an error.
func decodeDigests(data []byte) (map[string]known, error) {
	head, rest, ended := bytes.Cut(data, []byte("\n"))
	sum := sha256.Sum256(rest)
	if !ended || string(head) != digestsHead+hex.EncodeToString(sum[:]) {
		return nil, errors.New("reading digests: not what was written")
	}
	return decodeFiles(string(rest))
}

func decodeFiles(text string) (map[string]known, error) {
	files := map[string]known{}
	for text != "" {
		line, rest, ended := strings.Cut(text, "\x00")
		text = rest
		f := strings.SplitN(line, " ", 7)
		if !ended || len(f) != 7 || !hexDigest.MatchString(f[0]) || f[6] == "" {
			return nil, fmt.Errorf("reading digests: bad line %q", line)
		}
		k := known{digest: f[0]}
		var errs [5]error
		k.size, errs[0] = strconv.ParseInt(f[1], 10, 64)
		k.mtime, errs[1] = strconv.ParseInt(f[2], 10, 64)
		k.ctime, errs[2] = strconv.ParseInt(f[3], 10, 64)
		k.device, errs[3] = strconv.ParseUint(f[4], 10, 64)
		k.inode, errs[4] = strconv.ParseUint(f[5], 10, 64)
		if err := errors.Join(errs[:]...); err != nil {
			return nil, fmt.Errorf("reading digests: bad line %q: %w", line, err)
		}
		files[f[6]] = k
	}
	return files, nil
}
