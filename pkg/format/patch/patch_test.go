package patch

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/delta"
	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/format/signature"
	"github.com/relkit/relkit/pkg/relkittest"
)

var (
	oldText = []byte("old content\n")
	newText = []byte("new content, longer\n")
	sample  = bytes.Repeat([]byte("0123456789abcdef"), 100)
)

func file(path string, content []byte) *manifest.Entry {
	return &manifest.Entry{Path: path, Kind: manifest.File, Mode: 0o644, Size: int64(len(content)),
		Digest: digest.Of(content), ModTime: manifest.Time{Sec: 1_700_000_000, Nsec: 5}}
}

func linked(e *manifest.Entry, group int) *manifest.Entry { e.Link = group; return e }

// testEntries has a change of every sort.
func testEntries() *Entries {
	attr := file("etc/attr", oldText)
	attr.Xattrs = []manifest.Xattr{{Name: "user.note", Value: []byte("new")}}
	dir := &manifest.Entry{Path: "usr", Kind: manifest.Dir, Mode: 0o755}
	dirNew := &manifest.Entry{Path: "usr", Kind: manifest.Dir, Mode: 0o750}
	become := &manifest.Entry{Path: "usr/become", Kind: manifest.Symlink, Mode: 0o777, Target: "a b"}
	return &Entries{
		Bases: []Base{{0, "usr/old", int64(len(oldText)), digest.Of(oldText)}, {3, "lib/kept", int64(len(sample)), digest.Of(sample)}},
		Changes: []Change{
			{Old: file("etc/attr", oldText), New: attr, Content: -1, Base: -1},
			{New: file("etc/empty", nil), Content: -1, Base: -1},
			{New: file("etc/new line\n", newText), Content: 0, Base: -1},
			{Old: dir, New: dirNew, Content: -1, Base: -1},
			{New: linked(file("usr/a", sample), 1), Content: int64(len(newText)), Base: -1},
			{New: linked(file("usr/b", sample), 1), Content: int64(len(newText)), Base: -1},
			{Old: file("usr/become", newText), New: become, Content: -1, Base: -1},
			{Old: file("usr/gone", newText), Content: -1, Base: -1},
			{Old: file("usr/old", oldText), Content: -1, Base: -1},
			{New: file("usr/renamed", oldText), Content: -1, Base: 0},
		},
	}
}

func testHeader() Header {
	return Header{
		ID: "fw-4.1-4.2", Product: "fw", Model: []string{"box-*"},
		From: &Side{Version: "4.1", Tree: digest.Of([]byte("from"))}, To: Side{Version: "4.2", Tree: digest.Of([]byte("to"))},
		Requires: "fw (>= 4.1)", Reboot: RebootNone, Restart: []string{"app.service"},
		Hooks:       Hooks{Pre: "hooks/pre", Check: "hooks/check"},
		ConfigFiles: []string{"etc/*.conf"},
		Created:     time.Unix(1_700_000_000, 0).UTC(), Expires: time.Unix(1_800_000_000, 0).UTC(),
	}
}

var testHooks = map[string][]byte{"hooks/pre": []byte("#!/bin/sh\n"), "hooks/check": []byte("#!/bin/sh\ntrue\n")}

func seal(t testing.TB) (*Sealed, []byte) {
	t.Helper()
	var spool bytes.Buffer
	p := NewPayload(&spool)
	if err := errors.Join(p.Add(delta.Raw, newText, int64(len(newText))), p.Add(delta.Zstd, must(t)(pack(sample)), int64(len(sample)))); err != nil {
		t.Fatal(err)
	}
	s, err := Seal(testHeader(), testHooks, testEntries(), p)
	if err != nil {
		t.Fatal(err)
	}
	return s, spool.Bytes()
}

