package relkittest

import (
	"os"
	"path/filepath"
	"testing"
)

// DracutTree is a folder that holds dracut as it lies over a root: the usr, etc
// and var of Debian's dracut-core. It belongs to the cache.
func DracutTree(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(CacheDir(t), "dracut")
	if _, err := os.Stat(filepath.Join(dir, "usr/bin/dracut")); err != nil {
		Skip(t, "no dracut at %s (scripts/install-test-deps.sh fetches it)", dir)
	}
	return dir
}
