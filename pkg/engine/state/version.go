package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/format/strict"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// VersionSchema is the schema field of version.json.
const VersionSchema = "relkit.version/v1"

const (
	versionFile = "version.json"
	maxVersion  = 64 << 10
)

type versionDoc struct {
	Schema  string `json:"schema"`
	Product string `json:"product"`
	Version string `json:"version"`
}

// Version is what is installed; the zero Version where version.json does not
// exist. One that cannot be understood is failure.Usage, a newer relkit's
// failure.Refused.
func (s *State) Version() (journal.Version, error) {
	b, err := fsys.ReadFile(s.fs, versionFile, maxVersion)
	if errors.Is(err, fs.ErrNotExist) {
		return journal.Version{}, nil
	}
	if err != nil {
		return journal.Version{}, fmt.Errorf("reading version.json: %w", err)
	}
	var d versionDoc
	if err := journal.Newer(b, VersionSchema); err != nil {
		return journal.Version{}, fmt.Errorf("reading version.json: %w", err)
	}
	if err := strict.Decode(b, maxVersion, &d); err != nil {
		return journal.Version{}, failure.As(failure.Usage, fmt.Errorf("reading version.json: %w", err))
	}
	if d.Schema != VersionSchema {
		return journal.Version{}, failure.Errorf(failure.Usage, "reading version.json: schema %q, want %q", d.Schema, VersionSchema)
	}
	return journal.Version{Product: d.Product, Version: d.Version}, nil
}

// SetVersion writes version.json; the zero Version removes it.
func (s *State) SetVersion(v journal.Version) error {
	if v == (journal.Version{}) {
		if err := s.fs.Unlink(versionFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("removing version.json: %w", err)
		}
		return s.fs.SyncDir(".")
	}
	b, err := json.Marshal(&versionDoc{Schema: VersionSchema, Product: v.Product, Version: v.Version})
	if err != nil {
		return err
	}
	if err := fsys.WriteFile(s.fs, versionFile, append(b, '\n'), 0o644); err != nil {
		return fmt.Errorf("writing version.json: %w", err)
	}
	return nil
}
