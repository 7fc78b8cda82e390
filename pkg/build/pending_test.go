package build

import (
	"bytes"
	"testing"

	"github.com/relkit/relkit/pkg/format/strict"
	"github.com/relkit/relkit/pkg/relkittest"
)

// FuzzPending: pending.json is read back as it was written, and one that others
// have written takes no more memory than its size allows.
func FuzzPending(f *testing.F) {
	f.Add([]byte(`{"schema":"relkit.build-pending/v1"}`))
	f.Add([]byte(`{"schema":"relkit.build-pending/v1","sources":{"fw":{"head":"a","branch":"main","since":"2026-03-04T05:06:07.008Z"}},
"schedules":{"nightly":{"cron":"30 2 * * *","last":"2026-03-04T05:06:07Z"},"after":{"seen":{"fw[cc=gcc]":3}}},"owed":[{"builder":"fw","schedule":"nightly","since":"2026-03-04T05:06:07Z"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var st *pending
		var err error
		relkittest.Allocates(t, 200*uint64(len(data))+1<<20, func() { st, err = decodePending(data) })
		if err != nil {
			return
		}
		once, err := strict.Encode(st)
		if err != nil {
			t.Fatal(err)
		}
		again, err := decodePending(once)
		if err != nil {
			t.Fatalf("%v: %s", err, once)
		}
		twice, err := strict.Encode(again)
		if err != nil || !bytes.Equal(once, twice) {
			t.Errorf("%v:\n%s\n%s", err, once, twice)
		}
	})
}
