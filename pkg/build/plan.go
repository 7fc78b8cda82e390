package build

import (
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"

	"github.com/relkit/relkit/pkg/config"
	"github.com/relkit/relkit/pkg/failure"
)

// Cell is one thing to build: a builder, or one cell of its matrix.
type Cell struct {
	// Name is the builder's, "fw", or a cell's, "fw[cc=gcc,os=el9]", with the
	// axes in order of their names.
	Name string
	Axes map[string]string
	// Worker is where it is built, Slots how many things its steps may do at a time.
	Worker config.Worker
	Slots  int
	// Revisions is what would be built of each source, where that was asked for.
	Revisions map[string]string

	builder *config.Builder
	index   int // of the builder in relkit.toml
	watch   func(Stage)
	order   *order // of a schedule; nil where a person asks
	// spare are the other workers that would do, should Worker be lost.
	spare []config.Worker
	// share is how many slots it has on each of them, slot the one that it holds.
	share map[string]int
	slot  *heldSlot
}

// Sources lists the builder's sources.
func (c *Cell) Sources() []string { return c.builder.Sources }

// Steps lists the names of the builder's steps.
func (c *Cell) Steps() []string {
	var names []string
	for _, s := range c.builder.Steps {
		names = append(names, s.Name)
	}
	return names
}

// Plan finds the cells that operands name; all where there are none. What it
// answers can be built by this version of relkit.
func (p *Project) Plan(operands []string) ([]Cell, error) {
	var cells []Cell
	for i := range p.cfg.Builders {
		cells = append(cells, p.expand(i)...)
	}
	if len(operands) > 0 {
		var err error
		if cells, err = p.pick(cells, operands); err != nil {
			return nil, err
		}
	}
	if len(cells) == 0 {
		return nil, p.cfg.ErrorAt(nil, "no builder")
	}
	for i := range cells {
		if err := p.assign(&cells[i]); err != nil {
			return nil, err
		}
		if err := p.supported(&cells[i]); err != nil {
			return nil, err
		}
	}
	return cells, nil
}

// Check checks all that a run would: substitutions in every cell are an error;
// cells that this version of relkit cannot build are told one by one.
func (p *Project) Check() (unsupported []error, err error) {
	for i := range p.cfg.Builders {
		for _, c := range p.expand(i) {
			if err := p.assign(&c); err != nil {
				return nil, err
			}
			if err := p.checkSubstitutions(&c, nil); err != nil {
				return nil, err
			}
			if err := p.supported(&c); err != nil {
				unsupported = append(unsupported, err)
			}
		}
	}
	return unsupported, nil
}

// expand makes the cells of a builder.
func (p *Project) expand(index int) []Cell {
	b := &p.cfg.Builders[index]
	sets := []map[string]string{{}}
	for _, axis := range slices.Sorted(maps.Keys(b.Matrix)) {
		var next []map[string]string
		for _, set := range sets {
			for _, v := range b.Matrix[axis] {
				more := maps.Clone(set)
				more[axis] = v
				next = append(next, more)
			}
		}
		sets = next
	}
	var cells []Cell
	for _, axes := range sets {
		if !excluded(b.Exclude, axes) {
			cells = append(cells, Cell{Name: cellName(b.Name, axes), Axes: axes, builder: b, index: index})
		}
	}
	return cells
}

func excluded(exclude []map[string]string, axes map[string]string) bool {
	return slices.ContainsFunc(exclude, func(ex map[string]string) bool { return within(ex, axes) })
}

// within tells whether every pair of part is one of axes.
func within(part, axes map[string]string) bool {
	for k, v := range part {
		if axes[k] != v {
			return false
		}
	}
	return true
}

func cellName(builder string, axes map[string]string) string {
	if len(axes) == 0 {
		return builder
	}
	var pairs []string
	for _, axis := range slices.Sorted(maps.Keys(axes)) {
		pairs = append(pairs, axis+"="+axes[axis])
	}
	return builder + "[" + strings.Join(pairs, ",") + "]"
}

// pick keeps the cells that the operands name, in the order of relkit.toml.
func (p *Project) pick(cells []Cell, operands []string) ([]Cell, error) {
	var out []Cell
	chosen := map[string]bool{}
	for _, op := range operands {
		name, axes, err := parseOperand(op)
		if err != nil {
			return nil, err
		}
		builders, o, err := p.named(name)
		if err != nil {
			return nil, err
		}
		hits := 0
		for i, c := range cells {
			if slices.Contains(builders, c.builder.Name) && within(axes, c.Axes) {
				hits++
				chosen[c.Name] = true
				cells[i].order = o
			}
		}
		if hits == 0 {
			return nil, p.unknown(op, name)
		}
	}
	for _, c := range cells {
		if chosen[c.Name] {
			out = append(out, c)
		}
	}
	return out, nil
}

