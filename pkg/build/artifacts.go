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

	"github.com/relkit/relkit/pkg/build/worker"
	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/format/record"
)

// collectArtifacts copies what the builder's paths match into the build's
// folder. A path that matches nothing is the build's failure; it answers why.
func (j *job) collectArtifacts(ctx context.Context) (failed string, err error) {
	var files, folders []worker.Info
	for _, pattern := range j.cell.builder.Artifacts.Paths {
		pattern, err := substitute(pattern, j.vars)
		if err != nil {
			return "", err
		}
		found, err := j.on.Find(ctx, j.cwd, pattern)
		if err != nil {
			return "", fmt.Errorf("looking for artifacts: %w", err)
		}
		if len(found.Files) == 0 {
			return fmt.Sprintf("artifacts: %q matches no file", pattern), nil
		}
		files, folders = append(files, found.Files...), append(folders, found.Folders...)
	}
	if len(files) == 0 {
		return "", nil
	}
	files = uniqueByPath(files)
	root := filepath.Join(j.dir, artifactsDir)
	if err := makeFolders(root, files, folders); err != nil {
		return "", fmt.Errorf("artifacts: %w", err)
	}
	var regular []string
	for _, f := range files {
		if problem := unfit(f); problem != "" {
			return fmt.Sprintf("artifact %q: %s", f.Path, problem), nil
		}
		if f.Mode.IsRegular() {
			regular = append(regular, f.Path)
		}
	}
	byPath := map[string]record.BuildArtifact{}
	err = j.on.Get(ctx, j.cwd, regular, func(info worker.Info, r io.Reader) error {
		a, err := j.receive(root, info, r)
		byPath[info.Path] = a
		if err != nil {
			return fmt.Errorf("artifact %q: %w", info.Path, err)
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	for _, f := range files {
		a, ok := byPath[f.Path]
		if !ok {
			a = record.BuildArtifact{Path: artifactPath(f), Mode: artifactMode(f), Target: manifest.Escape(f.Target)}
			if err := os.Symlink(f.Target, filepath.Join(root, filepath.FromSlash(f.Path))); err != nil {
				return "", fmt.Errorf("artifact %q: %w", f.Path, err)
			}
		}
		j.build.Artifacts = append(j.build.Artifacts, a)
	}
	if err := j.finishFolders(ctx, root); err != nil {
		return "", fmt.Errorf("artifacts: %w", err)
	}
	return "", j.writeSums()
}

func uniqueByPath(list []worker.Info) []worker.Info {
	slices.SortFunc(list, func(a, b worker.Info) int { return manifest.Compare(a.Path, b.Path) })
	return slices.CompactFunc(list, func(a, b worker.Info) bool { return a.Path == b.Path })
}

// makeFolders makes the folders of the artifacts; those that are empty would not
// be there otherwise.
func makeFolders(root string, files, folders []worker.Info) error {
	for _, f := range folders {
		if err := os.MkdirAll(filepath.Join(root, filepath.FromSlash(f.Path)), 0o755); err != nil {
			return err
		}
	}
	for _, f := range files {
		if err := os.MkdirAll(filepath.Join(root, filepath.FromSlash(path.Dir(f.Path))), 0o755); err != nil {
			return err
		}
	}
	return nil
}

// unfit says why something cannot be an artifact.
func unfit(f worker.Info) string {
	switch {
	case f.Mode&fs.ModeSymlink != 0 && leadsOut(f.Path, f.Target):
		return fmt.Sprintf("the symlink leads out of the artifacts: %q", f.Target)
	case f.Mode&fs.ModeSymlink == 0 && !f.Mode.IsRegular():
		return "neither a file nor a symlink"
	}
	return ""
}

func artifactPath(f worker.Info) string { return manifest.Escape(path.Join(artifactsDir, f.Path)) }

func artifactMode(f worker.Info) string { return fmt.Sprintf("%04o", octalMode(f.Mode)) }

// receive writes one artifact from what the worker sends.
func (j *job) receive(root string, f worker.Info, r io.Reader) (record.BuildArtifact, error) {
	a := record.BuildArtifact{Path: artifactPath(f), Mode: artifactMode(f)}
	to := filepath.Join(root, filepath.FromSlash(f.Path))
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return a, err
	}
	h := digest.New()
	a.SizeBytes, err = io.Copy(io.MultiWriter(out, h), r)
	if err = errors.Join(err, out.Chmod(f.Mode&modeBits), out.Close()); err != nil {
		return a, err
	}
	a.Digest = h.Digest()
	return a, j.clamp(to, f.ModTime)
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
func (j *job) finishFolders(ctx context.Context, root string) error {
	var dirs []string
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(root, p)
		dirs = append(dirs, filepath.ToSlash(rel))
		return err
	})
	if err != nil {
		return err
	}
	slices.Reverse(dirs)
	infos, err := j.on.Stat(ctx, j.cwd, dirs...)
	if err != nil {
		return err
	}
	for _, info := range infos {
		dir := filepath.Join(root, filepath.FromSlash(info.Path))
		if info.Path != "." {
			err = os.Chmod(dir, info.Mode&modeBits)
		}
		if err = errors.Join(err, j.clamp(dir, info.ModTime)); err != nil {
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
