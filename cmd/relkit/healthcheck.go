package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/relkit/relkit/pkg/config"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/record"
	"github.com/relkit/relkit/pkg/health"
	"github.com/relkit/relkit/pkg/ui"
)

// healthConfig is read where it is there and --config is not given.
const healthConfig = "/etc/relkit/health.toml"

func healthcheckCommand(e *env) *cli.Command {
	return &cli.Command{
		Name:     "healthcheck",
		Category: groupHealth,
		Usage:    "look at this machine and print one report",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "format", Usage: "print the report as `FORMAT`: json, ndjson, text, prometheus, openmetrics or nagios", Value: "json"},
			outputFlag("write the report to `FILE`"),
			&cli.StringSliceFlag{Name: "only", Usage: "make these checks alone: `NAME,…` of " + strings.Join(health.Names(), ", ")},
			&cli.StringSliceFlag{Name: "skip", Usage: "do not make these checks: `NAME,…`"},
			&cli.BoolFlag{Name: "exit-code", Usage: "exit 3 when a check is crit"},
			&cli.StringFlag{Name: "timeout", Usage: "report what is known after `SPAN`", Value: "30s"},
			&cli.StringFlag{Name: "splay", Usage: "first wait for this machine's share of `SPAN`"},
			&cli.StringSliceFlag{Name: "redact", Usage: "replace values by keyed hashes: `CLASS,…` of serial, hostname, mac, ip"},
			&cli.BoolFlag{Name: "show-fields", Usage: "list what a report may hold, and make none"},
			configFlag(""), rootFlag("/"), stateFlag(""),
		},
		Action: func(c *cli.Context) error {
			if _, err := e.operands(c, 0, 0); err != nil {
				return err
			}
			if c.Bool("show-fields") {
				return e.showHealthFields()
			}
			render := healthFormats[c.String("format")]
			if render == nil || e.JSON && c.String("format") != "json" {
				return failure.Errorf(failure.Usage, "reading --format: got %q, want json, ndjson, text, prometheus, openmetrics or nagios, and json with --json", c.String("format"))
			}
			h, err := e.makeHealth(c)
			if err == nil {
				err = e.printHealth(h, c.String("output"), render)
			}
			if err == nil && c.String("format") == "nagios" {
				return nagiosOutcome(h)
			}
			if err == nil && c.Bool("exit-code") && h.Status == record.HealthCrit {
				return failure.Errorf(failure.No, "%d of %d checks found a fault", h.Counts.Crit, len(h.Checks))
			}
			return err
		},
	}
}

// healthFormats are the values of --format.
var healthFormats = map[string]func(*record.Health) ([]byte, error){
	// One line, so that reports laid end to end are JSON Lines.
	"json":        (*record.Health).Encode,
	"ndjson":      (*record.Health).EncodeLines,
	"text":        func(h *record.Health) ([]byte, error) { return joinLines(health.Text(h)), nil },
	"nagios":      func(h *record.Health) ([]byte, error) { return joinLines(health.Nagios(h)), nil },
	"prometheus":  func(h *record.Health) ([]byte, error) { return health.Metrics(h, health.Prometheus), nil },
	"openmetrics": func(h *record.Health) ([]byte, error) { return health.Metrics(h, health.OpenMetrics), nil },
}

func joinLines(lines []string) []byte { return []byte(strings.Join(lines, "\n") + "\n") }

// nagiosStatus is a report's status as that of a monitoring plug-in, which leaves
// the table of relkit's exit statuses: 0 ok, 1 warning, 2 critical, 3 unknown.
type nagiosStatus struct{ error }

func nagiosOutcome(h *record.Health) error {
	if code := health.NagiosExit(h.Status); code != 0 {
		return nagiosStatus{failure.Errorf(failure.Kind(code), "the status is %s", h.Status)}
	}
	return nil
}

func (s nagiosStatus) Unwrap() error { return s.error }

