package archive

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/relkittest"
)

// member is an entry with its content.
type member struct {
	manifest.Entry
	content string
}

const aclOfOne = "\x02\x00\x00\x00\x01\x00\x06\x00\xff\xff\xff\xff\x02\x00\x04\x00\xe8\x03\x00\x00" +
	"\x04\x00\x04\x00\xff\xff\xff\xff\x10\x00\x04\x00\xff\xff\xff\xff\x20\x00\x00\x00\xff\xff\xff\xff"

// zoo is one entry of every kind, with the values that do not fit a ustar header.
func zoo() []member {
	file := func(path, content string) member {
		return member{manifest.Entry{Path: path, Kind: manifest.File, Mode: 0o644, Size: int64(len(content))}, content}
	}
	linked := file("b", strings.Repeat("block", 300))
	linked.Link, linked.UID, linked.Mode = 1, 3000000000, 0o4755
	linked.ModTime = manifest.Time{Sec: -1, Nsec: 500000000}
	linked.Xattrs = []manifest.Xattr{{Name: "security.capability", Value: []byte("\x01\x00\x00\x02")},
		{Name: attrAccess, Value: []byte(aclOfOne)}, {Name: "user.a=b%c", Value: []byte("\n\x00")}}
	again := linked
	again.Path = "z"
	odd := file("a/odd \n#\xff\xc3\xa9", "x")
	odd.ModTime = manifest.Time{Sec: 1 << 36, Nsec: 1}
	broken := file("c", "")
	broken.Xattrs = []manifest.Xattr{{Name: attrDefault, Value: []byte("not an ACL")}}
	return []member{
		{Entry: manifest.Entry{Path: ".", Kind: manifest.Dir, Mode: 0o755, ModTime: manifest.Time{Sec: 1700000000}}},
		{Entry: manifest.Entry{Path: "a", Kind: manifest.Dir, Mode: 0o1777}},
		{Entry: manifest.Entry{Path: "a/" + strings.Repeat("d", 97), Kind: manifest.Dir, Mode: 0o755}},
		{Entry: manifest.Entry{Path: "a/" + strings.Repeat("d", 98), Kind: manifest.Dir, Mode: 0o755}},
		odd,
		linked,
		broken,
		{Entry: manifest.Entry{Path: "chr", Kind: manifest.CharDev, Mode: 0o666, Major: 1, Minor: 3}},
		{Entry: manifest.Entry{Path: "disk", Kind: manifest.BlockDev, Mode: 0o660, GID: 6, Major: 259, Minor: 1048575}},
		{Entry: manifest.Entry{Path: "fifo", Kind: manifest.FIFO, Mode: 0o600}},
		file("full-block", strings.Repeat("x", 512)),
		{Entry: manifest.Entry{Path: "sym", Kind: manifest.Symlink, Mode: 0o777, Target: strings.Repeat("/t", 60)}},
		again,
	}
}

