package source

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/relkit/relkit/pkg/config"
	"github.com/relkit/relkit/pkg/relkittest"
)

// TestFilesAreReadOnce: a poll reads what has changed and nothing else; and what
// was mistaken is put right by the build that meets it.
func TestFilesAreReadOnce(t *testing.T) {
	r := newRow(t, &upstreams[slices.IndexFunc(upstreams, func(u upstream) bool { return u.vcs == "file" })])
	later := func() time.Time { return time.Now().Add(time.Hour) }
	memory := Memory{Dir: r.dir + "/memory", now: later}
	open := func() *files {
		return must(Open(config.Source{Name: "src", VCS: "file"}, r.dir+"/up/**", r.host, []string{"PATH=" + os.Getenv("PATH")}, memory)).(*files)
	}
	head := func() string { return must(open().Head(t.Context(), "")).ID }
	kept := func() map[string]known { return memory.open("src").was }
	in := must(filepath.EvalSymlinks(r.dir+"/wc")) + "/in"

	// One that was written just now may be written again within the same tick.
	memory.now = nil
	r.commit("one", map[string]string{"in": "1", "other": "o"})
	first := head()
	if len(kept()) != 0 {
		t.Errorf("kept %+v", kept())
	}
	memory.now = later
	if head() != first || len(kept()) != 2 {
		t.Errorf("kept %+v", kept())
	}
	// A memory that lies shows that it is what is asked.
	lie := func(name string) {
		t.Helper()
		m := kept()
		k := m[name]
		k.digest = strings.Repeat("0", 64)
		m[name] = k
		if err := os.WriteFile(r.dir+"/memory/src.digests", encodeDigests(m), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	lie(in)
	wrong := head()
	if wrong == first {
		t.Error("the file was read although nothing says that it has changed")
	}
	if err := open().Fetch(t.Context(), r.repo, Revision{ID: wrong}); err == nil || !strings.Contains(err.Error(), "changed while they were read") {
		t.Errorf("what the memory says wrongly is built: %v", err)
	}
	if head() != first {
		t.Error("the memory was not put right")
	}

	// Whatever changes a file is seen, also what hides it: the same size, and its
	// time of modification set back.
	old := must(os.Stat(in))
	for why, change := range map[string]func() error{
		"written in place": func() error { return os.WriteFile(in, []byte("2"), 0o644) },
		"replaced": func() error {
			if err := os.WriteFile(r.dir+"/new", []byte("3"), 0o644); err != nil {
				return err
			}
			return os.Rename(r.dir+"/new", in)
		},
	} {
		before := head()
		if len(kept()) != 2 {
			t.Errorf("kept %+v", kept())
		}
		if err := change(); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(in, old.ModTime(), old.ModTime()); err != nil {
			t.Fatal(err)
		}
		if head() == before {
			t.Errorf("%s: not seen", why)
		}
	}
	// What is gone is forgotten.
	if err := os.Remove(in); err != nil {
		t.Fatal(err)
	}
	head()
	if m := kept(); len(m) != 1 || strings.HasSuffix(fmt.Sprint(m), "/in") {
		t.Errorf("kept %+v", m)
	}
	// A memory that is torn, and one that nobody may write.
	data := must(os.ReadFile(r.dir + "/memory/src.digests"))
	last := head()
	for _, torn := range [][]byte{nil, data[:len(data)-1], bytes.Repeat([]byte{0}, len(data)), []byte("x\n")} {
		if err := os.WriteFile(r.dir+"/memory/src.digests", torn, 0o644); err != nil {
			t.Fatal(err)
		}
		if head() != last || len(kept()) != 1 {
			t.Errorf("of %q: %s", torn, head())
		}
	}
	memory = Memory{Dir: r.dir + "/none", ReadOnly: true, now: later}
	if _, err := os.Stat(r.dir + "/none"); head() != last || err == nil {
		t.Error("a look writes")
	}
}

func FuzzDigests(f *testing.F) {
	f.Add("")
	f.Add(strings.Repeat("0a", 32) + " 1 2 -3 4 5 /srv/a b\x00")
	f.Add(strings.Repeat("0a", 32) + " 1 2 3 4 5 /srv/a\x00" + strings.Repeat("ff", 32) + " 9223372036854775807 2 3 18446744073709551615 5 /srv/b\n\xff\x00")
	f.Fuzz(func(t *testing.T, text string) {
		var files map[string]known
		relkittest.Allocates(t, 64*uint64(len(text))+2<<20, func() { files, _ = decodeFiles(text) })
		if files == nil {
			return
		}
		data := encodeDigests(files)
		back, err := decodeDigests(data)
		if err != nil || !maps.Equal(files, back) {
			t.Errorf("%q: %v, %+v, want %+v", data, err, back, files)
		}
		if _, err := decodeDigests(data[:len(data)-1]); err == nil {
			t.Errorf("%q without its last byte is taken", data)
		}
	})
}
