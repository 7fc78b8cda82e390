package testresult

import (
	"io"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/relkit/relkit/pkg/relkittest"
)

func parse(t *testing.T, text string) []Case {
	t.Helper()
	cases, err := ReadJUnit(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return cases
}

func TestJUnitOutcomes(t *testing.T) {
	got := parse(t, `<?xml version="1.0" encoding="UTF-8"?>
<!-- a comment --><!DOCTYPE testsuites>
<testsuites name="all" tests="9">
 <properties><property name="x" value="y"/></properties>
 <testsuite name="outer">
  <testcase classname="c.A" name="ok" time="1,234.5"/>
  <testcase classname="c.A" name="bad"><failure message="want 1 &amp; got 2" type="T">at a.c:3
 &lt;trace&gt;</failure><system-out>noise</system-out></testcase>
  <testsuite name="inner">
   <testcase name="broke"><error><![CDATA[boom
second]]></error></testcase>
   <testcase classname="inner" name="left"><skipped message="no tool"/></testcase>
  </testsuite>
  <testcase classname="c.A" name="DISABLED_x" status="notrun" result="suppressed"/>
  <testcase classname="c.A" name="ctest" status="disabled"/>
  <testcase classname="c.A" name="again"><rerunFailure message="second"/><failure message="first"/></testcase>
  <testcase classname="c.A" name="flaky"><flakyFailure message="once"><stackTrace>trace</stackTrace><system-out>no</system-out></flakyFailure><flakyError message="twice"/></testcase>
  <testcase classname="c.A" name="worst"><skipped/><failure message="f"/><error message="e"/></testcase>
  <testcase classname="c.A" name="said"><properties><property name="p"><failure/></property></properties><failure message="one">1</failure><failure message="two">2</failure></testcase>
  <testcase classname="c.A" name="quiet"><system-out>printed</system-out><failure/><system-err>and cried
</system-err></testcase>
  <error message="could not start"/>
 </testsuite>
</testsuites>
`)
	want := []Case{
		{Suite: "outer", Class: "c.A", Name: "ok", Status: Passed, Duration: 1234500 * time.Millisecond},
		{Suite: "outer", Class: "c.A", Name: "bad", Status: Failed, Message: "want 1 & got 2", Detail: "at a.c:3\n <trace>"},
		{Suite: "outer/inner", Name: "broke", Status: Errored, Message: "boom", Detail: "boom\nsecond"},
		{Suite: "outer/inner", Class: "inner", Name: "left", Status: Skipped, Message: "no tool"},
		{Suite: "outer", Class: "c.A", Name: "DISABLED_x", Status: Skipped},
		{Suite: "outer", Class: "c.A", Name: "ctest", Status: Skipped},
		{Suite: "outer", Class: "c.A", Name: "again", Status: Failed, Message: "first"},
		{Suite: "outer", Class: "c.A", Name: "flaky", Status: Passed, Flaky: true, Message: "once", Detail: "trace"},
		{Suite: "outer", Class: "c.A", Name: "worst", Status: Errored, Message: "e"},
		{Suite: "outer", Class: "c.A", Name: "said", Status: Failed, Message: "one", Detail: "1\n2"},
		{Suite: "outer", Class: "c.A", Name: "quiet", Status: Failed, Detail: "printed\nand cried"},
		{Suite: "outer", Name: "(suite)", Status: Errored, Message: "could not start"},
	}
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || !reflect.DeepEqual(got[i], want[i]) {
			t.Errorf("case %d:\n got %+v\nwant %+v", i, at(got, i), at(want, i))
		}
	}
	var n Counts
	for i := range got {
		n.Add(&got[i])
	}
	if n != (Counts{Total: 12, Passed: 2, Failed: 4, Errored: 3, Skipped: 3, Flaky: 1}) {
		t.Errorf("counts %+v", n)
	}
}

func at(c []Case, i int) any {
	if i < len(c) {
		return c[i]
	}
	return "nothing"
}

