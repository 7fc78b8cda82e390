// Package health reads a machine once and says how it is: the report of relkit
// healthcheck.
//
// Each collector looks at one thing, under its own deadline and beside the
// others. One that fails or does not answer becomes a check of status unknown
// with the reason; a report is made whatever happens.
package health

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/identity"
	"github.com/relkit/relkit/pkg/format/record"
)

// Options of a run; the zero Options makes every check with the defaults.
type Options struct {
	Config Config
	// Only names the checks to make, none for all; Skip those not to make.
	Only, Skip []string
	// Timeout bounds the run; 0 is DefaultTimeout.
	Timeout time.Duration
	// Redact names the classes of values to replace by keyed hashes.
	Redact []string
}

// DefaultTimeout bounds a run that is not told otherwise.
const DefaultTimeout = 30 * time.Second

// collector is one check.
type collector struct {
	name string
	// deadline is how long the check may take, whatever the run may.
	deadline time.Duration
	collect  func(context.Context, *input) (*output, error)
}

// collectors are the checks there are, in the order of the report.
func collectors() []collector {
	return []collector{
		{"identity", 5 * time.Second, collectIdentity},
		{"filesystem", 10 * time.Second, collectFilesystems},
		{"nic", 5 * time.Second, collectNICs},
		{"patches", 10 * time.Second, collectPatches},
	}
}

// input is what a collector is given.
type input struct {
	sys   *System
	rules *Checks
	// last is what the runs before left; never nil.
	last *memory
	// boot says which boot this is and how long ago it was.
	boot boot
	now  time.Time
}

// output is what a collector found. Each field is set by one collector at most.
type output struct {
	checks  []record.HealthCheck
	errors  []record.HealthError
	machine *record.HealthMachine
	release *record.HealthRelease
	audit   *record.HealthAudit
	// counters is what the next run compares with, by object.
	counters map[string]remembered
}

// fault adds what could not be looked at. What is simply not there (no DMI on
// this machine) is told as "not present".
func (o *output) fault(collector, field string, err error) {
	text := err.Error()
	if errors.Is(err, fs.ErrNotExist) {
		text = "not present"
	}
	o.errors = append(o.errors, record.HealthError{Collector: collector, Field: field, Error: clean(text)})
}

// Names lists the checks there are.
func Names() []string {
	var names []string
	for _, c := range collectors() {
		names = append(names, c.name)
	}
	return names
}

func checkNames(names []string) error {
	known := Names()
	for _, n := range names {
		if !slices.Contains(known, n) {
			return fmt.Errorf("unknown check %q, want one of %s", n, strings.Join(known, ", "))
		}
	}
	return nil
}

// Check tells what is wrong with o; the errors are of kind failure.Usage.
func (o *Options) Check() error {
	if err := checkNames(o.Only); err != nil {
		return failure.Errorf(failure.Usage, "reading --only: %w", err)
	}
	if err := checkNames(o.Skip); err != nil {
		return failure.Errorf(failure.Usage, "reading --skip: %w", err)
	}
	if err := checkClasses(o.Redact); err != nil {
		return failure.Errorf(failure.Usage, "reading --redact: %w", err)
	}
	return failure.As(failure.Usage, o.Config.Validate())
}

// choose is the collectors that o asks for.
func (o *Options) choose() []collector {
	return slices.DeleteFunc(collectors(), func(c collector) bool {
		return len(o.Only) > 0 && !slices.Contains(o.Only, c.name) ||
			slices.Contains(o.Skip, c.name) || slices.Contains(o.Config.Disable, c.name)
	})
}

// Run makes a report. It returns within the timeout, whatever the machine does.
// Errors are wrong options, and ctx being cancelled.
func Run(ctx context.Context, sys *System, o Options) (*record.Health, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	return run(ctx, sys, o.choose(), o)
}

// run makes the checks of the collectors chosen. They get four fifths of the
// time; what is read before and written after them gets a tenth each.
func run(ctx context.Context, sys *System, chosen []collector, o Options) (*record.Health, error) {
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	began, tenth := sys.Now(), o.Timeout/10
	h := &record.Health{
		Schema: record.HealthSchema, ID: newID(sys), Time: sys.Now().UTC().Truncate(time.Second),
		Relkit:  record.HealthRelkit{Version: sys.Version},
		Machine: record.HealthMachine{MACs: []string{}}, Release: emptyRelease(),
		Checks: []record.HealthCheck{}, Errors: []record.HealthError{}, Redacted: []string{},
	}
	in := begin(ctx, tenth, sys, &o.Config.Check, h)
	for i, a := range collect(ctx, o.Timeout*8/10, chosen, in) {
		add(h, in, chosen[i].name, a, &o.Config)
	}
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	in.finish(ctx, tenth/2, h)
	for _, c := range h.Checks {
		h.Counts.Add(c.Status)
	}
	h.Status = rollUp(h.Counts, record.HealthStatus(o.Config.UnknownIs))
	if len(o.Redact) > 0 {
		// Without an id the values are hidden all the same.
		id, _ := within(ctx, tenth/2, func(context.Context) (identity.ID, error) { return readID(sys.Tree) })
		redact(h, id, o.Redact)
	}
	h.DurationSeconds = round(sys.Now().Sub(began).Seconds())
	return h, nil
}

