package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/relkit/relkit/pkg/build"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/record"
	"github.com/relkit/relkit/pkg/ui"
)

func buildCommand(e *env) *cli.Command {
	return &cli.Command{
		Name:      "build",
		Category:  groupBuild,
		Usage:     "build what relkit.toml describes, and keep the artifacts",
		ArgsUsage: "[BUILDER | BUILDER[axis=value,…] | SCHEDULE]…",
		Flags: []cli.Flag{
			configFlag("relkit.toml"),
			stateFlag(""),
			jobsFlag(),
			&cli.BoolFlag{Name: "if-changed", Usage: "build only what has an important change since its previous build"},
			&cli.BoolFlag{Name: "force", Usage: "with --if-changed, build what is unchanged too"},
			&cli.BoolFlag{Name: "due", Usage: "build what the schedules owe since the last run"},
			&cli.BoolFlag{Name: "change", Usage: "note a change: OLD NEW REF lines on standard input, as a post-receive hook gets them"},
			&cli.StringFlag{Name: "source", Usage: "with --change or --hook, the source is `NAME`"},
			&cli.BoolFlag{Name: "prune", Usage: "remove the builds that project.keep does not keep"},
			dryRunFlag(),
			&cli.BoolFlag{Name: "crontab", Usage: "print the crontab lines"},
			&cli.StringFlag{Name: "hook", Usage: "print the hook script for a repository: `git|svn|hg`"},
			&cli.StringSliceFlag{Name: "rev", Usage: "build this commit, tag or branch of a source, by default the first: `[SOURCE=]R`"},
			&cli.StringFlag{Name: "branch", Usage: "build branch `B` of the first source"},
			&cli.StringSliceFlag{Name: "set", Usage: "give the steps a value: `K=V`"},
			&cli.StringSliceFlag{Name: "patch", Usage: "a try build: apply the diff in `[SOURCE=]FILE`, or - for standard input, to the sources"},
			&cli.BoolFlag{Name: "repro", Usage: "build twice, on two workers where two match, and compare the artifacts"},
			&cli.BoolFlag{Name: "clean", Usage: "build in trees that hold nothing of earlier builds"},
			&cli.BoolFlag{Name: "keep-going", Usage: "build the other builders after one has failed"},
			&cli.BoolFlag{Name: "plan", Usage: "print what would be built where, build nothing"},
			&cli.BoolFlag{Name: "check-config", Usage: "check relkit.toml, build nothing"},
			&cli.BoolFlag{Name: "history", Usage: "print the builds that have ended"},
			&cli.StringFlag{Name: "log", Usage: "print the log of `BUILDER/N[/STEP]`"},
			&cli.StringFlag{Name: "explain", Usage: "print what became of `BUILDER/N`, and why"},
			&cli.BoolFlag{Name: "follow", Aliases: []string{"f"}, Usage: "with --log, print what is written until the build has ended"},
			&cli.StringFlag{Name: "print", Usage: "print of each finished build: `dir|artifacts|record`", Value: "dir"},
		},
		Action: func(c *cli.Context) error { return runBuild(e, c) },
	}
}

