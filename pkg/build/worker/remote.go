package worker

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"time"

	"github.com/relkit/relkit/pkg/sys/process"
)

// Handlers are what a supervisor answers so that it can be a worker's.
func Handlers() map[string]process.Handler {
	local, here := localFiles{}, &host{}
	return map[string]process.Handler{
		"open":  here.open,
		"close": here.close,
		"mkdir": handler(func(ctx context.Context, a pathArgs) (any, error) { return nil, local.Mkdir(ctx, string(a.Root)) }),
		"folders": handler(func(ctx context.Context, a pathArgs) (any, error) {
			return nil, local.Folders(ctx, texts(a.Empty), a.names())
		}),
		"remove": handler(func(ctx context.Context, a pathArgs) (any, error) { return nil, local.Remove(ctx, a.names()...) }),
		"remove-named": handler(func(ctx context.Context, a pathArgs) (any, error) {
			return nil, local.RemoveNamed(ctx, string(a.Root), a.names()...)
		}),
		"space": handler(func(ctx context.Context, a pathArgs) (any, error) { return local.Space(ctx, string(a.Root)) }),
		"stat": streamer(func(ctx context.Context, a pathArgs, w *bufio.Writer) error {
			list, err := local.Stat(ctx, string(a.Root), a.names()...)
			return errors.Join(err, writeInfos(w, list))
		}),
		"find": streamer(func(ctx context.Context, a pathArgs, w *bufio.Writer) error {
			found, err := local.Find(ctx, string(a.Root), string(a.Pattern))
			return errors.Join(err, writeInfos(w, append(found.Folders, found.Files...)))
		}),
		"get": streamer(func(ctx context.Context, a pathArgs, w *bufio.Writer) error {
			return local.Get(ctx, string(a.Root), a.names(), func(info Info, r io.Reader) error { return sendFile(w, info, r) })
		}),
		"put": func(ctx context.Context, args json.RawMessage, in io.Reader, _ io.Writer) (any, error) {
			var a pathArgs
			if err := json.Unmarshal(args, &a); err != nil {
				return nil, err
			}
			return nil, local.Put(ctx, string(a.Root), a.Mode, in)
		},
	}
}

// pathArgs are the arguments of a call. Names are bytes: they need not be UTF-8.
type pathArgs struct {
	Root    []byte      `json:"root,omitempty"`
	Pattern []byte      `json:"pattern,omitempty"`
	Names   [][]byte    `json:"names,omitempty"`
	Empty   [][]byte    `json:"empty,omitempty"`
	Mode    fs.FileMode `json:"mode,omitempty"`
}

func (a pathArgs) names() []string { return texts(a.Names) }

func texts(list [][]byte) (out []string) {
	for _, n := range list {
		out = append(out, string(n))
	}
	return out
}

func raw(list []string) (out [][]byte) {
	for _, n := range list {
		out = append(out, []byte(n))
	}
	return out
}

func withNames(root string, names []string) pathArgs {
	return pathArgs{Root: []byte(root), Names: raw(names)}
}

func handler(f func(context.Context, pathArgs) (any, error)) process.Handler {
	return func(ctx context.Context, args json.RawMessage, _ io.Reader, _ io.Writer) (any, error) {
		var a pathArgs
		if err := json.Unmarshal(args, &a); err != nil {
			return nil, err
		}
		return f(ctx, a)
	}
}

func streamer(f func(context.Context, pathArgs, *bufio.Writer) error) process.Handler {
	return func(ctx context.Context, args json.RawMessage, _ io.Reader, out io.Writer) (any, error) {
		var a pathArgs
		if err := json.Unmarshal(args, &a); err != nil {
			return nil, err
		}
		w := bufio.NewWriterSize(out, 64<<10)
		if err := f(ctx, a, w); err != nil {
			return nil, err
		}
		return nil, w.Flush()
	}
}

// wireInfo is an Info in a stream: one JSON object a line.
type wireInfo struct {
	Path    []byte      `json:"path"`
	Mode    fs.FileMode `json:"mode"`
	Size    int64       `json:"size"`
	ModTime time.Time   `json:"mtime"`
	Target  []byte      `json:"target,omitempty"`
}

func writeInfos(w io.Writer, list []Info) error {
	e := json.NewEncoder(w)
	for _, i := range list {
		if err := e.Encode(wireInfo{[]byte(i.Path), i.Mode, i.Size, i.ModTime, []byte(i.Target)}); err != nil {
			return err
		}
	}
	return nil
}

// maxLine bounds the line of an Info: two paths of 4,096 bytes, in base64.
const maxLine = 16 << 10

func readInfo(r *bufio.Reader) (Info, error) {
	line, err := r.ReadSlice('\n')
	if err != nil {
		if err == io.EOF && len(line) > 0 {
			err = io.ErrUnexpectedEOF
		}
		return Info{}, err
	}
	var w wireInfo
	if err := json.Unmarshal(line, &w); err != nil {
		return Info{}, fmt.Errorf("reading a file's description: %w", err)
	}
	return Info{string(w.Path), w.Mode, w.Size, w.ModTime, string(w.Target)}, nil
}

// sendFile writes a file to a stream: its Info, its content, and the SHA-256 of
// the content as it was read.
func sendFile(w *bufio.Writer, info Info, r io.Reader) error {
	if err := writeInfos(w, []Info{info}); err != nil {
		return err
	}
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(w, h), io.LimitReader(r, info.Size))
	if err == nil && n < info.Size {
		err = fmt.Errorf("%s became shorter while it was read", info.Path)
	}
	if err != nil {
		return err
	}
	_, err = w.Write(h.Sum(nil))
	return err
}

// remoteFiles are those where a supervisor runs. What it answers may be anybody's
// word: steps can have replaced the program there.
type remoteFiles struct {
	sup  *process.Supervisor
	name string // the worker's
}

