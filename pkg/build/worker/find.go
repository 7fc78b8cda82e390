package worker

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// Match matches a slash-separated path with a pattern as config.CheckGlob
// takes it: "*" and its like stay within a name, "**" is any number of folders.
func Match(pattern, name string) bool {
	return matchParts(strings.Split(pattern, "/"), strings.Split(name, "/"))
}

func matchParts(pattern, name []string) bool {
	for len(pattern) > 0 {
		if pattern[0] == "**" {
			for len(pattern) > 1 && pattern[1] == "**" {
				pattern = pattern[1:]
			}
			for i := range len(name) + 1 {
				if matchParts(pattern[1:], name[i:]) {
					return true
				}
			}
			return false
		}
		if len(name) == 0 {
			return false
		}
		if ok, err := path.Match(pattern[0], name[0]); !ok || err != nil {
			return false
		}
		pattern, name = pattern[1:], name[1:]
	}
	return len(name) == 0
}

// MatchAny tells whether one of the patterns matches.
func MatchAny(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return Match(p, name) })
}

// Find does not follow symlinks and does not enter .git.
func (localFiles) Find(ctx context.Context, root, pattern string) (found Found, err error) {
	start := literalPrefix(pattern)
	if !beneath(root, start) {
		return found, nil
	}
	err = filepath.WalkDir(filepath.Join(root, filepath.FromSlash(start)), func(full string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
		rel, err := filepath.Rel(root, full)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if d.IsDir() && d.Name() == ".git" && rel != start {
			return fs.SkipDir
		}
		if rel == "." || !Match(pattern, rel) && !matchFolder(pattern, rel) {
			return nil
		}
		info, err := lstat(full)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		info.Path = rel
		if info.Mode.IsDir() {
			found.Folders = append(found.Folders, info)
		} else {
			found.Files = append(found.Files, info)
		}
		return err
	})
	slices.SortFunc(found.Files, func(a, b Info) int { return strings.Compare(a.Path, b.Path) })
	return found, err
}

// literalPrefix is the folders of a pattern in front of its first wildcard,
// and the name itself where there is none.
func literalPrefix(pattern string) string {
	var parts []string
	for part := range strings.SplitSeq(pattern, "/") {
		if strings.ContainsAny(part, `*?[\`) {
			break
		}
		parts = append(parts, part)
	}
	if len(parts) == 0 {
		return "."
	}
	return strings.Join(parts, "/")
}

// matchFolder tells whether a folder above name matches.
func matchFolder(pattern, name string) bool {
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		if Match(pattern, dir) {
			return true
		}
	}
	return false
}

// beneath tells whether no folder above name below root is a symlink, so that
// name is really there.
func beneath(root, name string) bool {
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		info, err := os.Lstat(filepath.Join(root, filepath.FromSlash(dir)))
		if err != nil || !info.IsDir() {
			return false
		}
	}
	return true
}
