// Package build builds what relkit.toml describes: it watches sources, runs the
// steps of builders under a supervisor, reads test results, and keeps records
// and artifacts in a state folder. There is no daemon: everything is files
// under flock(2), laid out as relkit-build(1) says.
package build

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/relkit/relkit/pkg/config"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/digest"
)

// defaultState is the state folder beside relkit.toml where none is configured.
const defaultState = ".relkit-build"

// defaultConfig is what relkit build reads where it is not told.
const defaultConfig = "relkit.toml"

// Project is a relkit.toml and its state folder.
type Project struct {
	cfg *config.Relkit
	// dir is the folder of relkit.toml, which relative paths in it start from.
	dir   string
	state state
	// file is relkit.toml, and stateGiven the state folder where it is not the
	// configured one: absolute, for command lines that are pasted anywhere.
	file, stateGiven string
	// digest is of relkit.toml as it was read.
	digest digest.Digest
	// given is what a command line needs more to mean this project, for hints.
	given string
}

// Open reads relkit.toml. A state that is not "" replaces the configured folder.
func Open(file, stateDir string) (*Project, error) {
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		err = failure.As(failure.Usage, err)
		return nil, failure.WithHint(fmt.Errorf("reading the configuration: %w", err), "relkit build --config FILE  # or cd to the folder of relkit.toml")
	}
	if err != nil {
		return nil, failure.Errorf(failure.Usage, "reading the configuration: %w", err)
	}
	cfg, err := config.DecodeRelkit(file, data)
	if err != nil {
		return nil, err
	}
	abs, err := filepath.Abs(file)
	if err != nil {
		return nil, err
	}
	p := &Project{cfg: cfg, dir: filepath.Dir(abs), file: abs, digest: digest.Of(data)}
	dir := p.abs(cfg.Project.State)
	switch {
	case stateDir != "":
		if dir, err = filepath.Abs(stateDir); err != nil {
			return nil, err
		}
		p.stateGiven = dir
	case cfg.Project.State == "":
		dir = p.abs(defaultState)
	}
	p.state = state{dir}
	if file != defaultConfig {
		p.given += " --config " + failure.Word(file)
	}
	if stateDir != "" {
		p.given += " --state " + failure.Word(stateDir)
	}
	return p, nil
}

// Builders counts what relkit.toml describes.
func (p *Project) Builders() int { return len(p.cfg.Builders) }

// HasSource tells whether relkit.toml has a source of this name.
func (p *Project) HasSource(name string) bool { return p.sourceIndex(name) >= 0 }

// abs is a path of relkit.toml.
func (p *Project) abs(path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(p.dir, path)
}

// sourceURL is a source's URL with a plain path made absolute. "host:path" is a
// host as git has it: a colon before the first slash.
func (p *Project) sourceURL(url string) string {
	host, _, isHost := strings.Cut(url, ":")
	if isHost && !strings.Contains(host, "/") {
		return url
	}
	return p.abs(url)
}