func pack(t testing.TB, machine, changed []byte, members []member) string {
	t.Helper()
	var b bytes.Buffer
	w := NewWriter(&b)
	var err error
	if machine != nil {
		err = w.Machine(machine)
	}
	for i := range members {
		err = errors.Join(err, w.Write(&members[i].Entry, strings.NewReader(members[i].content)))
	}
	if changed != nil {
		err = errors.Join(err, w.Changed(changed))
	}
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// unpack reads an archive as members, the further names of a group as the
// first's entry again.
func unpack(r io.Reader) (machine, changed []byte, members []member, err error) {
	a := NewReader(r)
	index := map[string]int{}
	groups := 0
	for {
		it, err := a.Next()
		if err == io.EOF {
			return a.Machine(), a.Changed(), members, nil
		}
		if err != nil {
			return nil, nil, nil, err
		}
		m := member{Entry: it.Entry}
		if it.LinkTo != "" {
			i, ok := index[it.LinkTo]
			if !ok {
				return nil, nil, nil, errStrayLink
			}
			if members[i].Link == 0 {
				groups++
				members[i].Link = groups
			}
			kept := members[i]
			kept.Path, kept.Mode, kept.UID, kept.GID, kept.ModTime = m.Path, m.Mode, m.UID, m.GID, m.ModTime
			m = kept
		} else {
			index[m.Path] = len(members)
		}
		if it.Content != nil {
			data, err := io.ReadAll(it.Content)
			if err != nil {
				return nil, nil, nil, err
			}
			m.content = string(data)
		}
		members = append(members, m)
	}
}

// errStrayLink: whether a link's first name is in the archive is for the file
// system to see; the reader does not remember names.
var errStrayLink = errors.New("a link to a name that is not a first one")

func TestRoundTrip(t *testing.T) {
	for _, c := range []struct{ machine, changed []byte }{{nil, nil}, {[]byte("{}\n"), []byte("[]")}} {
		text := pack(t, c.machine, c.changed, zoo())
		machine, changed, got, err := unpack(iotest.HalfReader(strings.NewReader(text)))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(machine, c.machine) || !bytes.Equal(changed, c.changed) {
			t.Errorf("got documents %q and %q, want %q and %q", machine, changed, c.machine, c.changed)
		}
		want := zoo()
		if len(got) != len(want) {
			t.Fatalf("got %d members, want %d", len(got), len(want))
		}
		for i := range want {
			if !got[i].Equal(&want[i].Entry) || got[i].content != want[i].content || got[i].Link != want[i].Link {
				t.Errorf("got %+v, want %+v", got[i], want[i])
			}
		}
	}
}

func TestUnreadContentIsPassedOver(t *testing.T) {
	a := NewReader(strings.NewReader(pack(t, nil, nil, zoo())))
	n := 0
	for {
		_, err := a.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n != len(zoo()) {
		t.Errorf("got %d members, want %d", n, len(zoo()))
	}
}

// TestGoReadsIt has another implementation of tar see the same values.
func TestGoReadsIt(t *testing.T) {
	r := tar.NewReader(strings.NewReader(pack(t, nil, nil, zoo())))
	for _, want := range zoo() {
		h, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(h.Name, "/")
		link := want.Path == "z"
		if name != want.Path || uint32(h.Uid) != want.UID || uint32(h.Mode) != want.Mode || manifest.TimeOf(h.ModTime) != want.ModTime ||
			!link && string(data) != want.content || link && h.Linkname != "b" {
			t.Errorf("got %+v with %q, want %+v", h, data, want)
		}
	}
	if _, err := r.Next(); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
}

func TestGNUTarListsIt(t *testing.T) {
	relkittest.Need(t, "tar")
	file := filepath.Join(t.TempDir(), "zoo.tar")
	if err := os.WriteFile(file, []byte(pack(t, []byte("{}"), nil, zoo())), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("tar", "--numeric-owner", "--quoting-style=escape", "-tvf", file)
	cmd.Env = append(os.Environ(), "TZ=UTC", "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("tar: %v\n%s", err, out)
	}
	for _, want := range []string{
		"-rw-r--r-- 0/0               2 1970-01-01 00:00 .relkit/machine.json\n",
		"drwxr-xr-x 0/0               0 2023-11-14 22:13 ./\n",
		"-rwsr-xr-x+ 3000000000/0    1500 1970-01-01 00:00 b\n",
		"crw-rw-rw- 0/0             1,3 1970-01-01 00:00 chr\n",
		"lrwxrwxrwx 0/0               0 1970-01-01 00:00 sym -> " + strings.Repeat("/t", 60) + "\n",
		"hrwsr-xr-x 3000000000/0        0 1970-01-01 00:00 z link to b\n",
	} {
		// How wide the columns are is tar's business; it lists, but does not
		// restore, the half second before 1970 as the one after.
		if !strings.Contains(squeeze(string(out)), squeeze(want)) {
			t.Errorf("no line %q in:\n%s", want, out)
		}
	}
}

func squeeze(s string) string {
	return strings.ReplaceAll(strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == ' ' }), " "), "+ ", " ")
}

