package testresult

import (
	"regexp"
	"slices"
	"strings"
	"time"
)

var goStatus = map[string]Status{"pass": Passed, "fail": Failed, "skip": Skipped}

var (
	// goNoise is what go test says about tests, as opposed to what they say.
	goNoise = regexp.MustCompile(`^\s*(=== (RUN|PAUSE|CONT|NAME|ATTR) |--- (PASS|FAIL|SKIP): )`)
	// goComplaint is a line of t.Error and its kin.
	goComplaint = regexp.MustCompile(`(?m)^\s*[^\s:]+\.go:\d+: (.*)`)
	goPanic     = regexp.MustCompile(`(?m)^\s*(panic: .*|fatal error: .*)`)
	goVerdict   = regexp.MustCompile(`^(FAIL|PASS|ok|exit status)\b`)
)

// goSeconds takes what a hostile stream may hold, too.
func goSeconds(f float64) time.Duration {
	return time.Duration(min(max(f, 0), 1e9) * float64(time.Second))
}

// goMessage is the line of a text that says what went wrong.
func goMessage(text string) string {
	for _, pattern := range []*regexp.Regexp{goPanic, goComplaint} {
		if m := pattern.FindStringSubmatch(text); m != nil && strings.TrimSpace(m[1]) != "" {
			return label(m[1])
		}
	}
	for line := range strings.SplitSeq(text, "\n") {
		if line = strings.TrimSpace(line); line != "" && !goVerdict.MatchString(line) && !strings.HasPrefix(line, "# ") {
			return label(line)
		}
	}
	return ""
}

// end is the end of a test.
func (g *goTests) end(p *goPackage, t *goTest, s Status, took time.Duration, message string) error {
	c := Case{Class: p.name, Name: t.name, Status: s, Duration: took}
	detail := ""
	if s != Passed {
		detail = t.out.String()
		if m := goMessage(detail); m != "" {
			message = m
		}
	}
	if s.Bad() {
		p.bad = true
		if i := strings.LastIndexByte(t.name, '/'); i > 0 && p.open[t.name[:i]] != nil {
			p.open[t.name[:i]].badChild = true
		}
		if message == "" && t.badChild {
			message = "a subtest failed"
		}
	}
	return g.result(p, c, message, detail)
}

// result notes how a test ended. Of one that ran several times in one run of
// its package (go test -count) the worst counts, of several runs the last.
func (g *goTests) result(p *goPackage, c Case, message, detail string) error {
	d, again := p.done[c.Name]
	if !again {
		p.done[c.Name] = goDone{len(g.cases), p.run}
		c.Message, c.Detail = message, detail
		return g.add(c)
	}
	old := &g.cases[d.index]
	switch {
	case d.run == p.run && rank(c.Status) <= rank(old.Status), c.Status == Skipped:
		old.Duration = max(old.Duration, c.Duration)
		return nil
	case d.run != p.run && c.Status == Passed:
		// What it said when it failed is still why it is flaky.
		old.Flaky = old.Flaky || old.Status.Bad()
		old.Status, old.Duration = Passed, c.Duration
	default:
		old.Status, old.Duration, old.Flaky = c.Status, c.Duration, false
		g.explain(old, message, detail)
	}
	p.done[c.Name] = goDone{d.index, p.run}
	return nil
}

// The names of what is not one test's.
const (
	goBuild = "(build)"
	goOuter = "(package)"
)

func (g *goTests) endPackage(p *goPackage, s Status, e goEvent) error {
	out := p.out.String()
	if s == Failed {
		message := goMessage(goPanic.FindString(out))
		if message == "" {
			message = "the package ended before it did"
		}
		if err := g.abandon(p, message); err != nil {
			return err
		}
	}
	var err error
	took := goSeconds(e.Elapsed)
	built := e.FailedBuild == "" && !strings.Contains(out, " [build failed]") && !strings.Contains(out, " [setup failed]")
	switch {
	case s == Passed:
		for _, name := range []string{goBuild, goOuter} {
			if _, was := p.done[name]; was && err == nil {
				err = g.result(p, Case{Class: p.name, Name: name, Status: Passed, Duration: took}, "", "")
			}
		}
	case s == Failed && !built:
		if b := g.builds[e.FailedBuild]; b != nil {
			out = b.String()
		}
		err = g.result(p, Case{Class: p.name, Name: goBuild, Status: Errored, Duration: took}, goMessage(out), out)
	case s == Failed && !p.bad:
		err = g.result(p, Case{Class: p.name, Name: goOuter, Status: Failed, Duration: took}, goMessage(out), out)
	}
	g.leave(p)
	return err
}

// abandon ends the tests that never came to an end themselves, inner ones first.
func (g *goTests) abandon(p *goPackage, message string) error {
	var open []*goTest
	for _, t := range p.open {
		// A benchmark has no end: it is there for what it prints.
		if !strings.HasPrefix(t.name, "Benchmark") || goPanic.MatchString(t.out.String()) {
			open = append(open, t)
		}
	}
	slices.SortFunc(open, func(a, b *goTest) int { return b.begun - a.begun })
	for _, t := range open {
		if err := g.end(p, t, Errored, 0, message); err != nil {
			return err
		}
	}
	return nil
}

// leave forgets what is of no use after a run of a package.
func (g *goTests) leave(p *goPackage) {
	g.pending -= p.out.size()
	for _, t := range p.open {
		g.pending -= t.out.size()
	}
	clear(p.open)
	p.out, p.ended = clip{}, true
}

// finish ends the packages that the stream has no end of.
func (g *goTests) finish() error {
	for _, name := range g.order {
		p := g.packages[name]
		if p.ended {
			continue
		}
		const message = "the output ends before it does"
		if err := g.abandon(p, message); err != nil {
			return err
		}
		if out := p.out.String(); !p.bad {
			if err := g.result(p, Case{Class: p.name, Name: goOuter, Status: Errored}, message, out); err != nil {
				return err
			}
		}
		g.leave(p)
	}
	return nil
}
