package build

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/relkit/relkit/pkg/failure"
)

// needy are three builders: lib, fw that needs it, and image that needs fw.
const needy = `[[builder]]
name = "image"
needs = ["fw", "lib"]
step = [{ name = "a", sh = 'mkdir -p out; cat "$RELKIT_NEEDS_FW/out/fw" "$RELKIT_NEEDS_LIB/out/l" >out/i; ls -l "$RELKIT_NEEDS_LIB/out/x" | cut -c1-10; cat out/i' }]
artifacts = { paths = ["out/*"] }
[[builder]]
name = "fw"
needs = ["lib"]
step = [{ name = "a", sh = 'mkdir -p out; echo "fw of $(cat "$RELKIT_NEEDS_LIB/out/x")" >out/fw' }]
artifacts = { paths = ["out/*"] }
[[builder]]
name = "lib"
sources = ["fw"]
checkout = "clean"
step = [{ name = "a", sh = 'mkdir -p out; cp in out/x; chmod 750 out/x; ln -s x out/l; sh check' }]
artifacts = { paths = ["out/*"] }
`

func TestNeeds(t *testing.T) {
	b := newBench(t, needy, map[string]string{"in": "one\n", "check": "true"})
	names := func() string {
		var list []string
		for _, r := range b.built {
			list = append(list, r.Builder)
		}
		return strings.Join(list, " ")
	}
	err := b.run("image")
	if failure.Of(err) != failure.Refused || !strings.Contains(err.Error(), "builder image: it needs fw, of which there is no good build") || !strings.Contains(failure.Hint(err), "relkit build lib fw image") {
		t.Fatalf("%v, %q", err, failure.Hint(err))
	}
	if err := b.run(); err != nil || names() != "lib fw image" {
		t.Fatalf("%v, built %q", err, names())
	}
	if got := b.log("image/1"); got != "-rwxr-x---\nfw of one\none\n" {
		t.Errorf("%q", got)
	}
	needs := b.built[2].Needs
	if len(needs) != 2 || needs[0].Builder != "fw" || needs[0].Number != 1 || len(needs[1].Artifacts) != 2 || needs[1].Artifacts[1].Digest != b.built[0].Artifacts[1].Digest {
		t.Errorf("%+v", needs)
	}
	// Alone it is given the last good ones.
	b.must("lib")
	if r := b.must("image"); r.Needs[0].Number != 1 || r.Needs[1].Number != 2 {
		t.Errorf("%+v", r.Needs)
	}
	// Another artifact is a change, the same made anew is none.
	b.opt.IfChanged = true
	if err := b.run(); err != nil || names() != "" {
		t.Errorf("%v, built %q", err, names())
	}
	b.commit(map[string]string{"in": "two\n"})
	if err := b.run(); err != nil || names() != "lib fw image" || b.log("image/last") != "-rwxr-x---\nfw of two\ntwo\n" {
		t.Errorf("%v, built %q", err, names())
	}
	b.opt.IfChanged = false
	// What needs a build that failed is skipped, and says so.
	b.commit(map[string]string{"check": "exit 9"})
	b.opt.KeepGoing = true
	err = b.run()
	for _, want := range []string{"build lib/4 failed", "builder fw: skipped: it needs lib, and build lib/4 ended as failed", "builder image: skipped: it needs fw, which was not built"} {
		if failure.Of(err) != failure.No || !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nwant %s", err, want)
		}
	}
	if names() != "lib" {
		t.Errorf("built %q", names())
	}
	// What is not what was built is not handed over.
	if err := os.WriteFile(b.path("state/builds/lib/last-good/artifacts/out/x"), []byte("bad\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := b.run("fw"); failure.Of(err) != failure.Failed || !strings.Contains(err.Error(), "handing over lib/3: ") || !strings.Contains(err.Error(), "has the digest") {
		t.Errorf("%v", err)
	}
}

