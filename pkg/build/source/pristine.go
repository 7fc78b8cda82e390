package source

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/relkit/relkit/pkg/build/worker"
	"github.com/relkit/relkit/pkg/failure"
)

// pristine keeps the trees of a source that has no history of its own: a folder
// of each revision that was fetched, beside it a list of what is in it. A
// revision is "sha256:HEX"; here it is called by its HEX.
//
//	.relkit/HEX/        the tree
//	.relkit/HEX.list    lines "DIGEST SECONDS PATH", sorted by path
//	.relkit/current     the list of what the last checkout put into the tree
type pristine struct{ tool }

const (
	keeps  = ".relkit"
	idHead = "sha256:"
)

// listed is one file of a list.
type listed struct {
	digest string // hex, or "-"
	time   time.Time
	path   string
}

func encodeList(list []listed) []byte {
	slices.SortFunc(list, func(a, b listed) int { return strings.Compare(a.path, b.path) })
	var b bytes.Buffer
	for _, l := range list {
		fmt.Fprintf(&b, "%s %d %s\x00", l.digest, l.time.Unix(), l.path)
	}
	return b.Bytes()
}

func decodeList(data string) ([]listed, error) {
	var list []listed
	for line := range strings.SplitSeq(data, "\x00") {
		if line == "" {
			continue
		}
		f := strings.SplitN(line, " ", 3)
		seconds, err := strconv.ParseInt(f[min(1, len(f)-1)], 10, 64)
		if len(f) != 3 || err != nil {
			return nil, fmt.Errorf("reading a list of files: bad line %q", line)
		}
		list = append(list, listed{f[0], time.Unix(seconds, 0).UTC(), f[2]})
	}
	return list, nil
}

// name is what a revision's folder is called.
func (p *pristine) name(id string) string { return strings.TrimPrefix(id, idHead) }

// list reads a list; fs.ErrNotExist where there is none.
func (p *pristine) list(ctx context.Context, repo, name string) ([]listed, error) {
	var data bytes.Buffer
	err := p.host.Get(ctx, path.Join(repo, keeps), []string{name}, func(_ worker.Info, r io.Reader) error {
		_, err := io.Copy(&data, io.LimitReader(r, maxAnswer))
		return err
	})
	if err != nil {
		return nil, err
	}
	return decodeList(data.String())
}

