package testresult

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/relkit/relkit/pkg/relkittest"
)

// events writes go test -json out of short lines: ACTION PACKAGE TEST TEXT.
func events(lines ...string) string {
	var b strings.Builder
	for _, l := range lines {
		f := append(strings.SplitN(l, " ", 4), "", "", "", "")
		switch f[0] {
		case "text":
			fmt.Fprintln(&b, strings.TrimPrefix(l, "text "))
		case "build-output":
			fmt.Fprintf(&b, "{\"ImportPath\":%q,\"Action\":%q,\"Output\":%q}\n", f[1], f[0], f[3]+"\n")
		case "build-failed":
			fmt.Fprintf(&b, "{\"Action\":\"fail\",\"Package\":%q,\"FailedBuild\":%q}\n", f[1], f[2])
		case "output":
			fmt.Fprintf(&b, "{\"Action\":\"output\",\"Package\":%q,\"Test\":%q,\"Output\":%q}\n", f[1], f[2], f[3]+"\n")
		default:
			fmt.Fprintf(&b, "{\"Time\":\"2026-11-22T19:07:34.3Z\",\"Action\":%q,\"Package\":%q,\"Test\":%q,\"Elapsed\":0.5,\"New\":{}}\n", f[0], f[1], f[2])
		}
	}
	return b.String()
}

func TestGoTest(t *testing.T) {
	for name, c := range map[string]struct {
		in   []string
		want string
	}{
		"each end": {[]string{"text go: downloading x", "start p", "run p A", "output p A === RUN   A", "output p A a word", "output p A --- PASS: A (0.00s)", "pass p A",
			"run p B", "output p B     b_test.go:3: want 1", "output p B more", "fail p B", "run p C", "output p C     b_test.go:9: no tool", "skip p C", "output p  FAIL", "fail p"},
			"passed p.A\nfailed p.B | want 1\nskipped p.C | no tool\n"},
		"subtests": {[]string{"run p A", "run p A/x", "run p A/y", "output p A/y bad", "fail p A/y", "pass p A/x", "fail p A", "fail p"},
			"failed p.A/y | bad\npassed p.A/x\nfailed p.A | a subtest failed\n"},
		"no build":       {[]string{"build-output q  # q", "build-output q  q.go:3:1: undefined: x", "build-fail q", "start p", "build-failed p q"}, "error p.(build) | q.go:3:1: undefined: x\n"},
		"old go":         {[]string{"output p  FAIL\tp [build failed]", "fail p"}, "error p.(build)\n"},
		"panic":          {[]string{"run p A", "pass p A", "run p B", "output p B panic: boom", "output p B goroutine 1:", "fail p"}, "passed p.A\nerror p.B | panic: boom\n"},
		"timeout":        {[]string{"run p A", "run p A/x", "output p A/x panic: test timed out after 2s", "fail p"}, "error p.A/x | panic: test timed out after 2s\nerror p.A | the package ended before it did\n"},
		"outside":        {[]string{"run p A", "pass p A", "output p  PASS", "output p  main says", "fail p"}, "passed p.A\nfailed p.(package) | main says\n"},
		"cut short":      {[]string{"start p", "run p A", "start q", "output q  x"}, "error p.A | the output ends before it does\nerror q.(package) | the output ends before it does\n"},
		"benchmark":      {[]string{"run p BenchmarkA", "output p BenchmarkA 1 3 ns/op", "run p B", "fail p B", "fail p"}, "failed p.B\n"},
		"count":          {[]string{"run p A", "pass p A", "run p A", "output p A bad", "fail p A", "run p A", "pass p A", "fail p"}, "failed p.A | bad\n"},
		"run again":      {[]string{"run p A", "output p A bad", "fail p A", "run p B", "pass p B", "fail p", "start p", "run p A", "pass p A", "pass p"}, "flaky passed p.A | bad\npassed p.B\n"},
		"again bad":      {[]string{"run p A", "output p A bad", "fail p A", "fail p", "start p", "run p A", "output p A worse", "fail p A", "fail p"}, "failed p.A | worse\n"},
		"again, outside": {[]string{"output p  exit status 1", "output p  lost", "fail p", "start p", "pass p"}, "flaky passed p.(package) | lost\n"},
		"late words":     {[]string{"run p A", "pass p A", "output p A late", "pass p"}, "passed p.A\n"},
		"mixed":          {[]string{"run p A", "run q A", "output p A p's", "output q A q's", "fail q A", "pass p A", "fail q", "pass p"}, "failed q.A | q's\npassed p.A\n"},
	} {
		cases, err := ReadGoTest(strings.NewReader(events(c.in...)))
		if err != nil || briefs(cases) != c.want {
			t.Errorf("%s: %v, got\n%swant\n%s", name, err, briefs(cases), c.want)
		}
	}
}

