package testresult

import (
	"bytes"
	"compress/zlib"
	"encoding/base64"
	"strings"
	"testing"

	"github.com/relkit/relkit/pkg/relkittest"
)

func ctestOf(status, completion, code, output string) string {
	return `<Site Name="vm"><Testing><TestList><Test>./a</Test></TestList><Test Status="` + status + `"><Name>a</Name><Path>.</Path><Results>
<NamedMeasurement type="numeric/double" name="Execution Time"><Value>0.25</Value></NamedMeasurement>
<NamedMeasurement type="text/string" name="Exit Code"><Value>` + code + `</Value></NamedMeasurement>
<NamedMeasurement type="text/string" name="Exit Value"><Value>3</Value></NamedMeasurement>
<NamedMeasurement type="text/string" name="Completion Status"><Value>` + completion + `</Value></NamedMeasurement>
<Measurement>` + output + `</Measurement></Results></Test></Testing></Site>`
}

func TestCTest(t *testing.T) {
	var packed bytes.Buffer
	z := zlib.NewWriter(&packed)
	_, _ = z.Write([]byte(strings.Repeat("oh no\n", 100)))
	_ = z.Close()
	text := base64.StdEncoding.EncodeToString(packed.Bytes())
	for name, c := range map[string]struct{ in, want, detail string }{
		"passed":      {ctestOf("passed", "Completed", "", "<Value>fine</Value>"), "passed a\n", ""},
		"failed":      {ctestOf("failed", "Completed", "Failed", "<Value>oh\nno </Value>"), "failed a | exit status 3\n", "oh\nno"},
		"timeout":     {ctestOf("failed", "Completed", "Timeout", "<Value></Value>"), "error a | Timeout\n", ""},
		"crash":       {ctestOf("failed", "Completed", "SEGFAULT", "<Value></Value>"), "error a | SEGFAULT\n", ""},
		"left":        {ctestOf("notrun", "SKIP_RETURN_CODE=77", "", "<Value></Value>"), "skipped a | SKIP_RETURN_CODE=77\n", ""},
		"disabled":    {ctestOf("notrun", "Disabled", "", "<Value>Disabled</Value>"), "skipped a | Disabled\n", ""},
		"no program":  {ctestOf("notrun", "Unable to find executable", "", "<Value>gone</Value>"), "error a | Unable to find executable\n", "gone"},
		"packed":      {ctestOf("failed", "Completed", "Failed", `<Value encoding="base64" compression="gzip">`+text+`</Value>`), "failed a | exit status 3\n", strings.TrimSpace(strings.Repeat("oh no\n", 100))},
		"badly":       {ctestOf("failed", "Completed", "Failed", `<Value encoding="base64" compression="gzip">!!!!</Value>`), "failed a | exit status 3\n", ""},
		"nothing":     {`<Site></Site>`, "", ""},
		"JUnit":       {`<testsuite name="s"><testcase name="a" classname="a" status="notrun"><skipped message="Unable to find executable"/><system-out>gone</system-out></testcase></testsuite>`, "error s: a.a | Unable to find executable\n", "gone"},
		"JUnit, left": {`<testsuite name="s"><testcase name="a" classname="a" status="notrun"><skipped message="SKIP_RETURN_CODE=77"/></testcase></testsuite>`, "skipped s: a.a | SKIP_RETURN_CODE=77\n", ""},
	} {
		cases, err := ReadCTest(strings.NewReader(c.in))
		if err != nil || briefs(cases) != c.want {
			t.Errorf("%s: %v, got\n%swant\n%s", name, err, briefs(cases), c.want)
		}
		if len(cases) == 1 && cases[0].Detail != c.detail {
			t.Errorf("%s: detail %q, want %q", name, cases[0].Detail, c.detail)
		}
	}
	if _, err := ReadCTest(strings.NewReader("<html/>")); err == nil || !strings.Contains(err.Error(), "reading ctest XML: line 1: root element") {
		t.Error(err)
	}
}

// TestCTestBomb: a little deflated data that is a lot of output.
func TestCTestBomb(t *testing.T) {
	var packed bytes.Buffer
	z := zlib.NewWriter(&packed)
	for range 30 {
		_, _ = z.Write(make([]byte, 1<<20))
	}
	_ = z.Close()
	in := ctestOf("failed", "Completed", "Failed", `<Value encoding="base64" compression="gzip">`+base64.StdEncoding.EncodeToString(packed.Bytes())+`</Value>`)
	relkittest.Allocates(t, 4<<20, func() {
		if cases, err := ReadCTest(strings.NewReader(in)); err != nil || len(cases) != 1 || len(cases[0].Detail) > MaxDetail {
			t.Error(len(cases), err)
		}
	})
}

func FuzzReadCTest(f *testing.F) {
	f.Add([]byte(ctestOf("failed", "Completed", "Timeout", `<Value encoding="base64" compression="gzip">eJw=</Value>`)))
	f.Add([]byte(ctestOf("notrun", "Disabled", "", "<Value>x</Value>")))
	f.Add([]byte(`<testsuite name="s"><testcase name="a" status="fail"><failure message=""/><system-out>x</system-out></testcase></testsuite>`))
	f.Fuzz(func(t *testing.T, in []byte) {
		var cases []Case
		var err error
		relkittest.Allocates(t, 4<<20+4096*uint64(len(in)), func() { cases, err = ReadCTest(strings.NewReader(string(in))) })
		checkCases(t, cases, err)
	})
}
