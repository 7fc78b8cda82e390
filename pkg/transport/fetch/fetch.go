// Package fetch downloads blobs of known digest and size into files: it resumes
// where an earlier run or a cut connection stopped, gives up a source that
// stalls, retries, and never lets a byte that was not verified stand under the
// file's final name.
package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/digest"
)

// Blob is what is wanted.
type Blob struct {
	Digest digest.Digest
	Size   int64
}

// Source opens a blob to be read from offset on. It may begin earlier than it
// was asked to, at start, where it cannot do better. An error that wraps
// fs.ErrNotExist, or is a failure.Untrusted, is final; others are tried again,
// after the pause that a *RetryError asks for.
type Source func(ctx context.Context, offset int64) (body io.ReadCloser, start int64, err error)

// Options; the zero Options works.
type Options struct {
	// Retries is how often a download is taken up again without having got any
	// further; 0 means 4, a negative number none.
	Retries int
	// Stall is how long a source may take for minProgress bytes before it is given up; 0 means 30 s.
	Stall time.Duration
	// Pause is before the first retry; it doubles up to 30 s. 0 means 500 ms.
	Pause time.Duration
	// Progress hears of bytes as they come, or that were there already; may be nil.
	Progress func(n int64)
	// Log may be nil.
	Log *slog.Logger
}

const (
	// minProgress is what shows that a source is alive.
	minProgress = 1 << 10
	// goodProgress is after how many bytes a failure is the first again.
	goodProgress = 64 << 10
)

// maxPause bounds the pause before a retry, whatever the server asks for.
const maxPause = 30 * time.Second

func (o Options) withDefaults() Options {
	if o.Retries == 0 {
		o.Retries = 4
	}
	if o.Stall == 0 {
		o.Stall = 30 * time.Second
	}
	if o.Pause == 0 {
		o.Pause = 500 * time.Millisecond
	}
	if o.Progress == nil {
		o.Progress = func(int64) {}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// ToFile makes path hold the blob; where it does already, nothing is
// transferred. Until all is there and verified it grows as PATH.XXXXXXXXXXXX.part
// (the digest's first digits), which stays behind when the download fails
// and is taken up by the next. Data that are not the blob are a
// failure.Untrusted, and nothing of them is kept.
func ToFile(ctx context.Context, source Source, want Blob, path string, opt Options) error {
	opt = opt.withDefaults()
	if has, err := holds(path, want); err != nil || has {
		if has {
			opt.Progress(want.Size)
		}
		return err
	}
	p, err := openPart(path, want)
	if err != nil {
		return err
	}
	defer p.close()
	if p.have > 0 {
		opt.Log.Info("taking up a download", "file", path, "have_bytes", p.have, "size_bytes", want.Size)
	}
	opt.Progress(p.have)
	if err := p.fill(ctx, source, opt); err != nil {
		return fmt.Errorf("downloading %q: %w", path, err)
	}
	return p.publish()
}

// holds tells whether path is a file with the wanted content.
func holds(path string, want Blob) (bool, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return false, err
	}
	if !info.Mode().IsRegular() {
		return false, fmt.Errorf("%q is there and no file", path)
	}
	if info.Size() != want.Size {
		return false, nil
	}
	got, _, err := digest.OfReader(f)
	return got == want.Digest, err
}

// part is a download under way.
type part struct {
	f    *os.File
	path string // of the whole file
	want Blob
	have int64
	hash digest.Hash // of the have bytes
	// wrong says that all was there once and was not the blob.
	wrong bool
}

// openPart takes up what an earlier run left, alone: a second relkit on the
// same file is busy.
func openPart(path string, want Blob) (*part, error) {
	name := partName(path, want)
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o644)
	if p := new(fs.PathError); errors.As(err, &p) {
		return nil, &fs.PathError{Op: p.Op, Path: path, Err: p.Err} // not its temporary name
	}
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, failure.Errorf(failure.Busy, "another relkit is downloading %q", path)
		}
		return nil, &fs.PathError{Op: "flock", Path: name, Err: err}
	}
	removeOthers(path, name)
	p := &part{f: f, path: path, want: want, hash: digest.New()}
	n, err := io.Copy(p.hash, io.LimitReader(f, want.Size))
	if err == nil {
		p.have = n
		err = f.Truncate(n)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return p, nil
}

func partName(path string, want Blob) string { return path + "." + want.Digest.Hex()[:12] + ".part" }

