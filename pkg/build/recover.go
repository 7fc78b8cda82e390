package build

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/relkit/relkit/pkg/format/record"
	"github.com/relkit/relkit/pkg/sys/process"
)

// recover puts in order what a run of this builder left that was killed: its
// processes are ended, its build is recorded as interrupted (or, where the
// record was written already, finished), and what a schedule began with it is owed
// again. The builder's lock is held. It answers the record, nil where there was
// nothing to do.
func (r *runner) recover(name string) (*record.Build, error) {
	s := r.p.state
	numbers, err := s.numbers(name)
	if err != nil || len(numbers) == 0 {
		return nil, err
	}
	// Every run recovers first, so only the newest can be unfinished.
	n := numbers[len(numbers)-1]
	dir := s.build(name, n)
	data, err := os.ReadFile(filepath.Join(dir, runningFile))
	isRunning := err == nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var was running
	if isRunning && json.Unmarshal(data, &was) == nil {
		for _, cookie := range []string{was.Cookie, was.Again} {
			if cookie == "" {
				continue
			}
			if _, err := process.Sweep(cookie); err != nil {
				return nil, err
			}
		}
	}
	if !isRunning {
		if _, err := os.Lstat(filepath.Join(dir, recordFile)); !errors.Is(err, fs.ErrNotExist) {
			return nil, nil // all in order; a record of another version of relkit is none of ours to judge
		}
	}
	b, err := s.load(name, n)
	switch {
	case err == nil:
		if err := s.appendHistory(b.Event()); err != nil {
			return nil, err
		}
		return b, s.settle(b)
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	// Killed right after its number was taken, or the mark is damaged: make finish's
	// last part work.
	if !isRunning || was.Started.IsZero() {
		info, err := os.Stat(dir)
		if err != nil {
			return nil, err
		}
		was.Started = info.ModTime()
		if err := s.start(name, n, was); err != nil {
			return nil, err
		}
	}
	// What was said, and signed, of a build that did not get to say that it succeeded
	// is no word on one that did.
	for _, file := range []string{record.ProvenanceFile, record.SBOMFile("cyclonedx"), record.SBOMFile("spdx")} {
		if err := os.Remove(filepath.Join(dir, file)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	b = r.interrupted(name, n, was)
	// Before finish: what is killed in between does this again, and owes no more for it.
	left, err := s.oweAgain(b, &was)
	if err != nil {
		return nil, err
	}
	switch left {
	case owedAgain:
		b.Error += "; what its schedule wants is built once more"
	case givenUp:
		b.Status = record.BuildError
		b.Error += ", like the one before it; what its schedule wants is not tried again until it is due or changes"
	}
	return b, s.finish(b)
}

// interrupted is the record of a build that did not get to write its own.
func (r *runner) interrupted(name string, n int, was running) *record.Build {
	b := was.Partial
	if b == nil {
		b = &record.Build{Project: r.p.cfg.Project.Name, Reason: was.Reason, Relkit: record.BuildRelkit{Version: r.opt.Version}}
	}
	b.Schema, b.Builder, b.Number = record.BuildSchema, name, n
	b.SBOM, b.Provenance = nil, nil // recover has removed them
	b.Status, b.Error = record.BuildInterrupted, "relkit was killed"
	if was.PID > 0 {
		b.Error = fmt.Sprintf("relkit (process %d) was killed", was.PID)
	}
	if r.p.state.isUnwritten(name, n) {
		b.Status, b.Error = record.BuildError, "its record could not be written, as on a full disk"
	}
	b.Started = was.Started.UTC()
	// The newest change to a log is the last that is known of it.
	b.Finished = b.Started
	logs, err := os.ReadDir(filepath.Join(r.p.state.build(name, n), logDir))
	for _, e := range logs {
		if info, ierr := e.Info(); err == nil && ierr == nil && info.ModTime().After(b.Finished) {
			b.Finished = info.ModTime().UTC().Truncate(time.Millisecond)
		}
	}
	b.DurationSeconds = b.Finished.Sub(b.Started).Seconds()
	return b
}

// unwrittenMode marks, on runningFile, a build whose record could not be written: a
// mode needs no room on a disk that has none.
const unwrittenMode = 0o744

// markUnwritten notes that a build has ended without its record. What cannot be
// noted either is taken for killed.
func (s state) markUnwritten(name string, n int) {
	_ = os.Chmod(filepath.Join(s.build(name, n), runningFile), unwrittenMode)
}

func (s state) isUnwritten(name string, n int) bool {
	info, err := os.Lstat(filepath.Join(s.build(name, n), runningFile))
	return err == nil && info.Mode().Perm() == unwrittenMode
}

// written tells whether a build has its record.
func (s state) written(b *record.Build) bool {
	info, err := os.Lstat(filepath.Join(s.build(b.Builder, b.Number), recordFile))
	return err == nil && info.Mode().IsRegular()
}
