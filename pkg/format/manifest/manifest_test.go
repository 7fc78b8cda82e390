package manifest

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/relkittest"
)

// zoo is one valid entry of every kind, with the awkward values of each field.
func zoo() []Entry {
	d := digest.Of([]byte("hello"))
	t := Time{Sec: 1700000000, Nsec: 5}
	linked := Entry{Path: "a/linked", Kind: File, Mode: 0o4755, UID: 1000, GID: 4294967294, ModTime: Time{Sec: -1, Nsec: 500000000},
		Size: 5, Digest: d, Link: 1, Xattrs: []Xattr{{"security.capability", []byte{1, 0, 0, 2}}, {"user.a b,c", []byte{}}}}
	again := linked
	again.Path = "z"
	return []Entry{
		{Path: ".", Kind: Dir, Mode: 0o755, ModTime: t},
		{Path: "a", Kind: Dir, Mode: 0o1777, ModTime: t, Xattrs: []Xattr{{"system.posix_acl_default", []byte("\x02\x00\x00\x00")}}},
		linked,
		{Path: "a/one two\n#*?[\\\xff\x7f=é", Kind: File, ModTime: Time{Sec: 1 << 40}, Digest: digest.Of(nil)},
		{Path: "a-b", Kind: Symlink, Mode: 0o777, ModTime: Time{Sec: -1 << 40, Nsec: 999999999}, Target: "../../etc/x y"},
		{Path: "blk", Kind: BlockDev, Mode: 0o660, GID: 6, Major: 259, Minor: 1048575},
		{Path: "chr", Kind: CharDev, Mode: 0o666, Major: 1, Minor: 3},
		{Path: "fifo", Kind: FIFO, Mode: 0o600},
		again,
	}
}

func encode(t testing.TB, entries []Entry) (string, digest.Digest) {
	t.Helper()
	var b bytes.Buffer
	w := NewWriter(&b)
	for i := range entries {
		if err := w.Write(&entries[i]); err != nil {
			t.Fatal(err)
		}
	}
	d, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	return b.String(), d
}

func TestWriterForm(t *testing.T) {
	got, d := encode(t, zoo())
	hello := digest.Of([]byte("hello")).Hex()
	notes := "#relkit hardlink=1\n#relkit xattr=security.capability,AQAAAg==\n#relkit xattr=user.a\\040b,c,\n"
	linked := " type=file uid=1000 gid=4294967294 mode=04755 time=-1.500000000 size=5 sha256digest=" + hello + "\n"
	want := "#mtree\n" +
		". type=dir uid=0 gid=0 mode=0755 time=1700000000.000000005\n" +
		"#relkit xattr=system.posix_acl_default,AgAAAA==\n" +
		"./a type=dir uid=0 gid=0 mode=01777 time=1700000000.000000005\n" +
		notes + "./a/linked" + linked +
		`./a/one\040two\012\043\052\077\133\134\377\177=\303\251 type=file uid=0 gid=0 mode=0 time=1099511627776.000000000 size=0 sha256digest=` + digest.Of(nil).Hex() + "\n" +
		"./a-b type=link uid=0 gid=0 mode=0777 time=-1099511627776.999999999 link=../../etc/x\\040y\n" +
		"./blk type=block uid=0 gid=6 mode=0660 time=0.000000000 device=native,259,1048575\n" +
		"./chr type=char uid=0 gid=0 mode=0666 time=0.000000000 device=native,1,3\n" +
		"./fifo type=fifo uid=0 gid=0 mode=0600 time=0.000000000\n" +
		notes + "./z" + linked
	if got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	if d != digest.Of([]byte(want)) {
		t.Errorf("digest %s is not that of the bytes", d)
	}
}

func TestRoundTrip(t *testing.T) {
	entries := zoo()
	text, d := encode(t, entries)
	r := NewReader(iotest.OneByteReader(strings.NewReader(text)))
	for i := range entries {
		e, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		if !e.Equal(&entries[i]) || e.Link != entries[i].Link {
			t.Errorf("entry %d: got %+v, want %+v", i, *e, entries[i])
		}
	}
	if _, err := r.Next(); err != io.EOF {
		t.Fatalf("after the last entry: %v", err)
	}
	if r.Digest() != d {
		t.Errorf("reader's digest %s, writer's %s", r.Digest(), d)
	}
}

