package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/relkit/relkit/pkg/format/delta"
	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/format/patch"
)

// forgery is a patch whose entries and header nobody has checked. Every digest
// in it is right, as a signer's would be who means harm or has a broken tool.
type forgery struct {
	text     string // the entries, after their first line
	segments []forgedSegment
	// header changes what the rest adds up to; raw replaces the packed entries.
	header func(*patch.Header)
	raw    []byte
}

type forgedSegment struct {
	method int
	body   []byte
	output int64
}

const entriesHead = "#relkit-entries v1\n"

func (f forgery) patch(t *testing.T) []byte {
	t.Helper()
	text := entriesHead + f.text
	entries := f.raw
	if entries == nil {
		entries = zstdOf(t, []byte(text))
	}
	h := patch.Header{
		Schema: patch.Schema, ID: "forged", Product: "fw", Reboot: patch.RebootNone, Created: treeTime.Truncate(time.Second),
		From: &patch.Side{Version: "1", Tree: digest.Of([]byte("old"))}, To: patch.Side{Version: "2", Tree: digest.Of([]byte("new"))},
		Sizes: patch.Sizes{EntriesBytes: int64(len(text))},
	}
	var payload []byte
	for _, s := range f.segments {
		payload = append(payload, s.body...)
		h.Segments = append(h.Segments, patch.Segment{Length: int64(len(s.body)), Digest: digest.Of(s.body), Method: s.method, Output: s.output})
		h.Sizes.NewBytes += s.output
	}
	paths := map[string]bool{}
	for line := range strings.Lines(f.text) {
		if line[0] != 'b' { // a base is no entry
			paths[strings.Fields(line[1:])[0]] = true
		}
		if strings.Contains(line, " content=") {
			h.Sizes.Files++
		}
	}
	h.Sizes.Entries, h.Sizes.PayloadBytes = int64(len(paths)), int64(len(payload))
	h.Members = []patch.Member{
		{Name: "entries", Size: int64(len(entries)), Digest: digest.Of(entries)},
		{Name: "payload", Size: int64(len(payload)), Digest: digest.Of(payload)},
	}
	if f.header != nil {
		f.header(&h)
	}
	raw, err := h.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return joined(rawMember("patch.json", '0', raw), rawMember("entries", '0', entries), rawMember("payload", '0', payload))
}

func zstdOf(t *testing.T, b []byte) []byte {
	t.Helper()
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderCRC(false))
	if err != nil {
		t.Fatal(err)
	}
	defer enc.Close()
	return enc.EncodeAll(b, nil)
}

// side is one side of a change to path: '+' or '-', kind and what describes it.
func side(sign byte, path, kind, rest string) string {
	return fmt.Sprintf("%c./%s type=%s uid=0 gid=0 mode=0644 time=1767225600.123456789%s\n", sign, manifest.Escape(path), kind, rest)
}

// empty makes an empty file.
func empty(path string) string {
	return side('+', path, "file", " size=0 sha256digest="+digest.Of(nil).Hex())
}

func TestForgedPatchApplies(t *testing.T) {
	b := newBadBox(t)
	good := forgery{text: empty("lib")}.patch(t)
	if errs, status := b.apply(t, good, false, "--insecure-unsigned"); status != 0 {
		t.Fatalf("what the tests forge is wrong in more than they say: status %d\n%s", status, errs)
	}
}

// Names that lead out of the tree, or stand for another.
func TestBadPaths(t *testing.T) {
	b := newBadBox(t)
	for _, path := range []string{
		"..", "../x", "bin/../../x", "bin/../x", "bin/..", "/x", "/etc/x", b.path("x"), "./x", "bin/./x", "x/", "bin//x", "x/.", "x\x00y", strings.Repeat("x", 256),
	} {
		b.refuses(t, fmt.Sprintf("%q", path), forgery{text: empty(path)}.patch(t), 5, "reading entries: line 2", "--insecure-unsigned")
	}
	for _, line := range []string{"/x", "x", "../x", "", "././x", "./\\056\\056/x", `./\057x`} {
		text := strings.Replace(empty("x"), "./x", line, 1)
		if line == "" {
			text = strings.Replace(empty("x"), "./x ", "", 1)
		}
		b.refuses(t, "raw "+line, forgery{text: text}.patch(t), 5, "reading entries: line 2", "--insecure-unsigned")
	}
	b.outside(t)
}

// outside wants nothing beside the box's own files.
func (b *badBox) outside(t *testing.T) {
	t.Helper()
	names, err := os.ReadDir(b.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if !strings.Contains(" allowed bad.rkp key m new old p.rkp outside ", " "+n.Name()+" ") {
			t.Errorf("%s came from somewhere", n.Name())
		}
	}
}

