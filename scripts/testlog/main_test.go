package main

import (
	"strings"
	"testing"
)

const events = `{"Action":"start","Package":"m/a"}
{"Action":"run","Package":"m/a","Test":"TestOne"}
{"Action":"output","Package":"m/a","Test":"TestOne","Output":"=== RUN TestOne\n"}
{"Action":"output","Package":"m/a","Test":"TestTwo/x","Output":"    a_test.go:3: wrong\n"}
{"Action":"pass","Package":"m/a","Test":"TestOne","Elapsed":1.5}
{"Action":"fail","Package":"m/a","Test":"TestTwo/x","Elapsed":0.5}
{"Action":"fail","Package":"m/a","Test":"TestTwo","Elapsed":9}
{"Action":"output","Package":"m/a","Output":"FAIL\tm/a\t2.0s\n"}
{"Action":"fail","Package":"m/a","Elapsed":2}
{"ImportPath":"m/b","Action":"build-output","Output":"b.go:1: syntax error\n"}
{"Action":"output","Package":"m/b","Output":"FAIL\tm/b [build failed]\n"}
{"Action":"fail","Package":"m/b","Elapsed":0}
{"Action":"output","Package":"m/c","Output":"ok  \tm/c\t0.1s\n"}
{"Action":"pass","Package":"m/c","Elapsed":0.1}
go: not an event
`

func TestReport(t *testing.T) {
	l, out := newLog(), new(strings.Builder)
	if err := l.read(strings.NewReader(events), out, true); err != nil {
		t.Fatal(err)
	}
	l.printSummary(out)
	want := "    a_test.go:3: wrong\nFAIL\tm/a\t2.0s\nb.go:1: syntax error\nFAIL\tm/b [build failed]\nok  \tm/c\t0.1s\n" +
		"go: not an event\n1 passed, 2 failed, 0 skipped, in all 2 packages failed\n"
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out, want)
	}
	if !l.failed() {
		t.Error("the run counts as passed")
	}
}

func TestBuildFailureAloneFails(t *testing.T) {
	l := newLog()
	if err := l.read(strings.NewReader(`{"Action":"fail","Package":"m/b"}`+"\n"), new(strings.Builder), true); err != nil || !l.failed() {
		t.Errorf("got %v, failed %v", err, l.failed())
	}
}

func TestSlowest(t *testing.T) {
	l, out := newLog(), new(strings.Builder)
	if err := l.read(strings.NewReader(events), out, false); err != nil {
		t.Fatal(err)
	}
	l.printSlowest(out, 20)
	if want := "    1.50 s  m/a TestOne\n    0.50 s  m/a TestTwo/x\n"; out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out, want)
	}
}
