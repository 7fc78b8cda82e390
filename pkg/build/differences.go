package build

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/relkit/relkit/pkg/build/compare"
	"github.com/relkit/relkit/pkg/build/worker"
	"github.com/relkit/relkit/pkg/config"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/format/record"
	"github.com/relkit/relkit/pkg/sys/process"
)

// differences lists in what the artifacts of two builds, in their folders, differ;
// it counts all and lists record.MaxBuildDifferences.
func differences(dirA string, a []record.BuildArtifact, dirB string, b []record.BuildArtifact) (n int, list []record.BuildDifference, err error) {
	second := map[string]*record.BuildArtifact{}
	for i := range b {
		second[b[i].Path] = &b[i]
	}
	add := func(d record.BuildDifference) {
		if n++; len(list) < record.MaxBuildDifferences {
			list = append(list, d)
		}
	}
	for i := range a {
		one, two := &a[i], second[a[i].Path]
		delete(second, one.Path)
		d := record.BuildDifference{Path: one.Path}
		switch {
		case two == nil:
			d.What, d.First = "missing", one.Digest.String()
		case (one.Target == "") != (two.Target == ""):
			d.What, d.First, d.Second = "kind", kindOf(one), kindOf(two)
		case one.Target != two.Target:
			d.What, d.First, d.Second = "target", one.Target, two.Target
		case one.Digest != two.Digest:
			d.What, d.First, d.Second = "content", one.Digest.String(), two.Digest.String()
			if len(list) < record.MaxBuildDifferences {
				if err := look(&d, dirA, dirB); err != nil {
					return 0, nil, err
				}
			}
		case one.Mode != two.Mode:
			d.What, d.First, d.Second = "mode", one.Mode, two.Mode
		default:
			continue
		}
		add(d)
	}
	for i := range b {
		if _, left := second[b[i].Path]; left {
			add(record.BuildDifference{Path: b[i].Path, What: "extra", Second: b[i].Digest.String()})
		}
	}
	return n, list, nil
}

func kindOf(a *record.BuildArtifact) string {
	if a.Target != "" {
		return "symlink"
	}
	return "file"
}

// look finds where the content of an artifact begins to differ.
func look(d *record.BuildDifference, dirA, dirB string) error {
	name, err := manifest.Unescape(d.Path)
	if err != nil {
		return err
	}
	var files [2]compare.File
	for i, dir := range []string{dirA, dirB} {
		f, err := os.Open(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			return err
		}
		files[i] = compare.File{ReaderAt: f, Size: info.Size()}
	}
	where, err := compare.Files(files[0], files[1])
	if err == nil && where == nil {
		err = fmt.Errorf("artifact %q: the digests differ, the files do not", d.Path)
	}
	if err != nil {
		return err
	}
	d.Offset, d.Inside, d.FirstText, d.SecondText = &where.Offset, where.Inside, where.First, where.Second
	return nil
}

// differenceLine tells a person of a difference.
func differenceLine(d *record.BuildDifference) string {
	name := strings.TrimPrefix(d.Path, artifactsDir+"/")
	switch d.What {
	case "content":
		text := fmt.Sprintf("%s at byte %d", name, *d.Offset)
		if d.Inside != "" {
			text += ", " + d.Inside
		}
		return text + fmt.Sprintf(": %q and %q", d.FirstText, d.SecondText)
	case "missing":
		return name + ": not there the second time"
	case "extra":
		return name + ": only there the second time"
	}
	return fmt.Sprintf("%s: %s %s and %s", name, d.What, d.First, d.Second)
}

const (
	reportFile = "diffoscope.txt"
	// maxReported bounds the files that diffoscope(1) is given, reportTime its time
	// for each, maxReport what it may say of one, in bytes, reportMemory its memory.
	maxReported  = 5
	reportTime   = 2 * time.Minute
	maxReport    = 256 << 10
	reportMemory = 2 << 30
)

// report has diffoscope(1), where this machine has it, say what differs, and
// answers the report's path in the build's folder; "" for none.
func (r *runner) report(ctx context.Context, dir string, list []record.BuildDifference) (string, error) {
	list = slices.DeleteFunc(slices.Clone(list), func(d record.BuildDifference) bool { return d.What != "content" })
	if len(list) == 0 {
		return "", nil
	}
	here, err := worker.Open(ctx, config.Worker{}, worker.Options{Dir: r.p.dir, LookupEnv: r.opt.LookupEnv})
	if err != nil {
		return "", err
	}
	defer here.Close()
	tmp := filepath.Join(dir, reproDir, ".tmp")
	if err := os.Mkdir(tmp, 0o700); err != nil {
		return "", err
	}
	var text bytes.Buffer
	for _, d := range list[:min(len(list), maxReported)] {
		said, there, rerr := r.diffoscope(ctx, here, dir, tmp, d.Path)
		if err = rerr; err != nil || !there {
			break
		}
		text.Write(said)
	}
	if err = errors.Join(err, worker.RemoveAll(tmp)); err != nil || text.Len() == 0 {
		return "", err
	}
	report := path.Join(reproDir, reportFile)
	return report, writeWhole(filepath.Join(dir, report), text.Bytes())
}

// diffoscope compares one artifact; there is false where there is no diffoscope.
func (r *runner) diffoscope(ctx context.Context, here *worker.Session, dir, tmp, escaped string) (said []byte, there bool, err error) {
	name, err := manifest.Unescape(escaped)
	if err != nil {
		return nil, false, err
	}
	env := append(r.toolEnv(here), "TMPDIR="+tmp)
	argv := []string{"diffoscope", "--no-progress", fmt.Sprintf("--max-text-report-size=%d", maxReport), "--max-diff-block-lines=100",
		"--text", "-", "--", name, filepath.Join(reproDir, name)}
	res, err := here.Run(ctx, process.Job{Argv: argv, Dir: dir, Env: env, Timeout: reportTime, MaxMemory: reportMemory, Output: func(o process.Output) error {
		if !o.Stderr {
			said = append(said, o.Data[:min(len(o.Data), 2*maxReport-len(said))]...)
		}
		return nil
	}})
	switch {
	case err != nil:
		return nil, false, err
	case res.Reason == process.NotStarted:
		return nil, false, nil
	case res.Reason != process.Exited || res.Exit > 1: // 1 is that they differ
		said = fmt.Appendf(said, "diffoscope of %s: %s\n", escaped, res)
	}
	return said, true, nil
}