// TestNeedsOfMatrix: a cell is given what agrees with it; several are told apart.
func TestNeedsOfMatrix(t *testing.T) {
	b := newBench(t, `[[builder]]
name = "lib"
matrix = { cc = ["gcc", "clang"], opt = ["o1", "o2"] }
exclude = [{ cc = "clang", opt = "o2" }]
step = [{ name = "a", sh = "mkdir -p out; echo {cc} {opt} >out/lib" }]
artifacts = { paths = ["out/lib"] }
[[builder]]
name = "fw"
needs = ["lib"]
matrix = { cc = ["gcc", "clang"] }
step = [{ name = "a", sh = 'cd "$RELKIT_NEEDS_LIB"; find . -type f | LC_ALL=C sort; find . -type f | LC_ALL=C sort | xargs cat' }]
`, nil)
	if err := b.run(); err != nil || len(b.built) != 5 {
		t.Fatal(err)
	}
	for ref, want := range map[string]string{
		"fw[cc=gcc]/1":   "./cc-gcc+opt-o1/out/lib\n./cc-gcc+opt-o2/out/lib\ngcc o1\ngcc o2\n",
		"fw[cc=clang]/1": "./out/lib\nclang o1\n",
	} {
		if got := b.log(ref); got != want {
			t.Errorf("%s: %q, want %q", ref, got, want)
		}
	}
}

func TestPrune(t *testing.T) {
	b := newDueBench(t, "[[builder]]\nname = \"fw\"\n[[builder.step]]\nname = \"a\"\nsh = 'test ! -e \"$HOME/broken\"'\n")
	prune := func(keep string, dry bool) []string {
		t.Helper()
		b.write("relkit.toml", strings.Replace(head, "state = \"state\"\n", "state = \"state\"\nkeep = { "+keep+" }\n", 1)+"[[builder]]\nname = \"fw\"\n[[builder.step]]\nname = \"a\"\nsh = 'test ! -e \"$HOME/broken\"'\n")
		p, err := Open(b.path("relkit.toml"), "")
		if err != nil {
			t.Fatal(err)
		}
		dirs, err := p.Prune(b.now, dry, func(s string) { dirs := []string{s}; t.Log(dirs) })
		if err != nil {
			t.Fatal(err)
		}
		for i := range dirs {
			dirs[i] = strings.TrimPrefix(dirs[i], b.path("state/builds")+"/")
		}
		return dirs
	}
	for n := 1; n <= 8; n++ { // 1 2 good, 3 4 5 failed, 6 good, 7 8 failed
		broken := slices.Contains([]int{3, 4, 5, 7, 8}, n)
		_ = os.Remove(b.path("broken"))
		if broken {
			b.write("broken", "")
		}
		if err := b.run(); (err != nil) != broken {
			t.Fatal(err)
		}
	}
	b.write("state/builds/fw/000001/pinned", "")
	if got := prune("failed = 3", true); !slices.Equal(got, []string{"fw/000003", "fw/000004"}) {
		t.Errorf("%q", got)
	}
	if got := prune("builds = 1", true); !slices.Equal(got, []string{"fw/000002", "fw/000003", "fw/000004", "fw/000005", "fw/000007"}) {
		t.Errorf("%q", got)
	}
	if got := prune("builds = 1, pinned = false", true); len(got) != 6 {
		t.Errorf("%q", got)
	}
	if got := prune("days = 100000", true); len(got) != 0 {
		t.Errorf("%q", got)
	}
	release := b.hold("fw")
	if got := prune("builds = 1", false); len(got) != 0 {
		t.Errorf("while it is built: %q", got)
	}
	release()
	if got := prune("builds = 3", false); !slices.Equal(got, []string{"fw/000002", "fw/000003", "fw/000004", "fw/000005"}) {
		t.Errorf("%q", got)
	}
	left, err := os.ReadDir(b.path("state/builds/fw"))
	if err != nil || len(left) != 7 { // 1 6 7 8 last last-good .told or not
		var names []string
		for _, e := range left {
			names = append(names, e.Name())
		}
		if !slices.Contains(names, "000001") || slices.Contains(names, "000002") || slices.ContainsFunc(names, func(s string) bool { return strings.HasPrefix(s, ".pruned") }) {
			t.Errorf("%v, %q", err, names)
		}
	}
	if err := b.run(); failure.Of(err) != failure.No || b.built[0].Number != 9 {
		t.Errorf("%v", err)
	}
	p, _ := Open(b.path("relkit.toml"), "")
	if events, bad, err := p.History("fw"); err != nil || bad != 0 || len(events) != 9 {
		t.Errorf("history: %d, %d, %v", len(events), bad, err)
	}
}