func (f remoteFiles) Mkdir(ctx context.Context, dir string) error {
	return f.sup.Call(ctx, "mkdir", pathArgs{Root: []byte(dir)}, nil, nil, nil)
}

func (f remoteFiles) Folders(ctx context.Context, empty, others []string) error {
	return f.sup.Call(ctx, "folders", pathArgs{Empty: raw(empty), Names: raw(others)}, nil, nil, nil)
}

func (f remoteFiles) Remove(ctx context.Context, paths ...string) error {
	return f.sup.Call(ctx, "remove", withNames("", paths), nil, nil, nil)
}

func (f remoteFiles) RemoveNamed(ctx context.Context, root string, names ...string) error {
	return f.sup.Call(ctx, "remove-named", withNames(root, names), nil, nil, nil)
}

func (f remoteFiles) Stat(ctx context.Context, root string, names ...string) ([]Info, error) {
	list, err := f.infos(ctx, "stat", withNames(root, names))
	if err == nil && len(list) != len(names) {
		err = f.distrust("with %d files, asked for %d", len(list), len(names))
	}
	for i := range list {
		if err == nil && list[i].Path != names[i] {
			err = f.distrust("with the path %q, asked for %q", list[i].Path, names[i])
		}
	}
	if err != nil {
		return nil, err
	}
	return list, nil
}

func (f remoteFiles) Find(ctx context.Context, root, pattern string) (found Found, err error) {
	list, err := f.infos(ctx, "find", pathArgs{Root: []byte(root), Pattern: []byte(pattern)})
	if err != nil {
		return found, err
	}
	for _, i := range list {
		if err := f.checkFound(pattern, i.Path); err != nil {
			return Found{}, err
		}
		if i.Mode.IsDir() {
			found.Folders = append(found.Folders, i)
		} else {
			found.Files = append(found.Files, i)
		}
	}
	return found, nil
}

func (f remoteFiles) infos(ctx context.Context, call string, args pathArgs) (list []Info, err error) {
	err = f.stream(ctx, call, args, func(r *bufio.Reader) error {
		for size := 0; ; {
			i, err := readInfo(r)
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return err
			}
			if err := f.checkInfo(i); err != nil {
				return err
			}
			if size += 100 + len(i.Path) + len(i.Target); size > maxInfoBytes || len(list) == maxInfos {
				return fmt.Errorf("worker %q answers with more than %d files, or %d bytes of their names", f.name, maxInfos, maxInfoBytes)
			}
			list = append(list, i)
		}
	})
	return list, err
}

// stream passes what a call streams to read, which reads it to its end.
func (f remoteFiles) stream(ctx context.Context, call string, args pathArgs, read func(*bufio.Reader) error) error {
	pr, pw := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := read(bufio.NewReaderSize(pr, maxLine))
		pr.CloseWithError(errors.Join(err, io.ErrClosedPipe))
		done <- err
	}()
	err := f.sup.Call(ctx, call, args, nil, pw, nil)
	pw.CloseWithError(err) // nil is io.EOF
	if rerr := <-done; rerr != nil && (err == nil || errors.Is(err, rerr)) {
		return rerr
	}
	return err
}

func (f remoteFiles) Get(ctx context.Context, root string, names []string, each func(Info, io.Reader) error) error {
	if len(names) == 0 {
		return nil
	}
	return f.stream(ctx, "get", withNames(root, names), func(r *bufio.Reader) error {
		for _, name := range names {
			if err := f.receiveFile(r, name, each); err != nil {
				return err
			}
		}
		return nil
	})
}

func (f remoteFiles) receiveFile(r *bufio.Reader, name string, each func(Info, io.Reader) error) error {
	info, err := readInfo(r)
	if err != nil {
		return fmt.Errorf("receiving %s: %w", name, noEOF(err))
	}
	if err := f.checkInfo(info); err != nil {
		return err
	}
	if info.Path != name || !info.Mode.IsRegular() {
		return f.distrust("with the file %q, %v, asked for %q", info.Path, info.Mode, name)
	}
	v := &verified{r: io.LimitReader(r, info.Size), left: info.Size, h: sha256.New(), end: r}
	if err := each(info, v); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, v); err != nil {
		return fmt.Errorf("receiving %s: %w", name, err)
	}
	return nil
}

// verified is a file's content; its end is an error where the digest that
// follows is not the content's.
type verified struct {
	r    io.Reader
	left int64
	h    hash.Hash
	end  io.Reader
	done bool
}

func (v *verified) Read(p []byte) (int, error) {
	n, err := v.r.Read(p)
	v.h.Write(p[:n])
	v.left -= int64(n)
	switch {
	case err != nil && err != io.EOF:
		return n, err
	case v.left > 0 && err == io.EOF:
		return n, io.ErrUnexpectedEOF
	case v.left > 0:
		return n, nil
	case v.done:
		return 0, io.EOF
	}
	v.done = true
	var want [sha256.Size]byte
	if _, err := io.ReadFull(v.end, want[:]); err != nil {
		return n, noEOF(err)
	}
	if !bytes.Equal(want[:], v.h.Sum(nil)) {
		return n, errors.New("what arrived is not what the worker read")
	}
	return n, io.EOF
}

func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

func (f remoteFiles) Space(ctx context.Context, dir string) (s Space, err error) {
	err = f.sup.Call(ctx, "space", pathArgs{Root: []byte(dir)}, nil, nil, &s)
	return s, err
}

func (f remoteFiles) Put(ctx context.Context, path string, mode fs.FileMode, r io.Reader) error {
	return f.sup.Call(ctx, "put", pathArgs{Root: []byte(path), Mode: mode.Perm()}, r, nil, nil)
}