// begin reads what collectors start from: the boot and the runs before.
func begin(ctx context.Context, limit time.Duration, sys *System, rules *Checks, h *record.Health) *input {
	in := &input{sys: sys, rules: rules, last: new(memory), now: h.Time}
	b, err := within(ctx, limit/2, func(context.Context) (boot, error) { return readBoot(sys.Kernel) })
	if err != nil {
		h.Errors = append(h.Errors, record.HealthError{Collector: "boot", Field: "uptime_seconds", Error: clean(err.Error())})
	} else {
		in.boot = b
		h.UptimeSeconds = ptr(round(b.uptime))
	}
	last, err := within(ctx, limit/2, func(context.Context) (*memory, error) { return readMemory(sys) })
	if err != nil {
		h.Errors = append(h.Errors, record.HealthError{Collector: "state", Error: clean(err.Error())})
	}
	if last != nil {
		in.last = last
	}
	h.IntervalSeconds = in.last.since(in.boot, h.Time)
	return in
}

// finish leaves what the next run compares with.
func (in *input) finish(ctx context.Context, limit time.Duration, h *record.Health) {
	next := in.last.next(in.boot, h.Time)
	_, err := within(ctx, limit, func(context.Context) (struct{}, error) { return struct{}{}, next.write(in.sys) })
	if err != nil {
		h.Errors = append(h.Errors, record.HealthError{Collector: "state", Field: "seq", Error: clean(err.Error())})
		return
	}
	h.Seq = &next.Seq
}

// answer is what became of a collector.
type answer struct {
	out *output
	err error
}

// collect runs the collectors side by side and waits for each, to its deadline.
func collect(ctx context.Context, limit time.Duration, chosen []collector, in *input) []answer {
	answers := make([]answer, len(chosen))
	var wait sync.WaitGroup
	for i, c := range chosen {
		wait.Go(func() {
			out, err := within(ctx, min(c.deadline, limit), func(ctx context.Context) (*output, error) { return c.collect(ctx, in) })
			answers[i] = answer{out, err}
		})
	}
	wait.Wait()
	return answers
}

// within calls f and waits for its answer for at most limit. The context of f
// ends a little sooner, so that an f that heeds it can answer with what it has.
// An f that does not return is left behind: a system call that hangs cannot be
// called off. What it would answer later is dropped. A panic is an error: one odd
// file must not cost the report.
func within[T any](ctx context.Context, limit time.Duration, f func(context.Context) (T, error)) (T, error) {
	type result struct {
		v   T
		err error
	}
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	soft, cancelSoft := context.WithTimeout(ctx, limit*9/10)
	defer cancelSoft()
	done := make(chan result, 1)
	go func() {
		var r result
		defer func() {
			if p := recover(); p != nil {
				r.err = fmt.Errorf("internal error: %v", p)
			}
			done <- r
		}()
		r.v, r.err = f(soft)
	}()
	var none T
	select {
	case r := <-done:
		return r.v, r.err
	case <-limited.Done():
	}
	if ctx.Err() != nil {
		return none, context.Cause(ctx)
	}
	return none, fmt.Errorf("no answer within %v", limit)
}

// add puts what a collector found into the report.
func add(h *record.Health, in *input, name string, a answer, config *Config) {
	if a.err != nil {
		h.Errors = append(h.Errors, record.HealthError{Collector: name, Error: clean(a.err.Error())})
		a.out = &output{checks: []record.HealthCheck{{
			Name: name, Status: record.HealthUnknown, Summary: clean(a.err.Error()), Values: map[string]any{},
		}}}
	}
	if config.required(name) {
		for i := range a.out.checks {
			if c := &a.out.checks[i]; c.Status == record.HealthUnknown {
				c.Status = record.HealthCrit
			}
		}
	}
	h.Checks = append(h.Checks, a.out.checks...)
	h.Errors = append(h.Errors, a.out.errors...)
	if a.out.machine != nil {
		h.Machine = *a.out.machine
	}
	if a.out.release != nil {
		h.Release = *a.out.release
	}
	if a.out.audit != nil {
		h.Audit = *a.out.audit
	}
	if a.out.counters != nil {
		in.last.remember(name, a.out.counters)
	}
}

// rollUp is the worst answer there was, unknown counting as unknownIs says.
func rollUp(n record.HealthCounts, unknownIs record.HealthStatus) record.HealthStatus {
	if unknownIs == "" {
		unknownIs = record.HealthUnknown
	}
	s := record.HealthOK
	if n.Unknown > 0 {
		s = s.Worse(unknownIs)
	}
	if n.Warn > 0 {
		s = s.Worse(record.HealthWarn)
	}
	if n.Crit > 0 {
		s = s.Worse(record.HealthCrit)
	}
	return s
}

// newID is a new report id; without randomness it is made of the time alone.
func newID(sys *System) string {
	var random [10]byte
	_, _ = io.ReadFull(sys.Random, random[:])
	return identity.NewV7(sys.Now().UnixMilli(), random).UUID()
}

// round keeps six decimals: what is measured is no finer.
func round(v float64) float64 { return math.Round(v*1e6) / 1e6 }

func ptr[T any](v T) *T { return &v }
