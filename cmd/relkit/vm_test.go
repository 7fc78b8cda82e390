//go:build vm

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/relkit/relkit/pkg/relkittest"
)

// TestVMPowerCutPatch cuts the power of a machine that applies a patch and
// takes it back, over and over, on real file systems. After each cut the tree,
// once recovered, is the old one or the new one, and its audit log is whole.
func TestVMPowerCutPatch(t *testing.T) {
	b := newKillBox(t)
	for _, fs := range relkittest.FileSystems() {
		t.Run(fs.Kind, func(t *testing.T) {
			ends := map[bool]int{}
			relkittest.PowerCuts{
				Init: `
echo changing
while :; do
	relkit patch-apply -q --root /mnt/m --insecure-unsigned /mnt/p.rkp >/dev/null || exit
	relkit patch-rollback -q --root /mnt/m >/dev/null || exit
done`,
				Marker: "changing",
				Within: 3 * time.Second,
				Files:  map[string]string{"/bin/relkit": b.tool},
				Prepare: func(t testing.TB, dir string) {
					cmd := exec.Command("sh", "-c", `
cp -a old "$1/m" && cp p.rkp "$1/" && mkdir -p "$1/m/var/lib/relkit" &&
touch -h -d '2026-01-01 00:00:00.123456789Z' "$1/m/var/lib"`, "sh", dir)
					cmd.Dir = b.dir
					if out, err := cmd.CombinedOutput(); err != nil {
						t.Fatalf("%v\n%s", err, out)
					}
				},
				Check: func(_ testing.TB, dir, _ string) {
					m := filepath.Join(b.dir, "m")
					if err := os.RemoveAll(m); err != nil {
						t.Fatal(err)
					}
					// The state after the cut is looked at where it is; what the
					// recovery leaves there is where the next boot goes on.
					if err := os.Symlink(filepath.Join(dir, "m"), m); err != nil {
						t.Fatal(err)
					}
					b.check(t, "after the cut")
					ends[manifestOf(t, m) == b.new]++
					if err := os.Remove(m); err != nil {
						t.Fatal(err)
					}
				},
			}.Run(t, fs, 8)
			t.Logf("old %d times, new %d times", ends[false], ends[true])
		})
	}
}