func TestReaderRefuses(t *testing.T) {
	good := pack(t, []byte("{}"), []byte("[]"), zoo())
	members := zoo()
	for name, text := range map[string]string{
		"empty":           "",
		"only zeros":      string(make([]byte, 1024)),
		"no end":          good[:len(good)-1024],
		"half an end":     good[:len(good)-512],
		"trailing bytes":  good + "x",
		"trailing zeros":  good + string(make([]byte, 512)),
		"no top":          good[len(good)-1024-1024:],
		"order":           edit(good, "fifo\x00", "a\x00\x00\x00\x00"),
		"checksum":        strings.Replace(good, "full-block", "full-blocks", 1),
		"GNU magic":       edit(good, "ustar\x0000", "ustar  \x00"),
		"dotdot":          edit(good, "fifo\x00", "../f\x00"),
		"absolute":        edit(good, "fifo\x00", "/etc\x00"),
		"no slash":        edit(good, "a/\x00", "a\x00\x00"),
		"link forward":    edit(good, "b\x00\x00", "~\x00\x00"),
		"owner's name":    edit(good, "0\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", "0root\x00\x00\x00\x00\x00\x00\x00\x00"),
		"machine twice":   pack(t, []byte("{}"), nil, members[:1])[:1024] + good,
		"machine late":    good[1024:2048-512] + good,
		"dirty padding":   strings.Replace(good, "{}\x00", "{}\x01", 1),
		"bad PAX length":  edit(good, "22 mtime=", "21 mtime="),
		"needless record": needless(good),
	} {
		_, _, _, err := unpack(strings.NewReader(text))
		if err == nil {
			t.Errorf("%s: accepted", name)
		} else if !strings.HasPrefix(err.Error(), "offset ") {
			t.Errorf("%s: error %q names no offset", name, err)
		}
	}
}

// edit changes the last header block in which old stands, and mends its checksum.
func edit(archive, old, with string) string {
	i := strings.LastIndex(archive, old)
	if i < 0 || len(old) != len(with) {
		panic(fmt.Sprintf("cannot replace %q by %q", old, with))
	}
	b := []byte(archive)
	copy(b[i:], with)
	block := b[i/blockSize*blockSize:][:blockSize]
	if string(block[257:262]) == "ustar" {
		putOctal(block[148:155], checksum(block))
	}
	return string(b)
}

// needless puts the size of a member into an extended header, where the ustar
// header had room for it.
func needless(archive string) string {
	h := header{name: "./", typ: typeDir, mode: 0o755}
	records := appendRecords(nil, map[string]string{"size": "0"})
	x := header{name: paxName, typ: typePAX, mode: 0o644, size: int64(len(records))}
	b := pad(append(x.appendBlock(nil), records...), int64(len(records)))
	return string(h.appendBlock(b)) + string(make([]byte, 1024))
}

func TestWriterRefuses(t *testing.T) {
	dot := manifest.Entry{Path: ".", Kind: manifest.Dir}
	for name, e := range map[string]manifest.Entry{
		"reserved":  {Path: ".relkit", Kind: manifest.Dir},
		"socket":    {Path: "s", Kind: manifest.Socket},
		"short":     {Path: "f", Kind: manifest.File, Size: 9},
		"twice":     {Path: ".", Kind: manifest.Dir},
		"bad path":  {Path: "../x", Kind: manifest.Dir},
		"huge node": {Path: "d", Kind: manifest.BlockDev, Major: 1 << 21},
	} {
		w := NewWriter(io.Discard)
		if err := w.Write(&dot, nil); err != nil {
			t.Fatal(err)
		}
		if err := w.Write(&e, strings.NewReader("eight by")); err == nil {
			t.Errorf("%s: written", name)
		}
		if w.Close() == nil {
			t.Errorf("%s: closed", name)
		}
	}
}

func TestACLText(t *testing.T) {
	text, ok := aclText([]byte(aclOfOne))
	if want := "user::rw-,user:1000:r--,group::r--,mask::r--,other::---"; !ok || text != want {
		t.Errorf("got %q, want %q", text, want)
	}
	for _, text := range []string{text, strings.ReplaceAll(text, ",", "\n") + "\n", strings.Replace(text, "user:1000:r--", "user:joe:r--:1000", 1)} {
		if b, err := aclBytes(text); err != nil || string(b) != aclOfOne {
			t.Errorf("aclBytes(%q) = %q, %v", text, b, err)
		}
	}
	for _, bad := range []string{"", "user::", "user:joe:r--", "user::rwxx", "mask:1:r--", "what::rwx", "user:-1:rwx", "user:4294967295:rwx"} {
		if _, err := aclBytes(bad); err == nil {
			t.Errorf("aclBytes(%q) is accepted", bad)
		}
	}
}