// removeOthers drops what downloads of earlier contents of path have left.
func removeOthers(path, keep string) {
	dir, base := filepath.Split(path)
	entries, _ := os.ReadDir(filepath.Dir(path))
	for _, e := range entries {
		middle, ok := strings.CutPrefix(e.Name(), base+".")
		hex, ok2 := strings.CutSuffix(middle, ".part")
		if ok && ok2 && len(hex) == 12 && strings.Trim(hex, "0123456789abcdef") == "" && dir+e.Name() != keep {
			// Best effort: it is only rubbish.
			_ = os.Remove(dir + e.Name())
		}
	}
}

// fill reads until all is there and right.
func (p *part) fill(ctx context.Context, source Source, opt Options) error {
	pause := opt.Pause
	for failed := 0; ; failed++ {
		before := p.have
		err := p.attempt(ctx, source, opt)
		switch {
		case err == nil:
			return nil
		case context.Cause(ctx) != nil:
			return context.Cause(ctx)
		case final(err):
			return err
		}
		if p.have-before >= goodProgress {
			failed, pause = 0, opt.Pause
		}
		if failed >= opt.Retries {
			return err
		}
		if err := opt.wait(ctx, pause, err); err != nil {
			return err
		}
		pause = min(2*pause, maxPause)
	}
}

// attempt reads from one opening of the source. Wrong content that was partly
// there before is dropped and asked for anew, once: an earlier run, or another
// mirror, may have spoilt it.
func (p *part) attempt(ctx context.Context, source Source, opt Options) error {
	began := p.have
	if p.have < p.want.Size || p.want.Size == 0 {
		start, err := p.read(ctx, source, opt)
		if err != nil {
			return err
		}
		began = start
	}
	got := p.hash.Digest()
	if got == p.want.Digest {
		return nil
	}
	if err := p.restart(opt); err != nil {
		return err
	}
	if began > 0 && !p.wrong {
		p.wrong = true
		return &RetryError{Err: failure.Errorf(failure.Untrusted, "what was there of it is wrong: it has digest %s, want %s", got, p.want.Digest)}
	}
	return failure.Errorf(failure.Untrusted, "it has digest %s, want %s", got, p.want.Digest)
}

// read reads to the end; start is where the bytes began.
func (p *part) read(ctx context.Context, source Source, opt Options) (start int64, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	dog := time.AfterFunc(opt.Stall, func() {
		cancel(&RetryError{Err: fmt.Errorf("fewer than %d bytes came in %s", minProgress, opt.Stall)})
	})
	defer dog.Stop()
	body, start, err := source(ctx, p.have)
	if err != nil {
		return 0, causeOr(ctx, err)
	}
	defer body.Close()
	stop := context.AfterFunc(ctx, func() { body.Close() })
	defer stop()
	if start != p.have {
		if start != 0 {
			return 0, fmt.Errorf("asked for bytes from %d, got them from %d", p.have, start)
		}
		if err := p.restart(opt); err != nil {
			return 0, err
		}
	}
	if err := p.copy(body, func() { dog.Reset(opt.Stall) }, opt); err != nil {
		return 0, causeOr(ctx, err)
	}
	return start, nil
}

// copy takes in what body holds; alive is called as data come.
func (p *part) copy(body io.Reader, alive func(), opt Options) error {
	buf := make([]byte, 128<<10)
	fed := 0
	for {
		n, err := body.Read(buf)
		if p.have+int64(n) > p.want.Size {
			// It cannot be the blob, however it goes on.
			return errors.Join(failure.Errorf(failure.Untrusted, "it is longer than the %d bytes it should have", p.want.Size), p.restart(opt))
		}
		if _, werr := p.f.WriteAt(buf[:n], p.have); werr != nil {
			return Final(werr)
		}
		p.hash.Write(buf[:n])
		p.have += int64(n)
		opt.Progress(int64(n))
		if fed += n; fed >= minProgress {
			alive()
			fed = 0
		}
		switch {
		case errors.Is(err, io.EOF) && p.have == p.want.Size:
			return nil
		case errors.Is(err, io.EOF):
			return fmt.Errorf("it ends after %d of %d bytes", p.have, p.want.Size)
		case err != nil:
			return err
		}
	}
}

// restart drops what is there.
func (p *part) restart(opt Options) error {
	opt.Progress(-p.have)
	p.have, p.hash = 0, digest.New()
	return Final(p.f.Truncate(0))
}

// publish makes the file durable under its name.
func (p *part) publish() error {
	if err := p.f.Sync(); err != nil {
		return err
	}
	if err := os.Rename(p.f.Name(), p.path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(p.path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// close leaves nothing behind where nothing was got.
func (p *part) close() {
	if p.have == 0 && p.want.Size > 0 {
		_ = os.Remove(p.f.Name())
	}
	p.f.Close()
}
