package process

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"
)

// Handler answers a call: work that the supervisor does itself, where it runs,
// which may be another machine. It reads the call's input from in, writes what it
// streams to out, and answers a value that json.Marshal takes. It ends when ctx does.
type Handler func(ctx context.Context, args json.RawMessage, in io.Reader, out io.Writer) (any, error)

// callSpec is a call's request.
type callSpec struct {
	Name string          `json:"name"`
	Args json.RawMessage `json:"args,omitempty"`
}

// callResult is a call's answer. Missing and Forbidden say that Error is
// fs.ErrNotExist or fs.ErrPermission, which callers ask for.
type callResult struct {
	Value     json.RawMessage `json:"value,omitempty"`
	Error     string          `json:"error,omitempty"`
	Missing   bool            `json:"missing,omitempty"`
	Forbidden bool            `json:"forbidden,omitempty"`
}

// CallError is the error of a handler, as it was told where the handler ran.
type CallError struct {
	Call, Text string
	kind       error
}

func (e *CallError) Error() string { return e.Text }

// Unwrap is fs.ErrNotExist, fs.ErrPermission or nil.
func (e *CallError) Unwrap() error { return e.kind }

// inputChunk is how many bytes of a call's input travel at a time.
const inputChunk = 48 << 10

// Call has the supervisor answer a call. in and out may be nil; value, where it is
// not nil, takes the answer as json.Unmarshal does. An error of the handler is a
// *CallError; any other means that the supervisor is lost, ctx ended, or in or out failed.
// A supervisor that is still there and does not answer, as where a file system hangs,
// is lost after Patience, and soon after ctx has ended.
func (s *Supervisor) Call(ctx context.Context, name string, args any, in io.Reader, out io.Writer, value any) error {
	raw, err := json.Marshal(args)
	if err != nil {
		return fmt.Errorf("calling %s: %w", name, err)
	}
	s.runs.Lock()
	defer s.runs.Unlock()
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	s.id++
	id := s.id
	w := s.watch(ctx, id, fmt.Sprintf("the call %q", name), s.patience(name), cancelTime)
	defer w.stop()
	if err := s.send(request{ID: id, Call: &callSpec{Name: name, Args: raw}, End: in == nil}); err != nil {
		return w.lost(err)
	}
	fed := make(chan error, 1)
	quit := make(chan struct{})
	if in == nil {
		fed <- nil
	} else {
		go func() {
			err := s.feed(id, in, quit, w)
			fed <- err
			if err != nil {
				s.cancel(id)
			}
		}()
	}
	res, outErr, err := s.callAnswer(id, out, w)
	close(quit)
	if err != nil {
		return w.lost(err) // what in is blocked on is the caller's to end
	}
	// A handler that failed read no further, so in may be blocked for good: its
	// error is asked for only where the handler has read all.
	switch {
	case outErr != nil:
		return outErr
	case ctx.Err() != nil && res.Error != "":
		return context.Cause(ctx)
	case res.Error != "":
		select {
		case ferr := <-fed:
			if ferr != nil && !errors.Is(ferr, errQuit) {
				return fmt.Errorf("reading the input of %s: %w", name, ferr)
			}
		default:
		}
		return res.failure(name)
	}
	if ferr := <-fed; ferr != nil {
		return fmt.Errorf("reading the input of %s: %w", name, ferr)
	}
	if value == nil {
		return nil
	}
	if err := json.Unmarshal(res.Value, value); err != nil {
		return fmt.Errorf("reading the answer of %s: %w", name, err)
	}
	return nil
}

func (r *callResult) failure(name string) error {
	e := &CallError{Call: name, Text: r.Error}
	switch {
	case r.Missing:
		e.kind = fs.ErrNotExist
	case r.Forbidden:
		e.kind = fs.ErrPermission
	}
	return e
}

var errQuit = errors.New("the call has ended")

