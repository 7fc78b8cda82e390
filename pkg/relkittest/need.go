// Package relkittest is what relkit's tests share. Only tests import it.
package relkittest

import (
	"os"
	"os/exec"
	"testing"
)

// Need skips the test when one of the tools is not installed; where
// RELKIT_TEST_DISALLOW_SKIP is set, as in CI, that is a failure.
func Need(t testing.TB, tools ...string) {
	t.Helper()
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			Skip(t, "%s is not installed (scripts/install-test-deps.sh installs it)", tool)
		}
	}
}

// NeedRoot skips the test when it does not run as root, as Need does.
func NeedRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		Skip(t, "needs root")
	}
}

// Skip skips the test with a reason; where RELKIT_TEST_DISALLOW_SKIP is set it fails it.
func Skip(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("RELKIT_TEST_DISALLOW_SKIP") != "" {
		t.Fatalf("must not skip: "+format, args...)
	}
	t.Skipf(format, args...)
}