func runBuild(e *env, c *cli.Context) error {
	modes := map[string]bool{"--plan": c.Bool("plan"), "--check-config": c.Bool("check-config"), "--history": c.Bool("history"), "--log": c.IsSet("log"), "--explain": c.IsSet("explain"),
		"--due": c.Bool("due"), "--change": c.Bool("change"), "--crontab": c.Bool("crontab"), "--hook": c.IsSet("hook"),
		"--prune": c.Bool("prune")}
	var chosen []string
	for _, name := range slices.Sorted(maps.Keys(modes)) {
		if modes[name] {
			chosen = append(chosen, name)
		}
	}
	if len(chosen) > 1 {
		return failure.Errorf(failure.Usage, "%s exclude each other", strings.Join(chosen, " and "))
	}
	if c.IsSet("source") && !c.Bool("change") && !c.IsSet("hook") {
		return failure.Errorf(failure.Usage, "--source goes with --change or --hook")
	}
	if c.Bool("follow") && !c.IsSet("log") {
		return failure.Errorf(failure.Usage, "--follow goes with --log")
	}
	if c.Bool("dry-run") && !c.Bool("prune") {
		return failure.WithHint(failure.Errorf(failure.Usage, "--dry-run goes with --prune"), "relkit build --plan")
	}
	if c.Bool("due") || c.Bool("crontab") || c.Bool("check-config") {
		if err := checkZone(e.LookupEnv); err != nil {
			return err
		}
	}
	if err := checkTry(c, chosen); err != nil {
		return err
	}
	p, err := build.Open(c.String("config"), c.String("state"))
	if err != nil {
		return err
	}
	switch {
	case c.Bool("check-config"):
		return e.checkBuildConfig(c, p)
	case c.Bool("history"):
		return e.printBuildHistory(c, p)
	case c.IsSet("log"):
		return e.printBuildLog(c, p)
	case c.IsSet("explain"):
		return e.explainBuild(c, p)
	case c.Bool("due"):
		return e.buildDue(c, p)
	case c.Bool("prune"):
		return e.pruneBuilds(c, p)
	case c.Bool("change"):
		return e.noteChange(c, p)
	case c.Bool("crontab"), c.IsSet("hook"):
		return e.printTrigger(c, p)
	}
	opt, err := e.buildOptions(c)
	if err != nil {
		return err
	}
	if opt.Revs, err = revisions(c, p); err != nil {
		return err
	}
	if opt.Diffs, err = e.readDiffs(c, p); err != nil {
		return err
	}
	names, err := e.operands(c, 0, -1)
	if err != nil {
		return err
	}
	cells, err := p.Plan(names)
	if err != nil {
		return err
	}
	if c.Bool("plan") {
		return e.printBuildPlan(c, p, cells, opt)
	}
	defer e.watchBuild(cells, &opt).Done()
	return p.Run(c.Context, cells, opt)
}

func (e *env) buildOptions(c *cli.Context) (build.Options, error) {
	opt := build.Options{
		IfChanged: c.Bool("if-changed"), Force: c.Bool("force"), Branch: c.String("branch"),
		Clean: c.Bool("clean"), Repro: c.Bool("repro"), KeepGoing: c.Bool("keep-going"), Set: map[string]string{}, Version: strings.TrimPrefix(versionLine(), "relkit "),
		LookupEnv: e.LookupEnv, Now: e.Now, Log: e.Log, Verbose: e.Verbose, Progress: e.console.Progress(ui.Items),
		Show: func(label, line string) { fmt.Fprintf(e.console, "%s | %s\n", label, ui.Visible(line)) },
		Done: e.buildPrinter(c.String("print")),
	}
	if opt.Done == nil {
		return opt, failure.Errorf(failure.Usage, "reading --print: got %q, want dir, artifacts or record", c.String("print"))
	}
	if c.IsSet("jobs") {
		n, err := jobs(c)
		if err != nil {
			return opt, err
		}
		opt.Jobs = n
	}
	for _, kv := range c.StringSlice("set") {
		k, v, ok := strings.Cut(kv, "=")
		if !ok {
			return opt, failure.Errorf(failure.Usage, "reading --set: got %q, want K=V", kv)
		}
		opt.Set[k] = v
	}
	return opt, nil
}

// revisions reads what --rev names: R, or SOURCE=R where the configuration has a
// source of that name.
func revisions(c *cli.Context, p *build.Project) (map[string]string, error) {
	revs := map[string]string{}
	for _, text := range c.StringSlice("rev") {
		source, rev := "", text
		if before, after, ok := strings.Cut(text, "="); ok && p.HasSource(before) {
			source, rev = before, after
		}
		if rev == "" {
			return nil, failure.Errorf(failure.Usage, "reading --rev: got %q, want [SOURCE=]R", text)
		}
		if _, twice := revs[source]; twice {
			return nil, failure.Errorf(failure.Usage, "reading --rev: got %q and %q for one source", revs[source], rev)
		}
		revs[source] = rev
	}
	return revs, nil
}

// buildPrinter is what prints a build that has ended; nil for an unknown word.
func (e *env) buildPrinter(what string) func(*record.Build, string) error {
	switch {
	case what == "record" || e.JSON && (what == "dir" || what == "artifacts"):
		return func(b *record.Build, _ string) error { return e.printJSONLine(b) }
	case what == "dir":
		return func(_ *record.Build, dir string) error { return e.line(dir) }
	case what == "artifacts":
		return func(b *record.Build, dir string) error {
			paths, err := build.Artifacts(b, dir)
			for i := 0; err == nil && i < len(paths); i++ {
				err = e.line(paths[i])
			}
			return err
		}
	}
	return nil
}