// testPatch is the bytes of a small patch with one sign-off.
func testPatch(t testing.TB) []byte {
	s, payload := seal(t)
	var b bytes.Buffer
	docs := []signature.SignedDoc{{Name: SignoffName("release", nil), Doc: []byte("{}\n"), Sig: []byte("sig\n")}}
	if err := s.Write(&b, docs, bytes.NewReader(payload)); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func must(t testing.TB) func([]byte, error) []byte {
	return func(b []byte, err error) []byte {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
}

// readAll goes through a patch as patch-apply does and returns all its content.
func readAll(b []byte) (*Reader, *Entries, []byte, error) {
	p, err := Open(iotest.HalfReader(bytes.NewReader(b)))
	if err != nil {
		return nil, nil, nil, err
	}
	if _, err := p.Hooks(); err != nil {
		return nil, nil, nil, err
	}
	e, err := p.Entries()
	if err != nil {
		return nil, nil, nil, err
	}
	var out bytes.Buffer
	var decoder delta.Decoder
	defer decoder.Close()
	for {
		s, _, body, err := p.NextSegment()
		if err == io.EOF {
			return p, e, out.Bytes(), nil
		}
		if err == nil {
			err = decoder.Decode(s.Method, body, s.Output, nil, &out)
		}
		if err != nil {
			return nil, nil, nil, err
		}
	}
}

func TestRoundTrip(t *testing.T) {
	raw := testPatch(t)
	p, e, content, err := readAll(raw)
	if err != nil {
		t.Fatal(err)
	}
	if want := append(bytes.Clone(newText), sample...); !bytes.Equal(content, want) {
		t.Errorf("content %q", content)
	}
	if p.Header().ID != "fw-4.1-4.2" || p.ID() != digest.Of(p.Raw()) || len(p.Signoffs()) != 1 || p.Signoffs()[0].Name != "signoffs/release.json" {
		t.Errorf("header %+v", p.Header())
	}
	hooks, err := p.Hooks()
	if err != nil || string(hooks["hooks/check"]) != "#!/bin/sh\ntrue\n" || len(hooks) != 2 {
		t.Errorf("hooks %q, %v", hooks, err)
	}
	want, got := must(t)(testEntries().Encode()), must(t)(e.Encode())
	if !bytes.Equal(want, got) {
		t.Errorf("entries:\n%s\nwant:\n%s", got, want)
	}
	c := e.Contents()
	if len(c) != 2 || c[1].Offset != int64(len(newText)) || len(c[1].Changes) != 2 {
		t.Errorf("contents %+v", c)
	}
	if b, ok := e.Base(3); !ok || b.Path != "lib/kept" {
		t.Errorf("base 3: %+v %v", b, ok)
	}
	h, id, err := ReadHeader(bytes.NewReader(raw[:len(p.Raw())+1024]))
	if err != nil || id != p.ID() || h.To != p.Header().To {
		t.Errorf("ReadHeader: %+v %s %v", h, id, err)
	}
}

// TestEntriesForm pins the text that relkit-patch(5) describes.
func TestEntriesForm(t *testing.T) {
	got := string(must(t)(testEntries().Encode()))
	d := func(b []byte) string { return digest.Of(b).Hex() }
	for _, want := range []string{
		"#relkit-entries v1\nbase 0 ./usr/old size=12 sha256digest=" + d(oldText) + "\nbase 3 ./lib/kept ",
		"-./etc/attr type=file uid=0 gid=0 mode=0644 time=1700000000.000000005 size=12 sha256digest=" + d(oldText) + "\n+#relkit xattr=user.note,bmV3\n+./etc/attr type=file ",
		"+./etc/new\\040line\\012 type=file uid=0 gid=0 mode=0644 time=1700000000.000000005 size=20 sha256digest=" + d(newText) + " content=0\n",
		"+#relkit hardlink=1\n+./usr/b type=file uid=0 gid=0 mode=0644 time=1700000000.000000005 size=1600 sha256digest=" + d(sample) + " content=20\n",
		"sha256digest=" + d(newText) + "\n+./usr/become type=link uid=0 gid=0 mode=0777 time=0.000000000 link=a\\040b\n",
		"sha256digest=" + d(oldText) + " base=0\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in:\n%s", want, got)
		}
	}
}