// Places that lead out of the tree by what is in it, and relkit's own.
func TestBadPlaces(t *testing.T) {
	b := newBadBox(t)
	b.sh(t, `
mkdir outside && echo secret >outside/secret
ln -s "$PWD/outside" old/out; ln -s ../outside old/rel; ln -s bin old/within; ln -s nowhere old/dangling; ln -s self old/self
find old -exec touch -h -d '2026-01-01 00:00:00.123456789Z' {} +`)
	b.fresh(t)
	b.old = manifestOf(t, b.path("old"))
	outside := manifestOf(t, b.path("outside"))
	secret := " size=7 sha256digest=" + digest.Of([]byte("secret\n")).Hex()
	dir := func(sign byte, path string) string {
		return strings.Replace(side(sign, path, "dir", ""), "mode=0644", "mode=0755", 1)
	}
	link := func(sign byte, path, to string) string {
		return strings.Replace(side(sign, path, "link", " link="+to), "mode=0644", "mode=0777", 1)
	}
	for _, c := range []struct {
		what, text, want string
		status           int
	}{
		{"through an absolute link", empty("out/x"), `"out/x"`, 4},
		{"through a relative link", empty("rel/x"), `"rel/x"`, 4},
		{"through a link within the tree", empty("within/x"), `"within/x"`, 4},
		{"through a dangling link", empty("dangling/x"), `"dangling/x"`, 4},
		{"through a link to itself", empty("self/x"), `"self/x"`, 4},
		{"replace behind a link", side('-', "out/secret", "file", secret) + empty("out/secret"), `"out/secret"`, 4},
		{"delete behind a link", side('-', "out/secret", "file", secret), `"out/secret"`, 4},
		{"copy from behind a link", "base 0 ./out/secret" + secret + "\n" + side('+', "x", "file", secret+" base=0"), `out/secret`, 4},
		{"below a file", empty("bin/fw/x"), `bin/fw/x: "bin/fw" is a file, not a folder`, 4},
		{"in no folder", empty("nowhere/x"), `nowhere/x: its folder does not exist`, 4},
		{"below a link of its own", link('+', "a", b.path("outside")) + empty("a/x"), `entry "a/x": "a" is no folder afterwards`, 5},
		{"below a file of its own", empty("a") + empty("a/x"), `entry "a/x": "a" is no folder afterwards`, 5},
		{"below what it removes", link('-', "run", "bin/fw") + empty("run/x"), `entry "run/x": "run" is no folder afterwards`, 5},
		{"below a folder it turns into a link", dir('-', "etc") + link('+', "etc", b.path("outside")) + empty("etc/x"), `entry "etc/x": "etc" is no folder afterwards`, 5},
		{"the slots", dir('+', ".relkit") + empty(".relkit/x"), `".relkit"`, 4},
		{"slots deeper", dir('+', "bin/.relkit"), `"bin/.relkit"`, 4},
		{"the state", dir('+', "var/lib/relkit"), `"var/lib/relkit"`, 4},
		{"version.json", empty("var/lib/relkit/version.json"), `"var/lib/relkit/version.json"`, 4},
		{"the folder of the state, turned into a link", dir('-', "var/lib") + link('+', "var/lib", "/outside"), `var/lib: would become a link`, 4},
	} {
		b.refuses(t, c.what, forgery{text: c.text}.patch(t), c.status, c.want, "--insecure-unsigned")
		if manifestOf(t, b.path("outside")) != outside {
			t.Fatalf("%s: outside was changed", c.what)
		}
	}
	b.outside(t)
}

// content is a change of bin/fw to what is said to be of size and digest, at
// offset 0 of the output.
func content(size int, d digest.Digest) string {
	exe := func(sign byte, rest string) string {
		return strings.Replace(side(sign, "bin/fw", "file", rest), "mode=0644", "mode=0755", 1)
	}
	return exe('-', " size=4 sha256digest="+digest.Of([]byte("one\n")).Hex()) +
		exe('+', fmt.Sprintf(" size=%d sha256digest=%s content=0", size, d.Hex()))
}

