package inspect

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/relkit/relkit/pkg/engine/store"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/format/record"
)

// sumsFile lists a build's artifacts, as sha256sum(1) -c reads it.
const sumsFile = "SHA256SUMS"

// folder tells whether what lies beside a record is what the record says: the
// artifacts of a build, the tree of a stored image. The error is a
// failure.Untrusted that names the first thing that differs.
func (res *Result) folder(ctx context.Context, o Options) error {
	dir := filepath.Dir(res.File)
	var whole string
	var err error
	switch doc := res.Document.(type) {
	case *record.Build:
		whole = fmt.Sprintf("%s and %d artifacts", sumsFile, len(doc.Artifacts))
		err = buildHolds(ctx, dir, doc)
	default:
		if res.Kind != "image" {
			return nil
		}
		whole = "manifest and tree"
		err = imageHolds(ctx, dir)
	}
	if err != nil {
		return failure.As(failure.Untrusted, err)
	}
	res.Whole = whole
	return nil
}

// buildHolds compares a build's artifacts and SHA256SUMS with its record.
func buildHolds(ctx context.Context, dir string, b *record.Build) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	var sums bytes.Buffer
	for i := range b.Artifacts {
		a := &b.Artifacts[i]
		name, err := manifest.Unescape(a.Path)
		if err != nil {
			return err
		}
		if a.Target != "" {
			target, err := root.Readlink(name)
			if err != nil || manifest.Escape(target) != a.Target {
				return fmt.Errorf("artifact %q is no longer the link to %q that build.json lists", a.Path, a.Target)
			}
			continue
		}
		if err := artifactHolds(ctx, root, name, a); err != nil {
			return err
		}
		sums.WriteString(sumLine(a.Digest, name))
	}
	for _, m := range b.SBOM {
		if err := artifactHolds(ctx, root, m.Path, &record.BuildArtifact{Path: m.Path, Digest: m.Digest}); err != nil {
			return err
		}
	}
	for _, d := range b.Try {
		if err := artifactHolds(ctx, root, d.Path, &record.BuildArtifact{Path: d.Path, Digest: d.Digest}); err != nil {
			return err
		}
	}
	f, err := root.Open(sumsFile)
	if err != nil {
		return err
	}
	defer f.Close()
	if got, err := io.ReadAll(io.LimitReader(f, int64(sums.Len())+1)); err != nil || !bytes.Equal(got, sums.Bytes()) {
		return errors.Join(fmt.Errorf("%s is not what build.json lists", sumsFile), err)
	}
	return nil
}

func artifactHolds(ctx context.Context, root *os.Root, name string, a *record.BuildArtifact) error {
	if info, err := root.Lstat(name); err != nil {
		return fmt.Errorf("artifact %q: %w", a.Path, err)
	} else if info.Mode().Type() != 0 {
		return fmt.Errorf("artifact %q is no file any more", a.Path)
	}
	f, err := root.Open(name)
	if err != nil {
		return fmt.Errorf("artifact %q: %w", a.Path, err)
	}
	defer f.Close()
	d, _, err := digest.OfReader(contextReader{ctx, f})
	if err == nil && d != a.Digest {
		err = fmt.Errorf("digest %s, and build.json lists %s", d, a.Digest)
	}
	if err != nil {
		return fmt.Errorf("artifact %q: %w", a.Path, err)
	}
	return nil
}

// sumLine is a line of SHA256SUMS; a backslash in front says that the name is escaped.
func sumLine(d digest.Digest, name string) string {
	start := ""
	if strings.ContainsAny(name, "\\\n\r") {
		start, name = `\`, strings.NewReplacer("\\", `\\`, "\n", `\n`, "\r", `\r`).Replace(name)
	}
	return fmt.Sprintf("%s%s  %s\n", start, d.Hex(), name)
}

// imageHolds compares a stored image's tree with its manifest, and that with its record.
func imageHolds(ctx context.Context, dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	st, err := store.Open(filepath.Dir(filepath.Dir(dir)))
	if err != nil {
		return err
	}
	defer st.Close()
	ref := store.Ref{Name: filepath.Base(filepath.Dir(dir)), Version: filepath.Base(dir)}
	for diff, err := range st.Verify(ctx, ref, 0) {
		if err != nil {
			return err
		}
		return fmt.Errorf("the tree differs from its manifest: %s", diff.String())
	}
	return nil
}

// signed tells whether FILE.sig lies beside a file.
func signed(name string) bool {
	info, err := os.Stat(name + ".sig")
	return err == nil && info.Mode().IsRegular()
}
