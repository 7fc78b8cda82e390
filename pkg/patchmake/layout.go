package patchmake

import (
	"slices"
	"strings"

	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/glob"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/format/patch"
)

const (
	// segmentOutput is where a segment is full, in bytes of output.
	segmentOutput = 16 << 20
	// segmentSources bounds the old bytes that one segment is compared with.
	segmentSources = 64 << 20
)

// content is the bytes of one or more new files.
type content struct {
	path   string // the first of them, in the new tree
	size   int64
	digest digest.Digest
	// whole says that no old file may be needed to make it.
	whole bool
	// base is the old file it resembles, nil for none.
	base *manifest.Entry
	// changes are the indexes of the files.
	changes []int
	// holes are the bytes that are no data but long runs of zeros.
	holes int64
}

// piece is a stretch of a content in a segment.
type piece struct {
	*content
	from, size int64
}

// stretch is a part of an old file that a segment is compared with.
type stretch struct {
	*manifest.Entry
	ordinal    int
	from, size int64
}

// segment is what is packed together.
type segment struct {
	pieces  []piece
	output  int64
	sources []stretch
	seen    map[string]bool
	held    int64 // bytes of sources
}

// layout says where every new byte comes from.
type layout struct {
	changes  []patch.Change
	contents []*content
	segments []*segment
	// ordinals number the old files that are or may be copied from, by path.
	ordinals map[string]int
	bases    []*manifest.Entry // by ordinal
	wanted   map[int]bool      // ordinals that the patch needs for sure
}

// lay decides for each new file where its bytes come from: the file that is
// there, another old file that is equal, or the payload. Files that match
// config, and all of a full patch, get their bytes from the payload alone.
func lay(changes []patch.Change, old []manifest.Entry, config glob.Set) *layout {
	l := &layout{changes: changes, ordinals: map[string]int{}, wanted: map[int]bool{}}
	from := newBaseFinder(old, config)
	known := map[digest.Digest]*content{}
	for i := range changes {
		c := &changes[i]
		if c.New == nil || c.New.Kind != manifest.File || c.New.Size == 0 || sameContent(c.Old, c.New) {
			continue
		}
		whole := from.none || config.Covers(c.New.Path)
		if !whole {
			if e := from.equal[c.New.Digest]; e != nil && e.Size == c.New.Size {
				c.Base = l.ordinal(e)
				l.wanted[c.Base] = true
				continue
			}
		}
		k := known[c.New.Digest]
		if k == nil {
			k = &content{path: c.New.Path, size: c.New.Size, digest: c.New.Digest, base: from.find(c)}
			known[c.New.Digest] = k
			l.contents = append(l.contents, k)
		}
		k.whole = k.whole || whole
		k.changes = append(k.changes, i)
	}
	l.cut()
	return l
}

// sameContent tells whether new has the bytes that the file old has.
func sameContent(old, new *manifest.Entry) bool {
	return old != nil && old.Kind == manifest.File && old.Size == new.Size && old.Digest == new.Digest
}

// cut gives each content its place in the output, whole ones first and in
// segments of their own, and cuts the output into segments.
func (l *layout) cut() {
	slices.SortStableFunc(l.contents, func(a, b *content) int {
		switch {
		case a.whole == b.whole:
			return 0
		case a.whole:
			return -1
		}
		return 1
	})
	var offset int64
	var s *segment
	for i, c := range l.contents {
		if i > 0 && c.whole != l.contents[i-1].whole {
			s = nil
		}
		for _, n := range c.changes {
			l.changes[n].Content = offset
		}
		offset += c.size
		for from := int64(0); from < c.size; {
			if s == nil || s.output >= segmentOutput || s.held+s.sourceSize(c) > segmentSources {
				s = &segment{seen: map[string]bool{}}
				l.segments = append(l.segments, s)
			}
			p := piece{content: c, from: from, size: min(c.size-from, segmentOutput-s.output)}
			s.pieces = append(s.pieces, p)
			s.output += p.size
			from += p.size
			l.source(s, p)
		}
	}
}

// sourceSize is how many old bytes a piece of c is compared with that s has not
// got yet.
func (s *segment) sourceSize(c *content) int64 {
	if c.whole || c.base == nil || s.seen[c.base.Path] {
		return 0
	}
	return min(c.base.Size, segmentSources)
}

