package config

import (
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
)

// tagPattern is what tags, and the values of a matrix, may look like.
var tagPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:+-]{0,63}$`)

// envPattern is what the name of an environment variable may look like.
var envPattern = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

func (r *Relkit) checkBuilder(i int) {
	b := &r.Builders[i]
	at := func(key ...any) []any { return append([]any{"builder", i}, key...) }
	r.checkReferences(at("sources"), "source", b.Sources, r.sourceNames())
	r.checkReferences(at("needs"), "builder", b.Needs, r.builderNames())
	var locks []string
	for _, l := range r.Locks {
		locks = append(locks, l.Name)
	}
	r.checkReferences(at("locks"), "lock", b.Locks, locks)
	r.checkMatrix(i, at)
	r.checkOn(i, at)
	if b.Checkout != "" {
		r.oneOf(at("checkout"), "builder.checkout", b.Checkout, checkoutNames...)
	}
	if b.Cache != "" {
		r.oneOf(at("cache"), "builder.cache", b.Cache, "ccache", "distcc")
	}
	if b.Limits.Time < 0 || b.Limits.Idle < 0 {
		r.mistakef(at("limits"), "builder.limits: a span of time is less than 0")
	}
	r.checkEnv(at("env"), "builder.env", b.Env)
	if len(b.Steps) == 0 {
		r.mistakef(at(), "builder %q has no step", b.Name)
	}
	seen := map[string]bool{}
	for n := range b.Steps {
		r.checkStep(i, n)
		if name := b.Steps[n].Name; name != "" && seen[name] {
			r.mistakef(at("step", n, "name"), "second step of the name %q", name)
		}
		seen[b.Steps[n].Name] = true
	}
	for n, p := range b.Artifacts.Paths {
		r.checkGlob(at("artifacts", "paths", n), "builder.artifacts.paths", p)
	}
	for n, f := range b.Artifacts.SBOM {
		r.oneOf(at("artifacts", "sbom", n), "builder.artifacts.sbom", f, "cyclonedx", "spdx")
		if slices.Index(b.Artifacts.SBOM, f) != n {
			r.mistakef(at("artifacts", "sbom", n), "builder.artifacts.sbom: %q stands twice", f)
		}
	}
	r.checkProvenance(i, at)
	if b.Repro != nil {
		for n, v := range b.Repro.Vary {
			r.oneOf(at("repro", "vary", n), "builder.repro.vary", v, Variations...)
			if slices.Index(b.Repro.Vary, v) != n {
				r.mistakef(at("repro", "vary", n), "builder.repro.vary: %q stands twice", v)
			}
		}
		if len(b.Artifacts.Paths) == 0 {
			r.mistakef(at("repro"), "builder.repro: builder %q keeps no artifacts to compare: artifacts.paths is missing", b.Name)
		}
	}
}

// checkProvenance wants a key to sign with, and something to sign and list.
func (r *Relkit) checkProvenance(i int, at func(...any) []any) {
	a := &r.Builders[i].Artifacts
	switch {
	case a.Key != "" && !a.Provenance:
		r.mistakef(at("artifacts", "key"), "builder.artifacts.key: there is nothing to sign: artifacts.provenance is not true")
	case a.Provenance && a.Key == "":
		r.mistakef(at("artifacts", "provenance"), "builder.artifacts.provenance: artifacts.key, the SSH key to sign with, is missing")
	case len(a.SBOM) > 0 && len(a.Paths) == 0:
		r.mistakef(at("artifacts", "sbom"), "builder.artifacts.sbom: builder %q keeps no artifacts to list: artifacts.paths is missing", r.Builders[i].Name)
	case a.Provenance && len(a.Paths) == 0:
		r.mistakef(at("artifacts", "provenance"), "builder.artifacts.provenance: builder %q keeps no artifacts to speak of: artifacts.paths is missing", r.Builders[i].Name)
	}
}

func (r *Relkit) checkMatrix(i int, at func(...any) []any) {
	b := r.Builders[i]
	for _, axis := range slices.Sorted(maps.Keys(b.Matrix)) {
		values := b.Matrix[axis]
		switch {
		case !namePattern.MatchString(axis):
			r.mistakef(at("matrix", axis), "builder.matrix: bad axis %q", axis)
		case slices.Contains(Placeholders, axis):
			r.mistakef(at("matrix", axis), "builder.matrix: axis %q has the name of a substitution that relkit makes itself", axis)
		case len(values) == 0:
			r.mistakef(at("matrix", axis), "builder.matrix: axis %q has no value", axis)
		}
		for n, v := range values {
			if !tagPattern.MatchString(v) {
				r.mistakef(at("matrix", axis, n), "builder.matrix: bad value %q", v)
			} else if slices.Index(values, v) != n {
				r.mistakef(at("matrix", axis, n), "builder.matrix: value %q stands twice", v)
			}
		}
	}
	for n, ex := range b.Exclude {
		for _, axis := range slices.Sorted(maps.Keys(ex)) {
			if !slices.Contains(b.Matrix[axis], ex[axis]) {
				r.mistakef(at("exclude", n, axis), "builder.exclude: %s=%s is not in the matrix", axis, ex[axis])
			}
		}
	}
}

// Placeholders are the substitutions that relkit makes itself; axes of a matrix
// and --set add more.
var Placeholders = []string{"project", "builder", "number", "slots", "version", "count", "rev", "shortrev", "branch", "worker"}

// checkOn checks that a builder's expression speaks of workers and tags that there are.
func (r *Relkit) checkOn(i int, at func(...any) []any) {
	b := r.Builders[i]
	expr, err := ParseTags(b.On)
	if err != nil {
		r.mistakef(at("on"), "builder.on: %v", err)
		return
	}
	for _, word := range expr.Words() {
		for _, tag := range b.expandAxes(word) {
			if !r.knownTag(tag) {
				r.mistakef(at("on"), "builder.on: unknown worker tag %q", tag)
			}
		}
	}
}

// expandAxes is what a word with "{axis}" in it can become.
func (b *Builder) expandAxes(word string) []string {
	out := []string{word}
	for _, axis := range slices.Sorted(maps.Keys(b.Matrix)) {
		var next []string
		for _, w := range out {
			if !strings.Contains(w, "{"+axis+"}") {
				next = append(next, w)
				continue
			}
			for _, v := range b.Matrix[axis] {
				next = append(next, strings.ReplaceAll(w, "{"+axis+"}", v))
			}
		}
		out = next
	}
	return out
}

func (r *Relkit) knownTag(tag string) bool {
	for _, w := range r.LocalOrWorkers() {
		if w.Name == tag || slices.Contains(w.Tags, tag) {
			return true
		}
	}
	return false
}

// LocalOrWorkers are the workers; where none is configured, the one that stands
// for this machine.
func (r *Relkit) LocalOrWorkers() []Worker {
	if len(r.Workers) == 0 {
		return []Worker{{Name: "local"}}
	}
	return r.Workers
}

func (r *Relkit) builderNames() []string {
	var names []string
	for _, b := range r.Builders {
		names = append(names, b.Name)
	}
	return names
}

func (r *Relkit) checkStep(i, n int) {
	s := r.Builders[i].Steps[n]
	at := func(key ...any) []any { return append([]any{"builder", i, "step", n}, key...) }
	if s.Name == "" {
		r.mistakef(at(), "builder.step.name is missing")
	} else {
		r.checkName(at("name"), "step", s.Name)
	}
	switch {
	case len(s.Run) == 0 && s.Sh == "":
		r.mistakef(at(), "step %q has neither run nor sh", s.Name)
	case len(s.Run) > 0 && s.Sh != "":
		r.mistakef(at("sh"), "step %q: run and sh exclude each other", s.Name)
	case len(s.Run) > 0 && s.Run[0] == "":
		r.mistakef(at("run", 0), "step %q: the program is empty", s.Name)
	}
	r.checkEnv(at("env"), "builder.step.env", s.Env)
	for k, t := range s.Tests {
		format, glob, ok := strings.Cut(t, ":")
		if !ok || !slices.Contains(testFormats, format) {
			r.mistakef(at("tests", k), "builder.step.tests: got %q, want FORMAT:GLOB with a format of %s", t, strings.Join(testFormats, ", "))
		} else if glob == "-" && !slices.Contains(streamFormats, format) {
			r.mistakef(at("tests", k), "builder.step.tests: %q: standard output is read for %s alone", t, strings.Join(streamFormats, " and "))
		} else if glob != "-" {
			r.checkGlob(at("tests", k), "builder.step.tests", glob)
		}
	}
	if s.OnFail != "" {
		r.oneOf(at("on_fail"), "builder.step.on_fail", s.OnFail, "stop", "continue")
	}
	if s.Flaky != "" {
		r.oneOf(at("flaky"), "builder.step.flaky", s.Flaky, "warn", "fail")
	}
	if s.Retry != nil {
		if s.Retry.Times < 1 {
			r.mistakef(at("retry"), "builder.step.retry.times: got %d, want 1 or more", s.Retry.Times)
		}
		if _, err := regexp.Compile(s.Retry.Match); err != nil {
			r.mistakef(at("retry", "match"), "builder.step.retry.match: %v", err)
		}
	}
}

func (r *Relkit) checkEnv(path []any, what string, env map[string]string) {
	for _, k := range slices.Sorted(maps.Keys(env)) {
		if !envPattern.MatchString(k) || strings.Contains(env[k], "\x00") {
			r.mistakef(append(slices.Clone(path), k), "%s: bad variable %q", what, k)
		}
	}
}

// checkGlob checks a pattern over paths of the work tree; "{…}" is a substitution.
func (r *Relkit) checkGlob(at []any, what, glob string) {
	if err := CheckGlob(glob); err != nil {
		r.mistakef(at, "%s: %v", what, err)
	}
}

// CheckGlob checks a pattern over the paths of a work tree: relative, with "*",
// "?" and "[…]" as path.Match has them, and "**" for any number of folders.
func CheckGlob(glob string) error {
	switch {
	case glob == "":
		return fmt.Errorf("empty pattern")
	case path.IsAbs(glob):
		return fmt.Errorf("bad pattern %q: want one that is relative to the work tree", glob)
	}
	for part := range strings.SplitSeq(glob, "/") {
		if part == ".." || part == "." || part == "" {
			return fmt.Errorf("bad pattern %q: it has a part %q", glob, part)
		}
		if _, err := path.Match(part, ""); err != nil {
			return fmt.Errorf("bad pattern %q: %w", glob, err)
		}
	}
	return nil
}

// checkNeeds finds builders that need each other in a circle.
func (r *Relkit) checkNeeds() {
	const (
		visiting = 1
		done     = 2
	)
	mark := map[string]int{}
	var visit func(name string, trail []string) bool
	visit = func(name string, trail []string) bool {
		i := r.builderIndex(name)
		if i < 0 || mark[name] == done {
			return true
		}
		trail = append(trail, name)
		if mark[name] == visiting {
			start := slices.Index(trail, name)
			r.mistakef([]any{"builder", i, "needs"}, "builder.needs: a circle: %s", strings.Join(trail[start:], " needs "))
			return false
		}
		mark[name] = visiting
		for _, n := range r.Builders[i].Needs {
			if !visit(n, trail) {
				return false
			}
		}
		mark[name] = done
		return true
	}
	for _, b := range r.Builders {
		if !visit(b.Name, nil) {
			return
		}
	}
}
