package update

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/format/patch"
)

// step is a patch "FROM-TO" with changes to its header.
func step(id, from, to string, change ...func(*patch.Header)) *patch.Header {
	h := &patch.Header{ID: id, Product: "fw", From: &patch.Side{Version: from}, To: patch.Side{Version: to}}
	for _, c := range change {
		c(h)
	}
	return h
}

func requires(e string) func(*patch.Header)  { return func(h *patch.Header) { h.Requires = e } }
func conflicts(e string) func(*patch.Header) { return func(h *patch.Header) { h.Conflicts = e } }
func provides(e string) func(*patch.Header)  { return func(h *patch.Header) { h.Provides = e } }
func supersedes(e string) func(*patch.Header) {
	return func(h *patch.Header) { h.Supersedes = []string{e} }
}
func product(p string) func(*patch.Header) { return func(h *patch.Header) { h.Product = p } }
func full(h *patch.Header)                 { h.Full, h.From = true, nil }
func trees(from, to string) func(*patch.Header) {
	return func(h *patch.Header) { h.From.Tree, h.To.Tree = digest.Of([]byte(from)), digest.Of([]byte(to)) }
}

func TestOrder(t *testing.T) {
	for _, c := range []struct {
		name      string
		installed string
		given     []*patch.Header
		want      string // the ids in order, or a part of the error
	}{
		{"chain", "1", []*patch.Header{step("c", "3", "4"), step("a", "1", "2"), step("b", "2", "3")}, "a b c"},
		{"chain, nothing known", "", []*patch.Header{step("c", "3", "4"), step("a", "1", "2"), step("b", "2", "3")}, "a b c"},
		{"hotfix first", "1", []*patch.Header{step("a", "1", "2"), step("h", "1", "1")}, "h a"},
		{"hotfix requires the next version", "1", []*patch.Header{step("h", "", "", requires("fw (>= 2)")), step("a", "1", "2")}, "a h"},
		{"by requirement", "1", []*patch.Header{step("x", "1", "1", requires("y")), step("y", "1", "1", requires("z (= 3)")), step("w", "1", "1", provides("z (= 3)"))}, "w y x"},
		{"fork and join", "1", []*patch.Header{step("ac", "1", "3"), step("bc", "2", "3"), step("ab", "1", "2")}, "ab bc ac"},
		{"fork that needs the longer way", "1", []*patch.Header{step("ac", "1", "3"), step("h", "2", "2"), step("bc", "2", "3"), step("ab", "1", "2")}, "ab h bc ac"},
		{"full, then on", "1", []*patch.Header{step("b", "4", "5"), step("f", "", "4", full)}, "f b"},
		{"superseded before", "1", []*patch.Header{step("new", "1", "1", supersedes("old")), step("old", "1", "1")}, "old new"},
		{"as given", "1", []*patch.Header{step("q", "1", "1"), step("p", "1", "1")}, "q p"},
		{"by trees", "", []*patch.Header{step("b", "", "", trees("2", "3")), step("a", "", "", trees("1", "2"))}, "a b"},
		{"a downgrade is no matter of order", "2", []*patch.Header{step("h", "2", "2"), step("down", "2", "1")}, "h down"},

		{"a link is missing", "4.0", []*patch.Header{step("fw-4.2-4.3", "4.2", "4.3"), step("fw-4.0-4.1", "4.0", "4.1")},
			"!patch fw-4.2-4.3 needs fw 4.2; given are fw-4.2-4.3, fw-4.0-4.1; installed is fw 4.0"},
		{"a requirement is missing", "1", []*patch.Header{step("a", "1", "2"), step("b", "2", "3", requires("hotfix-9, fw (>= 2)"))},
			"!patch b needs hotfix-9; given are a, b; installed is fw 1"},
		{"circle", "1", []*patch.Header{step("a", "1", "1", requires("b")), step("c", "1", "1"), step("b", "1", "1", requires("a"))},
			"!the patches wait for each other: a needs b needs a"},
		{"circle of versions and requirements", "1", []*patch.Header{step("a", "1", "2", requires("h")), step("h", "2", "2")},
			"!the patches wait for each other: a needs h needs a"},
		{"another product", "1", []*patch.Header{step("a", "1", "2"), step("o", "1", "2", product("os"))}, "!patch o needs the product os"},
		{"conflict", "1", []*patch.Header{step("a", "1", "2"), step("h", "1", "1", conflicts("a, x"))}, "!the patches h and a conflict with each other"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := &world{names: map[string]string{}, by: map[string]string{}, floors: map[string]string{}}
			if c.installed != "" {
				w.installed = journal.Version{Product: "fw", Version: c.installed}
			}
			indexes, err := order(w, c.given, false)
			if want, bad := strings.CutPrefix(c.want, "!"); bad {
				if err == nil || failure.Of(err) != failure.Refused || !strings.Contains(err.Error(), want) {
					t.Fatalf("got %v, want %q", err, want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var ids []string
			for _, i := range indexes {
				ids = append(ids, c.given[i].ID)
			}
			if got := strings.Join(ids, " "); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

// TestOrderShuffled: whatever the order given, a long chain with hotfixes in
// between comes out the same, and a chain with a link missing never does.
func TestOrderShuffled(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var chain []*patch.Header
	for i := range 40 {
		chain = append(chain, step(fmt.Sprint("h", i), fmt.Sprint(i), fmt.Sprint(i), requires(fmt.Sprintf("fw (= %d)", i))))
		chain = append(chain, step(fmt.Sprint("p", i), fmt.Sprint(i), fmt.Sprint(i+1), requires(fmt.Sprint("h", i))))
	}
	for range 20 {
		given := append([]*patch.Header(nil), chain...)
		r.Shuffle(len(given), func(i, j int) { given[i], given[j] = given[j], given[i] })
		w := &world{names: map[string]string{}, by: map[string]string{}, floors: map[string]string{}, installed: journal.Version{Product: "fw", Version: "0"}}
		indexes, err := order(w, given, false)
		if err != nil {
			t.Fatal(err)
		}
		for n, i := range indexes {
			if given[i] != chain[n] {
				t.Fatalf("place %d: %s, want %s", n, given[i].ID, chain[n].ID)
			}
		}
		var short []*patch.Header
		for _, h := range given {
			if h.ID != "p17" {
				short = append(short, h)
			}
		}
		if _, err := order(w, short, false); err == nil || !strings.Contains(err.Error(), "needs fw ") {
			t.Fatalf("without a link: %v", err)
		}
	}
}
