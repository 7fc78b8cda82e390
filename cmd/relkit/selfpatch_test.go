package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/relkit/relkit/pkg/relkittest"
)

// TestPatchesItself: relkit and a program that runs are replaced under their own
// feet: both go on with what they were, the checks included, and the rollback, by
// the new relkit, brings the old ones back.
func TestPatchesItself(t *testing.T) {
	relkittest.Need(t, "busybox")
	dir, tool := t.TempDir(), buildTool(t)
	script := `
mkdir -p old/bin old/lib; cp "$0" old/bin/relkit; cp "$(command -v busybox)" old/bin/busybox
find old -exec touch -h -d '2026-01-01 00:00:00Z' {} +
cp -a old new; printf more >>new/bin/relkit; printf more >>new/bin/busybox; cp -a old m
m/bin/relkit patch-make -q old new --product fw --from-version 1 --to-version 2 -o p.rkp
m/bin/busybox sleep 600 & running=$!
trap 'kill $running' EXIT
m/bin/relkit patch-apply -q --root m --insecure-unsigned --check "cmp \"\$RELKIT_ROOT/bin/relkit\" $PWD/new/bin/relkit" p.rkp
cmp m/bin/relkit new/bin/relkit; cmp m/bin/busybox new/bin/busybox
kill -0 $running; cmp /proc/$running/exe old/bin/busybox
m/bin/relkit patch-rollback -q --root m
m/bin/relkit patch-rollback -q --root m --prune --keep 0
cmp m/bin/relkit old/bin/relkit; cmp m/bin/busybox old/bin/busybox; kill -0 $running
`
	cmd := exec.Command("sh", "-ec", script, tool)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if names, err := os.ReadDir(filepath.Join(dir, "m/.relkit")); err != nil || len(names) != 1 || names[0].Name() != ".state" {
		t.Errorf("slots are left: %v, %v", names, err)
	}
}
