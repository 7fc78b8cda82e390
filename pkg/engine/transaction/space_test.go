package transaction

import (
	"context"
	"strings"
	"testing"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// TestSpare: room that could be made counts where there is no other, and is asked
// for only then.
func TestSpare(t *testing.T) {
	older, newer := oldTree(), newTree()
	for _, c := range []struct {
		free, spare uint64
		refused     bool
		needs       bool
	}{
		{1 << 20, 0, false, false},
		{1 << 20, 1 << 20, false, false},
		{100, 0, true, false},
		{100, 100, true, false},
		{100, 1 << 20, false, true},
	} {
		m := machine(t, older)
		m.SetSpace(c.free)
		tg := target(m, &fsys.Meter{})
		entries, _ := older.diff(newer)
		spare := map[string]Spare{".": {Bytes: c.spare}, "boot": {Bytes: c.spare}}
		s, err := Look(context.Background(), tg.Root, entries, Options{Remount: tg.Remount, Spare: spare})
		refused := failure.Of(err) == failure.Refused && strings.Contains(err.Error(), "staging takes")
		if refused != c.refused || err == nil && s.NeedsSpare != c.needs {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
