package bootenv

import (
	"bytes"
	"slices"
	"testing"
)

// FuzzGRUB: what can be read is written as it was; a variable that is owned is
// found, and nothing else is lost.
func FuzzGRUB(f *testing.F) {
	f.Add("", "v")
	f.Add("saved_entry=a\\\\b\\\nc\n# x\nrelkit_boot=test\n", "te\nst")
	f.Fuzz(func(t *testing.T, lines, value string) {
		if len(grubHead)+len(lines) > GRUBSize {
			return
		}
		b := block(lines)
		g, err := ParseGRUB(b)
		if err != nil {
			return
		}
		out, err := g.Encode()
		if err != nil || !bytes.Equal(b, out) {
			t.Fatalf("got %q, %v, want %q", out, err, b)
		}
		before := len(g.lines)
		if g.Own(Var{"relkit_boot", value}) != nil {
			return
		}
		if v, ok := g.Get("relkit_boot"); !ok || v != value || !g.Owned("relkit_boot") || len(g.lines) > before+2 {
			t.Fatalf("got %q of %q", v, g.lines)
		}
		if out, err = g.Encode(); err != nil {
			return
		}
		again, err := ParseGRUB(out)
		if err != nil || !slices.Equal(again.lines, g.lines) {
			t.Fatalf("got %q, %v, want %q", again.lines, err, g.lines)
		}
	})
}

// FuzzUBoot: what can be read and is written is read as the same.
func FuzzUBoot(f *testing.F) {
	e := &UBoot{Flag: 1}
	e.Set("a", "b")
	for _, redundant := range []bool{false, true} {
		b, err := e.Encode(32, redundant)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, redundant)
	}
	f.Fuzz(func(t *testing.T, b []byte, redundant bool) {
		e, err := ParseUBoot(b, redundant)
		if err != nil {
			return
		}
		out, err := e.Encode(len(b), redundant)
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseUBoot(out, redundant)
		if err != nil || !slices.Equal(again.vars, e.vars) || again.Flag != e.Flag {
			t.Fatalf("got %+v, %v, want %+v", again, err, e)
		}
	})
}

func FuzzUBootConfig(f *testing.F) {
	f.Add([]byte("/dev/mmcblk0 0x100 0x2000\n# x\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		places, err := ParseUBootConfig(b)
		for _, p := range places {
			if err == nil && (p.File == "" || p.Offset < 0 || p.Size < 6) {
				t.Fatalf("got %+v", p)
			}
		}
	})
}

// FuzzEntry: names and files of entries are written as they were.
func FuzzEntry(f *testing.F) {
	f.Add("a+2-1.conf", []byte("title x\nlinux /vmlinuz\n"))
	f.Fuzz(func(t *testing.T, name string, b []byte) {
		if e, err := ParseEntryName(name); err == nil && e.File() != name {
			t.Fatalf("got %q, want %q", e.File(), name)
		}
		s, err := ParseSettings(b)
		if err != nil {
			return
		}
		again, err := ParseSettings(s.Encode())
		if err != nil || !slices.Equal(again, s) {
			t.Fatalf("got %q, %v, want %q", again, err, s)
		}
	})
}