// feed sends a call its input.
func (s *Supervisor) feed(id uint64, in io.Reader, quit <-chan struct{}, w *watch) error {
	buf := make([]byte, inputChunk)
	for {
		n, err := io.ReadFull(in, buf)
		select {
		case <-quit:
			return errQuit
		default:
		}
		if n > 0 {
			if err := s.send(request{ID: id, Input: buf[:n]}); err != nil {
				return err
			}
			w.moved()
		}
		switch err {
		case nil:
		case io.EOF, io.ErrUnexpectedEOF:
			return s.send(request{ID: id, End: true})
		default:
			return err
		}
	}
}

// callAnswer passes what a call streams on until its result comes.
func (s *Supervisor) callAnswer(id uint64, out io.Writer, w *watch) (res callResult, outErr, err error) {
	for {
		w.waits()
		kind, _, data, err := s.next()
		w.pause()
		if err != nil {
			return res, nil, err
		}
		switch {
		case kind == frameResult:
			if err := json.Unmarshal(data, &res); err != nil {
				return res, nil, fmt.Errorf("reading the result: %w", err)
			}
			return res, outErr, nil
		case kind != frameStdout:
			return res, nil, fmt.Errorf("unknown frame %q", kind)
		case out != nil && outErr == nil:
			if _, outErr = out.Write(data); outErr != nil {
				s.cancel(id)
			}
		}
	}
}

// call answers one call, whose input is at its end already where noInput is true.
// io.EOF means that the supervisor's input ended meanwhile.
func (s *supervise) call(id uint64, spec callSpec, noInput bool) error {
	h := s.handlers[spec.Name]
	if h == nil {
		return s.answer(nil, fmt.Errorf("the supervisor knows no call %q", spec.Name))
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	in, feed := io.Pipe()
	if noInput {
		feed.Close()
	}
	type answer struct {
		value any
		err   error
	}
	done := make(chan answer, 1)
	go func() {
		v, err := h(ctx, spec.Args, in, callWriter{s.out})
		in.CloseWithError(errQuit) // nobody waits for more to be read
		done <- answer{v, err}
	}()
	for {
		select {
		case a := <-done:
			return s.answer(a.value, a.err)
		case sig := <-s.told:
			cancel()
			feed.CloseWithError(io.ErrUnexpectedEOF)
			return toldError(sig)
		case r, ok := <-s.requests:
			if !ok {
				cancel()
				feed.CloseWithError(io.ErrUnexpectedEOF)
				return io.EOF
			}
			if r.ID != id {
				continue
			}
			if r.Cancel {
				cancel()
				feed.CloseWithError(context.Canceled)
			}
			if len(r.Input) > 0 {
				_, _ = feed.Write(r.Input) // a handler that ended early takes no more
			}
			if r.End {
				feed.Close()
			}
		}
	}
}

// maxAnswer bounds an answer so that it fits a frame, the wrapping included.
const maxAnswer = maxPayload - 1<<10

func (s *supervise) answer(value any, err error) error {
	var res callResult
	if err == nil {
		res.Value, err = json.Marshal(value)
	}
	if err == nil && len(res.Value) > maxAnswer {
		err = fmt.Errorf("an answer of %d bytes: more than %d", len(res.Value), maxAnswer)
	}
	if err != nil {
		text := err.Error()
		res = callResult{Error: text[:min(len(text), 4<<10)], Missing: errors.Is(err, fs.ErrNotExist), Forbidden: errors.Is(err, fs.ErrPermission)}
	}
	b, err := json.Marshal(res)
	if err != nil {
		return err
	}
	return s.out.write(frameResult, 0, b)
}

// callWriter is what a handler streams to.
type callWriter struct{ frames *frameWriter }

func (w callWriter) Write(p []byte) (int, error) {
	for n := 0; n < len(p); n += maxPayload {
		if err := w.frames.write(frameStdout, time.Duration(0), p[n:min(len(p), n+maxPayload)]); err != nil {
			return n, err
		}
	}
	return len(p), nil
}
