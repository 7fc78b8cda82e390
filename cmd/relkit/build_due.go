package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/relkit/relkit/pkg/build"
	"github.com/relkit/relkit/pkg/failure"
)

// buildDue builds what the schedules owe. They say themselves what is built and how.
func (e *env) buildDue(c *cli.Context, p *build.Project) error {
	if _, err := e.operands(c, 0, 0); err != nil {
		return err
	}
	for _, name := range []string{"if-changed", "force", "rev", "branch", "clean", "repro"} {
		if c.IsSet(name) {
			return failure.Errorf(failure.Usage, "--due and --%s exclude each other", name)
		}
	}
	opt, err := e.buildOptions(c)
	if err != nil {
		return err
	}
	return p.Due(c.Context, opt)
}

// noteChange is what a hook of a repository calls.
func (e *env) noteChange(c *cli.Context, p *build.Project) error {
	if _, err := e.operands(c, 0, 0); err != nil {
		return err
	}
	n, err := p.NoteChange(c.String("source"), e.Stdin, e.Now())
	if err != nil {
		return err
	}
	switch {
	case n.Changes == 0:
		e.Log.Info(fmt.Sprintf("source %s: no change of its branch", n.Source))
	case n.Watched:
		e.Log.Info(fmt.Sprintf("source %s: noted, relkit build --due builds it", n.Source))
	default:
		e.Log.Warn(fmt.Sprintf("source %s: noted, but no [[schedule]] with on = \"change\" watches it: relkit build --if-changed builds it", n.Source))
	}
	return nil
}

// printTrigger prints what makes cron or a repository call relkit.
func (e *env) printTrigger(c *cli.Context, p *build.Project) error {
	if _, err := e.operands(c, 0, 0); err != nil {
		return err
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	var text string
	if c.Bool("crontab") {
		text, err = p.Crontab(program)
	} else {
		text, err = p.Hook(program, c.String("hook"), c.String("source"))
	}
	if err != nil {
		return err
	}
	if e.JSON {
		return e.print(struct {
			Schema string `json:"schema"`
			Text   string `json:"text"`
		}{"relkit.build-trigger/v1", text})
	}
	_, err = fmt.Fprint(e.Stdout, text)
	return err
}

// pruneBuilds prints the folders that it removes.
func (e *env) pruneBuilds(c *cli.Context, p *build.Project) error {
	if _, err := e.operands(c, 0, 0); err != nil {
		return err
	}
	dirs, err := p.Prune(e.Now(), c.Bool("dry-run"), func(text string) { e.Log.Info(text) })
	for _, dir := range dirs {
		if e.JSON {
			err = errors.Join(err, e.printJSONLine(struct {
				Schema string `json:"schema"`
				Dir    string `json:"dir"`
			}{"relkit.build-pruned/v1", dir}))
			continue
		}
		err = errors.Join(err, e.line(dir))
	}
	return err
}
