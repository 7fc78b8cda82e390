package delta

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/klauspost/compress/zstd"
)

// Level is how much work an Encoder does.
type Level uint8

const (
	Best Level = iota // smallest
	Fast
)

// Source is an old file, or a stretch of one, that new content may resemble.
// Several may be of one file.
type Source struct {
	Ordinal int
	// Offset is where Data begins in the file.
	Offset int64
	Data   []byte
}

// Packed is a segment and what reading it takes.
type Packed struct {
	Method int
	Body   []byte
	// Used are the ordinals of the sources that Body copies from.
	Used []int
}

// Encoder packs segments, one after the other. Equal input gives equal output.
//
// What it works with stays between segments, so that its memory is that of the
// largest segment and does not grow with their number: for each byte of the
// target, and of what is packed from it, about one; 8 for each block of the
// sources; and some 64 MiB of zstd.
type Encoder struct {
	zstd *zstd.Encoder
	ix   index
	fine int // the smallest block that is looked for, in bytes
	// ops, whole and apart are the instructions, and the target and they packed.
	ops, whole, apart []byte
	zeros             []byte // the last segment of zeros packed
	zerosOf           int    // and of how many
}

// NewEncoder makes an encoder for one goroutine.
func NewEncoder(l Level) (*Encoder, error) {
	e := &Encoder{fine: 16}
	level := zstd.SpeedBestCompression
	if l == Fast {
		e.fine, level = 64, zstd.SpeedDefault
	}
	var err error
	e.zstd, err = zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(level),
		zstd.WithWindowSize(MaxWindow), zstd.WithEncoderCRC(false))
	if err != nil {
		return nil, fmt.Errorf("starting zstd: %w", err)
	}
	return e, nil
}

// Close frees what the encoder holds.
func (e *Encoder) Close() error { return e.zstd.Close() }

// Encode packs target by the method that makes it smallest. Without sources
// the result never needs an old file. It holds on to neither target nor sources,
// and the result is the caller's.
func (e *Encoder) Encode(target []byte, sources []Source) Packed {
	if len(target) > 0 && allZero(target) {
		return Packed{Method: Zstd, Body: bytes.Clone(e.packZeros(target))}
	}
	best := Packed{Method: Raw, Body: target}
	e.whole = e.zstd.EncodeAll(target, e.whole[:0])
	if len(e.whole) < len(best.Body) {
		best = Packed{Method: Zstd, Body: e.whole}
	}
	if len(sources) > 0 && len(target) > 0 {
		e.ix.build(sources, e.fine)
		m := matcher{ix: &e.ix, target: target, out: e.ops[:0], ends: map[int]int64{}, used: make([]bool, len(sources))}
		m.run()
		e.ops = m.out
		e.apart = e.zstd.EncodeAll(m.out, e.apart[:0])
		if len(e.apart) < len(best.Body) {
			best = Packed{Method: Block, Body: e.apart, Used: m.bases()}
		}
	}
	best.Body = bytes.Clone(best.Body)
	return best
}

// packZeros packs zeros alone, which needs no old file: a large sparse file has
// hundreds of such segments, and all but the last are alike.
func (e *Encoder) packZeros(target []byte) []byte {
	if e.zerosOf != len(target) {
		e.zeros, e.zerosOf = e.zstd.EncodeAll(target, nil), len(target)
	}
	return e.zeros
}

// zeroPage is what runs of zeros are looked for in: shorter ones are like any data.
const zeroPage = 4 << 10

var zeroes [zeroPage]byte

func allZero(b []byte) bool {
	for ; len(b) > zeroPage; b = b[zeroPage:] {
		if !bytes.Equal(b[:zeroPage], zeroes[:]) {
			return false
		}
	}
	return bytes.Equal(b, zeroes[:len(b)])
}

// zeroPageAt tells whether b has a page of zeros at a multiple of the page.
func zeroPageAt(b []byte, at int) bool {
	return at%zeroPage == 0 && len(b)-at >= zeroPage && bytes.Equal(b[at:at+zeroPage], zeroes[:])
}

// maxBlocks bounds the index: with more source bytes, blocks get larger.
const maxBlocks = 4 << 20

// prime multiplies in the rolling hash: h = c0*p^(n-1) + … + c(n-1), modulo 2^64.
const prime = 0x9E3779B185EBCA87

// index finds blocks of the sources by hash. Sources are seen end to end, as
// one stretch of positions.
type index struct {
	sources []Source
	starts  []int // position of each source, and the end
	block   int   // bytes
	out     uint64
	slots   []uint32 // position of a block + 1, at its hash
	shift   uint
}

func (ix *index) build(sources []Source, fine int) {
	ix.sources, ix.starts = sources, ix.starts[:0]
	total := 0
	for i := range sources {
		ix.starts = append(ix.starts, total)
		total += len(sources[i].Data)
	}
	ix.starts = append(ix.starts, total)
	ix.block = fine
	for total/ix.block > maxBlocks {
		ix.block *= 2
	}
	bits := uint(10)
	for 1<<bits < total/ix.block*2 {
		bits++
	}
	ix.shift = 64 - bits
	if cap(ix.slots) < 1<<bits {
		ix.slots = make([]uint32, 1<<bits)
	} else {
		ix.slots = ix.slots[:1<<bits]
		clear(ix.slots)
	}
	ix.out = 1
	for range ix.block {
		ix.out *= prime
	}
	for i := range sources {
		data := sources[i].Data
		for at := 0; at+ix.block <= len(data); at += ix.block {
			if ix.block < zeroPage && zeroPageAt(data, at) {
				at += zeroPage - ix.block // zeros need no old file
				continue
			}
			slot := ix.slot(hash(data[at : at+ix.block]))
			if ix.slots[slot] == 0 { // the first of equal blocks stays
				ix.slots[slot] = uint32(ix.starts[i]+at) + 1
			}
		}
	}
}

