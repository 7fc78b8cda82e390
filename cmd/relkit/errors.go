package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/ui"
)

// What a failure looks like, on standard error:
//
//	relkit patch-apply: reading patch.json: offset 812: unknown field "form"
//	relkit: target "/": unchanged
//	relkit: hint: relkit inspect --verify fw-4.1-4.2.rkp
//
// The second line stands there when a target was named, the third when there is
// a hint; with --json one more line follows, the last:
//
//	{"error":"reading …","exit":2,"target":"unchanged"}

// report is the error document of --json.
type report struct {
	Error  string `json:"error"`
	Exit   int    `json:"exit"`
	Target string `json:"target"`
}

// finish tells the outcome of a run and returns the exit status.
func (e *env) finish(ctx context.Context, cmd string, err error) int {
	e.console.Stop()
	if err == nil {
		return 0
	}
	if brokenPipe(err) && failure.Of(err) == failure.Failed {
		return 128 + int(syscall.SIGPIPE)
	}
	var stop signalled
	code := exitStatus(err)
	if errors.As(context.Cause(ctx), &stop) && endedBy(err) {
		code = 128 + int(stop.sig)
		if !errors.As(err, new(signalled)) {
			err = fmt.Errorf("%w: %w", stop, err)
		}
	}
	label := "relkit"
	if cmd != "" {
		label += " " + cmd
	}
	message, target := oneLine(err.Error()), targetState(err)
	fmt.Fprintf(e.console, "%s: %s\n", label, ui.Visible(message))
	if bug := (*crash)(nil); errors.As(err, &bug) {
		fmt.Fprintf(e.console, "%s\n", ui.Visible(bug.stack))
	}
	if e.Target != "" {
		fmt.Fprintf(e.console, "relkit: target %q: %s\n", e.Target, target)
	}
	if hint := failure.Hint(err); hint != "" {
		fmt.Fprintf(e.console, "relkit: hint: %s\n", ui.Visible(hint))
	}
	if e.JSON {
		// Three plain fields always encode; a reader that has gone away is no
		// reason for another status.
		line, _ := json.Marshal(report{message, code, target})
		_, _ = e.console.Write(append(line, '\n'))
	}
	return code
}

// exitStatus is the only place where a failure becomes a number.
func exitStatus(err error) int {
	switch k := failure.Of(err); k {
	case failure.Usage, failure.No, failure.Refused, failure.Untrusted, failure.Busy, failure.Restored, failure.Mixed:
		return int(k)
	default:
		return int(failure.Failed)
	}
}

// endedBy tells whether an error that came after a signal came of it. A target
// left mixed is said before anything else; an answer that was reached anyway
// (not trusted, refused…) stays the answer.
func endedBy(err error) bool {
	switch failure.Of(err) {
	case failure.Mixed:
		return false
	case failure.Failed, failure.Restored:
		return true
	}
	return errors.Is(err, context.Canceled)
}

// targetState is what a failure leaves a target in.
func targetState(err error) string {
	switch failure.Of(err) {
	case failure.Restored:
		return "restored"
	case failure.Mixed:
		return "mixed"
	}
	if failure.IsChanged(err) {
		return "changed"
	}
	return "unchanged"
}

// brokenPipe tells whether err is that whoever read standard output has gone
// away (`relkit … | head`), which ends a run without a word.
func brokenPipe(err error) bool {
	var pe *fs.PathError
	return errors.As(err, &pe) && pe.Path == "/dev/stdout" && errors.Is(pe, syscall.EPIPE)
}

// internal makes an error of a panic, so that it does not end in Go's status 2,
// which here means that nothing was tried.
func internal(v any) error {
	return failure.WithHint(&crash{v, strings.TrimSpace(string(debug.Stack()))}, "this is a bug in %s", versionLine())
}

// crash is a panic, with where it came from.
type crash struct {
	value any
	stack string
}

func (c *crash) Error() string { return fmt.Sprintf("internal error: %v", c.value) }

// oneLine joins the lines of a message: several errors, or what another program
// said.
func oneLine(s string) string {
	var lines []string
	for line := range strings.Lines(s) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "; ")
}

// unknownCommand is the error for a word that is no command.
func unknownCommand(list []*cli.Command, word string) error {
	if strings.HasPrefix(word, "-") {
		return failure.WithHint(failure.Errorf(failure.Usage, "unknown flag %q before the command", word),
			"flags stand after the command: relkit COMMAND %s", word)
	}
	err := failure.Errorf(failure.Usage, "unknown command %q", word)
	names := []string{"help"}
	for _, c := range list {
		names = append(names, c.Name)
	}
	if n := nearest(word, names); n != "" {
		return failure.WithHint(err, "did you mean relkit %s?", n)
	}
	return withHelpHint(err, "")
}

// withHelpHint points at the help of a command, unless there is a better hint.
func withHelpHint(err error, cmd string) error {
	if failure.Hint(err) != "" {
		return err
	}
	return failure.WithHint(err, "%s", strings.Join(strings.Fields("relkit "+cmd+" --help"), " "))
}

// plainUsage words an error of cli/v2 and package flag as relkit does:
//
//	invalid value "x" for flag -jobs: parse error  →  reading --jobs: bad value "x"
//	Required flag "to" not set                     →  missing flag --to
//
// fromEnv names the variable where a value came from the environment.
func plainUsage(err error, fromEnv map[string]string) error {
	text := err.Error()
	if rest, ok := strings.CutPrefix(text, "Required flag"); ok {
		_, rest, _ = strings.Cut(rest, `"`)
		names, _, _ := strings.Cut(rest, `"`)
		return fmt.Errorf("missing flag --%s", strings.ReplaceAll(names, ", ", ", --"))
	}
	text = strings.Replace(text, "invalid boolean value ", "invalid value ", 1)
	quoted, rest, ok := strings.Cut(text, " for ")
	value, isValue := strings.CutPrefix(quoted, "invalid value ")
	if !ok || !isValue {
		return err
	}
	rest = strings.TrimPrefix(strings.TrimPrefix(rest, "flag "), "-")
	name, _, _ := strings.Cut(rest, ":")
	source := "--" + name
	if v := fromEnv[name]; v != "" {
		source = v
	}
	return fmt.Errorf("reading %s: bad value %s", source, value)
}
