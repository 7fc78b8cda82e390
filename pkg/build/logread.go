package build

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/relkit/relkit/pkg/failure"
)

func logLines(r io.Reader, line func(LogLine) error) error {
	b := bufio.NewReaderSize(r, 2*maxLogLine)
	for {
		raw, err := b.ReadBytes('\n')
		if len(raw) > 0 {
			if lerr := line(parseLogLine(raw)); lerr != nil {
				return lerr
			}
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil:
			return fmt.Errorf("reading the log: %w", err)
		}
	}
}

var streamNames = map[byte]string{logOutput: "stdout", logError: "stderr", logRelkit: "relkit"}

// parseLogLine takes a line apart; one that is not in the form of a log is text.
func parseLogLine(raw []byte) LogLine {
	l := LogLine{Raw: raw, Text: bytes.TrimSuffix(raw, []byte("\n")), Stream: streamNames[logOutput]}
	at, rest, ok := bytes.Cut(bytes.TrimLeft(l.Text, " "), []byte(" "))
	if !ok || len(rest) < 2 || rest[1] != ' ' || streamNames[rest[0]] == "" {
		return l
	}
	if _, err := strconv.ParseFloat(string(at), 64); err != nil {
		return l
	}
	l.Seconds, l.Stream, l.Text = string(at), streamNames[rest[0]], rest[2:]
	return l
}

// StepLog is the log of one step of a build.
type StepLog struct {
	Builder string
	Number  int
	Step    string
	path    string
}

// Lines passes on the log's lines.
func (l *StepLog) Lines(line func(LogLine) error) error {
	f, err := os.Open(l.path)
	if err != nil {
		return err
	}
	defer f.Close()
	return readLog(f, line)
}

// Logs finds the logs that BUILDER/N[/STEP] names, in the order of the steps.
// N may be "last" and "last-good"; a build that runs has logs too.
func (p *Project) Logs(ref string) ([]StepLog, error) {
	builder, n, step, err := p.logRef(ref, false)
	if err != nil {
		return nil, err
	}
	logs, err := p.logs(builder, n, step)
	if err == nil && len(logs) == 0 {
		err = failure.Errorf(failure.Usage, "there is no log %q", ref)
	}
	return logs, err
}

// logRef reads BUILDER/N[/STEP]; with newest, "last" may be a build that runs.
func (p *Project) logRef(ref string, newest bool) (builder string, n int, step string, err error) {
	parts := strings.Split(ref, "/")
	if len(parts) != 2 && len(parts) != 3 || parts[0] == "" || parts[1] == "" {
		return "", 0, "", failure.Errorf(failure.Usage, "bad build %q, want BUILDER/N[/STEP]", ref)
	}
	if len(parts) == 3 {
		step = parts[2]
	}
	if newest && parts[1] == lastLink && !strings.HasPrefix(parts[0], ".") {
		numbers, err := p.state.numbers(parts[0])
		if err != nil {
			return "", 0, "", err
		}
		if len(numbers) > 0 {
			return parts[0], numbers[len(numbers)-1], step, nil
		}
	}
	n, err = p.number(parts[0], parts[1])
	return parts[0], n, step, err
}

// logs lists the logs of a build; of one step where that is not "". Those of a
// second build come after the first's, also in the order of their paths.
func (p *Project) logs(builder string, n int, step string) ([]StepLog, error) {
	var logs []StepLog
	for _, l := range []struct{ dir, which string }{{logDir, ""}, {filepath.Join(reproDir, logDir), " (again)"}} {
		dir := filepath.Join(p.state.build(builder, n), l.dir)
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("reading the logs: %w", err)
		}
		for _, e := range entries {
			_, name, _ := strings.Cut(strings.TrimSuffix(e.Name(), logExt), "-")
			if strings.HasSuffix(e.Name(), logExt) && (step == "" || name == step) {
				logs = append(logs, StepLog{builder, n, name + l.which, filepath.Join(dir, e.Name())})
			}
		}
	}
	return logs, nil
}

// number reads N of BUILDER/N.
func (p *Project) number(builder, text string) (int, error) {
	if strings.HasPrefix(builder, ".") {
		return 0, failure.Errorf(failure.Usage, "bad builder %q", builder)
	}
	dir := filepath.Join(p.state.builder(builder), text)
	if text == lastLink || text == goodLink {
		target, err := os.Readlink(dir)
		if err != nil {
			return 0, p.noBuild(builder, text)
		}
		text = target
	}
	numbers, err := p.state.numbers(builder)
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(text)
	if err != nil || !slices.Contains(numbers, n) {
		return 0, p.noBuild(builder, text)
	}
	return n, nil
}

// noBuild says that a builder has no such build, and what it is that has.
func (p *Project) noBuild(builder, text string) error {
	if cells := p.cellsOf(builder); len(cells) > 0 {
		err := failure.Errorf(failure.Usage, "builder %q is a matrix: its cells are %s", builder, strings.Join(cells, " "))
		return failure.WithHint(err, "relkit build --log %s%s", failure.Word(cells[0]+"/"+text), p.given)
	}
	return failure.Errorf(failure.Usage, "builder %q has no build %q", builder, text)
}