// source adds what p resembles to what its segment is compared with: the old
// file, of a large one the stretch around the same place.
func (l *layout) source(s *segment, p piece) {
	size := s.sourceSize(p.content)
	if size == 0 {
		return
	}
	e := p.base
	s.seen[e.Path] = true
	st := stretch{Entry: e, ordinal: l.ordinal(e), size: size}
	if e.Size > size {
		middle := int64(float64(p.from+p.size/2) / float64(p.content.size) * float64(e.Size))
		st.from = max(0, min(middle-size/2, e.Size-size))
	}
	s.sources = append(s.sources, st)
	s.held += size
}

func (l *layout) ordinal(e *manifest.Entry) int {
	n, ok := l.ordinals[e.Path]
	if !ok {
		n = len(l.bases)
		l.ordinals[e.Path] = n
		l.bases = append(l.bases, e)
	}
	return n
}

// noteHoles says of each new file what room it does not need.
func (l *layout) noteHoles() {
	for _, c := range l.contents {
		for _, n := range c.changes {
			l.changes[n].Holes = c.holes
		}
	}
}

// used lists the bases that the patch copies from, in the end.
func (l *layout) used() []patch.Base {
	var bases []patch.Base
	for n, e := range l.bases {
		if l.wanted[n] {
			bases = append(bases, patch.Base{Ordinal: n, Path: e.Path, Size: e.Size, Digest: e.Digest})
		}
	}
	return bases
}

// baseFinder finds the old file that a new one resembles. Config files are
// never a base: their owner may have changed them.
type baseFinder struct {
	none  bool
	equal map[digest.Digest]*manifest.Entry
	alike map[string][]*manifest.Entry // by path without its numbers
	named map[string][]*manifest.Entry // by last component without its numbers
	usual func(path string) bool
}

func newBaseFinder(old []manifest.Entry, config glob.Set) *baseFinder {
	f := &baseFinder{none: old == nil, equal: map[digest.Digest]*manifest.Entry{},
		alike: map[string][]*manifest.Entry{}, named: map[string][]*manifest.Entry{}}
	f.usual = func(path string) bool { return !config.Covers(path) }
	for i := range old {
		e := &old[i]
		if e.Kind != manifest.File || e.Size == 0 || !f.usual(e.Path) {
			continue
		}
		if f.equal[e.Digest] == nil {
			f.equal[e.Digest] = e
		}
		path := withoutNumbers(e.Path)
		f.alike[path] = append(f.alike[path], e)
		name := path[strings.LastIndexByte(path, '/')+1:]
		f.named[name] = append(f.named[name], e)
	}
	return f
}

// find is the base for a changed file: the same path, the path with other
// numbers in it (versions), or the same name elsewhere and of similar size.
func (f *baseFinder) find(c *patch.Change) *manifest.Entry {
	if c.Old != nil && c.Old.Kind == manifest.File && c.Old.Size > 0 && f.usual(c.Old.Path) {
		return c.Old
	}
	path := withoutNumbers(c.New.Path)
	if e := nearest(f.alike[path], c.New.Size); e != nil {
		return e
	}
	e := nearest(f.named[path[strings.LastIndexByte(path, '/')+1:]], c.New.Size)
	if e != nil && (e.Size > 2*c.New.Size || c.New.Size > 2*e.Size) {
		return nil
	}
	return e
}

// nearest is the first of the candidates that differ least in size.
func nearest(candidates []*manifest.Entry, size int64) *manifest.Entry {
	var best *manifest.Entry
	apart := func(e *manifest.Entry) int64 { return max(e.Size-size, size-e.Size) }
	for _, e := range candidates {
		if best == nil || apart(e) < apart(best) {
			best = e
		}
	}
	return best
}

// withoutNumbers writes each run of digits, and dots between them, as one 0.
func withoutNumbers(path string) string {
	b := make([]byte, 0, len(path))
	for i := 0; i < len(path); i++ {
		c := path[i]
		last := byte(0)
		if len(b) > 0 {
			last = b[len(b)-1]
		}
		switch {
		case '0' <= c && c <= '9' && last == '0':
		case '0' <= c && c <= '9':
			b = append(b, '0')
		case c == '.' && last == '0' && i+1 < len(path) && '0' <= path[i+1] && path[i+1] <= '9':
		default:
			b = append(b, c)
		}
	}
	return string(b)
}
