package worker

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/relkit/relkit/pkg/failure"
)

// TestOthers: a relkit for another architecture that cannot be used is nobody's
// trouble but that of workers that need it.
func TestOthers(t *testing.T) {
	if list := others(t.TempDir()); len(list) != 0 {
		t.Errorf("in an empty folder: %+v", list)
	}
	dir := t.TempDir()
	self, err := os.ReadFile(running)
	if err != nil {
		t.Fatal(err)
	}
	// This program under another's name, and what is no program.
	for name, data := range map[string][]byte{"relkit-linux-riscv64": self, "relkit-linux-s390x": []byte("text\n")} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	list := others(dir)
	if len(list) != 2 || list[0].err == nil || list[1].err == nil {
		t.Fatalf("%+v", list)
	}
	if got := table(list); got != "\n" {
		t.Errorf("offered are %q", got)
	}
	for machine, want := range map[string]string{
		"Linux riscv64": `it is "Linux riscv64": ` + dir + `/relkit-linux-riscv64 is a program for "` + runtime.GOARCH + `"`,
		"Linux s390x":   `it is "Linux s390x": `,
		"Linux ppc64le": `it is "Linux ppc64le", and there is no /`,
		"Linux armv7l":  `it is "Linux armv7l", and relkit is not made for that`,
	} {
		err := lacking(list, machine)
		hint := failure.Hint(err)
		if arch, _ := strings.CutPrefix(machine, "Linux "); !strings.HasPrefix(err.Error(), want) || strings.Contains(hint, "GOARCH="+arch+" ") == (arch == "armv7l") {
			t.Errorf("%s: %v\nhint %s", machine, err, hint)
		}
	}
}
