package build

import (
	"context"
	"crypto/sha1"
	"debug/buildinfo"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/format/record"
	"github.com/relkit/relkit/pkg/format/sbom"
)

// writeSBOMs writes the bills of materials that a builder is to have. What a try
// build was made of has no name that a bill could give.
func (j *job) writeSBOMs(ctx context.Context) error {
	formats := slices.Sorted(slices.Values(j.cell.builder.Artifacts.SBOM))
	if len(formats) == 0 || j.r.try() {
		return nil
	}
	j.doing("listing what the artifacts are made of")
	files := map[string]sbom.File{}
	for _, a := range j.build.Artifacts {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if a.Target != "" {
			continue
		}
		name, err := manifest.Unescape(a.Path)
		if err == nil {
			files[a.Path], err = lookInto(filepath.Join(j.dir, name))
		}
		if err != nil {
			return fmt.Errorf("bill of materials: %w", err)
		}
	}
	bill := sbom.New(j.build, files)
	for _, format := range formats {
		write := map[string]func() ([]byte, error){"cyclonedx": bill.CycloneDX, "spdx": bill.SPDX}[format]
		data, err := write()
		file := record.SBOMFile(format)
		if err == nil {
			err = writeWhole(filepath.Join(j.dir, file), data)
		}
		if err != nil {
			return fmt.Errorf("bill of materials: %w", err)
		}
		j.build.SBOM = append(j.build.SBOM, record.BuildSBOM{Format: format, Path: file, SizeBytes: int64(len(data)), Digest: digest.Of(data)})
	}
	return nil
}

// lookInto reads of an artifact what a bill lists of it.
func lookInto(name string) (sbom.File, error) {
	f, err := os.Open(name)
	if err != nil {
		return sbom.File{}, err
	}
	defer f.Close()
	h := sha1.New()
	if _, err := io.Copy(h, f); err != nil {
		return sbom.File{}, err
	}
	out := sbom.File{SHA1: hex.EncodeToString(h.Sum(nil))}
	if info, err := buildinfo.Read(f); err == nil { // most are no programs of Go's
		out.Go = info
	}
	return out, nil
}
