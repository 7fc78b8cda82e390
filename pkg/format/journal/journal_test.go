package journal

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/manifest"
)

var when = time.Date(2026, 3, 1, 2, 3, 4, 5000, time.UTC)

func records() []Record {
	return []Record{
		{Event: Begin, Time: when, Patch: digest.Of([]byte("p")), PatchID: "fw-1-2",
			From: &Version{"fw", "1"}, To: &Version{"fw", "2"}, Signoffs: []string{"qa SHA256:x"}, Tops: []Top{{Path: ".", Sec: -1, Nsec: 5}, {Path: "usr", Remount: &Remount{At: "usr", Mount: true}}}},
		{Event: Staged, Time: when, Plan: digest.Of([]byte("plan"))},
		{Event: Committing, Time: when},
		{Event: Undoing, Time: when, Reason: "check failed: exit status 1"},
		{Event: Undone, Time: when, Kept: []string{"etc/a\\040b"}},
		{Event: Freed, Time: when},
	}
}

func encode(t testing.TB, rs []Record) []byte {
	t.Helper()
	var b []byte
	for i := range rs {
		var err error
		if b, err = Append(b, &rs[i]); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// A journal cut anywhere reads as the records before the cut, never as an error
// and never as a record that was not written.
func TestParseTornAtEveryByte(t *testing.T) {
	b := encode(t, records())
	ends := 0
	for cut := 0; cut <= len(b); cut++ {
		got, whole, err := Parse(b[:cut])
		if err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		ends = bytes.Count(b[:cut], []byte("\n"))
		if len(got) != ends {
			t.Fatalf("cut at %d: %d records, want %d", cut, len(got), ends)
		}
		if again := encode(t, got); !bytes.Equal(again, b[:whole]) {
			t.Fatalf("cut at %d: records do not write back to the bytes they came from", cut)
		}
	}
	if ends != len(records()) {
		t.Fatalf("%d records in the whole journal", ends)
	}
}

func TestParseTornTailOfZeros(t *testing.T) {
	b := encode(t, records()[:2])
	got, whole, err := Parse(append(bytes.Clone(b), make([]byte, 100)...))
	if err != nil || len(got) != 2 || whole != len(b) {
		t.Fatalf("got %d records, %d bytes, %v", len(got), whole, err)
	}
}

func TestParseRefusesDamageBeforeTheEnd(t *testing.T) {
	b := encode(t, records())
	b[30] ^= 1
	if _, _, err := Parse(b); err == nil || !strings.Contains(err.Error(), "line 1") {
		t.Fatalf("got %v, want an error that names line 1", err)
	}
}

func TestParseRefusesImpossibleOrder(t *testing.T) {
	rs := records()
	rs[1], rs[2] = rs[2], rs[1]
	if _, _, err := Parse(encode(t, rs)); err == nil || !strings.Contains(err.Error(), `"committing" cannot follow "begin"`) {
		t.Fatalf("got %v", err)
	}
}

func FuzzParse(f *testing.F) {
	b := encode(f, records())
	f.Add(b)
	f.Add(b[:len(b)-3])
	f.Fuzz(func(t *testing.T, b []byte) {
		got, whole, err := Parse(b)
		if err != nil {
			return
		}
		again, _, err := Parse(encode(t, got))
		if err != nil || len(again) != len(got) || whole > len(b) {
			t.Fatalf("round trip: %d records became %d: %v", len(got), len(again), err)
		}
	})
}

func plan() *Plan {
	file := &manifest.Entry{Path: "bin/a b", Kind: manifest.File, Mode: 0o755, Size: 3, Digest: digest.Of([]byte("abc")),
		Xattrs: []manifest.Xattr{{Name: "user.x", Value: []byte{0, 1}}}}
	dir := &manifest.Entry{Path: "bin", Kind: manifest.Dir, Mode: 0o755, ModTime: manifest.Time{Sec: -2, Nsec: 7}}
	gone := &manifest.Entry{Path: "x\xff", Kind: manifest.Symlink, Mode: 0o777, Target: "bin/<a>"}
	return &Plan{
		Tops: []PlanTop{{Path: ".", Exchange: true}, {Path: "boot", NoLinks: true, Renumbers: true}, {Path: "o\n", Layers: true}},
		Steps: []Step{
			{Do: Swap, Old: file, New: file, OldInode: 4, NewInode: 5, OldChange: manifest.Time{Sec: 9, Nsec: 8}, OldLinks: 2},
			{Do: Place, Top: 1, New: gone, NewInode: 6},
			{Do: Take, Old: gone, OldInode: 7, OldLinks: 1},
			{Do: Meta, Old: dir, New: dir},
		},
	}
}

func TestPlanRoundTrip(t *testing.T) {
	b, err := encodePlan(plan())
	if err != nil {
		t.Fatal(err)
	}
	p, err := ReadPlan(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	again, err := encodePlan(p)
	if err != nil || !bytes.Equal(b, again) {
		t.Fatalf("round trip changed the plan (%v):\n%s\n%s", err, b, again)
	}
	for cut := range b {
		if _, err := ReadPlan(bytes.NewReader(b[:cut])); err == nil {
			t.Fatalf("a plan cut at %d of %d parses", cut, len(b))
		}
	}
}

func encodePlan(p *Plan) ([]byte, error) {
	var b bytes.Buffer
	err := WritePlan(&b, p)
	return b.Bytes(), err
}

func FuzzParsePlan(f *testing.F) {
	b, err := encodePlan(plan())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ReadPlan(bytes.NewReader(b))
		if err != nil {
			return
		}
		once, err := encodePlan(p)
		if err != nil {
			t.Fatal(err)
		}
		again, err := ReadPlan(bytes.NewReader(once))
		if err != nil {
			t.Fatal(err)
		}
		if twice, err := encodePlan(again); err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("not stable: %v", err)
		}
	})
}