// TestTarReadsIt holds the framing to GNU tar and archive/tar.
func TestTarReadsIt(t *testing.T) {
	raw := testPatch(t)
	var names []string
	tr := tar.NewReader(bytes.NewReader(raw))
	for {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
	}
	want := "patch.json signoffs/release.json signoffs/release.json.sig hooks/pre hooks/check entries payload"
	if got := strings.Join(names, " "); got != want {
		t.Errorf("archive/tar: %s, want %s", got, want)
	}
	relkittest.Need(t, "tar")
	name := filepath.Join(t.TempDir(), "x.rkp")
	if err := os.WriteFile(name, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("tar", "-tf", name).CombinedOutput()
	if got := strings.Join(strings.Fields(string(out)), " "); err != nil || got != want {
		t.Errorf("tar: %s, %v, want %s", got, err, want)
	}
}

// TestLargeMember reads the PAX header of members that octal cannot size.
func TestLargeMember(t *testing.T) {
	for _, size := range []int64{0, 511, maxOctal, maxOctal + 1, 1 << 40, 1<<62 - 1} {
		b := tarHeader(payloadName, size)
		f := framing{r: bytes.NewReader(b)}
		name, got, err := f.next()
		if err != nil || name != payloadName || got != size || f.off != int64(len(b)) {
			t.Errorf("%d: got %q %d %v", size, name, got, err)
		}
		h, err := tar.NewReader(bytes.NewReader(b)).Next()
		if err != nil || h.Size != size || h.Name != payloadName {
			t.Errorf("archive/tar: %+v %v", h, err)
		}
	}
}

func TestAddSignoff(t *testing.T) {
	raw := testPatch(t)
	var two, three, again bytes.Buffer
	if err := AddSignoff(&two, bytes.NewReader(raw), "qa", []byte("qa\n"), []byte("s1\n")); err != nil {
		t.Fatal(err)
	}
	if err := AddSignoff(&three, bytes.NewReader(two.Bytes()), "qa", []byte("qa2\n"), []byte("s2\n")); err != nil {
		t.Fatal(err)
	}
	if err := AddSignoff(&again, bytes.NewReader(three.Bytes()), "qa", []byte("qa\n"), []byte("s1\n")); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(three.Bytes(), again.Bytes()) {
		t.Error("the same sign-off was added twice")
	}
	p, _, _, err := readAll(three.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range p.Signoffs() {
		names = append(names, s.Name)
	}
	if got := strings.Join(names, " "); got != "signoffs/release.json signoffs/qa.json signoffs/qa-2.json" {
		t.Errorf("sign-offs %s", got)
	}
	if first, _, _, _ := readAll(raw); first.ID() != p.ID() {
		t.Error("a sign-off changed the identity")
	}
	if tail := raw[len(raw)-4096:]; !bytes.HasSuffix(three.Bytes(), tail) {
		t.Error("what follows the sign-offs was changed")
	}
}

// TestEveryTruncation and TestEveryBit: nothing of a patch is without meaning,
// but for the content of sign-offs, which whoever verifies them judges.
func TestEveryTruncation(t *testing.T) {
	t.Parallel()
	raw := testPatch(t)
	for n := range raw {
		if _, _, _, err := readAll(raw[:n]); failure.Of(err) != failure.Untrusted {
			t.Fatalf("cut to %d bytes: %v", n, err)
		}
	}
}

func TestEveryBit(t *testing.T) {
	t.Parallel()
	raw := testPatch(t)
	p, _, _, err := readAll(raw)
	if err != nil {
		t.Fatal(err)
	}
	inSignoff := func(at int) bool {
		for _, s := range p.Signoffs() {
			for _, b := range [][]byte{s.Doc, s.Sig} {
				if i := bytes.Index(raw, b); i <= at && at < i+len(b) {
					return true
				}
			}
		}
		return false
	}
	for at := range raw {
		b := bytes.Clone(raw)
		b[at] ^= 1 << (at % 8)
		q, _, _, err := readAll(b)
		switch {
		case err == nil && q.ID() != p.ID():
			// Another patch.json is another patch: no signature of the first covers it.
		case err == nil && !inSignoff(at):
			t.Fatalf("a bit at %d changes nothing", at)
		case err != nil && failure.Of(err) != failure.Untrusted && failure.Of(err) != failure.Refused:
			t.Fatalf("bit at %d: kind %d: %v", at, failure.Of(err), err)
		}
	}
}

func TestTrailingBytes(t *testing.T) {
	raw := testPatch(t)
	for _, more := range []string{"\x00", "x", strings.Repeat("\x00", 10240)} {
		_, _, _, err := readAll(append(bytes.Clone(raw), more...))
		if failure.Of(err) != failure.Untrusted || !strings.Contains(err.Error(), "after the end") {
			t.Errorf("%d bytes more: %v", len(more), err)
		}
	}
}

// member is one member as it lies in the file.
type rawMember struct {
	name string
	b    []byte
}

func split(t *testing.T, raw []byte) []rawMember {
	var all []rawMember
	f := framing{r: bytes.NewReader(raw)}
	for {
		at := f.off
		name, size, err := f.next()
		if err != nil {
			t.Fatal(err)
		}
		if name == "" {
			return append(all, rawMember{"", raw[at:]})
		}
		if _, err := f.body(name, size, size); err != nil {
			t.Fatal(err)
		}
		all = append(all, rawMember{name, raw[at:f.off]})
	}
}

// TestMembers: unlisted, doubled, missing and reordered members are refused by name.
func TestMembers(t *testing.T) {
	members := split(t, testPatch(t))
	join := func(order ...int) []byte {
		var b []byte
		for _, i := range order {
			b = append(b, members[i].b...)
		}
		return b
	}
	extra := append(tarHeader("hooks/extra", 0), nil...)
	last := len(members) - 1
	cases := map[string]struct {
		b    []byte
		want string
	}{
		"sign-off after hook": {join(0, 3, 1, 2, 4, 5, 6, 7), `"signoffs/release.json"`},
		"entries first":       {join(0, 1, 2, 5, 3, 4, 6, 7), `"entries"`},
		"hook twice":          {join(0, 1, 2, 3, 3, 4, 5, 6, 7), `"hooks/pre"`},
		"hook missing":        {join(0, 1, 2, 3, 5, 6, 7), `"entries"`},
		"no entries":          {join(0, 1, 2, 3, 4, 6, 7), `"payload"`},
		"no payload":          {join(0, 1, 2, 3, 4, 5, 7), `"payload" is missing`},
		"payload twice":       {join(0, 1, 2, 3, 4, 5, 6, 6, 7), `"payload"`},
		"header twice":        {join(0, 0, 1, 2, 3, 4, 5, 6, 7), `"patch.json"`},
		"header second":       {join(1, 2, 0, 3, 4, 5, 6, 7), `"signoffs/release.json"`},
		"sign-off twice":      {join(0, 1, 2, 1, 2, 3, 4, 5, 6, 7), `"signoffs/release.json"`},
		"sign-off alone":      {join(0, 1, 3, 4, 5, 6, 7), `"hooks/pre"`},
		"signature alone":     {join(0, 2, 3, 4, 5, 6, 7), `"signoffs/release.json.sig"`},
		"unlisted hook":       {append(append(join(0, 1, 2, 3, 4), extra...), join(5, 6, 7)...), `"hooks/extra"`},
		"unlisted at the end": {append(append(join(0, 1, 2, 3, 4, 5, 6), extra...), join(7)...), `"hooks/extra"`},
	}
	if last != 7 {
		t.Fatalf("%d members", last)
	}
	for name, c := range cases {
		_, _, _, err := readAll(c.b)
		if failure.Of(err) != failure.Untrusted || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want one that names %s", name, err, c.want)
		}
	}
}
