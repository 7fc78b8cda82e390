package record

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/relkit/relkit/pkg/relkittest"
)

func sampleNotice() *BuildNotice {
	when := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	return &BuildNotice{Schema: BuildNoticeSchema, ID: "000007-ab", Event: "broke", Subject: "[fw] fw/7 fails", Text: "Build\n\"fw\" <é>\n", Project: "fw", Builder: "fw[cc=gcc]",
		Number: 7, Status: BuildFailed, Reason: "change", Error: "e", Started: when, DurationSeconds: 1.5, Worker: "local", Revisions: map[string]string{"fw": "a"}, Step: "unit",
		NewlyFailing: []string{"t"}, NewlyFixed: []string{}, LastGood: 6, FailingSince: &BuildNoticeSince{Number: 7, Started: when, Builds: 1},
		Changes: []BuildChange{{Source: "fw", Revision: "a", Author: "A", Email: "a@x", Time: when, Subject: "s"}}, Blame: []string{"a@x"}, Reproduce: "relkit build", Folder: "/b"}
}

func TestBuildNoticeMistakes(t *testing.T) {
	for want, change := range map[string]func(*BuildNotice){
		`schema "x"`:        func(n *BuildNotice) { n.Schema = "x" },
		`id ""`:             func(n *BuildNotice) { n.ID = "" },
		"number 0":          func(n *BuildNotice) { n.Number = 0 },
		`status "skipped"`:  func(n *BuildNotice) { n.Status = BuildSkipped },
		"a list is missing": func(n *BuildNotice) { n.Blame = nil },
	} {
		n := sampleNotice()
		change(n)
		if err := n.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func FuzzBuildNotice(f *testing.F) {
	line, err := sampleNotice().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(line)
	f.Add([]byte(`{"schema":"relkit.build-notice/v1","id":"1","builder":"b","number":1,"status":"success","revisions":{},"newly_failing":[],"newly_fixed":[],"changes":[],"blame":[]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var n *BuildNotice
		var err error
		relkittest.Allocates(t, 200*uint64(len(data))+1<<20, func() { n, err = DecodeBuildNotice(data) })
		if err != nil {
			return
		}
		once, err := n.Encode()
		if err != nil {
			t.Fatal(err)
		}
		again, err := DecodeBuildNotice(once)
		if err != nil {
			t.Fatalf("%v: %s", err, once)
		}
		twice, err := again.Encode()
		if err != nil || !bytes.Equal(once, twice) {
			t.Errorf("%v:\n%s\n%s", err, once, twice)
		}
	})
}
