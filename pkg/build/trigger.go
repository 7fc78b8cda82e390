package build

import (
	"bufio"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/relkit/relkit/pkg/config"
	"github.com/relkit/relkit/pkg/failure"
)

// Noted is what NoteChange made of what a hook said.
type Noted struct {
	Source string
	// Changes counts the lines that are of the source's branch.
	Changes int
	// Watched tells whether a schedule builds on a change of the source.
	Watched bool
}

// NoteChange reads lines "OLD NEW REF", as git gives them to a post-receive hook,
// and notes the newest that is of the source's branch. It asks nobody and waits
// for no build. A source "" is the only one there is.
func (p *Project) NoteChange(name string, in io.Reader, now time.Time) (Noted, error) {
	src, err := p.triggered(name)
	if err != nil {
		return Noted{}, err
	}
	n := Noted{Source: src.Name, Watched: slices.ContainsFunc(p.cfg.Schedules, func(s config.Schedule) bool { return p.watches(&s, src.Name) })}
	branch := src.Branch
	if st, _, err := p.state.readPending(); err != nil {
		return Noted{}, err
	} else if branch == "" {
		branch = st.Sources[src.Name].Branch // as the source was last found to have it
	}
	var newest string
	lines := bufio.NewScanner(in)
	for number := 1; lines.Scan(); number++ {
		fields := strings.Fields(lines.Text())
		if len(fields) != 3 {
			return Noted{}, failure.Errorf(failure.Usage, "reading standard input: line %d: got %q, want OLD NEW REF", number, lines.Text())
		}
		ref := strings.TrimPrefix(fields[2], "refs/heads/")
		gone := strings.Trim(fields[1], "0") == ""
		if gone || strings.HasPrefix(ref, "refs/") || src.VCS == "git" && branch != "" && ref != branch {
			continue
		}
		newest, n.Changes = fields[1], n.Changes+1
	}
	if err := lines.Err(); err != nil {
		return Noted{}, fmt.Errorf("reading standard input: %w", err)
	}
	if newest == "" {
		return n, nil
	}
	return n, p.state.pending(func(st *pending) error {
		st.quietSince(src.Name, pendingSource{Head: newest, Branch: branch, Since: now.UTC().Truncate(time.Millisecond)})
		return nil
	})
}

// triggered finds the source that a trigger is about.
func (p *Project) triggered(name string) (config.Source, error) {
	if name == "" && len(p.cfg.Sources) == 1 {
		return p.cfg.Sources[0], nil
	}
	if i := p.sourceIndex(name); i >= 0 {
		return p.cfg.Sources[i], nil
	}
	var names []string
	for _, s := range p.cfg.Sources {
		names = append(names, s.Name)
	}
	if name == "" {
		return config.Source{}, failure.Errorf(failure.Usage, "--source is missing: one of %s", strings.Join(names, ", "))
	}
	return config.Source{}, failure.Errorf(failure.Usage, "unknown source %q: the sources are %s", name, strings.Join(names, ", "))
}

// watches tells whether a schedule builds something on a change of a source.
func (p *Project) watches(s *config.Schedule, name string) bool {
	if s.On != "change" || len(s.Sources) > 0 && !slices.Contains(s.Sources, name) {
		return false
	}
	names := p.cfg.ScheduleBuilders(s)
	return slices.ContainsFunc(p.cfg.Builders, func(b config.Builder) bool {
		return slices.Contains(names, b.Name) && slices.Contains(b.Sources, name)
	})
}

// command is a command line that means this project wherever it is called, program
// being relkit's own path.
func (p *Project) command(program string, args ...string) string {
	words := []string{failure.Word(program), "build"}
	words = append(words, args...)
	words = append(words, "--config", failure.Word(p.file))
	if p.stateGiven != "" {
		words = append(words, "--state", failure.Word(p.stateGiven))
	}
	return strings.Join(words, " ")
}

// Crontab is what crontab(1) takes for the project, program being relkit's own path.
func (p *Project) Crontab(program string) (string, error) {
	if len(p.cfg.Schedules) == 0 {
		return "", p.cfg.ErrorAt(nil, "no [[schedule]]: nothing is ever due")
	}
	var b strings.Builder
	for i := range p.cfg.Schedules {
		s := &p.cfg.Schedules[i]
		when := s.Cron
		switch {
		case s.Dependent():
			when = "after " + s.On + " of " + strings.Join(p.cfg.ScheduleOf(s), ", ")
		case s.On != "":
			when = "on " + s.On
		}
		fmt.Fprintf(&b, "# %s: %s: %s\n", s.Name, when, strings.Join(p.cfg.ScheduleBuilders(s), ", "))
	}
	// cron(8) takes "%" for a line end. It mails what goes to standard error.
	line := strings.ReplaceAll(p.command(program, "--due", "--quiet"), "%", `\%`)
	fmt.Fprintf(&b, "* * * * * %s >/dev/null\n", line)
	return b.String(), nil
}

// hooks are the scripts, from the line that tells how to install one to what it
// pipes into relkit.
var hooks = map[string]struct{ install, lines string }{
	"git": {"as hooks/post-receive in the repository, mode 755", ""},
	"svn": {"as hooks/post-commit in the repository, mode 755", `echo "$(($2 - 1)) $2 trunk"`},
	"hg": {"as an executable file that .hg/hgrc of the repository names:\n#\t[hooks]\n#\tchangegroup.relkit = /path/of/this/file\n#\tcommit.relkit = /path/of/this/file",
		`echo "${HG_PARENT1:-$HG_NODE} ${HG_NODE_LAST:-$HG_NODE} default"`},
}

// Hook is a script that tells relkit of changes. A source "" is the only one of
// the kind.
func (p *Project) Hook(program, vcs, name string) (string, error) {
	h, ok := hooks[vcs]
	if !ok {
		return "", failure.Errorf(failure.Usage, "reading --hook: got %q, want git, svn or hg", vcs)
	}
	var of []string
	for _, s := range p.cfg.Sources {
		if s.VCS == vcs && (name == "" || s.Name == name) {
			of = append(of, s.Name)
		}
	}
	switch {
	case name != "" && p.sourceIndex(name) < 0:
		_, err := p.triggered(name)
		return "", err
	case len(of) == 0:
		return "", failure.Errorf(failure.Usage, "%s: no source with vcs = %q", filepath.Base(p.file), vcs)
	case len(of) > 1:
		return "", failure.Errorf(failure.Usage, "--source is missing: one of %s", strings.Join(of, ", "))
	}
	line := p.command(program, "--change", "--quiet", "--source", of[0])
	if h.lines != "" {
		line = h.lines + " | " + line
	}
	return fmt.Sprintf("#!/bin/sh\n# Tells relkit of changes of source %s; the crontab line of relkit build --crontab\n# builds them. Install it %s.\n# It must run as the user who builds, or as one who may write to\n# %s.\n%s\n",
		of[0], h.install, p.state.dir, line), nil
}
