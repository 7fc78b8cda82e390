package config

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// namePattern is what names may look like: they become folders, files and operands.
var namePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

var sha256Pattern = regexp.MustCompile(`^[0-9a-f]{64}$`)

var (
	vcsNames      = []string{"git", "svn", "hg", "cvs", "bzr", "darcs", "tla", "p4", "file", "tar"}
	checkoutNames = []string{"incremental", "clean", "copy", "export"}
	testFormats   = []string{"junit", "tap", "gotest", "ctest"}
	// streamFormats are those that are read from a step's standard output.
	streamFormats = []string{"tap", "gotest"}
	whenNames     = []string{"always", "change", "failing", "recovery", "error"}
)

// Variations are what can differ in the second of two builds.
var Variations = []string{"time", "path", "locale", "umask", "fileorder", "hostname", "worker"}

// mistakef notes a mistake at the value that path leads to.
func (r *Relkit) mistakef(path []any, format string, args ...any) {
	r.at.add(placeOf(path), fmt.Sprintf(format, args...))
}

// validate checks what the types cannot: names, choices and references.
func (r *Relkit) validate() {
	if r.Project.Name == "" {
		r.mistakef([]any{"project"}, "project.name is missing")
	} else {
		r.checkName([]any{"project", "name"}, "project", r.Project.Name)
	}
	for _, n := range []int{r.Project.Keep.Builds, r.Project.Keep.Days, r.Project.Keep.Failed} {
		if n < 0 {
			r.mistakef([]any{"project", "keep"}, "project.keep: got %d, want 0 or more", n)
		}
	}
	r.checkUnique("source", len(r.Sources), func(i int) string { return r.Sources[i].Name })
	r.checkUnique("worker", len(r.Workers), func(i int) string { return r.Workers[i].Name })
	r.checkUnique("lock", len(r.Locks), func(i int) string { return r.Locks[i].Name })
	r.checkUnique("builder", len(r.Builders), func(i int) string { return r.Builders[i].Name })
	r.checkUnique("schedule", len(r.Schedules), func(i int) string { return r.Schedules[i].Name })
	for i := range r.Sources {
		r.checkSource(i)
	}
	for i := range r.Workers {
		r.checkWorker(i)
	}
	for i, l := range r.Locks {
		if l.Slots < 0 {
			r.mistakef([]any{"lock", i, "slots"}, "lock.slots: got %d, want 1 or more", l.Slots)
		}
	}
	for i := range r.Builders {
		r.checkBuilder(i)
	}
	r.checkNeeds()
	for i := range r.Schedules {
		r.checkSchedule(i)
	}
	r.checkFollowing()
	for i := range r.Notify {
		r.checkNotify(i)
	}
}

func (r *Relkit) checkName(path []any, kind, name string) {
	if !namePattern.MatchString(name) {
		r.mistakef(path, "bad name %q for a %s: want letters, digits, \".\", \"_\" and \"-\", at most 64, the first a letter or digit", name, kind)
	}
}

// checkUnique checks the names of an array of tables.
func (r *Relkit) checkUnique(kind string, n int, name func(int) string) {
	seen := map[string]bool{}
	for i := range n {
		v := name(i)
		switch {
		case v == "":
			r.mistakef([]any{kind, i}, "%s.name is missing", kind)
			continue
		case seen[v]:
			r.mistakef([]any{kind, i, "name"}, "second %s of the name %q", kind, v)
		default:
			r.checkName([]any{kind, i, "name"}, kind, v)
		}
		seen[v] = true
	}
}

// oneOf checks a value that must be one of a few words.
func (r *Relkit) oneOf(path []any, what, got string, words ...string) {
	if !slices.Contains(words, got) {
		r.mistakef(path, "%s: got %q, want one of %s", what, got, strings.Join(words, ", "))
	}
}