// Sizes and digests that are not those of what they are about.
func TestLyingSizes(t *testing.T) {
	b := newBadBox(t)
	two := []byte("two\n")
	right := forgery{text: content(4, digest.Of(two)), segments: []forgedSegment{{delta.Raw, two, 4}}}
	if errs, status := b.apply(t, right.patch(t), false, "--insecure-unsigned"); status != 0 {
		t.Fatalf("status %d\n%s", status, errs)
	}
	b.fresh(t)
	with := func(change func(*patch.Header)) forgery { f := right; f.header = change; return f }
	packed := func(method int, body []byte, output int) forgery {
		return forgery{text: content(output, digest.Of(two)), segments: []forgedSegment{{method, body, int64(output)}}}
	}
	zeros := make([]byte, 32<<20)
	for _, c := range []struct {
		what, want string
		f          forgery
	}{
		{"entries", "the header has 2", with(func(h *patch.Header) { h.Sizes.Entries++ })},
		{"files", "the header has 1, 2", with(func(h *patch.Header) { h.Sizes.Files++ })},
		{"more text", "the header has", with(func(h *patch.Header) { h.Sizes.EntriesBytes++ })},
		{"less text", "reading entries", with(func(h *patch.Header) { h.Sizes.EntriesBytes-- })},
		{"no text", "reading entries", with(func(h *patch.Header) { h.Sizes.EntriesBytes = 0 })},
		{"negative text", "entries_bytes -1", with(func(h *patch.Header) { h.Sizes.EntriesBytes = -1 })},
		{"endless text", "entries_bytes", with(func(h *patch.Header) { h.Sizes.EntriesBytes = 1 << 40 })},
		{"new bytes", "new_bytes 5", with(func(h *patch.Header) { h.Sizes.NewBytes++ })},
		{"payload bytes", "payload_bytes 5", with(func(h *patch.Header) { h.Sizes.PayloadBytes++ })},
		{"length of a segment", "payload of 4", with(func(h *patch.Header) { h.Segments[0].Length++ })},
		{"length of all", `member "payload" before offset`, with(func(h *patch.Header) { h.Segments[0].Length++; h.Members[1].Size++; h.Sizes.PayloadBytes++ })},
		{"output of a segment", "new_bytes 4", with(func(h *patch.Header) { h.Segments[0].Output++ })},
		{"output of all", "the header has", with(func(h *patch.Header) { h.Segments[0].Output++; h.Sizes.NewBytes++ })},
		{"huge output", "segment 0", with(func(h *patch.Header) { h.Segments[0].Output = 1 << 40; h.Sizes.NewBytes = 1 << 40 })},
		{"negative length", "segment 0", with(func(h *patch.Header) { h.Segments[0].Length = -1 })},
		{"size of a member", `member "entries" before offset`, with(func(h *patch.Header) { h.Members[0].Size++ })},
		{"huge member", `members: "entries": bad size`, with(func(h *patch.Header) { h.Members[0].Size = 1 << 62 })},
		{"digest of entries", `member "entries"`, with(func(h *patch.Header) { h.Members[0].Digest = digest.Of(nil) })},
		{"digest of the payload", `member "payload"`, with(func(h *patch.Header) { h.Members[1].Digest = digest.Of(nil) })},
		{"digest of a segment", "segment 0", with(func(h *patch.Header) { h.Segments[0].Digest = digest.Of(nil) })},
		{"raw bytes too few", "4 raw bytes, want 5", packed(delta.Raw, two, 5)},
		{"raw bytes too many", "4 raw bytes, want 3", packed(delta.Raw, two, 3)},
		{"unpacks to less", "unpacking", packed(delta.Zstd, zstdOf(t, two), 5)},
		{"unpacks to more", "unpacking", packed(delta.Zstd, zstdOf(t, zeros), 5)},
		{"not packed", "unpacking", packed(delta.Zstd, two, 4)},
		{"no instructions", "unpacking", packed(delta.Block, zstdOf(t, bytes.Repeat([]byte{0xff}, 100)), 4)},
		{"content of another file", "bin/fw", packed(delta.Raw, []byte("bad\n"), 4)},
		{"a line without end", "bytes in one line", forgery{raw: zstdOf(t, append([]byte(entriesHead), bytes.Repeat([]byte("x"), 32<<20)...)),
			header: func(h *patch.Header) { h.Sizes.EntriesBytes = 1 << 30 }}},
		{"text that is not packed", "reading entries", forgery{raw: []byte(entriesHead)}},
	} {
		b.refuses(t, c.what, c.f.patch(t), 5, c.want, "--insecure-unsigned")
	}
	long := rawMember("patch.json", '0', make([]byte, 1))
	copy(long, tarHeaderOf("patch.json", 1<<33-1))
	b.refuses(t, "patch.json of 8 GiB", long, 5, "at most 16777216")
	good := b.patch[membersOf(t, b.patch)[1].start:]
	b.refuses(t, "patch.json over 16 MiB", append(rawMember("patch.json", '0', make([]byte, 16<<20+1)), good...), 5, "at most 16777216")
}

// tarHeaderOf is the header of a member that is said to be of size.
func tarHeaderOf(name string, size int64) []byte {
	h := rawMember(name, '0', nil)
	copy(h[124:], fmt.Sprintf("%011o", size))
	copy(h[148:], "        ")
	sum := 0
	for _, c := range h {
		sum += int(c)
	}
	copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
	return h
}