func hash(b []byte) uint64 {
	var h uint64
	for _, c := range b {
		h = h*prime + uint64(c) + 1
	}
	return h
}

// roll takes in behind and lets out of the front of a block go.
func (ix *index) roll(h uint64, out, in byte) uint64 {
	return h*prime + uint64(in) + 1 - (uint64(out)+1)*ix.out
}

func (ix *index) slot(h uint64) uint64 { return (h ^ h>>29) * prime >> ix.shift }

// find is the source and the offset in its Data of a block with that hash;
// the bytes may still differ.
func (ix *index) find(h uint64) (source, at int, ok bool) {
	v := ix.slots[ix.slot(h)]
	if v == 0 {
		return 0, 0, false
	}
	pos := int(v - 1)
	lo, hi := 0, len(ix.starts)-1
	for hi-lo > 1 {
		if mid := (lo + hi) / 2; ix.starts[mid] <= pos {
			lo = mid
		} else {
			hi = mid
		}
	}
	return lo, pos - ix.starts[lo], true
}

// matcher turns a target into the instructions of method Block.
type matcher struct {
	ix     *index
	target []byte
	out    []byte
	done   int           // bytes of target that out makes
	ends   map[int]int64 // by ordinal, as the decoder keeps them
	used   []bool
}

// bases are the ordinals of the sources that were copied from, each once.
func (m *matcher) bases() (ordinals []int) {
	for i, used := range m.used {
		if used {
			ordinals = append(ordinals, m.ix.sources[i].Ordinal)
		}
	}
	slices.Sort(ordinals)
	return slices.Compact(ordinals)
}

// How a matcher goes on where a copy ends: the same distance between old and
// new often holds a few changed bytes later.
const (
	resyncAhead = 32 // changed bytes to look past
	resyncMatch = 8  // equal bytes that follow
)

func (m *matcher) run() {
	b, t := m.ix.block, m.target
	at := 0
	var h uint64
	fresh := true
	for at+b <= len(t) {
		if zeroPageAt(t, at) {
			at += zeroPage
			fresh = true
			continue
		}
		if fresh {
			h = hash(t[at : at+b])
			fresh = false
		}
		if source, from, ok := m.ix.find(h); ok {
			if n := common(t[at:], m.ix.sources[source].Data[from:]); n >= b {
				at = m.take(source, from, at, n)
				fresh = true
				continue
			}
		}
		if at+b < len(t) {
			h = m.ix.roll(h, t[at], t[at+b])
		}
		at++
	}
	m.add(len(t))
}

// take copies a match of n bytes, extended to the front, and what follows it at
// the same distance. It answers where the search goes on.
func (m *matcher) take(source, from, at, n int) int {
	data := m.ix.sources[source].Data
	for at > m.done && from > 0 && m.target[at-1] == data[from-1] {
		at, from, n = at-1, from-1, n+1
	}
	for {
		m.add(at)
		m.copy(source, from, n)
		at, from = at+n, from+n
		gap, next := resync(m.target[at:], data[from:])
		if next == 0 {
			return at
		}
		at, from, n = at+gap, from+gap, next
	}
}

// resync looks for a place up to resyncAhead bytes on where t and s are equal
// again: the bytes between and the length that is equal, 0 for none.
func resync(t, s []byte) (gap, n int) {
	for gap = 1; gap <= resyncAhead && gap+resyncMatch <= len(t) && gap+resyncMatch <= len(s); gap++ {
		if binary.LittleEndian.Uint64(t[gap:]) == binary.LittleEndian.Uint64(s[gap:]) {
			return gap, common(t[gap:], s[gap:])
		}
	}
	return 0, 0
}

// add gives the target's bytes up to end as they are.
func (m *matcher) add(end int) {
	if n := end - m.done; n > 0 {
		m.out = binary.AppendUvarint(m.out, uint64(n)<<1)
		m.out = append(m.out, m.target[m.done:end]...)
		m.done = end
	}
}

func (m *matcher) copy(source, from, n int) {
	s := &m.ix.sources[source]
	off := s.Offset + int64(from)
	m.out = binary.AppendUvarint(m.out, uint64(n)<<1|1)
	m.out = binary.AppendUvarint(m.out, uint64(s.Ordinal))
	m.out = binary.AppendVarint(m.out, off-m.ends[s.Ordinal])
	m.ends[s.Ordinal] = off + int64(n)
	m.used[source] = true
	m.done += n
}

// common is how many bytes a and b share from the start.
func common(a, b []byte) int {
	n, i := min(len(a), len(b)), 0
	for i+8 <= n && binary.LittleEndian.Uint64(a[i:]) == binary.LittleEndian.Uint64(b[i:]) {
		i += 8
	}
	for i < n && a[i] == b[i] {
		i++
	}
	return i
}

// MaxSources bounds the source bytes of one segment: positions are 32 bits.
const MaxSources = math.MaxUint32 - 1
