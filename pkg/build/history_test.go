package build

import (
	"strings"
	"testing"

	"github.com/relkit/relkit/pkg/failure"
)

// The history of a matrix is that of its cells; who asks for what is not there hears
// what is.
func TestHistoryOfAMatrix(t *testing.T) {
	b := newBench(t, "[[builder]]\nname = \"lib\"\nmatrix = { cc = [\"gcc\", \"clang\"] }\n"+plainStep+"[[builder]]\nname = \"lib2\"\n"+plainStep, nil)
	if err := b.run("lib"); err != nil {
		t.Fatal(err)
	}
	p := must(Open(b.path("relkit.toml"), ""))
	for name, want := range map[string]int{"lib": 2, "lib[cc=gcc]": 1, "": 2, "lib2": 0} {
		if events, _, err := p.History(name); err != nil || len(events) != want {
			t.Errorf("%q: %v, %d builds, want %d", name, err, len(events), want)
		}
	}
	for name, want := range map[string]string{"nope": "the builders are lib, lib2", "lib[cc=tcc]": "no cell of the matrix"} {
		if _, _, err := p.History(name); failure.Of(err) != failure.Usage || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, ref := range []string{"lib/last", "lib/1"} {
		if _, err := p.Logs(ref); failure.Of(err) != failure.Usage || err == nil || !strings.Contains(err.Error(), "its cells are lib[cc=gcc] lib[cc=clang]") || !strings.Contains(failure.Hint(err), "lib[cc=gcc]/") {
			t.Errorf("%s: %v; %s", ref, err, failure.Hint(err))
		}
	}
}