// nagiosFailure makes of any other error what a monitoring system shows of a
// plug-in that failed: a line on standard output, and the status of unknown.
func (e *env) nagiosFailure(err error) error {
	if err == nil || errors.As(err, new(nagiosStatus)) {
		return err
	}
	text := strings.ReplaceAll(oneLine(err.Error()), "|", "/")
	if err := e.line("RELKIT UNKNOWN - " + ui.Visible(text)); err != nil {
		return err
	}
	return failure.As(failure.Kind(health.NagiosExit(record.HealthUnknown)), err)
}

// asksNagios tells whether a command line, which may be one that cannot be
// parsed, is that of a monitoring plug-in.
func (e *env) asksNagios(args []string) bool {
	format := e.Getenv(envName("healthcheck", "format"))
	for i, a := range args {
		if a == "--" {
			break
		}
		if v, ok := strings.CutPrefix(a, "--format="); ok {
			format = v
		} else if a == "--format" && i+1 < len(args) {
			format = args[i+1]
		}
	}
	return format == "nagios"
}

// makeHealth reads the flags and makes the report they ask for.
func (e *env) makeHealth(c *cli.Context) (*record.Health, error) {
	o := health.Options{
		Only: commaList(c.StringSlice("only")), Skip: commaList(c.StringSlice("skip")), Redact: commaList(c.StringSlice("redact")),
	}
	var err error
	if o.Timeout, err = spanValue(c, "timeout"); err != nil {
		return nil, err
	}
	if o.Timeout == 0 {
		return nil, failure.Errorf(failure.Usage, "reading --timeout: got 0, want a span such as 30s")
	}
	window, err := spanValue(c, "splay")
	if err != nil {
		return nil, err
	}
	if o.Config, err = readHealthConfig(c.String("config")); err != nil {
		return nil, err
	}
	if err := o.Check(); err != nil {
		return nil, err
	}
	sys, closer, err := health.Host(c.String("root"), c.String("state"), strings.Fields(versionLine())[1])
	if err != nil {
		return nil, err
	}
	defer closer.Close()
	if err := sleep(c.Context, health.Splay(sys, window)); err != nil {
		return nil, err
	}
	return health.Run(c.Context, sys, o)
}

// readHealthConfig reads name, or where that is "" the file that need not be there.
func readHealthConfig(name string) (health.Config, error) {
	var cfg health.Config
	given := name != ""
	if !given {
		name = healthConfig
	}
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) && !given {
		return cfg, nil
	}
	if err != nil {
		return cfg, failure.As(failure.Usage, fmt.Errorf("reading the configuration: %w", err))
	}
	if err := config.Decode(name, b, &cfg); err != nil {
		return cfg, err
	}
	if err := cfg.Validate(); err != nil {
		return cfg, failure.Errorf(failure.Usage, "%s: %w", name, err)
	}
	return cfg, nil
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// printHealth writes the report to the file name; "" is standard output.
func (e *env) printHealth(h *record.Health, name string, render func(*record.Health) ([]byte, error)) error {
	b, err := render(h)
	if err != nil {
		return err
	}
	if name == "" {
		name = "-"
	}
	out, err := e.create(name, 0o644, false)
	if err != nil {
		return err
	}
	if _, err := out.Write(b); err != nil {
		return errors.Join(err, out.Abort())
	}
	return out.Commit()
}

// healthFields is the document of healthcheck --show-fields --json.
type healthFields struct {
	Schema string               `json:"schema"`
	Fields []record.HealthField `json:"fields"`
}

func (e *env) showHealthFields() error {
	rows := [][]string{{"FIELD", "TYPE", "REDACT", "MEANING"}}
	for _, f := range record.HealthFields() {
		class := f.Redact
		if class == "" {
			class = "-"
		}
		rows = append(rows, []string{f.Path, f.Type, class, f.About})
	}
	return e.print(&healthFields{"relkit.health-fields/v1", record.HealthFields()}, columns(rows)...)
}
