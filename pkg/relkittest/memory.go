package relkittest

import (
	"runtime/metrics"
	"testing"
)

// Allocates runs f and fails the test where more than limit bytes were allocated
// meanwhile, freed again or not. No other test may run at the time.
func Allocates(t testing.TB, limit uint64, f func()) {
	t.Helper()
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	before := sample[0].Value.Uint64()
	f()
	metrics.Read(sample)
	if n := sample[0].Value.Uint64() - before; n > limit {
		t.Errorf("%d bytes allocated, want at most %d", n, limit)
	}
}