func (e *env) checkBuildConfig(c *cli.Context, p *build.Project) error {
	if _, err := e.operands(c, 0, 0); err != nil {
		return err
	}
	unsupported, err := p.Check()
	if err != nil {
		return err
	}
	for _, u := range unsupported {
		e.Log.Warn(u.Error())
	}
	e.Log.Info(fmt.Sprintf("%s: %d builders, no mistake", c.String("config"), p.Builders()))
	return e.print(struct {
		Schema      string `json:"schema"`
		Config      string `json:"config"`
		Builders    int    `json:"builders"`
		Unsupported int    `json:"unsupported"`
	}{"relkit.build-config/v1", c.String("config"), p.Builders(), len(unsupported)})
}

func (e *env) printBuildPlan(c *cli.Context, p *build.Project, cells []build.Cell, opt build.Options) error {
	cells, err := p.Poll(c.Context, cells, opt)
	for i := 0; err == nil && i < len(cells); i++ {
		cell := &cells[i]
		if e.JSON {
			err = e.printJSONLine(struct {
				Schema    string            `json:"schema"`
				Builder   string            `json:"builder"`
				Worker    string            `json:"worker"`
				Slots     int               `json:"slots"`
				Revisions map[string]string `json:"revisions"`
				Steps     []string          `json:"steps"`
			}{"relkit.build-plan/v1", cell.Name, cell.Worker.Name, cell.Slots, cell.Revisions, cell.Steps()})
			continue
		}
		line := fmt.Sprintf("%s on %s with %d slots:", cell.Name, cell.Worker.Name, cell.Slots)
		if sources := cell.Sources(); len(sources) > 0 {
			for _, s := range sources {
				line += " " + s + "@" + cell.Revisions[s][:min(12, len(cell.Revisions[s]))]
			}
			line += ":"
		}
		err = e.line(line + " " + strings.Join(cell.Steps(), ", "))
	}
	return err
}

func (e *env) printBuildHistory(c *cli.Context, p *build.Project) error {
	names, err := e.operands(c, 0, 1)
	if err != nil {
		return err
	}
	events, bad, err := p.History(strings.Join(names, ""))
	if err != nil {
		return err
	}
	if bad > 0 {
		e.Log.Warn(fmt.Sprintf("%d lines of the history cannot be read", bad))
	}
	for _, ev := range events {
		if e.JSON {
			err = e.printJSONLine(ev)
		} else {
			err = e.line(historyLine(ev))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func historyLine(ev record.BuildEvent) string {
	line := fmt.Sprintf("%s/%d %s %s %.1fs", ev.Builder, ev.Number, ev.Status, ev.Started.Format(time.RFC3339), ev.DurationSeconds)
	if ev.Version != "" {
		line += " version " + ev.Version
	}
	if ev.Reason == "try" {
		line += " try"
	}
	if ev.TestsTotal > 0 {
		line += fmt.Sprintf(" tests %d/%d", ev.TestsTotal-ev.TestsFailed, ev.TestsTotal)
	}
	if ev.Error != "" {
		first, _, _ := strings.Cut(ev.Error, "\n")
		line += ": " + ui.Visible(first)
	}
	for _, u := range ev.Untold {
		line += "; not told: " + ui.Visible(u)
	}
	return line
}

func (e *env) printBuildLog(c *cli.Context, p *build.Project) error {
	if _, err := e.operands(c, 0, 0); err != nil {
		return err
	}
	print := func(l *build.StepLog, line build.LogLine) error {
		switch {
		case e.JSON:
			return e.printJSONLine(struct {
				Schema  string `json:"schema"`
				Builder string `json:"builder"`
				Number  int    `json:"number"`
				Step    string `json:"step"`
				Seconds string `json:"seconds"`
				Stream  string `json:"stream"`
				Text    string `json:"text"`
			}{"relkit.build-log/v1", l.Builder, l.Number, l.Step, line.Seconds, line.Stream, string(line.Text)})
		case e.Verbose:
			return e.line(strings.TrimSuffix(string(line.Raw), "\n"))
		}
		return e.line(string(line.Text))
	}
	if c.Bool("follow") {
		return p.Follow(c.Context, c.String("log"), print)
	}
	logs, err := p.Logs(c.String("log"))
	for i := 0; err == nil && i < len(logs); i++ {
		err = logs[i].Lines(func(line build.LogLine) error { return print(&logs[i], line) })
	}
	return err
}

func (e *env) explainBuild(c *cli.Context, p *build.Project) error {
	if _, err := e.operands(c, 0, 0); err != nil {
		return err
	}
	text, notice, err := p.Explain(c.String("explain"))
	switch {
	case err != nil:
		return err
	case e.JSON:
		return e.printJSONLine(notice)
	}
	return e.line(strings.TrimSuffix(text, "\n"))
}