func TestReaderRefuses(t *testing.T) {
	good, _ := encode(t, zoo())
	const dot = ". type=dir uid=0 gid=0 mode=0755 time=0.000000000\n"
	const fifo = "./f type=fifo uid=0 gid=0 mode=0600 time=0.000000000\n"
	for name, text := range map[string]string{
		"empty":             "",
		"no entries":        signature,
		"no signature":      dot,
		"long signature":    "#mtree v2\n" + dot,
		"cut":               good[:len(good)-1],
		"cut to a note":     signature + dot + "#relkit hardlink=1\n",
		"CR":                signature + strings.ReplaceAll(dot, "\n", "\r\n"),
		"blank line":        signature + "\n" + dot,
		"comment":           signature + "# hi\n" + dot,
		"set":               signature + "/set type=file\n" + dot,
		"no dot":            signature + fifo,
		"dot twice":         signature + dot + dot,
		"order":             signature + dot + strings.ReplaceAll(fifo, "./f", "./g") + fifo,
		"duplicate":         signature + dot + fifo + fifo,
		"no folder":         signature + dot + strings.ReplaceAll(fifo, "./f", "./d/f"),
		"below a fifo":      signature + dot + fifo + strings.ReplaceAll(fifo, "./f", "./f/f"),
		"dotdot":            signature + dot + strings.ReplaceAll(fifo, "./f", "./.."),
		"absolute":          signature + dot + strings.ReplaceAll(fifo, "./f", "/f"),
		"slashes":           signature + dot + strings.ReplaceAll(fifo, "./f", ".//f"),
		"keyword order":     signature + strings.ReplaceAll(dot, "uid=0 gid=0", "gid=0 uid=0"),
		"doubled keyword":   signature + strings.ReplaceAll(dot, "uid=0", "uid=0 uid=0"),
		"unknown keyword":   signature + strings.ReplaceAll(dot, "uid=0", "uid=0 nlink=2"),
		"missing keyword":   signature + strings.ReplaceAll(dot, " uid=0", ""),
		"two blanks":        signature + strings.ReplaceAll(dot, " uid", "  uid"),
		"leading zero":      signature + strings.ReplaceAll(dot, "uid=0", "uid=00"),
		"plus sign":         signature + strings.ReplaceAll(dot, "uid=0", "uid=+0"),
		"long mode":         signature + strings.ReplaceAll(dot, "mode=0755", "mode=00755"),
		"short mode":        signature + strings.ReplaceAll(dot, "mode=0755", "mode=755"),
		"big mode":          signature + strings.ReplaceAll(dot, "mode=0755", "mode=010755"),
		"negative zero":     signature + strings.ReplaceAll(dot, "time=0.", "time=-0."),
		"short nanoseconds": signature + strings.ReplaceAll(dot, "0.000000000", "0.0"),
		"signed nanos":      signature + strings.ReplaceAll(dot, "0.000000000", "0.+00000000"),
		"needless escape":   signature + dot + strings.ReplaceAll(fifo, "./f", `./\146`),
		"lower escape":      signature + dot + strings.ReplaceAll(fifo, "./f", `./\x66`),
		"escaped slash":     signature + dot + strings.ReplaceAll(fifo, "./f", `./a\057b`),
		"NUL":               signature + dot + strings.ReplaceAll(fifo, "./f", `./a\000b`),
		"socket":            signature + dot + strings.ReplaceAll(fifo, "fifo", "socket"),
		"lone group":        signature + dot + "#relkit hardlink=1\n" + fifo,
		"group from two":    signature + dot + "#relkit hardlink=2\n" + fifo,
		"group of a folder": signature + "#relkit hardlink=1\n" + dot,
		"unequal group": signature + dot + "#relkit hardlink=1\n" + fifo + "#relkit hardlink=1\n" +
			strings.ReplaceAll(strings.ReplaceAll(fifo, "./f", "./g"), "0600", "0601"),
		"unknown note":     signature + "#relkit colour=red\n" + dot,
		"xattr order":      signature + "#relkit xattr=user.b,\n#relkit xattr=user.a,\n" + dot,
		"xattr twice":      signature + "#relkit xattr=user.a,\n#relkit xattr=user.a,\n" + dot,
		"xattr padding":    signature + "#relkit xattr=user.a,AA\n" + dot,
		"xattr loose bits": signature + "#relkit xattr=user.a,AB==\n" + dot,
	} {
		if _, err := Decode(strings.NewReader(text)); err == nil {
			t.Errorf("%s: accepted %q", name, text)
		} else if !strings.HasPrefix(err.Error(), "line ") {
			t.Errorf("%s: error %q names no line", name, err)
		}
	}
}