func TestPAXTime(t *testing.T) {
	for want, in := range map[string]manifest.Time{
		"1.000000005": {Sec: 1, Nsec: 5}, "-1": {Sec: -1}, "-0.500000000": {Sec: -1, Nsec: 500000000}, "-1.999999999": {Sec: -2, Nsec: 1},
	} {
		got := paxTime(in)
		if back, err := parsePAXTime(got); got != want || err != nil || back != in {
			t.Errorf("%+v: written %q, want %q; read again %+v, %v", in, got, want, back, err)
		}
	}
	if got, err := parsePAXTime("1.5"); err != nil || got != (manifest.Time{Sec: 1, Nsec: 5e8}) {
		t.Errorf("1.5: %+v, %v", got, err)
	}
}

func TestPackAndUnpack(t *testing.T) {
	text := pack(t, nil, nil, zoo())
	var packed bytes.Buffer
	w, err := Pack(&packed, 2)
	if err == nil {
		_, err = io.WriteString(w, text)
	}
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	for name, in := range map[string]string{"zstd": packed.String(), "plain": text} {
		r, err := Unpack(strings.NewReader(in))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r); err != nil || string(got) != text {
			t.Errorf("%s: got %d bytes, %v", name, len(got), err)
		}
	}
	cut := packed.Bytes()[:packed.Len()-3]
	r, err := Unpack(bytes.NewReader(cut))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(r); err == nil || !strings.HasPrefix(err.Error(), "zstd: ") {
		t.Errorf("a cut frame: %v", err)
	}
}

func FuzzReader(f *testing.F) {
	f.Add([]byte(pack(f, []byte("{}"), []byte("[]"), zoo())))
	f.Add([]byte(pack(f, nil, nil, zoo()[:1])))
	f.Fuzz(func(t *testing.T, in []byte) {
		// Mutations seldom get a checksum right: mend them, as an attacker would.
		for i := 0; i+blockSize <= len(in); i += blockSize {
			if string(in[i+257:i+265]) == "ustar\x0000" {
				putOctal(in[i+148:i+155], checksum(in[i:i+blockSize]))
			}
		}
		var machine, changed []byte
		var members []member
		var err error
		// Whatever sizes the headers tell, memory goes by what there is.
		relkittest.Allocates(t, 4<<20+64*uint64(len(in)), func() { machine, changed, members, err = unpack(bytes.NewReader(in)) })
		if err != nil {
			return
		}
		if out := pack(t, machine, changed, members); out != string(in) {
			t.Errorf("read and written again:\n%q\ncame from\n%q", out, in)
		}
	})
}

// foreign reads all that there is, and keeps nothing.
func foreign(in io.Reader) {
	for r := NewForeign(in); ; {
		if _, err := r.Next(); err != nil {
			return
		}
	}
}

func FuzzForeign(f *testing.F) {
	f.Add([]byte(pack(f, nil, nil, zoo())))
	f.Fuzz(func(t *testing.T, in []byte) {
		relkittest.Allocates(t, 4<<20+64*uint64(len(in)), func() { foreign(bytes.NewReader(in)) })
		r := NewForeign(bytes.NewReader(in))
		seen := map[string]bool{}
		for {
			it, err := r.Next()
			if err != nil {
				return
			}
			e := &it.Entry
			if it.LinkTo == "" {
				if err := e.ValidateMeta(); err != nil {
					t.Error(err)
				}
			} else if !seen[it.LinkTo] {
				t.Errorf("%q links to %q, which is not before it", e.Path, it.LinkTo)
			}
			if e.Path != "." && !seen[manifest.Parent(e.Path)] {
				t.Errorf("%q before its folder", e.Path)
			}
			if seen[e.Path] && e.Kind != manifest.Dir {
				t.Errorf("%q twice", e.Path)
			}
			seen[e.Path] = true
		}
	})
}
