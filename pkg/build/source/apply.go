package source

import (
	"fmt"
	"path"
	"regexp"
	"strconv"
	"strings"
)

// ApplyProgram is what applies diffs to the trees of a kind of source.
func ApplyProgram(vcs string) string {
	if vcs == "git" {
		return "git"
	}
	return "patch"
}

// ApplyArgv applies the diff in a file to the tree that is the working directory.
// strip is how many leading folders of the names in it are the diff's own.
func ApplyArgv(vcs string, strip int, file string) []string {
	p := "-p" + strconv.Itoa(strip)
	if vcs == "git" {
		// --reject, for it names the hunk; the tree is not used further then.
		return gitArgv("apply", "--whitespace=nowarn", "--reject", "--verbose", p, file)
	}
	return []string{"patch", p, "--forward", "--batch", "--remove-empty-files", "--no-backup-if-mismatch", "--reject-file=-", "-i", file}
}

// ApplyEnv is what ApplyArgv takes in its environment: a tree that is no repository,
// as an export is, may lie below one, in which git would look for the files.
func ApplyEnv(dir string) []string { return []string{"GIT_CEILING_DIRECTORIES=" + path.Dir(dir)} }

var (
	gitFailed   = regexp.MustCompile(`^error: patch failed: (.*):([0-9]+)$`)
	gitRejected = regexp.MustCompile(`^Rejected hunk #([0-9]+)\.$`)
	gitError    = regexp.MustCompile(`^error: (.*)$`)
	gnuFile     = regexp.MustCompile(`^(?:patching|checking) (?:file|symbolic link) (.*?)(?: \(.*\))?$`)
	gnuHunk     = regexp.MustCompile(`^Hunk #([0-9]+) (?:FAILED|ignored) at ([0-9]+)`)
	gnuMissing  = regexp.MustCompile(`^\|\+\+\+ ([^\t]*)`)
	gnuOther    = regexp.MustCompile(`^(?:patch: \*\*\*\* .*|The next patch would .*|(?:File|Not) .*)$`)
)

// WhyNotApplied makes of what the program printed the first place where a diff did
// not fit: the file and the hunk.
func WhyNotApplied(vcs, said string) string {
	lines := strings.Split(said, "\n")
	if vcs == "git" {
		return whyNotGit(lines)
	}
	return whyNotPatch(lines)
}

func whyNotGit(lines []string) string {
	for i, l := range lines {
		if m := gitFailed.FindStringSubmatch(l); m != nil {
			for _, later := range lines[i:] {
				if h := gitRejected.FindStringSubmatch(later); h != nil {
					return fmt.Sprintf("%s: hunk %s, at line %s", m[1], h[1], m[2])
				}
			}
			return fmt.Sprintf("%s: at line %s", m[1], m[2])
		}
		if m := gitError.FindStringSubmatch(l); m != nil && m[1] != "while searching for:" {
			return m[1]
		}
	}
	return last(lines)
}

func whyNotPatch(lines []string) string {
	file := ""
	for i, l := range lines {
		if m := gnuFile.FindStringSubmatch(l); m != nil {
			file = strings.Trim(m[1], "'")
		}
		if m := gnuHunk.FindStringSubmatch(l); m != nil {
			return fmt.Sprintf("%s: hunk %s, at line %s", file, m[1], m[2])
		}
		if strings.HasPrefix(l, "can't find file to patch") {
			for _, later := range lines[i:] {
				if m := gnuMissing.FindStringSubmatch(later); m != nil {
					return m[1] + ": no such file"
				}
			}
		}
		if gnuOther.MatchString(l) {
			if strings.HasSuffix(l, ",") && i+1 < len(lines) { // "which already exists!"
				l += " " + lines[i+1]
			}
			return l
		}
	}
	return last(lines)
}

// last is the last line that says something.
func last(lines []string) string {
	for i := len(lines) - 1; i >= 0; i-- {
		if l := strings.TrimSpace(lines[i]); l != "" {
			return l
		}
	}
	return ""
}
