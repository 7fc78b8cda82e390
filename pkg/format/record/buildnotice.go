package record

import (
	"errors"
	"fmt"
	"time"

	"github.com/relkit/relkit/pkg/format/strict"
)

// BuildNoticeSchema is the schema of what webhooks and commands of
// [[notify]] are given, relkit.toml(5).
const BuildNoticeSchema = "relkit.build-notice/v1"

// MaxBuildNotice bounds a notice, in bytes.
const MaxBuildNotice = 4 << 20

// BuildNotice is what is told of a build that has ended.
type BuildNotice struct {
	Schema string `json:"schema"`
	// ID is the same whenever the same is told again, and no other's.
	ID string `json:"id"`
	// Event is broke, failing, recovered, succeeded, error or interrupted.
	Event   string `json:"event"`
	Subject string `json:"subject"`
	Text    string `json:"text"`

	Project         string      `json:"project"`
	Builder         string      `json:"builder"`
	Number          int         `json:"number"`
	Status          BuildStatus `json:"status"`
	Reason          string      `json:"reason"`
	Error           string      `json:"error,omitempty"`
	Version         string      `json:"version,omitempty"`
	Started         time.Time   `json:"started"`
	DurationSeconds float64     `json:"duration_seconds"`
	Worker          string      `json:"worker"`
	// Revisions maps the names of sources to what was built of them.
	Revisions map[string]string `json:"revisions"`
	// Step is the step that failed.
	Step         string   `json:"step,omitempty"`
	NewlyFailing []string `json:"newly_failing"`
	NewlyFixed   []string `json:"newly_fixed"`
	// LastGood is the newest build before this one that succeeded; 0 for none.
	LastGood int `json:"last_good"`
	// FailingSince is the first build of the row of failures that this build
	// belongs to or ends.
	FailingSince *BuildNoticeSince `json:"failing_since,omitempty"`
	// Changes are those since LastGood, newest first.
	Changes []BuildChange `json:"changes"`
	// Blame are their authors' addresses.
	Blame []string `json:"blame"`
	// Reproduce is a command line that builds the same again.
	Reproduce string `json:"reproduce"`
	// Folder is the build's, on the machine that tells.
	Folder string `json:"folder"`
}

// BuildNoticeSince is since when a builder fails.
type BuildNoticeSince struct {
	Number  int       `json:"number"`
	Started time.Time `json:"started"`
	// Builds counts the failed builds.
	Builds int `json:"builds"`
}

// Encode writes the notice as one line, its newline included.
func (n *BuildNotice) Encode() ([]byte, error) {
	line, err := strict.Encode(n)
	if err != nil {
		return nil, fmt.Errorf("writing a build notice: %w", err)
	}
	return line, nil
}

// DecodeBuildNotice reads a notice strictly.
func DecodeBuildNotice(data []byte) (*BuildNotice, error) {
	n := &BuildNotice{}
	if err := strict.Decode(data, MaxBuildNotice, n); err != nil {
		return nil, fmt.Errorf("reading a build notice: %w", err)
	}
	if err := n.Check(); err != nil {
		return nil, fmt.Errorf("reading a build notice: %w", err)
	}
	return n, nil
}

// Check says what makes it no notice; nil where it is one.
func (n *BuildNotice) Check() error {
	switch {
	case n.Schema != BuildNoticeSchema || n.ID == "" || n.Builder == "" || n.Number < 1 || !n.Status.valid():
		return fmt.Errorf("not one: schema %q, id %q, builder %q, number %d, status %q", n.Schema, n.ID, n.Builder, n.Number, n.Status)
	case n.Revisions == nil || n.NewlyFailing == nil || n.NewlyFixed == nil || n.Changes == nil || n.Blame == nil:
		return errors.New("a list is missing: of revisions, newly_failing, newly_fixed, changes and blame")
	}
	return nil
}
