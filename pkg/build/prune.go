package build

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/relkit/relkit/pkg/build/worker"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/record"
	"github.com/relkit/relkit/pkg/sys/lock"
)

const (
	// pinnedFile in a build's folder keeps it from being pruned.
	pinnedFile = "pinned"
	// prunedPrefix is of folders that are being removed: no build any more.
	prunedPrefix = ".pruned-"
)

// Prune removes the builds that project.keep does not keep, and answers their
// folders. With dry it removes nothing. The newest build, last and last-good, what
// runs and what a build that runs was given are never removed, nor is anything of
// a builder that is being built: told has those. History stays as it is.
func (p *Project) Prune(now time.Time, dry bool, told func(string)) (removed []string, err error) {
	k := p.cfg.Project.Keep
	if k.Builds == 0 && k.Days == 0 && k.Failed == 0 {
		return nil, p.cfg.ErrorAt([]any{"project", "keep"}, "project.keep bounds nothing: want builds, days or failed")
	}
	entries, err := os.ReadDir(filepath.Join(p.state.dir, buildsDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("pruning: %w", err)
	}
	needed, err := p.state.inUse(entries)
	if err != nil {
		return nil, fmt.Errorf("pruning: %w", err)
	}
	for _, e := range entries {
		name := e.Name()
		l, err := lock.Try(p.state.lockFile(name))
		if failure.Of(err) == failure.Busy && err != nil {
			told(name + ": left alone, it is being built")
			continue
		}
		if err != nil {
			return removed, fmt.Errorf("pruning: %w", err)
		}
		dirs, err := p.pruneBuilder(name, now, dry, needed)
		removed = append(removed, dirs...)
		if err = errors.Join(err, l.Release()); err != nil {
			return removed, fmt.Errorf("pruning %s: %w", name, err)
		}
	}
	return removed, nil
}

// inUse finds what builds that run were given: "fw/12".
func (s state) inUse(builders []fs.DirEntry) (map[string]bool, error) {
	needed := map[string]bool{}
	for _, e := range builders {
		numbers, err := s.numbers(e.Name())
		if err != nil {
			return nil, err
		}
		if len(numbers) == 0 {
			continue
		}
		was, err := s.loadRunning(e.Name(), numbers[len(numbers)-1])
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if was.Partial != nil {
			for _, n := range was.Partial.Needs {
				needed[fmt.Sprintf("%s/%d", n.Builder, n.Number)] = true
			}
		}
	}
	return needed, nil
}

// loadRunning reads what a build that runs says of itself; fs.ErrNotExist where
// none does, also where the file is torn: recover puts that in order.
func (s state) loadRunning(name string, n int) (running, error) {
	var was running
	data, err := os.ReadFile(filepath.Join(s.build(name, n), runningFile))
	if err == nil && json.Unmarshal(data, &was) != nil {
		err = fs.ErrNotExist
	}
	return was, err
}

// pruneBuilder prunes a builder whose lock is held.
func (p *Project) pruneBuilder(name string, now time.Time, dry bool, needed map[string]bool) (removed []string, err error) {
	numbers, err := p.state.numbers(name)
	if err != nil {
		return nil, err
	}
	keep, err := p.kept(name, numbers, now)
	if err != nil {
		return nil, err
	}
	for _, n := range numbers {
		if keep[n] || needed[fmt.Sprintf("%s/%d", name, n)] {
			continue
		}
		dir := p.state.build(name, n)
		removed = append(removed, dir)
		if dry {
			continue
		}
		// By another name it is no build, also where relkit is killed midway.
		if err := os.Rename(dir, filepath.Join(p.state.builder(name), prunedPrefix+numberName(n))); err != nil {
			return removed, err
		}
	}
	if dry {
		return removed, nil
	}
	entries, err := os.ReadDir(p.state.builder(name))
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prunedPrefix) {
			err = errors.Join(err, worker.RemoveAll(filepath.Join(p.state.builder(name), e.Name())))
		}
	}
	return removed, err
}

// kept are the builds that stay: the newest ones, as many as project.keep says of
// all and of those that did not succeed, if they are young enough; and those that
// must. Try builds are counted by themselves: many of them push out no other.
func (p *Project) kept(name string, numbers []int, now time.Time) (map[int]bool, error) {
	k := p.cfg.Project.Keep
	keep := map[int]bool{}
	var all, bad [2]int // of try builds the second
	for _, n := range slices.Backward(numbers) {
		b, err := p.state.load(name, n)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			keep[n] = true // of another version of relkit: none of ours to judge
			continue
		}
		good, kind := err == nil && b.Status == record.BuildSuccess, 0
		if err == nil && b.IsTry() {
			kind = 1
		}
		all[kind]++
		young := true
		if err == nil && k.Days > 0 {
			young = now.Sub(b.Finished) <= time.Duration(k.Days)*24*time.Hour
		}
		if !good {
			bad[kind]++
		}
		keep[n] = young && (k.Builds == 0 || all[kind] <= k.Builds) && (good || k.Failed == 0 || bad[kind] <= k.Failed)
		if k.Pinned == nil || *k.Pinned {
			_, err := os.Lstat(filepath.Join(p.state.build(name, n), pinnedFile))
			keep[n] = keep[n] || err == nil
		}
	}
	if len(numbers) > 0 {
		keep[numbers[len(numbers)-1]] = true // its number must not be given again
	}
	for _, link := range []string{lastLink, goodLink} {
		text, err := os.Readlink(filepath.Join(p.state.builder(name), link))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, n := range numbers {
			keep[n] = keep[n] || numberName(n) == text
		}
	}
	return keep, nil
}
