package relkittest

import (
	"os"
	"path/filepath"
	"testing"
)

// Tree is the root of another machine, which scripts/make-worker-trees.sh makes
// with an sshd in it: "bookworm" with gcc, "trixie" with clang, "arm64" for the
// architecture of that name. It belongs to the cache. The test is skipped where it
// is missing, and where it does not run as root, who alone can log in to it.
func Tree(t testing.TB, name string) string {
	t.Helper()
	NeedRoot(t)
	dir := filepath.Join(CacheDir(t), "workers", name)
	if _, err := os.Stat(dir); err != nil {
		Skip(t, "no tree at %s (scripts/install-test-deps.sh makes it)", dir)
	}
	return dir
}

// QEMU is the static emulator of aarch64 programs, qemu-user(1).
func QEMU(t testing.TB) string { return Tree(t, "qemu-aarch64-static") }

// Source is the archive of another project's source, which
// scripts/install-test-deps.sh fetches. It belongs to the cache.
func Source(t testing.TB, name string) string {
	t.Helper()
	file := filepath.Join(CacheDir(t), "sources", name)
	if _, err := os.Stat(file); err != nil {
		Skip(t, "no %s (scripts/install-test-deps.sh fetches it)", file)
	}
	return file
}
