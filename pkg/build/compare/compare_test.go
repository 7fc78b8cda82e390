package compare

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/relkit/relkit/pkg/relkittest"
)

func open(t *testing.T, name string) File {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	return File{f, info.Size()}
}

// TestInside: of files that real tools make twice, what differs is found. The script
// runs in the folders "one" and "two", with $1 their names.
func TestInside(t *testing.T) {
	relkittest.Need(t, "gcc", "ar", "tar", "zstd", "jar", "gzip")
	for _, c := range []struct{ name, script, inside, first string }{
		{"text", `echo "built on day $1" >x`, "", "uilt on day one."},
		{"program", `echo "const char *s = \"day $1\"; int main(void) { return s[0]; }" >x.c; gcc -o x x.c`, `section ".rodata"`, "day one."},
		{"library", `echo "const char s[] = \"day $1\";" >x.c; gcc -c x.c; ar rcD x x.o`, `member "x.o/": content at byte 68, section ".rodata"`, "day one."},
		{"library's time", `echo x >f; touch -d @$(echo $1 | wc -m)$([ $1 = one ] && echo 1 || echo 2) f; ar rcU x f`, `member "f/": time`, ""},
		{"tar", `mkdir d; echo same >d/a; echo "day $1" >d/b; tar -cf x --mtime=@1 d/a d/b`, `member "d/b": content at byte 4`, "day one."},
		{"tar's time", `echo same >a; touch -d "2026-01-01 $([ $1 = one ] && echo 1 || echo 2):00:00Z" a; tar -czf x a`, `member "a": time, 2026-01-01T01:00:00Z and 2026-01-01T02:00:00Z`, ""},
		{"tar's mode", `echo same >a; chmod $([ $1 = one ] && echo 644 || echo 664) a; tar -c --mtime=@1 a | zstd -q >x`, `member "a": mode, 0644 and 0664`, ""},
		{"tar's order", `echo >a; echo >b; tar -cf x --mtime=@1 $([ $1 = one ] && echo a b || echo b a)`, `member "a" stands where the second has "b"`, ""},
		{"tar's end", `echo >a; echo >b; tar -cf x --mtime=@1 a $([ $1 = one ] && echo b)`, `member "b" is in the first alone`, ""},
		{"tar's packing", `echo >a; tar -c --mtime=@1 a >t; [ $1 = one ] && gzip -n1 <t >x || gzip -n9 <t >x`, "the packing alone", ""},
		{"jar", `mkdir d; echo "day $1" >d/b; jar --create --file x.jar --no-manifest --date=2026-01-01T00:00:00Z d/b; mv x.jar x`, `member "d/b": content at byte 4`, "day one."},
		{"jar's time", `mkdir d; echo b >d/b; jar --create --file x.jar --no-manifest --date=2026-01-0$([ $1 = one ] && echo 1 || echo 2)T00:00:00Z d/b; mv x.jar x`, `member "d/b": time, 2026-01-01T00:00:00Z and 2026-01-02T00:00:00Z`, ""},
	} {
		dir := t.TempDir()
		for _, side := range []string{"one", "two"} {
			cmd := exec.Command("sh", "-ec", c.script, "sh", side)
			cmd.Dir = filepath.Join(dir, side)
			cmd.Env = append(os.Environ(), "TZ=UTC")
			if err := os.Mkdir(cmd.Dir, 0o755); err != nil {
				t.Fatal(err)
			}
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%s: %v: %s", c.name, err, out)
			}
		}
		one, two := filepath.Join(dir, "one/x"), filepath.Join(dir, "two/x")
		d, err := Files(open(t, one), open(t, two))
		if err != nil || d == nil || d.Inside != c.inside || !strings.Contains(d.First, c.first) || strings.Contains(d.Second, "one") {
			t.Errorf("%s: %+v, %v", c.name, d, err)
			continue
		}
		// cmp(1) counts from 1.
		said, _ := exec.Command("cmp", one, two).CombinedOutput()
		var at int64
		if _, after, ok := strings.Cut(string(said), "byte "); ok {
			for _, r := range after {
				if r < '0' || r > '9' {
					break
				}
				at = at*10 + int64(r-'0')
			}
			if !strings.Contains(string(said), "EOF") {
				at--
			}
		}
		if d.Offset != at {
			t.Errorf("%s: offset %d, cmp says %s", c.name, d.Offset, said)
		}
		if d, err := Files(open(t, one), open(t, one)); err != nil || d != nil {
			t.Errorf("%s with itself: %+v, %v", c.name, d, err)
		}
	}
}

func TestOffsets(t *testing.T) {
	long := bytes.Repeat([]byte("0123456789abcdef"), 10000)
	for _, c := range []struct {
		a, b []byte
		at   int64
	}{
		{nil, nil, -1}, {nil, []byte("x"), 0}, {[]byte("abc"), []byte("abd"), 2}, {long, long[:100000], 100000}, {long[:32<<10], long, 32 << 10},
		{long, append(append([]byte{}, long[:40000]...), 'x'), 40000}, {long, long, -1},
	} {
		d, err := Files(File{bytes.NewReader(c.a), int64(len(c.a))}, File{bytes.NewReader(c.b), int64(len(c.b))})
		if err != nil || (d == nil) != (c.at < 0) || d != nil && d.Offset != c.at {
			t.Errorf("%d and %d bytes: %+v, %v, want %d", len(c.a), len(c.b), d, err, c.at)
		}
	}
}

// FuzzFiles: whatever the bytes, it ends, with the place of the first that differs.
func FuzzFiles(f *testing.F) {
	f.Add([]byte("\x7fELF\x02\x01\x01"), []byte("\x7fELF\x02\x01\x02"))
	f.Add([]byte("!<arch>\nf/              0           0     0     644     2         `\nx\n"), []byte("!<arch>\nf/              0           0     0     644     2         `\ny\n"))
	f.Add([]byte("PK\x03\x04a"), []byte("PK\x03\x04b"))
	f.Add([]byte("\x1f\x8b\x08\x00"), []byte("\x1f\x8b\x08\x01"))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		d, err := Files(File{bytes.NewReader(a), int64(len(a))}, File{bytes.NewReader(b), int64(len(b))})
		want := int64(-1)
		for i := range max(len(a), len(b)) {
			if i >= len(a) || i >= len(b) || a[i] != b[i] {
				want = int64(i)
				break
			}
		}
		switch {
		case err != nil:
			t.Error(err)
		case d == nil && want >= 0 || d != nil && d.Offset != want:
			t.Errorf("%+v, want %d", d, want)
		case d != nil && (len(d.First) > maxShown || len(d.Second) > maxShown):
			t.Errorf("%+v shows too much", d)
		}
	})
}