func (r *Relkit) checkSource(i int) {
	s := r.Sources[i]
	at := func(key string) []any { return []any{"source", i, key} }
	if s.VCS == "" {
		r.mistakef([]any{"source", i}, "source.vcs is missing, want one of %s", strings.Join(vcsNames, ", "))
	} else {
		r.oneOf(at("vcs"), "source.vcs", s.VCS, vcsNames...)
	}
	if s.URL == "" {
		r.mistakef([]any{"source", i}, "source.url is missing")
	} else if strings.HasPrefix(s.URL, "-") || strings.ContainsAny(s.URL, "\x00\n") {
		r.mistakef(at("url"), "source.url: bad URL %q", Redact(s.URL))
	}
	if strings.HasPrefix(s.Branch, "-") || strings.ContainsAny(s.Branch, "\x00\n ~^:?*[\\") {
		r.mistakef(at("branch"), "source.branch: bad branch %q", s.Branch)
	}
	if s.VCS == "tar" && s.SHA256 == "" {
		r.mistakef([]any{"source", i}, "source.sha256 is missing: what sha256sum says of the archive")
	} else if s.SHA256 != "" && !sha256Pattern.MatchString(s.SHA256) {
		r.mistakef(at("sha256"), "source.sha256: got %q, want 64 digits of 0 to 9 and a to f", s.SHA256)
	} else if s.SHA256 != "" && s.VCS != "tar" {
		r.mistakef(at("sha256"), "source.sha256 goes with vcs = \"tar\"")
	}
	if s.Stable < 0 {
		r.mistakef(at("stable"), "source.stable: got %v, want 0 or more", s.Stable)
	}
}

func (r *Relkit) checkWorker(i int) {
	w := r.Workers[i]
	kinds := 0
	for _, given := range []bool{w.SSH != "", w.OpenSSH != "", w.Slurm != nil} {
		if given {
			kinds++
		}
	}
	if kinds > 1 {
		r.mistakef([]any{"worker", i}, "worker %q: ssh, openssh and slurm exclude each other", w.Name)
	}
	if w.Slots < 0 {
		r.mistakef([]any{"worker", i, "slots"}, "worker.slots: got %d, want 1 or more", w.Slots)
	}
	for n, tag := range w.Tags {
		if !tagPattern.MatchString(tag) {
			r.mistakef([]any{"worker", i, "tags", n}, "worker.tags: bad tag %q", tag)
		}
	}
}

func (r *Relkit) checkSchedule(i int) {
	s := r.Schedules[i]
	at := func(key ...any) []any { return append([]any{"schedule", i}, key...) }
	if r.builderIndex(s.Name) >= 0 {
		r.mistakef(at("name"), "schedule %q has the name of a builder", s.Name)
	}
	switch {
	case s.Cron == "" && s.On == "":
		r.mistakef([]any{"schedule", i}, "schedule %q has neither cron nor on", s.Name)
	case s.Cron != "" && s.On != "":
		r.mistakef(at("on"), "schedule %q: cron and on exclude each other", s.Name)
	case s.Cron != "":
		if _, err := ParseCron(s.Cron); err != nil {
			r.mistakef(at("cron"), "schedule.cron: %v", err)
		}
	default:
		r.oneOf(at("on"), "schedule.on", s.On, "change", "success", "failure", "always")
	}
	switch {
	case !s.Dependent() && len(s.Of) > 0:
		r.mistakef(at("of"), "schedule %q: of goes with on = \"success\", \"failure\" or \"always\"", s.Name)
	case s.Dependent() && len(s.Of) == 0:
		r.mistakef(at("on"), "schedule %q: of is missing: after which builders?", s.Name)
	}
	r.checkBuilderNames(at("builders"), s.Builders)
	r.checkBuilderNames(at("of"), s.Of)
	r.checkReferences(at("sources"), "source", s.Sources, r.sourceNames())
}

// checkBuilderNames checks a list of builders, in which "*" is all of them.
func (r *Relkit) checkBuilderNames(path []any, names []string) {
	var known []string
	for _, b := range r.Builders {
		known = append(known, b.Name)
	}
	r.checkReferences(path, "builder", names, append(known, "*"))
}

func (r *Relkit) checkReferences(path []any, kind string, names, known []string) {
	for i, name := range names {
		if !slices.Contains(known, name) {
			r.mistakef(append(slices.Clone(path), i), "unknown %s %q", kind, name)
		}
	}
}

func (r *Relkit) sourceNames() []string {
	var names []string
	for _, s := range r.Sources {
		names = append(names, s.Name)
	}
	return names
}

func (r *Relkit) builderIndex(name string) int {
	return slices.IndexFunc(r.Builders, func(b Builder) bool { return b.Name == name })
}
