package process

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// testHandlers are what the tests' supervisor answers.
var testHandlers = map[string]Handler{
	"upper": func(_ context.Context, args json.RawMessage, in io.Reader, out io.Writer) (any, error) {
		var prefix string
		if err := json.Unmarshal(args, &prefix); err != nil {
			return nil, err
		}
		b, err := io.ReadAll(in)
		if err != nil {
			return nil, err
		}
		_, err = out.Write(bytes.ToUpper(append([]byte(prefix), b...)))
		return len(b), err
	},
	"stat": func(_ context.Context, args json.RawMessage, _ io.Reader, _ io.Writer) (any, error) {
		var name string
		if err := json.Unmarshal(args, &name); err != nil {
			return nil, err
		}
		_, err := os.Stat(name)
		return nil, err
	},
	"wait": func(ctx context.Context, _ json.RawMessage, _ io.Reader, _ io.Writer) (any, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	},
	"hang": func(context.Context, json.RawMessage, io.Reader, io.Writer) (any, error) {
		time.Sleep(time.Hour) // as in a system call
		return nil, nil
	},
	"drip": func(_ context.Context, _ json.RawMessage, _ io.Reader, out io.Writer) (any, error) {
		for range 12 {
			time.Sleep(250 * time.Millisecond)
			if _, err := out.Write([]byte("x")); err != nil {
				return nil, err
			}
		}
		return nil, nil
	},
	"long": func(context.Context, json.RawMessage, io.Reader, io.Writer) (any, error) {
		return strings.Repeat("x", maxPayload), nil
	},
}

func TestCall(t *testing.T) {
	s, err := Start(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx := t.Context()
	big := strings.Repeat("abcdefgh", 100<<10)
	var out bytes.Buffer
	var n int
	if err := s.Call(ctx, "upper", "x", strings.NewReader(big), &out, &n); err != nil {
		t.Fatal(err)
	}
	if n != len(big) || out.String() != strings.ToUpper("x"+big) {
		t.Errorf("read %d bytes, wrote %d", n, out.Len())
	}
	if err := s.Call(ctx, "stat", "/nowhere", nil, nil, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if err := s.Call(ctx, "none", nil, nil, nil, nil); err == nil || !strings.Contains(err.Error(), `no call "none"`) {
		t.Errorf("got %v", err)
	}
	if err := s.Call(ctx, "long", nil, nil, nil, nil); err == nil {
		t.Error("an answer that fits no frame went through")
	}
	// A handler that takes no input, a source and a sink that fail: each leaves the supervisor in order.
	if err := s.Call(ctx, "stat", "/nowhere", strings.NewReader(big), nil, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	broken := errors.New("broken")
	if err := s.Call(ctx, "upper", "", iotest.ErrReader(broken), nil, nil); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	if err := s.Call(ctx, "upper", "", strings.NewReader(big), failingWriter{broken}, nil); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if err := s.Call(short, "wait", nil, nil, nil, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	for i := range 20 { // late input and cancels of earlier calls reach none of these
		out.Reset()
		text := fmt.Sprintf("call %d", i)
		if err := s.Call(ctx, "upper", "", strings.NewReader(text), &out, &n); err != nil || out.String() != strings.ToUpper(text) {
			t.Errorf("got %q, %v", out.String(), err)
		}
	}
	if res, err := s.Run(ctx, Job{Argv: []string{"/bin/true"}}); err != nil || !res.OK() {
		t.Errorf("got %v, %v", res, err)
	}
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }
