package build

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/format/record"
)

// collectArtifacts copies what the builder's paths match into the build's
// folder. A path that matches nothing is the build's failure; it answers why.
func (j *job) collectArtifacts(ctx context.Context) (failed string, err error) {
	var files, folders []string
	for _, pattern := range j.cell.builder.Artifacts.Paths {
		pattern, err := substitute(pattern, j.vars)
		if err != nil {
			return "", err
		}
		found, dirs, err := findGlob(j.cwd, pattern)
		if err != nil {
			return "", fmt.Errorf("looking for artifacts: %w", err)
		}
		if len(found) == 0 {
			return fmt.Sprintf("artifacts: %q matches no file", pattern), nil
		}
		files, folders = append(files, found...), append(folders, dirs...)
	}
	if len(files) == 0 {
		return "", nil
	}
	slices.SortFunc(files, manifest.Compare)
	files = slices.Compact(files)
	root := filepath.Join(j.dir, artifactsDir)
	for _, dir := range folders { // those that are empty would not be there otherwise
		if err := os.MkdirAll(filepath.Join(root, filepath.FromSlash(dir)), 0o755); err != nil {
			return "", fmt.Errorf("artifacts: %w", err)
		}
	}
	for _, file := range files {
		if err := ctx.Err(); err != nil {
			return "", context.Cause(ctx)
		}
		a, problem, err := j.collect(root, file)
		if err != nil {
			return "", fmt.Errorf("artifact %q: %w", file, err)
		}
		if problem != "" {
			return fmt.Sprintf("artifact %q: %s", file, problem), nil
		}
		j.build.Artifacts = append(j.build.Artifacts, a)
	}
	if err := j.finishFolders(root); err != nil {
		return "", fmt.Errorf("artifacts: %w", err)
	}
	return "", j.writeSums()
}

// collect copies one artifact.
func (j *job) collect(root, file string) (a record.BuildArtifact, problem string, err error) {
	from, to := filepath.Join(j.cwd, filepath.FromSlash(file)), filepath.Join(root, filepath.FromSlash(file))
	a.Path = manifest.Escape(path.Join(artifactsDir, file))
	info, err := os.Lstat(from)
	if err != nil {
		return a, "", err
	}
	a.Mode = fmt.Sprintf("%04o", octalMode(info.Mode()))
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return a, "", err
	}
	switch mode := info.Mode(); {
	case mode&fs.ModeSymlink != 0:
		target, err := os.Readlink(from)
		if err != nil {
			return a, "", err
		}
		if leadsOut(file, target) {
			return a, fmt.Sprintf("the symlink leads out of the artifacts: %q", target), nil
		}
		a.Target = manifest.Escape(target)
		return a, "", os.Symlink(target, to)
	case !mode.IsRegular():
		return a, "neither a file nor a symlink", nil
	}
	a.Digest, a.SizeBytes, err = copyFile(from, to, info.Mode()&modeBits)
	if err != nil {
		return a, "", err
	}
	return a, "", j.clamp(to, info.ModTime())
}

// leadsOut tells whether the text of a symlink leads out of the tree it is in.
func leadsOut(file, target string) bool {
	if path.IsAbs(target) {
		return true
	}
	// Joined by hand: path.Join alone would clean "a/../.." against the root.
	depth := strings.Count(file, "/")
	for part := range strings.SplitSeq(target, "/") {
		switch part {
		case "", ".":
		case "..":
			if depth--; depth < 0 {
				return true
			}
		default:
			depth++
		}
	}
	return false
}

// copyFile copies a file's content and tells its digest and size.
func copyFile(from, to string, mode fs.FileMode) (digest.Digest, int64, error) {
	in, err := os.Open(from)
	if err != nil {
		return digest.Digest{}, 0, err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return digest.Digest{}, 0, err
	}
	h := digest.New()
	n, err := io.Copy(io.MultiWriter(out, h), in)
	err = errors.Join(err, out.Chmod(mode), out.Close())
	return h.Digest(), n, err
}

// clamp gives a file its time, but none later than the source's: two builds of
// one source leave trees that are equal, times included.
func (j *job) clamp(file string, mtime time.Time) error {
	if epoch := time.Unix(j.build.SourceDateEpoch, 0); mtime.After(epoch) {
		mtime = epoch
	}
	return os.Chtimes(file, mtime, mtime)
}

// finishFolders gives the folders of the artifacts their modes and times, the
// innermost first: one that must not be written to could take no file.
func (j *job) finishFolders(root string) error {
	var dirs []string
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, p)
		}
		return err
	})
	if err != nil {
		return err
	}
	slices.Reverse(dirs)
	for _, dir := range dirs {
		rel, err := filepath.Rel(root, dir)
		if err != nil {
			return err
		}
		info, err := os.Lstat(filepath.Join(j.cwd, rel))
		if err != nil {
			return err
		}
		if rel != "." {
			err = os.Chmod(dir, info.Mode()&modeBits)
		}
		if err = errors.Join(err, j.clamp(dir, info.ModTime())); err != nil {
			return err
		}
	}
	return nil
}

// modeBits are those that chmod(2) sets.
const modeBits = fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky

// octalMode is a mode as chmod(1) takes it.
func octalMode(m fs.FileMode) uint32 {
	mode := uint32(m.Perm())
	for bit, set := range map[uint32]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if m&set != 0 {
			mode |= bit
		}
	}
	return mode
}

// writeSums writes SHA256SUMS, as sha256sum(1) writes it and checks it with -c
// in the build's folder.
func (j *job) writeSums() error {
	var b bytes.Buffer
	for _, a := range j.build.Artifacts {
		if a.Target != "" {
			continue
		}
		name, err := manifest.Unescape(a.Path)
		if err != nil {
			return err
		}
		if strings.ContainsAny(name, "\\\n\r") {
			// A backslash in front says that the name is escaped.
			b.WriteByte('\\')
			name = strings.NewReplacer("\\", `\\`, "\n", `\n`, "\r", `\r`).Replace(name)
		}
		fmt.Fprintf(&b, "%s  %s\n", a.Digest.Hex(), name)
	}
	return writeWhole(filepath.Join(j.dir, sumsFile), b.Bytes())
}
