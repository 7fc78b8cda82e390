package build

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// matchGlob matches a slash-separated path with a pattern as config.CheckGlob
// takes it: "*" and its like stay within a name, "**" is any number of folders.
func matchGlob(pattern, name string) bool {
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

// matchAny tells whether one of the patterns matches.
func matchAny(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return matchGlob(p, name) })
}

// findGlob lists the files that match a pattern below root, sorted, as
// slash-separated paths from there, and the folders apart. Of a folder that
// matches it lists all that is below it. Symlinks are not followed and .git is
// not entered.
func findGlob(root, pattern string) (files, folders []string, err error) {
	start := literalPrefix(pattern)
	if !beneath(root, start) {
		return nil, nil, nil
	}
	err = filepath.WalkDir(filepath.Join(root, filepath.FromSlash(start)), func(full string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, full)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		hit := matchGlob(pattern, rel) || matchFolder(pattern, rel)
		switch {
		case d.IsDir() && d.Name() == ".git" && rel != start:
			return fs.SkipDir
		case rel == ".":
		case hit && d.IsDir():
			folders = append(folders, rel)
		case hit:
			files = append(files, rel)
		}
		return nil
	})
	slices.Sort(files)
	return files, folders, err
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
		if matchGlob(pattern, dir) {
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
