package build

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/record"
)

func TestDifferences(t *testing.T) {
	one, two := t.TempDir(), t.TempDir()
	artifact := func(dir, name, text, mode, target string) record.BuildArtifact {
		full := filepath.Join(dir, "artifacts", name)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		a := record.BuildArtifact{Path: "artifacts/" + name, Mode: mode, Target: target}
		if target == "" {
			a.Digest, a.SizeBytes = digest.Of([]byte(text)), int64(len(text))
		}
		return a
	}
	a := []record.BuildArtifact{artifact(one, "same", "x", "0644", ""), artifact(one, "content", "built 2026", "0644", ""), artifact(one, "mode", "x", "0644", ""),
		artifact(one, "gone", "x", "0644", ""), artifact(one, "link", "", "0777", "a"), artifact(one, "kind", "x", "0644", "")}
	b := []record.BuildArtifact{artifact(two, "same", "x", "0644", ""), artifact(two, "content", "built 2027", "0600", ""), artifact(two, "mode", "x", "0755", ""),
		artifact(two, "link", "", "0777", "b"), artifact(two, "kind", "", "0777", "c"), artifact(two, "new", "x", "0644", "")}
	n, list, err := differences(one, a, two, b)
	if err != nil || n != 6 || len(list) != 6 {
		t.Fatalf("%d, %+v, %v", n, list, err)
	}
	var lines []string
	for i := range list {
		lines = append(lines, differenceLine(&list[i]))
	}
	want := []string{`content at byte 9: "built 2026" and "built 2027"`, `mode: mode 0644 and 0755`, `gone: not there the second time`, `link: target a and b`, `kind: kind file and symlink`, `new: only there the second time`}
	if got := strings.Join(lines, "\n"); got != strings.Join(want, "\n") {
		t.Errorf("got\n%s", got)
	}
	b2 := record.Build{Schema: record.BuildSchema, Builder: "fw", Number: 1, Status: record.BuildFailed, Repro: &record.BuildRepro{Result: record.ReproDifferent, Differ: n, Differences: list}}
	if _, err := b2.Encode(); err != nil {
		t.Error(err)
	}
}
