// Command testlog turns the events of `go test -json` into what a person wants
// to read: a line a package, the whole output of what failed, a count. With
// -slowest N it prints the N slowest tests instead. It exits 1 if a test failed.
package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

func main() {
	slowest := flag.Int("slowest", 0, "print the `N` slowest tests instead")
	flag.Parse()
	l := newLog()
	if err := l.read(os.Stdin, os.Stdout, *slowest == 0); err != nil {
		fmt.Fprintf(os.Stderr, "testlog: %v\n", err)
		os.Exit(1)
	}
	if *slowest > 0 {
		l.printSlowest(os.Stdout, *slowest)
		return
	}
	l.printSummary(os.Stdout)
	if l.failed() {
		os.Exit(1)
	}
}

// event is a line of `go test -json` (go doc test2json).
type event struct {
	Action  string
	Package string
	Test    string
	Elapsed float64 // seconds
	Output  string
	// ImportPath stands in for Package in the lines about building.
	ImportPath string
}

type test struct {
	pkg, name string
	seconds   float64
}

type log struct {
	output  map[string][]string // by package and test: what has been printed so far
	tests   []test              // those that ended
	count   map[string]int      // tests by action: pass, fail, skip
	badPkgs int
}

func newLog() *log {
	return &log{output: map[string][]string{}, count: map[string]int{}}
}

func (l *log) failed() bool { return l.count["fail"] > 0 || l.badPkgs > 0 }

// read takes the events in, and when told to, prints as it goes.
func (l *log) read(r io.Reader, w io.Writer, print bool) error {
	in := bufio.NewReader(r)
	for {
		line, err := in.ReadString('\n')
		if line != "" {
			l.line(line, w, print)
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading events: %w", err)
		}
	}
}

func (l *log) line(line string, w io.Writer, print bool) {
	var e event
	if json.Unmarshal([]byte(line), &e) != nil {
		if print {
			fmt.Fprint(w, line) // not an event: the go command speaks for itself
		}
		return
	}
	key := e.Package + "\x00" + e.Test
	switch e.Action {
	case "output":
		l.output[key] = append(l.output[key], e.Output)
		if e.Test == "" && print && isSummary(e.Output) {
			fmt.Fprint(w, e.Output)
		}
	case "build-output":
		if print {
			fmt.Fprint(w, e.Output)
		}
	case "pass", "fail", "skip":
		l.end(e, key, w, print)
	}
}

// end takes in that a test or, with no name, a package is done.
func (l *log) end(e event, key string, w io.Writer, print bool) {
	if e.Test == "" {
		if e.Action == "fail" {
			l.badPkgs++
			if print {
				fmt.Fprint(w, strings.Join(slices.DeleteFunc(l.output[key], isSummary), ""))
			}
		}
		delete(l.output, key)
		return
	}
	l.count[e.Action]++
	l.tests = append(l.tests, test{e.Package, e.Test, e.Elapsed})
	if e.Action != "pass" && print {
		fmt.Fprint(w, strings.Join(l.output[key], ""))
	}
	delete(l.output, key)
}

// isSummary recognises the line that go test without -json ends a package with.
func isSummary(s string) bool {
	return strings.HasPrefix(s, "ok  \t") || strings.HasPrefix(s, "FAIL\t") || strings.HasPrefix(s, "?   \t")
}

func (l *log) printSummary(w io.Writer) {
	fmt.Fprintf(w, "%d passed, %d failed, %d skipped", l.count["pass"], l.count["fail"], l.count["skip"])
	if l.badPkgs > 0 {
		fmt.Fprintf(w, ", in all %d packages failed", l.badPkgs)
	}
	fmt.Fprintln(w)
}

// printSlowest leaves out a test whose subtests are listed on their own, or the
// same seconds would be told twice.
func (l *log) printSlowest(w io.Writer, n int) {
	parents := map[string]bool{}
	for _, t := range l.tests {
		for i, c := range t.name {
			if c == '/' {
				parents[t.pkg+"\x00"+t.name[:i]] = true
			}
		}
	}
	tests := slices.DeleteFunc(slices.Clone(l.tests), func(t test) bool { return parents[t.pkg+"\x00"+t.name] })
	slices.SortStableFunc(tests, func(a, b test) int { return cmp.Compare(b.seconds, a.seconds) })
	for _, t := range tests[:min(n, len(tests))] {
		fmt.Fprintf(w, "%8.2f s  %s %s\n", t.seconds, strings.TrimPrefix(t.pkg, "github.com/relkit/relkit/"), t.name)
	}
}
