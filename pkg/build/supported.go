package build

import (
	"maps"
	"slices"

	"github.com/relkit/relkit/pkg/build/source"
	"github.com/relkit/relkit/pkg/build/worker"
	"github.com/relkit/relkit/pkg/config"
)

// supported refuses a cell that would need what this version cannot do, at the
// key that asks for it: a key must not be passed over in silence.
func (p *Project) supported(c *Cell) error {
	b := c.builder
	no := func(path []any, format string, args ...any) error {
		return p.cfg.ErrorAt(path, format+" not supported by this version", args...)
	}
	for i, w := range p.cfg.Workers {
		if w.Name != c.Worker.Name && !slices.ContainsFunc(c.spare, func(s config.Worker) bool { return s.Name == w.Name }) {
			continue
		}
		if key, err := worker.Check(w); err != nil {
			return p.cfg.ErrorAt([]any{"worker", i, key}, "worker %q: %v", w.Name, err)
		}
	}
	for i, s := range p.cfg.Sources {
		if slices.Contains(b.Sources, s.Name) && !source.Supported(s.VCS) {
			return no([]any{"source", i, "vcs"}, "source %q: vcs %q is", s.Name, s.VCS)
		}
	}
	return nil
}

// checkSubstitutions finds names in braces that stand for nothing; set holds
// what --set gives.
func (p *Project) checkSubstitutions(c *Cell, set map[string]string) error {
	vars := p.vars(c, buildVars{set: set})
	check := func(text string, path ...any) error {
		if _, err := substitute(text, vars); err != nil {
			return p.cfg.ErrorAt(path, "%v", err)
		}
		return nil
	}
	if err := check(p.cfg.Project.Version, "project", "version"); err != nil {
		return err
	}
	b := c.builder
	checkEnv := func(env map[string]string, path ...any) error {
		for _, k := range slices.Sorted(maps.Keys(env)) {
			if err := check(env[k], append(slices.Clone(path), k)...); err != nil {
				return err
			}
		}
		return nil
	}
	if err := checkEnv(b.Env, "builder", c.index, "env"); err != nil {
		return err
	}
	for n, s := range b.Steps {
		if err := checkEnv(s.Env, "builder", c.index, "step", n, "env"); err != nil {
			return err
		}
		for k, arg := range s.Run {
			if err := check(arg, "builder", c.index, "step", n, "run", k); err != nil {
				return err
			}
		}
		for k, t := range s.Tests {
			if err := check(t, "builder", c.index, "step", n, "tests", k); err != nil {
				return err
			}
		}
	}
	for k, path := range b.Artifacts.Paths {
		if err := check(path, "builder", c.index, "artifacts", "paths", k); err != nil {
			return err
		}
	}
	return nil
}