func TestGoTestOfNothing(t *testing.T) {
	for _, in := range []string{"", "ok  \tp\t0.01s\n", "{}\n{\"Action\":1}\n{\"a\":\n"} {
		if cases, err := ReadGoTest(strings.NewReader(in)); !errors.Is(err, ErrNone) || cases != nil {
			t.Errorf("%q: %v, %v", in, cases, err)
		}
	}
}

// TestGoTestOfRealGo reads what go 1.26 wrote of packages that do not build, do
// not pass vet, panic, take too long and end themselves.
func TestGoTestOfRealGo(t *testing.T) {
	f, err := os.Open("testdata/go-1.26.json")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cases, err := ReadGoTest(f)
	want := `error example.com/g/a.(build) | a/a_test.go:6:1: ExampleX refers to unknown identifier: X
error example.com/g/b.(build) | b/b_test.go:3:28: undefined: undefined
passed example.com/g/c.TestFine
failed example.com/g/c.TestPanic | panic: assignment to entry in nil map [recovered, repanicked]
error example.com/g/d.TestSlow/inner | panic: test timed out after 2s
error example.com/g/d.TestSlow | the package ended before it did
passed example.com/g/e.TestOne
failed example.com/g/e.(package) | main says
`
	if err != nil || briefs(cases) != want {
		t.Errorf("%v, got\n%swant\n%s", err, briefs(cases), want)
	}
	if d := cases[3].Detail; !strings.Contains(d, "c_test.go:4 +0x28") || strings.Contains(d, "=== RUN") {
		t.Errorf("detail %q", d)
	}
}

func TestHugeGoTestTakesLittleMemory(t *testing.T) {
	line := events("output p A " + strings.Repeat("word ", 2000))
	before := relkittest.Heap()
	most := int64(0)
	n := 0
	in := repeat(events("run p A"), line, 3000, events("fail p A", "fail p"))
	cases, err := ReadGoTest(readerFunc(func(p []byte) (int, error) {
		if n++; n%1000 == 0 {
			most = max(most, relkittest.Heap()-before)
		}
		return in.Read(p)
	}))
	if err != nil || len(cases) != 1 || len(cases[0].Detail) > MaxDetail || most > 1<<20 {
		t.Errorf("%v, %d cases, %d bytes held", err, len(cases), most)
	}
}

func FuzzReadGoTest(f *testing.F) {
	f.Add([]byte(events("start p", "run p A", "run p A/x", "output p A/x     a_test.go:1: b", "fail p A/x", "fail p A", "fail p", "start p", "pass p A", "pass p")))
	f.Add([]byte(events("build-output p  x.go:1:1: y", "build-failed p p", "text z", "output q A panic: b", "skip q B")))
	f.Fuzz(func(t *testing.T, in []byte) {
		var cases []Case
		var err error
		relkittest.Allocates(t, 2<<20+2048*uint64(len(in)), func() { cases, err = ReadGoTest(strings.NewReader(string(in))) })
		checkCases(t, cases, err)
	})
}
