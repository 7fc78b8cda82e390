package build

import (
	"encoding/json"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/record"
	"github.com/relkit/relkit/pkg/relkittest"
)

// TestSBOM: the bills of a build with a program of Go's.
func TestSBOM(t *testing.T) {
	relkittest.Need(t, "sha1sum", "gomtree")
	program, err := exec.LookPath("gomtree")
	if err != nil {
		t.Fatal(err)
	}
	b := newBench(t, builder("mkdir -p out; cp in out/x; ln -sf x out/l; cp "+program+" out/prog", "", artifact+"sbom = [\"spdx\", \"cyclonedx\"]\n"), map[string]string{"in": "hello\n"})
	r := b.must()
	if len(r.SBOM) != 2 || r.SBOM[0].Format != "cyclonedx" || r.SBOM[1].Format != "spdx" {
		t.Fatalf("%+v", r.SBOM)
	}
	for _, m := range r.SBOM {
		if d := digest.Of([]byte(b.read("state/builds/fw/000001", m.Path))); d != m.Digest {
			t.Errorf("%s: %s, and the record lists %s", m.Path, d, m.Digest)
		}
	}
	var c struct {
		Metadata   struct{ Timestamp string }
		Components []struct {
			Name, PURL string
			Hashes     []struct{ Content string }
		}
	}
	if err := json.Unmarshal([]byte(b.read("state/builds/fw/000001/sbom.cyclonedx.json")), &c); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, p := range c.Components {
		names = append(names, p.Name)
		if p.Name == "artifacts/out/x" && p.Hashes[0].Content != digest.Of([]byte("hello\n")).Hex() {
			t.Errorf("%+v", p)
		}
	}
	for _, want := range []string{"artifacts/out/prog", "artifacts/out/x", "fw", "stdlib", "github.com/vbatts/go-mtree", "golang.org/x/crypto", "github.com/sirupsen/logrus"} {
		if !slices.Contains(names, want) {
			t.Errorf("%s is not in %q", want, names)
		}
	}
	if slices.Contains(names, "artifacts/out/l") || !strings.HasPrefix(r.Finished.Format("2006-01-02T15:04:05"), strings.TrimSuffix(c.Metadata.Timestamp, "Z")) {
		t.Errorf("%q, %s", names, c.Metadata.Timestamp)
	}
	// SPDX wants the SHA-1 too; sha1sum(1) says the same.
	sum, _, _ := strings.Cut(b.tool("", "sha1sum", "state/builds/fw/000001/artifacts/out/prog"), " ")
	if !strings.Contains(b.read("state/builds/fw/000001/sbom.spdx.json"), `"checksumValue": "`+sum+`"`) {
		t.Errorf("no SHA-1 %s", sum)
	}
	b.opt.Diffs = []Diff{{Name: "x.diff", Data: []byte("--- a/more\n+++ b/more\n@@ -0,0 +1 @@\n+three\n")}}
	if r := b.must(); len(r.SBOM) != 0 {
		t.Errorf("a try build has %+v", r.SBOM)
	}
	if _, err := os.Stat(b.path("state/builds/fw/000002", record.SBOMFile("spdx"))); err == nil {
		t.Error("a try build has a bill")
	}
}