func auditLog(t testing.TB) ([]byte, Head) {
	t.Helper()
	var b []byte
	var head Head
	rs := records()
	for i := range rs {
		var err error
		if b, head, err = AppendAudit(b, head, AuditOf("000001", i+1, &rs[i])); err != nil {
			t.Fatal(err)
		}
	}
	return b, head
}

// Any change, removal or move of a line breaks the chain.
func TestAuditChain(t *testing.T) {
	b, want := auditLog(t)
	lines, head, whole, err := ParseAudit(b)
	if err != nil || head != want || whole != len(b) || len(lines) != len(records()) {
		t.Fatalf("got %d lines, head %v, %v", len(lines), head, err)
	}
	raw := bytes.SplitAfter(b, []byte("\n"))
	for i := range len(records()) - 1 {
		dropped := bytes.Join(append(append([][]byte{}, raw[:i]...), raw[i+1:]...), nil)
		if _, _, _, err := ParseAudit(dropped); err == nil {
			t.Errorf("line %d dropped: still a chain", i+1)
		}
		edited := bytes.Replace(b, raw[i], bytes.Replace(raw[i], []byte(`:0`), []byte(`:1`), 1), 1)
		if _, _, _, err := ParseAudit(edited); err == nil && !bytes.Equal(edited, b) {
			t.Errorf("line %d edited: still a chain", i+1)
		}
	}
	// The last line has no successor to give its change away: that is what --head is for.
	edited := bytes.Replace(b, raw[len(records())-1], bytes.Replace(raw[len(records())-1], []byte("freed"), []byte("begin"), 1), 1)
	if _, head, _, err := ParseAudit(edited); err != nil || head == want {
		t.Errorf("an edited last line keeps the head: %v", err)
	}
}

func FuzzParseAudit(f *testing.F) {
	b, _ := auditLog(f)
	f.Add(b)
	f.Add(b[:len(b)-9])
	f.Fuzz(func(t *testing.T, b []byte) {
		lines, head, whole, err := ParseAudit(b)
		count := head.Count
		if len(lines) > 0 {
			count -= lines[0].Before().Count
		}
		if err == nil && (int64(len(lines)) != count || whole > len(b)) {
			t.Fatalf("%d lines, count %d, %d of %d bytes", len(lines), head.Count, whole, len(b))
		}
	})
}

// A file of the log that continues another names its head.
func TestAuditContinued(t *testing.T) {
	_, head := auditLog(t)
	b, next, err := AppendAudit(nil, head, AuditLine{Event: LogContinued, Time: when, KeptFrom: 1})
	if err != nil {
		t.Fatal(err)
	}
	lines, got, _, err := ParseAudit(b)
	if err != nil || got != next || lines[0].Before() != head || next.Count != head.Count+1 {
		t.Fatalf("%+v, head %v, %v", lines, got, err)
	}
	// No other line may begin a file but the first.
	b, _, err = AppendAudit(nil, head, AuditLine{Event: Refused, Time: when})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := ParseAudit(b); err == nil || !strings.Contains(err.Error(), "sequence number 7, want 1") {
		t.Fatalf("got %v", err)
	}
}

func ended(t testing.TB) []byte {
	t.Helper()
	a, b := EndedOf("000001", records()), EndedOf("000002", records())
	text, err := AppendEnded(nil, &a)
	if err != nil {
		t.Fatal(err)
	}
	if text, err = AppendEnded(text, &b); err != nil {
		t.Fatal(err)
	}
	return text
}

// What is kept of an ended transaction is how it began and ended.
func TestEnded(t *testing.T) {
	b := ended(t)
	all, err := ParseEnded(b)
	if err != nil || len(all) != 2 || len(all[1].Records) != 3 || all[1].Records[0].PatchID != "fw-1-2" || all[1].Records[0].Tops != nil || all[1].Records[1].Event != Undone {
		t.Fatalf("%+v, %v", all, err)
	}
	for i := range b {
		spoilt := bytes.Clone(b)
		spoilt[i] ^= 4
		if _, err := ParseEnded(spoilt); err == nil {
			t.Fatalf("byte %d changed and not noticed", i)
		}
	}
}

func FuzzParseEnded(f *testing.F) {
	f.Add(ended(f))
	f.Fuzz(func(t *testing.T, b []byte) {
		all, err := ParseEnded(b)
		if err != nil {
			return
		}
		var again []byte
		for i := range all {
			if again, err = AppendEnded(again, &all[i]); err != nil {
				t.Fatal(err)
			}
		}
		if twice, err := ParseEnded(again); err != nil || len(twice) != len(all) {
			t.Fatalf("round trip: %d became %d: %v", len(all), len(twice), err)
		}
	})
}