func TestReaderNamesTheLine(t *testing.T) {
	text := signature + ". type=dir uid=0 gid=0 mode=0755 time=0.000000000\n./a type=dir uid=0 gid=0 mode=9999 time=0.000000000\n"
	_, err := Decode(strings.NewReader(text))
	if want := `line 3: entry "a": bad mode "9999"`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestReaderIsBounded(t *testing.T) {
	endless := io.MultiReader(strings.NewReader(signature), zeros{})
	r := NewReader(endless)
	if _, err := r.Next(); err == nil || !strings.Contains(err.Error(), "bytes in one entry") {
		t.Errorf("an endless line: %v", err)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = 'x'
	}
	return len(b), nil
}

func TestWriterRefuses(t *testing.T) {
	dot := Entry{Path: ".", Kind: Dir}
	for _, bad := range []Entry{
		{Path: "s", Kind: Socket},
		{Path: "f", Kind: File},
		{Path: "f", Kind: Dir, Size: 1},
		{Path: "f", Kind: Symlink, Mode: 0o777},
		{Path: "f", Kind: Symlink, Mode: 0o755, Target: "x"},
		{Path: "f", Kind: FIFO, Mode: 0o10000},
		{Path: "f", Kind: FIFO, Minor: 1},
		{Path: "f", Kind: FIFO, ModTime: Time{Nsec: 1e9}},
		{Path: "../f", Kind: FIFO},
		{Path: "a/b", Kind: FIFO},
		{Path: ".", Kind: Dir},
		{Path: "f", Kind: FIFO, Xattrs: []Xattr{{"b", nil}, {"a", nil}}},
	} {
		w := NewWriter(io.Discard)
		if err := w.Write(&dot); err != nil {
			t.Fatal(err)
		}
		if err := w.Write(&bad); err == nil {
			t.Errorf("wrote %+v", bad)
		}
		if _, err := w.Close(); err == nil {
			t.Errorf("closed after %+v", bad)
		}
	}
}

func TestEscape(t *testing.T) {
	for c := range 256 {
		s := "a" + string([]byte{byte(c)}) + "b"
		got := Escape(s)
		want := s
		if c <= ' ' || c >= 0x7f || strings.ContainsRune(`\#*?[`, rune(c)) {
			want = fmt.Sprintf("a\\%03ob", c)
		}
		if got != want {
			t.Errorf("Escape(%q) = %q, want %q", s, got, want)
		}
		if back, err := Unescape(got); err != nil || back != s {
			t.Errorf("Unescape(%q) = %q, %v", got, back, err)
		}
	}
	for _, bad := range []string{"a b", `a\`, `a\04`, `a\400`, `a\08x`, "é", `\141`} {
		if got, err := Unescape(bad); err == nil {
			t.Errorf("Unescape(%q) = %q", bad, got)
		}
	}
}

func TestCompareIsWalkOrder(t *testing.T) {
	order := []string{".", "a", "a/b", "a/b/c", "a/b-", "a!", "a-b", "a.b", "b"}
	for i, x := range order {
		for j, y := range order {
			if got := Compare(x, y); (got < 0) != (i < j) || (got == 0) != (i == j) {
				t.Errorf("Compare(%q, %q) = %d", x, y, got)
			}
		}
	}
}

func FuzzReader(f *testing.F) {
	text, _ := encode(f, zoo())
	f.Add([]byte(text))
	f.Add([]byte(signature + ". type=dir uid=0 gid=0 mode=0755 time=-1.000000001\n"))
	f.Add([]byte(signature + "#relkit xattr=user.a,AA==\n. type=dir uid=0 gid=0 mode=0755 time=0.000000000\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		var entries []Entry
		var err error
		// An entry takes more room than its line, but not many times as much.
		relkittest.Allocates(t, 1<<20+64*uint64(len(in)), func() { entries, err = Decode(bytes.NewReader(in)) })
		if err != nil {
			return
		}
		if out, _ := encode(t, entries); out != string(in) {
			t.Errorf("read and written again:\n%q\ncame from\n%q", out, in)
		}
	})
}

func FuzzEscape(f *testing.F) {
	f.Add("a b\\")
	f.Add(`\303\251`)
	f.Fuzz(func(t *testing.T, s string) {
		if back, err := Unescape(Escape(s)); err != nil || back != s {
			t.Errorf("Unescape(Escape(%q)) = %q, %v", s, back, err)
		}
		if raw, err := Unescape(s); err == nil && Escape(raw) != s {
			t.Errorf("%q and %q both stand for %q", s, Escape(raw), raw)
		}
	})
}

func BenchmarkWriter(b *testing.B) {
	e := Entry{Path: "usr/share/doc/package/changelog.gz", Kind: File, Mode: 0o644, Size: 1234, Digest: digest.Of(nil)}
	var line []byte
	for b.Loop() {
		line = AppendEntry(line[:0], &e)
	}
	b.SetBytes(int64(len(line)))
}
