package inspect

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/delta"
	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/format/patch"
	"github.com/relkit/relkit/pkg/format/signature"
)

// smallPatch has two files in three segments' worth of output and a sign-off
// that is none.
func smallPatch(t testing.TB) []byte {
	a, b := bytes.Repeat([]byte("a"), 100), bytes.Repeat([]byte("b"), 300)
	entry := func(path string, content []byte) *manifest.Entry {
		return &manifest.Entry{Path: path, Kind: manifest.File, Mode: 0o644, Size: int64(len(content)), Digest: digest.Of(content)}
	}
	var spool, out bytes.Buffer
	p := patch.NewPayload(&spool)
	all := append(append([]byte(nil), a...), b...)
	for _, part := range [][]byte{all[:200], all[200:]} {
		if err := p.Add(delta.Raw, part, 200); err != nil {
			t.Fatal(err)
		}
	}
	e := &patch.Entries{Changes: []patch.Change{
		{New: entry("a", a), Content: 0, Base: -1}, {New: entry("b", b), Content: 100, Base: -1}, {New: entry("c", a), Content: 0, Base: -1},
	}}
	h := patch.Header{ID: "p", Product: "fw", From: &patch.Side{Tree: digest.Of(a)}, To: patch.Side{Tree: digest.Of(b)},
		Reboot: patch.RebootNone, Created: time.Unix(1000, 0).UTC(), Expires: time.Unix(2000, 0).UTC()}
	s, err := patch.Seal(h, nil, e, p)
	if err == nil {
		err = s.Write(&out, []signature.SignedDoc{{Name: "signoffs/qa.json", Doc: []byte("{}"), Sig: []byte("none\n\x1b[31m")}}, &spool)
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func look(b []byte, o Options) (*Result, error) {
	return Look(context.Background(), "x", bytes.NewReader(b), o)
}

// TestFiles: a file's share of the payload, across segments; equal files once.
func TestFiles(t *testing.T) {
	res, err := look(smallPatch(t), Options{Files: true})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range res.FileRows() {
		got = append(got, strings.Join(r, " "))
	}
	want := "CHANGE KIND SIZE PACKED METHOD PATH|create file 100 100 raw a|create file 300 300 raw b|create file 100 0 raw c"
	if s := strings.Join(got, "|"); s != want {
		t.Errorf("got  %s\nwant %s", s, want)
	}
	if len(res.Signoffs) != 1 || res.Signoffs[0].Problem == "" {
		t.Errorf("sign-offs %+v", res.Signoffs)
	}
}

// TestVerify: expired, and signed by nobody who counts.
func TestVerify(t *testing.T) {
	b := smallPatch(t)
	for name, now := range map[string]time.Time{"expired on": time.Unix(2000, 0), "allowed signers": time.Unix(1500, 0)} {
		_, err := look(b, Options{Verify: true, Now: now})
		if failure.Of(err) != failure.Untrusted || !strings.Contains(err.Error(), name) {
			t.Errorf("want %q: %v", name, err)
		}
	}
}

// TestRowsAreLines: nothing that a document holds breaks out of its row.
func TestRowsAreLines(t *testing.T) {
	res, err := look([]byte(`{"schema":"relkit.new-thing/v3","a":[{"b":"x","n":1e3,"z":null}],"e":{}}`), Options{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range res.Rows()[2:] {
		got = append(got, strings.Join(r, "="))
	}
	if s := strings.Join(got, " "); s != "schema=relkit.new-thing/v3 a[0].b=x a[0].n=1e3 a[0].z=null" || res.Kind != "new-thing" {
		t.Errorf("%s: %s", res.Kind, s)
	}
}

// FuzzLook: whatever the bytes, an answer or an error, and text for both.
func FuzzLook(f *testing.F) {
	f.Add(smallPatch(f))
	f.Add([]byte("#mtree\n. type=dir uid=0 gid=0 mode=0755 time=0.000000000\n"))
	f.Add([]byte(`{"schema":"relkit.signoff/v1"}`))
	f.Add([]byte(`{"schema":"relkit.audit/v1","seq":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		res, err := look(b, Options{Files: true})
		if err != nil {
			return
		}
		res.Rows()
		res.FileRows()
	})
}
