package delta

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"github.com/relkit/relkit/pkg/failure"
)

// noise is n bytes that do not compress.
func noise(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func fromSources(sources []Source) Bases {
	return func(ordinal int) (io.ReaderAt, int64, error) {
		for _, s := range sources {
			if s.Ordinal == ordinal {
				return bytes.NewReader(s.Data), int64(len(s.Data)), nil
			}
		}
		return nil, 0, errors.New("no such base")
	}
}

// Decode is one segment's decoding, from nothing.
func Decode(method int, segment []byte, output int64, bases Bases, w io.Writer) error {
	var d Decoder
	defer d.Close()
	return d.Decode(method, segment, output, bases, w)
}

func encode(t testing.TB, l Level, target []byte, sources []Source) Packed {
	t.Helper()
	e, err := NewEncoder(l)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	return e.Encode(target, sources)
}

func decode(t testing.TB, p Packed, output int, bases Bases) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Decode(p.Method, p.Body, int64(output), bases, &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestRoundTrip(t *testing.T) {
	old, other := noise(1, 300_000), noise(2, 50_000)
	edited := bytes.Clone(old)
	for i := 100; i < len(edited); i += 1000 {
		edited[i]++ // a byte here and there, as relinking does
	}
	moved := append(append(bytes.Clone(other[10_000:]), []byte("between")...), old[100_000:]...)
	cases := map[string]struct {
		target  []byte
		sources []Source
		method  int
		most    int // bytes of body
		used    int
	}{
		"noise":         {noise(3, 10_000), nil, Raw, 10_000, 0},
		"text":          {bytes.Repeat([]byte("a line of text\n"), 1000), nil, Zstd, 200, 0},
		"noise, source": {noise(3, 10_000), []Source{{Ordinal: 0, Data: old}}, Raw, 10_000, 0},
		"same":          {old, []Source{{Ordinal: 0, Data: old}}, Block, 40, 1},
		"edited":        {edited, []Source{{Ordinal: 7, Data: old}}, Block, 3_000, 1},
		"moved":         {moved, []Source{{Ordinal: 2, Data: old}, {Ordinal: 5, Data: other}, {Ordinal: 6, Data: noise(9, 5000)}}, Block, 60, 2},
		"one byte":      {[]byte{1}, []Source{{Ordinal: 0, Data: old}}, Raw, 1, 0},
		"empty source":  {noise(3, 100), []Source{{Ordinal: 0}}, Raw, 100, 0},
	}
	for name, c := range cases {
		for _, level := range []Level{Best, Fast} {
			p := encode(t, level, c.target, c.sources)
			if got := decode(t, p, len(c.target), fromSources(c.sources)); !bytes.Equal(got, c.target) {
				t.Errorf("%s, level %d: came back changed", name, level)
			}
			if p.Method != c.method || len(p.Body) > c.most || len(p.Used) != c.used {
				t.Errorf("%s, level %d: method %d, %d bytes, uses %v: want %d, %d, %d bases", name, level, p.Method, len(p.Body), p.Used, c.method, c.most, c.used)
			}
		}
	}
}

// TestWindow: a source may be a stretch of a large file.
func TestWindow(t *testing.T) {
	old := noise(1, 100_000)
	p := encode(t, Best, old[40_000:90_000], []Source{{Ordinal: 0, Offset: 30_000, Data: old[30_000:]}})
	got := decode(t, p, 50_000, fromSources([]Source{{Ordinal: 0, Data: old}}))
	if p.Method != Block || !bytes.Equal(got, old[40_000:90_000]) {
		t.Errorf("method %d, %d bytes", p.Method, len(p.Body))
	}
}

// TestSameBytes: an encoder that has been used gives what a new one gives.
func TestSameBytes(t *testing.T) {
	e, err := NewEncoder(Best)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	old := noise(1, 200_000)
	target := append(bytes.Clone(old[50_000:]), old[:50_000]...)
	first := e.Encode(target, []Source{{Data: old}})
	e.Encode(noise(5, 400_000), []Source{{Data: noise(6, 1_000_000)}})
	if again := e.Encode(target, []Source{{Data: old}}); !bytes.Equal(first.Body, again.Body) {
		t.Error("the second time gave other bytes")
	}
}

// TestDecodeRefuses: what is wrong with a segment is said as that.
func TestDecodeRefuses(t *testing.T) {
	e, err := NewEncoder(Best)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	pack := func(b ...byte) []byte { return e.zstd.EncodeAll(b, nil) }
	base := Source{Ordinal: 0, Data: noise(1, 100)}
	for name, c := range map[string]struct {
		method int
		body   []byte
		output int64
	}{
		"unknown method":     {9, nil, 0},
		"raw short":          {Raw, []byte("ab"), 3},
		"raw long":           {Raw, []byte("ab"), 1},
		"zstd garbage":       {Zstd, []byte("garbage"), 7},
		"zstd short":         {Zstd, pack('a', 'b'), 3},
		"zstd long":          {Zstd, pack('a', 'b'), 1},
		"zstd cut":           {Zstd, pack(noise(1, 9000)...)[:4000], 9000},
		"add of nothing":     {Block, pack(0), 1},
		"copy of nothing":    {Block, pack(1, 0, 0), 1},
		"add too much":       {Block, pack(4, 'a', 'b'), 1},
		"add cut":            {Block, pack(4, 'a'), 2},
		"ends early":         {Block, pack(2, 'a'), 2},
		"goes on":            {Block, pack(2, 'a', 2, 'b'), 1},
		"copy beyond":        {Block, pack(10<<1|1, 0, 95<<1&0x7f|0x80, 1), 10},
		"copy before":        {Block, pack(1<<1|1, 0, 1), 1},
		"length overflows":   {Block, pack(0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1), 10},
		"varint overflows":   {Block, pack(0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1), 10},
		"move overflows":     {Block, pack(3, 0, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1), 1},
		"ordinal overflows":  {Block, pack(3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0), 1},
		"copy without move":  {Block, pack(3, 0), 1},
		"copy without base":  {Block, pack(3), 1},
		"instructions empty": {Block, pack(), 1},
	} {
		err := Decode(c.method, c.body, c.output, fromSources([]Source{base}), io.Discard)
		if failure.Of(err) != failure.Untrusted {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestDecodePassesErrors: a full disk is not a bad patch.
func TestDecodePassesErrors(t *testing.T) {
	full := errors.New("no space left")
	old := noise(1, 1000)
	for _, p := range []Packed{
		encode(t, Best, noise(2, 1000), nil), encode(t, Best, make([]byte, 1000), nil), encode(t, Best, old, []Source{{Data: old}}),
	} {
		err := Decode(p.Method, p.Body, 1000, fromSources([]Source{{Data: old}}), failing{full})
		if !errors.Is(err, full) || failure.Of(err) != failure.Failed {
			t.Errorf("method %d: %v", p.Method, err)
		}
	}
	p := encode(t, Best, old, []Source{{Data: old}})
	if err := Decode(p.Method, p.Body, 1000, fromSources([]Source{{Ordinal: 1}}), io.Discard); failure.Of(err) != failure.Failed || err == nil {
		t.Errorf("missing base: %v", err)
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

// TestFewOpenFiles: a base may be closed as soon as another is asked for.
func TestFewOpenFiles(t *testing.T) {
	var target []byte
	var sources []Source
	for i := range 5 {
		sources = append(sources, Source{Ordinal: i, Data: noise(uint64(i), 1000)})
	}
	for i := range 20 {
		target = append(target, sources[i%5].Data[i*40:i*40+200]...)
	}
	p := encode(t, Best, target, sources)
	if p.Method != Block {
		t.Fatalf("method %d", p.Method)
	}
	open := fromSources(sources)
	var last *closable
	one := func(n int) (io.ReaderAt, int64, error) {
		if last != nil {
			last.ReaderAt = nil
		}
		r, size, err := open(n)
		last = &closable{r}
		return last, size, err
	}
	if got := decode(t, p, len(target), one); !bytes.Equal(got, target) {
		t.Error("came back changed")
	}
}

type closable struct{ io.ReaderAt }

// TestDecodeMemory: a base of any size is read by offset, and a long output is
// not held.
func TestDecodeMemory(t *testing.T) {
	const n = 64 << 20
	var body []byte
	{
		e, err := NewEncoder(Fast)
		if err != nil {
			t.Fatal(err)
		}
		body = e.zstd.EncodeAll([]byte{0x81, 0x80, 0x80, 0x40, 0, 0}, nil) // copy 64 MiB of base 0
		e.Close()
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var got counter
	err := Decode(Block, body, n, func(int) (io.ReaderAt, int64, error) { return zeros{}, 1 << 40, nil }, &got)
	runtime.ReadMemStats(&after)
	if err != nil || got != n {
		t.Fatalf("%d bytes, %v", got, err)
	}
	if used := after.TotalAlloc - before.TotalAlloc; used > 4<<20 {
		t.Errorf("%d bytes allocated", used)
	}
}

type counter int

func (c *counter) Write(b []byte) (int, error) { *c += counter(len(b)); return len(b), nil }

type zeros struct{}

func (zeros) ReadAt(b []byte, _ int64) (int, error) { clear(b); return len(b), nil }

func FuzzDecode(f *testing.F) {
	old := noise(1, 1000)
	e, err := NewEncoder(Fast)
	if err != nil {
		f.Fatal(err)
	}
	defer e.Close()
	f.Add(uint8(Block), e.Encode(append(old[500:900:900], old[:300]...), []Source{{Data: old}}).Body, false)
	f.Add(uint8(Block), []byte{21, 0, 0, 4, 'a', 'b'}, true)
	f.Add(uint8(Zstd), []byte("plain"), true)
	good := e.Encode(old, nil)
	var d Decoder
	defer d.Close()
	f.Fuzz(func(t *testing.T, method uint8, body []byte, pack bool) {
		if pack { // so that the fuzzer need not find out about zstd
			body = e.zstd.EncodeAll(body, nil)
		}
		const most = 100_000
		var got counter
		err := d.Decode(int(method), body, most, fromSources([]Source{{Data: old}}), &got)
		if got > most || err == nil && got != most {
			t.Fatalf("%d bytes of output, %v", got, err)
		}
		// Whatever that was, the decoder is as good as new.
		var again bytes.Buffer
		if err := d.Decode(good.Method, good.Body, int64(len(old)), nil, &again); err != nil || !bytes.Equal(again.Bytes(), old) {
			t.Fatalf("the next segment: %v", err)
		}
	})
}

func FuzzRoundTrip(f *testing.F) {
	f.Add([]byte("the old text of a file\n"), []byte("the new text of a file\n"), uint8(4), uint16(0))
	f.Add(noise(1, 200), noise(1, 300), uint8(0), uint16(9000))
	e, err := NewEncoder(Best)
	if err != nil {
		f.Fatal(err)
	}
	defer e.Close()
	e.fine = 4
	f.Fuzz(func(t *testing.T, old, target []byte, cut uint8, hole uint16) {
		at := min(int(cut), len(old))
		// A hole in both: the sources end at it and go on behind it, in the same file.
		middle := min(int(cut), len(target))
		target = slices.Concat(target[:middle], make([]byte, hole), target[middle:])
		file := slices.Concat(old[:at], make([]byte, hole), old[at:])
		sources := []Source{{Ordinal: 1, Data: file[:at]}, {Ordinal: 1, Offset: int64(at) + int64(hole), Data: old[at:]}, {Ordinal: 4, Data: file[at:]}}
		bases := fromSources([]Source{{Ordinal: 1, Data: file}, sources[2]})
		p := e.Encode(target, sources)
		if got := decode(t, p, len(target), bases); !bytes.Equal(got, target) {
			t.Fatal("came back changed")
		}
		// The instructions themselves, even where packing them is not worth it.
		e.ix.build(sources, 4)
		m := matcher{ix: &e.ix, target: target, ends: map[int]int64{}, used: make([]bool, 3)}
		m.run()
		p = Packed{Method: Block, Body: e.zstd.EncodeAll(m.out, nil)}
		if got := decode(t, p, len(target), bases); !bytes.Equal(got, target) {
			t.Fatal("instructions came back changed")
		}
	})
}

// TestZeros: long zeros cost next to nothing, wherever they stand, and need no
// old file; what is between them is still found in the old one.
func TestZeros(t *testing.T) {
	const n = 16 << 20
	data := noise(1, 300_000)
	target := make([]byte, n)
	copy(target[5<<20:], data)
	copy(target[9<<20+123:], data)
	old := make([]byte, n)
	copy(old[1<<20:], data)
	stretches := []Source{{Ordinal: 7, Data: old[:1<<19]}, {Ordinal: 7, Offset: 1 << 20, Data: old[1<<20 : 2<<20]}}
	for name, sources := range map[string][]Source{"whole": {{Ordinal: 7, Data: old}}, "in stretches": stretches} {
		p := encode(t, Best, target, sources)
		if len(p.Body) > 4096 || p.Method != Block || !slices.Equal(p.Used, []int{7}) {
			t.Errorf("%s: %d bytes by method %d from %d", name, len(p.Body), p.Method, p.Used)
		}
		if got := decode(t, p, n, fromSources([]Source{{Ordinal: 7, Data: old}})); !bytes.Equal(got, target) {
			t.Errorf("%s: came back changed", name)
		}
	}
	e, err := NewEncoder(Best)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	for _, size := range []int{n, 1, n, zeroPage, zeroPage + 1, 3 * zeroPage} {
		p := e.Encode(make([]byte, size), stretches)
		if p.Method == Block || len(p.Used) > 0 || len(p.Body) > 1000 {
			t.Errorf("%d zeros: %d bytes by method %d", size, len(p.Body), p.Method)
		}
		if got := decode(t, p, size, nil); !bytes.Equal(got, make([]byte, size)) {
			t.Errorf("%d zeros came back changed", size)
		}
		clear(p.Body) // it is the caller's
	}
}

// TestDecoderMemory: a decoder allocates for the first of many segments.
func TestDecoderMemory(t *testing.T) {
	text := bytes.Repeat(noise(1, 1<<20), 16)
	p := encode(t, Fast, text, nil)
	var d Decoder
	defer d.Close()
	var before, after runtime.MemStats
	for i := range 5 {
		if i == 1 {
			runtime.ReadMemStats(&before)
		}
		var got counter
		if err := d.Decode(p.Method, p.Body, int64(len(text)), nil, &got); err != nil || int(got) != len(text) {
			t.Fatalf("%d bytes, %v", got, err)
		}
	}
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > 1<<20 {
		t.Errorf("%d bytes allocated", used)
	}
}

// TestEncoderMemory: an encoder allocates for the first of many segments, and
// then little more than what it hands out.
func TestEncoderMemory(t *testing.T) {
	e, err := NewEncoder(Fast)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	old := noise(1, 8<<20)
	target := slices.Concat(old[4<<20:], noise(2, 1<<20), old[:4<<20])
	e.Encode(target, []Source{{Data: old}})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	const rounds = 5
	out := 0
	for range rounds {
		out += len(e.Encode(target, []Source{{Data: old}}).Body)
	}
	runtime.ReadMemStats(&after)
	if used := int(after.TotalAlloc-before.TotalAlloc) - out; used > rounds<<20 {
		t.Errorf("%d bytes allocated beside the %d handed out", used, out)
	}
}

func BenchmarkEncode(b *testing.B) {
	old := noise(1, 16<<20)
	target := append(bytes.Clone(old[8<<20:]), old[:8<<20]...)
	e, err := NewEncoder(Fast)
	if err != nil {
		b.Fatal(err)
	}
	defer e.Close()
	b.SetBytes(int64(len(target)))
	for b.Loop() {
		e.Encode(target, []Source{{Data: old}})
	}
}
