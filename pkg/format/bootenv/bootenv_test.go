package bootenv

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"strings"
	"testing"
)

func block(lines string) []byte {
	b := grubHead + lines
	return []byte(b + strings.Repeat("#", GRUBSize-len(b)))
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestGRUB(t *testing.T) {
	in := block("# WARNING: Do not edit\nsaved_entry=a\\\\b\\\nc\nnext_entry=\n")
	g := must[*GRUB](t)(ParseGRUB(in))
	if v, ok := g.Get("saved_entry"); v != "a\\b\nc" || !ok {
		t.Errorf("got %q", v)
	}
	if v, ok := g.Get("next_entry"); v != "" || !ok {
		t.Errorf("got %q, %v", v, ok)
	}
	if _, ok := g.Get("entry"); ok || g.Owned("relkit_boot") {
		t.Error("found what is not there")
	}
	if out := must[[]byte](t)(g.Encode()); !bytes.Equal(in, out) {
		t.Errorf("got %q", out)
	}
	for name, b := range map[string][]byte{
		"size": in[:1000], "head": bytes.ToUpper(in), "no =": block("abc\n"), "empty name": block("=x\n"), "no end": block("a=b"), "escaped end": block("a=b\\\n"),
	} {
		if _, err := ParseGRUB(b); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestGRUBOwn: after the first time, only the first sector changes, and what
// others keep in the block stays.
func TestGRUBOwn(t *testing.T) {
	g := must[*GRUB](t)(ParseGRUB(block("saved_entry=0\nrelkit_boot=old\nrecordfail=1\n")))
	if err := g.Own(Var{"relkit_boot", "rest"}, Var{"relkit_tries", "0"}); err != nil {
		t.Fatal(err)
	}
	first := must[[]byte](t)(g.Encode())
	if !g.Owned("relkit_boot", "relkit_tries") || g.Owned("relkit_boot") || first[SectorSize-1] != '\n' {
		t.Errorf("the first sector is not filled: %q", first)
	}
	g = must[*GRUB](t)(ParseGRUB(first))
	if err := g.Own(Var{"relkit_boot", "test"}, Var{"relkit_tries", "3"}); err != nil {
		t.Fatal(err)
	}
	second := must[[]byte](t)(g.Encode())
	if bytes.Equal(first[:SectorSize], second[:SectorSize]) || !bytes.Equal(first[SectorSize:], second[SectorSize:]) {
		t.Errorf("got %q then %q", first, second)
	}
	for name, want := range map[string]string{"saved_entry": "0", "recordfail": "1", "relkit_boot": "test", "relkit_tries": "3"} {
		if v, _ := g.Get(name); v != want {
			t.Errorf("%s: got %q, want %q", name, v, want)
		}
	}
	if err := g.Own(Var{"x", strings.Repeat("y", 500)}); err == nil {
		t.Error("more than a sector, and no error")
	}
	if err := g.Own(Var{"a=b", ""}); err == nil {
		t.Error("a bad name, and no error")
	}
	full := must[*GRUB](t)(ParseGRUB(block("kernelopts=" + strings.Repeat("x", 600) + "\n")))
	if err := full.Own(Var{"relkit_boot", "rest"}); err != nil {
		t.Fatal(err)
	}
	if _, err := full.Encode(); err == nil {
		t.Error("more than the block holds, and no error")
	}
}

func TestUBoot(t *testing.T) {
	e := &UBoot{Flag: 7}
	e.Set("bootcount", "0")
	e.Set("bootcmd", "run a=b; boot")
	e.Set("gone", "x")
	e.Set("gone", "")
	for _, redundant := range []bool{false, true} {
		b := must[[]byte](t)(e.Encode(0x100, redundant))
		got := must[*UBoot](t)(ParseUBoot(b, redundant))
		if v, _ := got.Get("bootcmd"); v != "run a=b; boot" || len(got.vars) != 2 || redundant && got.Flag != 7 {
			t.Errorf("got %+v", got)
		}
		b[20] ^= 1
		if _, err := ParseUBoot(b, redundant); err == nil {
			t.Error("a flipped bit, and no error")
		}
	}
	if _, err := e.Encode(20, true); err == nil {
		t.Error("no room, and no error")
	}
	// As mkenvimage(1) makes it: little-endian CRC, padded.
	data := append([]byte("a=1\x00\x00"), bytes.Repeat([]byte{0xff}, 11)...)
	raw := append(binary.LittleEndian.AppendUint32(nil, crc32.ChecksumIEEE(data)), data...)
	if got := must[*UBoot](t)(ParseUBoot(raw, false)); len(got.vars) != 1 {
		t.Errorf("got %+v", got)
	}
	for _, c := range []struct {
		a, b byte
		want int
	}{{1, 0, 0}, {0, 1, 1}, {255, 0, 1}, {0, 255, 0}, {3, 3, -1}} {
		if got := NewerUBoot(c.a, c.b); got != c.want {
			t.Errorf("%d, %d: got %d", c.a, c.b, got)
		}
	}
}

func TestUBootConfig(t *testing.T) {
	got := must[[]UBootPlace](t)(ParseUBootConfig([]byte("# x\n/dev/mmcblk0 0x100000 0x2000 0x2000\n\n/boot/uboot.env\t0 8192\n")))
	if len(got) != 2 || got[0] != (UBootPlace{"/dev/mmcblk0", 0x100000, 0x2000}) || got[1] != (UBootPlace{"/boot/uboot.env", 0, 8192}) {
		t.Errorf("got %+v", got)
	}
	for _, bad := range []string{"", "/dev/x 0\n", "/dev/x -1 8\n", "/dev/x 0 z\n", "a 0 8\nb 0 8\nc 0 8\n"} {
		if _, err := ParseUBootConfig([]byte(bad)); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

func TestEntryName(t *testing.T) {
	for file, want := range map[string]EntryName{
		"a.conf": {Name: "a"}, "a+3.conf": {"a", true, 3, 0}, "a+2-1.conf": {"a", true, 2, 1}, "a+0-3.conf": {"a", true, 0, 3},
		"linux-6.1+deb.conf": {Name: "linux-6.1+deb"}, "a+1-0.conf": {Name: "a+1-0"}, "a+01.conf": {Name: "a+01"}, "+3.conf": {Name: "+3"},
	} {
		if got := must[EntryName](t)(ParseEntryName(file)); got != want || got.File() != file {
			t.Errorf("%s: got %+v, %s", file, got, got.File())
		}
	}
	for _, bad := range []string{"", ".conf", "a", "a/b.conf"} {
		if _, err := ParseEntryName(bad); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

func TestSettings(t *testing.T) {
	s := must[Settings](t)(ParseSettings([]byte("# c\ntimeout 3\r\n default\trelkit-*  \n\neditor\n")))
	if v, _ := s.Get("default"); v != "relkit-*" || string(s.Encode()) != "timeout 3\ndefault relkit-*\neditor\n" {
		t.Errorf("got %q", s.Encode())
	}
	if _, err := ParseSettings([]byte("a \x00\n")); err == nil {
		t.Error("a zero byte, and no error")
	}
}
