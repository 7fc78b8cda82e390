package image

import (
	"archive/tar"
	"fmt"
	"io"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/relkit/relkit/pkg/engine/store"
	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/relkittest"
	"github.com/relkit/relkit/pkg/sys/fsys"
	"github.com/relkit/relkit/pkg/sys/tree"
)

// growing measures at two entries of a run, by what it hears as progress.
type growing struct{ *relkittest.HeapGrowth }

func (g growing) Start(int64, string) {}
func (g growing) Add(int64)           { g.Count() }
func (g growing) Done()               {}

// TestMemoryPerEntry takes 10,000 files from a stream in an order of its own and
// then, shared with the first image and without its identity, from a folder: an
// entry more is no memory more, but for a digest in the reader of foreign tars
// and a place in the parent's manifest. A list of entries would take 1,000 bytes
// each.
func TestMemoryPerEntry(t *testing.T) {
	const files, least, most = 10_000, 3_000, 64
	st := newStore(t)
	r, w := io.Pipe()
	go func() {
		tw := tar.NewWriter(w)
		for n := range files {
			err := tw.WriteHeader(&tar.Header{Name: fmt.Sprintf("folder-%03d/some-file-of-usual-length-%08d", n%100, n*7919%files),
				Typeflag: tar.TypeReg, Mode: 0o644, Uid: os.Geteuid(), Gid: os.Getegid()})
			if err != nil {
				w.CloseWithError(err)
				return
			}
		}
		w.CloseWithError(tw.Close())
	}()
	var from string
	for i, src := range []Source{{Stream: r}, {}} {
		if src.Stream == nil {
			src.Dir = from
		}
		heap := &relkittest.HeapGrowth{From: least, To: files}
		img, rec, err := Get(t.Context(), st, src, Options{Ref: store.Ref{Name: "fw"}, ResetIdentity: i == 1,
			Created: time.Unix(1, 0), Log: slog.New(slog.DiscardHandler), Progress: growing{heap}})
		if err != nil {
			t.Fatal(err)
		}
		if rec.Files != files || i == 1 && rec.SharedFiles != files {
			t.Fatalf("record %+v", rec)
		}
		if limit := int64((files-least)*most + 1<<20); !heap.Done || heap.Bytes > limit {
			t.Errorf("source %d: %d bytes more at %d entries than at %d, want at most %d", i, heap.Bytes, files, least, limit)
		}
		from = img.Tree
	}
}

// TestSpoolRuns gives back a hundred thousand entries, in many runs and in order,
// hard links before and behind the names they came after, in little memory.
func TestSpoolRuns(t *testing.T) {
	const n = 100_000
	m := fsys.NewMem()
	s, err := newSpool(m.FS(), "scratch")
	if err != nil {
		t.Fatal(err)
	}
	add := func(path, linkTo string, kind manifest.Kind, mode uint32) {
		e := manifest.Entry{Path: path, Kind: kind, Mode: mode}
		if kind == manifest.File {
			e.Digest = digest.Of(nil)
		}
		if err := s.add(&tree.Item{Entry: &e, LinkTo: linkTo}); err != nil {
			t.Fatal(err)
		}
	}
	add("d", "", manifest.Dir, 0o700)
	for i := range n {
		i = i * 7919 % n
		path := fmt.Sprintf("d/some-file-of-usual-length-%06d", i)
		add(path, "", manifest.File, uint32(i%512))
		if i%1000 == 500 {
			add(fmt.Sprintf("d/a-link-%06d", n-i), path, manifest.File, 0)
			add(fmt.Sprintf("z-link-%06d", i), fmt.Sprintf("d/a-link-%06d", n-i), manifest.File, 0)
		}
	}
	add(".", "", manifest.Dir, 0o755)
	add("d", "", manifest.Dir, 0o711)
	heap := &relkittest.HeapGrowth{From: 1000, To: n}
	links, groups := map[int]int{}, 0
	sum, err := tree.WriteManifest(io.Discard, s.entries(func(e *manifest.Entry, _ bool) {
		heap.Count()
		if e.Path == "d" && e.Mode != 0o711 {
			t.Errorf("the later word on a folder does not count: mode %o", e.Mode)
		}
		if e.Link != 0 {
			links[e.Link]++
			groups = max(groups, e.Link)
		}
	}))
	if err != nil || sum.IsZero() || len(s.ends) < 3 {
		t.Fatalf("%d runs, %v", len(s.ends), err)
	}
	if groups != n/1000 {
		t.Errorf("%d groups, want %d", groups, n/1000)
	}
	for g, names := range links {
		if names != 3 {
			t.Errorf("group %d has %d names", g, names)
		}
	}
	if !heap.Done || heap.Bytes > 1<<20 {
		t.Errorf("giving back takes %d bytes more at the end than at the beginning", heap.Bytes)
	}
}
