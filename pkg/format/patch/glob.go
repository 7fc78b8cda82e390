package patch

import "github.com/relkit/relkit/pkg/format/glob"

// MatchAny tells whether one of the globs (pkg/format/glob) means name or a
// folder above it. One that is no pattern, which no header holds, means nothing.
func MatchAny(globs []string, name string) bool {
	set, err := glob.ParseSet(globs)
	return err == nil && set.Covers(name)
}
