package build

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
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
	failed, regular := fit(files)
	if failed != "" {
		return failed, nil
	}
	dir := filepath.Join(j.dir, artifactsDir)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", fmt.Errorf("artifacts: %w", err)
	}
	// Names and links are the worker's: none of them leads out of the folder.
	root, err := os.OpenRoot(dir)
	if err != nil {
		return "", fmt.Errorf("artifacts: %w", err)
	}
	defer root.Close()
	dirs, err := makeFolders(root, files, folders)
	if err != nil {
		return "", fmt.Errorf("artifacts: %w", err)
	}
	if err := j.getArtifacts(ctx, root, files, regular); err != nil {
		return "", err
	}
	if err := j.finishFolders(ctx, root, dirs); err != nil {
		return "", fmt.Errorf("artifacts: %w", err)
	}
	return "", j.writeSums()
}

// getArtifacts copies files, and makes the symlinks among them.
func (j *job) getArtifacts(ctx context.Context, root *os.Root, files []worker.Info, regular []string) error {
	sizes := map[string]int64{}
	for _, f := range files {
		sizes[f.Path] = f.Size
	}
	byPath := map[string]record.BuildArtifact{}
	err := j.on.Get(ctx, j.cwd, regular, func(info worker.Info, r io.Reader) error {
		if info.Size != sizes[info.Path] { // no step runs that could change it
			return fmt.Errorf("artifact %q: its size was %d bytes, and is %d now", info.Path, sizes[info.Path], info.Size)
		}
		a, err := j.receive(root, info, r)
		byPath[info.Path] = a
		if err != nil {
			return fmt.Errorf("artifact %q: %w", info.Path, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, f := range files {
		a, ok := byPath[f.Path]
		if !ok {
			a = record.BuildArtifact{Path: artifactPath(f), Mode: artifactMode(f), Target: manifest.Escape(f.Target)}
			if err := root.Symlink(f.Target, f.Path); err != nil {
				return fmt.Errorf("artifact %q: %w", f.Path, err)
			}
		}
		j.build.Artifacts = append(j.build.Artifacts, a)
	}
	return nil
}

func uniqueByPath(list []worker.Info) []worker.Info {
	slices.SortFunc(list, func(a, b worker.Info) int { return manifest.Compare(a.Path, b.Path) })
	return slices.CompactFunc(list, func(a, b worker.Info) bool { return a.Path == b.Path })
}

// makeFolders makes the folders of the artifacts, those that are empty too, and
// answers all of them, each after what is in it.
func makeFolders(root *os.Root, files, folders []worker.Info) ([]string, error) {
	made := map[string]bool{".": true}
	note := func(dir string) {
		for ; !made[dir]; dir = path.Dir(dir) {
			made[dir] = true
		}
	}
	for _, f := range folders {
		note(f.Path)
	}
	for _, f := range files {
		note(path.Dir(f.Path))
	}
	dirs := slices.Sorted(maps.Keys(made))
	for _, dir := range dirs {
		if dir == "." {
			continue
		}
		if err := root.Mkdir(dir, 0o755); err != nil {
			return nil, err
		}
	}
	slices.Reverse(dirs)
	return dirs, nil
}

// fit says why something cannot be an artifact, and else which are regular files.
func fit(files []worker.Info) (failed string, regular []string) {
	links := map[string]string{}
	for _, f := range files {
		if f.Mode&fs.ModeSymlink != 0 {
			links[f.Path] = f.Target
		}
	}
	for _, f := range files {
		problem := ""
		switch {
		case f.Mode.IsRegular():
			regular = append(regular, f.Path)
		case f.Mode&fs.ModeSymlink == 0:
			problem = "neither a file nor a symlink"
		case leadsOut(f.Path, links):
			problem = fmt.Sprintf("the symlink leads out of the artifacts: %q", f.Target)
		}
		if problem != "" {
			return fmt.Sprintf("artifact %q: %s", f.Path, problem), nil
		}
	}
	return "", regular
}

func artifactPath(f worker.Info) string { return manifest.Escape(path.Join(artifactsDir, f.Path)) }

func artifactMode(f worker.Info) string { return fmt.Sprintf("%04o", octalMode(f.Mode)) }

// receive writes one artifact from what the worker sends.
func (j *job) receive(root *os.Root, f worker.Info, r io.Reader) (record.BuildArtifact, error) {
	a := record.BuildArtifact{Path: artifactPath(f), Mode: artifactMode(f)}
	out, err := root.OpenFile(f.Path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return a, err
	}
	h := digest.New()
	a.SizeBytes, err = io.Copy(io.MultiWriter(out, h), r)
	if err = errors.Join(err, out.Chmod(f.Mode&keptBits), out.Close()); err != nil {
		return a, err
	}
	a.Digest = h.Digest()
	return a, j.clamp(root, f)
}

// maxLinks is how many symlinks Linux follows on the way to a file.
const maxLinks = 40

// leadsOut tells whether one of the symlinks leads out of the tree they are in,
// each followed as the kernel does, and the others on the way: "s/.." is not where
// s is, if s is itself a link. One that leads on for ever is none that stays within.
func leadsOut(file string, links map[string]string) bool {
	at := strings.Split(file, "/")
	at = at[:len(at)-1]
	if path.IsAbs(links[file]) {
		return true
	}
	for rest, left := strings.Split(links[file], "/"), maxLinks; len(rest) > 0; {
		part := rest[0]
		rest = rest[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			if len(at) == 0 {
				return true
			}
			at = at[:len(at)-1]
			continue
		}
		target, isLink := links[strings.Join(append(at, part), "/")]
		if !isLink {
			at = append(at, part)
			continue
		}
		if left--; left < 0 || path.IsAbs(target) {
			return true
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	return false
}

// clamp gives a file its time, but none later than the source's: two builds of
// one source leave trees that are equal, times included.
func (j *job) clamp(root *os.Root, f worker.Info) error {
	mtime := f.ModTime
	if epoch := time.Unix(j.build.SourceDateEpoch, 0); mtime.After(epoch) {
		mtime = epoch
	}
	return root.Chtimes(f.Path, mtime, mtime)
}

// finishFolders gives the folders of the artifacts their modes and times, the
// innermost first: one that must not be written to could take no file.
func (j *job) finishFolders(ctx context.Context, root *os.Root, dirs []string) error {
	infos, err := j.on.Stat(ctx, j.cwd, dirs...)
	if err != nil {
		return err
	}
	for _, info := range infos {
		if info.Path != "." {
			err = root.Chmod(info.Path, info.Mode&keptBits)
		}
		if err = errors.Join(err, j.clamp(root, info)); err != nil {
			return err
		}
	}
	return nil
}

// keptBits are what is kept of a mode on this machine, the whole of which is in the
// record. A build chooses who may read and run what it made, but makes no program
// that others run with the rights of whom the files belong to here, and lets nobody
// else write.
const keptBits fs.FileMode = 0o755

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
