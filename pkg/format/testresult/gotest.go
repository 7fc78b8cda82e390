package testresult

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// maxGoLine is the longest event that is read, in bytes; test2json splits
// longer output.
const maxGoLine = 1 << 20

// maxGoBuilds is of how many packages what the compiler says is kept.
const maxGoBuilds = 10_000

// maxPending bounds what tests that have not ended have written, together.
const maxPending = 64 << 20

// ReadGoTest reads the events of go test -json, as `go doc test2json` has them.
// Lines that are none are the go command's own words and passed over. A package
// that does not build is the case "(build)", one that fails outside of its
// tests "(package)"; a test that never ended, as in a panic or a timeout of
// another, is an error. A package that is run again replaces what it said
// before: a test that fails first and passes then is flaky.
func ReadGoTest(r io.Reader) ([]Case, error) {
	g := &goTests{builds: map[string]*clip{}, packages: map[string]*goPackage{}}
	l := newLines(r, maxGoLine)
	var err error
	for err == nil {
		var line []byte
		var whole bool
		if line, whole, err = l.next(); err == nil && whole {
			err = g.line(line)
		}
	}
	if errors.Is(err, io.EOF) {
		err = g.finish()
	}
	if err == nil && len(g.order) == 0 {
		err = ErrNone
	}
	if err != nil {
		return nil, fmt.Errorf("reading go test -json: %w", err)
	}
	return g.cases, nil
}

// goEvent is what relkit reads of an event. New versions of Go add fields, so
// unknown ones are passed over.
type goEvent struct {
	Action, Package, ImportPath, Test, Output, FailedBuild string
	// Elapsed is in seconds.
	Elapsed float64
}

// goTests is a reader's state.
type goTests struct {
	keeper
	// builds is what the compiler said, by import path.
	builds   map[string]*clip
	packages map[string]*goPackage
	order    []string // the packages as they came
	pending  int      // bytes in all clips
}

type goPackage struct {
	name  string
	run   int // counts how often it was run
	begun int // counts its tests
	ended bool
	out   clip
	// bad is whether a test of this run failed.
	bad bool
	// open are the tests that have not ended; done maps a test to its case and to
	// the run that it is of.
	open map[string]*goTest
	done map[string]goDone
}

type goTest struct {
	name  string
	begun int // tests of the package that began before it
	out   clip
	// badChild is a subtest that failed.
	badChild bool
}

type goDone struct{ index, run int }

func (g *goTests) line(line []byte) error {
	var e goEvent
	if len(line) == 0 || line[0] != '{' || json.Unmarshal(line, &e) != nil || e.Action == "" {
		return nil
	}
	switch e.Action {
	case "build-output":
		b := g.builds[e.ImportPath]
		if b == nil && len(g.builds) < maxGoBuilds && len(e.ImportPath) <= MaxName {
			b = &clip{}
			g.builds[e.ImportPath] = b
		}
		if b != nil {
			g.write(b, e.Output)
		}
		return nil
	case "build-fail":
		return nil
	}
	if e.Package == "" {
		return nil
	}
	p := g.begin(label(e.Package), e.Action)
	e.Test = label(e.Test)
	switch {
	case e.Action == "output" && e.Test == "":
		g.write(&p.out, e.Output)
	case e.Action == "output":
		if t := p.test(e.Test, false); t != nil && !goNoise.MatchString(e.Output) {
			g.write(&t.out, e.Output)
		}
	case e.Test != "" && e.Action == "run":
		p.test(e.Test, true)
	}
	status, ends := goStatus[e.Action]
	switch {
	case !ends:
		return nil
	case e.Test == "":
		return g.endPackage(p, status, e)
	}
	t := p.test(e.Test, true)
	delete(p.open, t.name)
	g.pending -= t.out.size()
	return g.end(p, t, status, goSeconds(e.Elapsed), "")
}

// begin is the package of an event. Its first one after an end begins another run.
func (g *goTests) begin(name, action string) *goPackage {
	p := g.packages[name]
	if p == nil {
		p = &goPackage{name: name, run: 1, open: map[string]*goTest{}, done: map[string]goDone{}}
		g.packages[name] = p
		g.order = append(g.order, name)
	}
	if p.ended {
		p.run++
		p.begun, p.ended, p.bad = 0, false, false
	}
	return p
}

// write adds output to a clip, unless too much is held already.
func (g *goTests) write(c *clip, text string) {
	if g.pending+len(text) > maxPending {
		return
	}
	g.pending -= c.size()
	c.write([]byte(text))
	g.pending += c.size()
}

// test is a test that runs; begun tells whether it is said to begin now. What
// one says after its end is nobody's.
func (p *goPackage) test(name string, begins bool) *goTest {
	t := p.open[name]
	if d, done := p.done[name]; t == nil && (begins || !done || d.run != p.run) {
		t = &goTest{name: name, begun: p.begun}
		p.begun++
		p.open[name] = t
	}
	return t
}
