package build

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/relkit/relkit/pkg/relkittest"
)

// A second build of the same, in a clean tree, takes what the first has compiled out
// of ccache: on each kind of worker, from the folder of its project.
func TestWorkersCcacheHits(t *testing.T) {
	relkittest.Need(t, "ccache", "gcc")
	script := `gcc -c in.c && c++ -x c++ -c in.c -o cc.o; ccache --print-stats | grep -E '^(direct_cache_hit|preprocessed_cache_hit|cache_miss)' | tr '\t\n' '= '`
	eachKind(t, builder(script, "cache = \"ccache\"\ncheckout = \"clean\"", ""), map[string]string{"in.c": "#include <stdio.h>\nint x(void) { return puts(__FILE__); }\n"}, func(t *testing.T, b *bench, _ *place) {
		for n, want := range []string{"cache_miss=2 direct_cache_hit=0 preprocessed_cache_hit=0", "cache_miss=2 direct_cache_hit=2 preprocessed_cache_hit=0"} {
			b.must()
			if got := strings.TrimSpace(b.log("fw/last")); got != want {
				t.Errorf("build %d: %q, want %q", n+1, got, want)
			}
		}
	})
}

// With distcc the compilers' work is done by the server that DISTCC_HOSTS names, and
// a server that is not there is told by the compiler.
func TestWorkersDistcc(t *testing.T) {
	eachKind(t, builder("cc -c in.c && g++ -x c++ -c in.c -o cc.o && cc in.o -o in && ./in", "cache = \"distcc\"\nenv = { DISTCC_HOSTS = \"@HOST@\", DISTCC_FALLBACK = \"0\" }", ""),
		map[string]string{"in.c": "#include <stdio.h>\nint main(void) { puts(\"built\"); return 0; }\n"}, func(t *testing.T, b *bench, _ *place) {
			host, log := relkittest.StartDistccd(t)
			text := b.read("relkit.toml")
			b.write("relkit.toml", strings.Replace(text, "@HOST@", host, 1))
			b.must()
			if got := b.log("fw/last"); got != "built\n" {
				t.Errorf("log %q", got)
			}
			said, err := os.ReadFile(log)
			if n := strings.Count(string(said), "COMPILE_OK"); err != nil || n != 2 {
				t.Errorf("the server compiled %d files, want 2: %v\n%s", n, err, said)
			}
			b.write("relkit.toml", strings.Replace(text, "@HOST@", "127.0.0.1:1", 1))
			if r := b.fails(`step "all": exit status`); !strings.Contains(b.log("fw/last"), "distcc") {
				t.Errorf("%+v: %s", r.Steps[0], fmt.Sprint(b.shown))
			}
		})
}