func TestID(t *testing.T) {
	for want, c := range map[string]Case{
		"c.A.x":     {Suite: "c.A", Class: "c.A", Name: "x"},
		"s: c.x":    {Suite: "s", Class: "c", Name: "x"},
		"s: x":      {Suite: "s", Name: "x"},
		"only name": {Name: "only name"},
	} {
		if got := c.ID(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestJUnitSuiteAsRoot(t *testing.T) {
	got := parse(t, `<testsuite name="s"><testcase name="a"/></testsuite>`)
	if len(got) != 1 || got[0].ID() != "s: a" {
		t.Errorf("%+v", got)
	}
}

func TestJUnitCharsets(t *testing.T) {
	body := func(enc, name string) string {
		return `<?xml version="1.0" encoding='` + enc + `'?><testsuite name="s"><testcase name="` + name + `"/></testsuite>`
	}
	var utf16le, utf16be []byte
	for i, u := range utf16.Encode([]rune("\uFEFF" + body("UTF-16", "größe 😀"))) {
		_ = i
		utf16le = append(utf16le, byte(u), byte(u>>8))
		utf16be = append(utf16be, byte(u>>8), byte(u))
	}
	for _, c := range []struct{ text, want string }{
		{body("ISO-8859-1", "gr\xf6\xdfe"), "größe"},
		{body("windows-1252", "\x80 \x9f"), "€ Ÿ"},
		{body("ISO-8859-15", "\xa4\xe4"), "€ä"},
		{body("KOI8-R", "a\xc1b"), "aаb"},
		{body("windows-1251", "\xcf\xf0"), "Пр"},
		{body("cp852", "\xa5"), "ą"},
		{body("ISO-8859-2", "\xb1\x85"), "ą\u0085"},
		{body("Shift_JIS", "a\x83b"), "a\uFFFDb"},
		{body("UTF-8", "a\xffb"), "a\uFFFDb"},
		{"\xEF\xBB\xBF" + body("utf-8", "größe"), "größe"},
		{body("UTF-8", "esc \x1b[31m &#27; &#x1B; &#x41; &amp;"), "esc \uFFFD[31m \uFFFD \uFFFD A &"},
		{string(utf16le), "größe 😀"},
		{string(utf16be), "größe 😀"},
	} {
		if got := parse(t, c.text); len(got) != 1 || got[0].Name != c.want {
			t.Errorf("got %+v, want %q", got, c.want)
		}
	}
}

func TestJUnitErrors(t *testing.T) {
	for text, want := range map[string]string{
		"":                                "no testsuites or testsuite element",
		"hello":                           "no testsuites or testsuite element",
		"<html/>":                         `root element "html"`,
		"<testsuite>\n<testcase>":         `line 2: the file ends within element "testcase"`,
		"<testsuite></testsuites>":        `unexpected end of element "testsuites"`,
		"<testsuite/><testsuite/>":        "second root",
		"<testsuite>&nope;</testsuite>":   "invalid character entity",
		"<testsuite a=\"1></testsuite>":   "unescaped <",
		strings.Repeat("<testsuite>", 99): "more than 64 deep",
		`<testsuite a="` + strings.Repeat("x", maxMarkup+1) + `"/>`: "an element of more than",
	} {
		_, err := ReadJUnit(strings.NewReader(text))
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "reading JUnit XML: ") {
			t.Errorf("%.40q: got %v, want %s", text, err, want)
		}
	}
}

func TestJUnitDetailIsBounded(t *testing.T) {
	long := strings.Repeat("é", MaxDetail)
	for _, text := range []string{long, "<![CDATA[" + long + "]]]>"} {
		got := parse(t, `<testsuite><testcase name="a"><failure>`+text+`</failure></testcase><testcase name="b"/></testsuite>`)
		if len(got) != 2 || len(got[0].Detail) > MaxDetail || len(got[0].Detail) < MaxDetail-16 || !strings.Contains(got[0].Detail, "é\n[...]\né") || len(got[0].Message) > MaxName || !utf8.ValidString(got[0].Detail) {
			t.Errorf("%d cases, %d bytes of detail, %d of message", len(got), len(got[0].Detail), len(got[0].Message))
		}
	}
}

// TestJUnitKeepsTheEndOfLongOutput: a test that fails says so last.
func TestJUnitKeepsTheEndOfLongOutput(t *testing.T) {
	long := strings.Repeat("größe &lt; 3\n", 100_000)
	for _, text := range []string{"first " + long + "last", "<![CDATA[first " + long + "last]]>"} {
		got := parse(t, `<testsuite><testcase name="a"><failure/><system-out>`+text+`</system-out></testcase></testsuite>`)
		if len(got) != 1 || !strings.HasPrefix(got[0].Detail, "first gr") || !strings.HasSuffix(got[0].Detail, "\nlast") || len(got[0].Detail) < MaxDetail-32 {
			t.Errorf("%d bytes of detail, %.20q", len(got[0].Detail), got[0].Detail)
		}
	}
}

// repeat is a reader of n copies of text between head and tail.
func repeat(head, text string, n int, tail string) io.Reader {
	i := 0
	next := func() string {
		i++
		switch {
		case i == 1:
			return head
		case i <= n+1:
			return text
		case i == n+2:
			return tail
		}
		return ""
	}
	var left string
	return readerFunc(func(p []byte) (int, error) {
		if left == "" {
			if left = next(); left == "" {
				return 0, io.EOF
			}
		}
		k := copy(p, left)
		left = left[k:]
		return k, nil
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestJUnitHugeOutputTakesLittleMemory(t *testing.T) {
	for _, section := range [][2]string{{"", ""}, {"<![CDATA[", "]]>"}, {"<!--", "-->"}} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		got, err := ReadJUnit(repeat(`<testsuite><testcase name="a"><system-out>`+section[0], strings.Repeat("log line ", 1000), 4000,
			section[1]+`</system-out></testcase></testsuite>`))
		runtime.ReadMemStats(&after)
		if err != nil || len(got) != 1 {
			t.Fatalf("%d cases, %v", len(got), err)
		}
		if n := after.TotalAlloc - before.TotalAlloc; n > 4<<20 {
			t.Errorf("36 MB of output in %q took %d bytes of memory", section[0], n)
		}
	}
}

// TestJUnitOfRealRunners reads what the runners' own versions wrote: their
// names are in the file names.
func TestJUnitOfRealRunners(t *testing.T) {
	want := map[string]Counts{
		"bats-1.8.xml":   {Total: 3, Passed: 1, Failed: 1, Skipped: 1},
		"ctest-3.25.xml": {Total: 4, Passed: 1, Failed: 1, Skipped: 2},
		"gtest-1.12.xml": {Total: 4, Passed: 1, Failed: 1, Skipped: 2},
	}
	files, err := filepath.Glob("testdata/*.xml")
	if err != nil || len(files) == 0 {
		t.Fatal("no files", err)
	}
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		cases, err := ReadJUnit(f)
		f.Close()
		if err != nil {
			t.Errorf("%s: %v", file, err)
		}
		var n Counts
		for i := range cases {
			n.Add(&cases[i])
		}
		if n != want[filepath.Base(file)] {
			t.Errorf("%s: got %+v, want %+v", file, n, want[filepath.Base(file)])
		}
	}
}

func FuzzReadJUnit(f *testing.F) {
	f.Add([]byte(`<?xml version="1.0" encoding="ISO-8859-1"?><testsuites><testsuite name="a"><testcase name="b" time="1"><failure message="x">y</failure></testcase><error/></testsuite></testsuites>`))
	f.Add([]byte("\xff\xfe<\x00t\x00"))
	f.Add([]byte("<testsuite>&;&#;&#x;&#x110000;</testsuite>"))
	f.Add([]byte(`<testsuite><testcase name="&#27;"><skipped/><system-out><![CDATA[]]]]></system-out></testcase></testsuite>`))
	f.Add([]byte(`<testsuite><testcase><testsuite><failure/></testsuite><failure/></testcase></testsuite>`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var cases []Case
		var err error
		relkittest.Allocates(t, 4<<20+1024*uint64(len(data)), func() { cases, err = ReadJUnit(strings.NewReader(string(data))) })
		checkCases(t, cases, err)
	})
}
