package build

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/relkit/relkit/pkg/build/source"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/format/record"
)

// needsDir is the folder of what needs hand over, in a builder's work folder.
const needsDir = ".needs"

// need is a builder that a cell needs: the cells of it that agree with the cell
// in the axes that both have.
type need struct {
	builder string
	cells   []Cell
	builds  []*record.Build // of the cells, once they are chosen
}

// needs are what a cell needs.
func (p *Project) needs(c *Cell) []need {
	var list []need
	for _, name := range c.builder.Needs {
		n := need{builder: name}
		for i := range p.cfg.Builders {
			if p.cfg.Builders[i].Name != name {
				continue
			}
			for _, other := range p.expand(i) {
				if agree(c.Axes, other.Axes) {
					n.cells = append(n.cells, other)
				}
			}
		}
		list = append(list, n)
	}
	return list
}

func agree(a, b map[string]string) bool {
	for axis, v := range a {
		if w, both := b[axis]; both && v != w {
			return false
		}
	}
	return true
}

// chooseNeeds finds the builds whose artifacts a cell is given: of this run where
// it built them, else the last good ones. A try build is given the try builds of
// its own run: both have the diff; what is no try build is never given one.
func (r *runner) chooseNeeds(c *Cell) ([]need, error) {
	list := r.p.needs(c)
	for i := range list {
		n := &list[i]
		if len(n.cells) == 0 {
			return nil, r.p.cfg.ErrorAt([]any{"builder", c.index, "needs"}, "builder.needs: no cell of builder %q agrees with %s", n.builder, c.Name)
		}
		for _, cell := range n.cells {
			b, err := r.neededOf(cell.Name)
			if errors.Is(err, fs.ErrNotExist) {
				err = failure.Errorf(failure.Refused, "it needs %s, of which there is no good build", cell.Name)
				err = failure.WithHint(err, "relkit build%s %s%s", r.lacking(c), failure.Word(c.Name), r.p.given)
			}
			if err != nil {
				return nil, err
			}
			n.builds = append(n.builds, b)
		}
	}
	return list, nil
}

// lacking are the cells without a good build that have to be built before a cell,
// those that they need themselves included: words for a shell.
func (r *runner) lacking(c *Cell) string {
	words := ""
	seen := map[string]bool{c.Name: true}
	var walk func(*Cell)
	walk = func(c *Cell) {
		for _, n := range r.p.needs(c) {
			for i := range n.cells {
				cell := &n.cells[i]
				if _, err := r.neededOf(cell.Name); seen[cell.Name] || !errors.Is(err, fs.ErrNotExist) {
					continue
				}
				seen[cell.Name] = true
				walk(cell)
				words += " " + failure.Word(cell.Name)
			}
		}
	}
	walk(c)
	return words
}

func (r *runner) neededOf(cell string) (*record.Build, error) {
	r.mu.Lock()
	b := r.tried[cell]
	r.mu.Unlock()
	if b != nil {
		return b, nil
	}
	return r.p.state.lastGood(cell)
}

// lastGood is the newest build of a cell that succeeded; fs.ErrNotExist where
// there is none.
func (s state) lastGood(name string) (*record.Build, error) {
	text, err := os.Readlink(filepath.Join(s.builder(name), goodLink))
	if err != nil {
		return nil, err
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return nil, fmt.Errorf("reading the link %s: %w", filepath.Join(s.builder(name), goodLink), err)
	}
	return s.load(name, n)
}

// needRecords are needs as a build's record has them.
func needRecords(list []need) []record.BuildNeed {
	var out []record.BuildNeed
	for _, n := range list {
		for _, b := range n.builds {
			out = append(out, record.BuildNeed{Builder: b.Builder, Number: b.Number, Artifacts: b.Artifacts})
		}
	}
	return out
}

// needsChanged tells whether a cell would be given something else than its
// previous build was.
func (r *runner) needsChanged(c *Cell, was *record.Build) (bool, error) {
	if len(c.builder.Needs) == 0 || c.order != nil && len(c.order.sources) > 0 {
		return false, nil
	}
	list, err := r.chooseNeeds(c)
	if err != nil || was == nil {
		return was == nil, err
	}
	return !slices.EqualFunc(needRecords(list), was.Needs, func(a, b record.BuildNeed) bool {
		return a.Builder == b.Builder && slices.Equal(a.Artifacts, b.Artifacts)
	}), nil
}

// handOver puts the artifacts of what the build needs beside its work trees, and
// names the folders in the environment.
func (j *job) handOver(ctx context.Context) (env map[string]string, err error) {
	root := path.Join(j.work, needsDir)
	if err := j.on.Remove(ctx, root); err != nil {
		return nil, err
	}
	env = map[string]string{}
	for _, n := range j.needs {
		dir := path.Join(root, n.builder)
		env["RELKIT_NEEDS_"+envWord(n.builder)] = dir
		for i, b := range n.builds {
			to := dir
			if len(n.cells) > 1 {
				to = path.Join(dir, axesName(n.cells[i].Axes))
			}
			if err := j.handOverBuild(ctx, b, to); err != nil {
				return nil, fmt.Errorf("handing over %s/%d: %w", b.Builder, b.Number, err)
			}
		}
	}
	return env, nil
}

// axesName is a folder's name for a cell: "cc-gcc+os-el9".
func axesName(axes map[string]string) string {
	var parts []string
	for _, axis := range slices.Sorted(maps.Keys(axes)) {
		parts = append(parts, axis+"-"+axes[axis])
	}
	return strings.Join(parts, "+")
}

func (j *job) handOverBuild(ctx context.Context, b *record.Build, to string) error {
	if err := j.on.Mkdir(ctx, to); err != nil || len(b.Artifacts) == 0 {
		return err
	}
	from := j.r.p.state.build(b.Builder, b.Number)
	return source.PutTree(ctx, j.on, j.r.toolEnv(j.on), to, func(w *tar.Writer) error {
		for _, a := range b.Artifacts {
			if err := packArtifact(w, from, a); err != nil {
				return err
			}
		}
		return nil
	})
}

// packArtifact writes an artifact, which must be what the record says.
func packArtifact(w *tar.Writer, from string, a record.BuildArtifact) error {
	full, err := manifest.Unescape(a.Path)
	if err != nil {
		return err
	}
	name := strings.TrimPrefix(full, artifactsDir+"/")
	if a.Target != "" {
		target, err := manifest.Unescape(a.Target)
		if err != nil {
			return err
		}
		return w.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: "./" + name, Linkname: target, Mode: 0o777, Format: tar.FormatPAX})
	}
	mode, err := strconv.ParseUint(a.Mode, 8, 12)
	if err != nil {
		return fmt.Errorf("artifact %q: bad mode %q", a.Path, a.Mode)
	}
	in, err := os.OpenInRoot(from, full)
	if err != nil {
		return fmt.Errorf("artifact %q: %w", a.Path, err)
	}
	return errors.Join(source.PackFile(w, name, in, a.Digest.Hex(), fs.FileMode(mode)), in.Close())
}