// named lists the builders that an operand's name means: one, or those of a
// schedule, which are then built as it wants them.
func (p *Project) named(name string) (builders []string, o *order, err error) {
	i := slices.IndexFunc(p.cfg.Schedules, func(s config.Schedule) bool { return s.Name == name })
	if i < 0 {
		return []string{name}, nil, nil
	}
	s := &p.cfg.Schedules[i]
	return p.cfg.ScheduleBuilders(s), &order{reason: "asked", schedule: s.Name, clean: s.Clean, repro: s.Repro}, nil
}

// parseOperand reads "BUILDER" or "BUILDER[axis=value,…]"; some axes may be left out.
func parseOperand(op string) (name string, axes map[string]string, err error) {
	name, rest, ok := strings.Cut(op, "[")
	if !ok {
		return op, nil, nil
	}
	rest, ok = strings.CutSuffix(rest, "]")
	axes = map[string]string{}
	for pair := range strings.SplitSeq(rest, ",") {
		axis, value, eq := strings.Cut(pair, "=")
		if !ok || !eq || axis == "" || value == "" {
			return "", nil, failure.Errorf(failure.Usage, "bad operand %q, want BUILDER[axis=value,…]", op)
		}
		axes[axis] = value
	}
	return name, axes, nil
}

func (p *Project) unknown(op, name string) error {
	var names []string
	for _, b := range p.cfg.Builders {
		if b.Name == name {
			return failure.Errorf(failure.Usage, "%q names no cell of the matrix of builder %q", op, name)
		}
		names = append(names, b.Name)
	}
	return failure.Errorf(failure.Usage, "unknown builder %q: the builders are %s", op, strings.Join(names, ", "))
}

// assign chooses the worker: the first local one that the builder's expression
// matches, else the first that it matches.
func (p *Project) assign(c *Cell) error {
	text := c.builder.On
	for axis, v := range c.Axes {
		text = strings.ReplaceAll(text, "{"+axis+"}", v)
	}
	expr, err := config.ParseTags(text)
	if err != nil {
		return p.cfg.ErrorAt([]any{"builder", c.index, "on"}, "builder.on: %v", err)
	}
	var fits []config.Worker
	for _, w := range p.cfg.LocalOrWorkers() {
		if expr.Match(func(word string) bool { return word == w.Name || slices.Contains(w.Tags, word) }) {
			fits = append(fits, p.complete(w))
		}
	}
	if len(fits) == 0 {
		return p.cfg.ErrorAt([]any{"builder", c.index, "on"}, "builder.on: no worker matches %q", text)
	}
	chosen := max(0, slices.IndexFunc(fits, local))
	c.Worker = fits[chosen]
	c.spare = slices.Delete(fits, chosen, chosen+1)
	c.Slots = c.Worker.Slots
	return nil
}

// complete fills in what a worker is by default.
func (p *Project) complete(w config.Worker) config.Worker {
	switch {
	case w.Slots > 0:
	case w.Slurm != nil:
		w.Slots = 1 // a job gets one processor, unless it asks for more
	default:
		w.Slots = runtime.NumCPU()
	}
	if local(w) && w.Dir != "" {
		w.Dir = p.abs(w.Dir)
	}
	return w
}

func local(w config.Worker) bool { return w.SSH == "" && w.OpenSSH == "" && w.Slurm == nil }

// vars are the substitutions for a cell. The values that only a running build
// knows are what b has of them.
func (p *Project) vars(c *Cell, b buildVars) map[string]string {
	vars := map[string]string{
		"project": p.cfg.Project.Name, "builder": c.builder.Name, "slots": fmt.Sprint(c.Slots), "worker": c.Worker.Name,
		"number": fmt.Sprint(b.number), "version": b.version, "count": fmt.Sprint(b.count),
		"rev": b.revision, "shortrev": b.revision[:min(12, len(b.revision))], "branch": b.branch,
	}
	maps.Copy(vars, c.Axes)
	maps.Copy(vars, b.set)
	return vars
}

// buildVars are the values of substitutions that differ from build to build.
type buildVars struct {
	number, count             int
	version, revision, branch string
	set                       map[string]string
}
