package patch

import (
	"path"
	"strings"
)

// Match tells whether a glob of config_files, managed or never means path: it
// matches the path itself or a folder above it. "*", "?" and "[…]" stay within
// one component, "**" as a component stands for any number of them; a "/" or
// "./" in front and a "/" at the end are no part of the glob.
func Match(glob, name string) bool {
	glob = strings.TrimSuffix(strings.TrimPrefix(strings.TrimPrefix(glob, "./"), "/"), "/")
	if glob == "" || glob == "." {
		return true // the top itself: everything
	}
	return matchParts(strings.Split(glob, "/"), strings.Split(name, "/"))
}

// matchParts matches a glob against the front of a path.
func matchParts(glob, name []string) bool {
	for i, g := range glob {
		if g == "**" {
			rest := glob[i+1:]
			if len(rest) == 0 {
				return len(name) > i
			}
			for k := i; k < len(name); k++ {
				if matchParts(rest, name[k:]) {
					return true
				}
			}
			return false
		}
		if i >= len(name) {
			return false
		}
		if ok, err := path.Match(g, name[i]); !ok || err != nil {
			return false
		}
	}
	return true
}

// MatchAny tells whether one of the globs means path.
func MatchAny(globs []string, name string) bool {
	for _, g := range globs {
		if Match(g, name) {
			return true
		}
	}
	return false
}