func (p *pristine) has(ctx context.Context, repo, id string) (bool, error) {
	_, err := p.host.Stat(ctx, path.Join(repo, keeps), p.name(id)+".list")
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// fresh makes the folder that a revision is put into before it is complete.
func (p *pristine) fresh(ctx context.Context, repo, id string) (string, error) {
	dir := path.Join(repo, keeps, p.name(id))
	if err := p.host.Remove(ctx, dir); err != nil {
		return "", err
	}
	return dir, p.host.Mkdir(ctx, dir)
}

// done notes that a revision is complete, and removes the trees of all others:
// their lists stay, to tell what has changed.
func (p *pristine) done(ctx context.Context, repo, id string, list []listed) error {
	dir := path.Join(repo, keeps)
	if err := p.host.Put(ctx, path.Join(dir, p.name(id)+".list"), 0o644, bytes.NewReader(encodeList(list))); err != nil {
		return err
	}
	out, err := p.output(ctx, dir, 0, "find", ".", "-mindepth", "1", "-maxdepth", "1", "-type", "d", "!", "-name", p.name(id), "-print0")
	if err != nil {
		return err
	}
	return p.removeAll(ctx, dir, out)
}

// removeAll removes names below a folder, each ended by a zero byte.
func (p *pristine) removeAll(ctx context.Context, dir string, names []byte) error {
	var paths []string
	for name := range strings.SplitSeq(string(names), "\x00") {
		if name != "" {
			paths = append(paths, path.Join(dir, name))
		}
	}
	return p.host.Remove(ctx, paths...)
}

// resolve finds a revision that is head, or was fetched before.
func (p *pristine) resolve(ctx context.Context, repo, name string, head Revision, fetch func(context.Context, string, Revision) error) (string, error) {
	if name == head.ID || name == p.name(head.ID) {
		return head.ID, fetch(ctx, repo, head)
	}
	return "", failure.Errorf(failure.Usage, "the source is at %s and knows no other revision: %q", head.ID, name)
}

// Checkout puts the files beside keeps; those of the revision before that are
// gone from this one are removed.
func (p *pristine) Checkout(ctx context.Context, repo, id string, clean bool) error {
	list, err := p.list(ctx, repo, p.name(id)+".list")
	if err != nil {
		return err
	}
	if clean {
		out, err := p.output(ctx, repo, 0, "find", ".", "-mindepth", "1", "-maxdepth", "1", "!", "-name", keeps, "-print0")
		if err != nil {
			return err
		}
		if err := p.removeAll(ctx, repo, out); err != nil {
			return err
		}
	}
	was, err := p.list(ctx, repo, "current")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var gone []string
	for _, l := range was {
		if !slices.ContainsFunc(list, func(n listed) bool { return n.path == l.path }) {
			gone = append(gone, path.Join(repo, l.path))
		}
	}
	if err := p.host.Remove(ctx, gone...); err != nil {
		return err
	}
	dir := path.Join(repo, keeps)
	if err := p.host.Put(ctx, path.Join(dir, "current"), 0o644, bytes.NewReader(encodeList(list))); err != nil {
		return err
	}
	_, err = p.output(ctx, repo, 0, "cp", "-a", "--remove-destination", "--", path.Join(dir, p.name(id))+"/.", ".")
	return err
}

func (p *pristine) Private() []string { return []string{keeps} }

// Time is that of the newest file.
func (p *pristine) Time(ctx context.Context, repo, id string) (time.Time, error) {
	list, err := p.list(ctx, repo, p.name(id)+".list")
	newest := time.Unix(0, 0).UTC()
	for _, l := range list {
		if l.time.After(newest) {
			newest = l.time
		}
	}
	return newest, err
}

// Count is unknown: there is no history.
func (p *pristine) Count(context.Context, string, string) (int, error) { return 0, nil }

// Changes are none: nobody says who made them.
func (p *pristine) Changes(context.Context, string, string, string, int) ([]Change, error) {
	return nil, nil
}

func (p *pristine) Touched(ctx context.Context, repo, from, to string) (paths []string, known bool, err error) {
	if !fullHash.MatchString(p.name(from)) {
		return nil, false, nil
	}
	old, err := p.list(ctx, repo, p.name(from)+".list")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	list, err := p.list(ctx, repo, p.name(to)+".list")
	if err != nil {
		return nil, false, err
	}
	digests := map[string]string{}
	for _, l := range old {
		digests[l.path] = l.digest
	}
	for _, l := range list {
		if digests[l.path] != l.digest {
			paths = append(paths, l.path)
		}
		delete(digests, l.path)
	}
	for gone := range digests {
		paths = append(paths, gone)
	}
	slices.Sort(paths)
	return paths, true, nil
}

// PutTree puts files into an existing folder on a host: fill writes them, and they
// go there as one archive, with their modes and times.
func PutTree(ctx context.Context, host Host, env []string, dir string, fill func(*tar.Writer) error) error {
	archive := path.Join(path.Dir(dir), ".put-"+path.Base(dir))
	r, w := io.Pipe()
	go func() {
		t := tar.NewWriter(w)
		err := fill(t)
		if err == nil {
			err = t.Close()
		}
		w.CloseWithError(err)
	}()
	err := host.Put(ctx, archive, 0o600, r)
	r.CloseWithError(errors.New("the worker takes no more")) // or fill would wait for ever
	if err == nil {
		err = Unpack(ctx, host, env, archive, dir)
	}
	return errors.Join(err, host.Remove(ctx, archive))
}

// Unpack unpacks an archive that is on a host; tar(1) refuses names that lead out.
func Unpack(ctx context.Context, host Host, env []string, archive, dir string) error {
	t := tool{host: host, env: env}
	_, err := t.output(ctx, "/", 0, "tar", "-x", "-p", "--no-same-owner", "-f", archive, "-C", dir)
	return err
}
