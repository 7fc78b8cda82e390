package notify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/relkit/relkit/pkg/sys/process"
)

// run gives the notice to a command, on its standard input. It is under the
// supervisor: nothing of it outlives the deadline.
func (t target) run(ctx context.Context, e *entry) error {
	line, err := e.Notice.Encode()
	if err != nil {
		return rejected{err}
	}
	// A job's standard input is /dev/null, hence a file and the shell. The file
	// stands in the spool, where the next try writes over what a kill -9 leaves.
	input := e.path + ".stdin"
	if err := os.WriteFile(input, line, 0o600); err != nil {
		return err
	}
	defer os.Remove(input)
	var stderr bytes.Buffer
	res, err := process.Run(ctx, process.Job{
		Argv: append([]string{"/bin/sh", "-c", `exec "$@" <"$RELKIT_NOTICE"`, "sh"}, t.Command...),
		Dir:  t.o.Dir, Env: append(t.o.Env[:len(t.o.Env):len(t.o.Env)], "RELKIT_NOTICE="+input),
		Timeout: t.o.Deadline, Grace: time.Second, MaxOutput: 1 << 20, Stderr: &capped{&stderr},
	})
	switch {
	case err != nil:
		return err
	case res.Reason == process.TimedOut:
		return fmt.Errorf("did not end within %v", t.o.Deadline)
	case !res.OK():
		return fmt.Errorf("%s%s", res, said(stderr.Bytes()))
	}
	return nil
}

// append adds a line to a file, or where there is to be a log the whole text.
func (t target) append(ctx context.Context, e *entry) error {
	text := fmt.Sprintf("%s %s\n", e.Queued.UTC().Format(time.RFC3339), e.Notice.Subject)
	if t.Attach == "tail" || t.Attach == "log" {
		text += "\n" + e.Notice.Text + "\n"
		if len(e.Log) > 0 {
			text += "--- " + e.LogName + "\n" + string(e.Log) + "\n"
		}
	}
	done := make(chan error, 1) // a file system may hang, and then so does its goroutine
	go func() { done <- appendFile(t.abs(t.File), text) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func appendFile(name, text string) error {
	// O_NONBLOCK: a FIFO that nobody reads is an error at once.
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND|unix.O_NONBLOCK, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if info, serr := f.Stat(); err == nil && serr == nil && info.Mode().IsRegular() {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// capped keeps the beginning of what is written and takes the rest.
type capped struct{ b *bytes.Buffer }

const maxSaid = 4 << 10

func (c *capped) Write(p []byte) (int, error) {
	if room := maxSaid - c.b.Len(); room > 0 {
		c.b.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

// said is what a program wrote, for an error.
func said(stderr []byte) string {
	if text := clean(string(bytes.TrimSpace(stderr)), maxLine); text != "" {
		return ": " + text
	}
	return ""
}
