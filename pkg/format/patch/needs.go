package patch

import (
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/format/version"
)

// Space is how much must be free at a place once the patch is applied and all
// that it replaces is still kept.
type Space struct {
	// Path is relative to the root; where it does not exist, the nearest folder
	// above it is meant.
	Path  string `json:"path"`
	Bytes int64  `json:"bytes"`
}

// maxLabel bounds the name and the value of a label, in bytes.
const maxLabel = 128

// checkNeeds checks what a patch asks of the machine besides its versions.
func (h *Header) checkNeeds() error {
	if _, err := version.ParseProvides(h.Provides); err != nil {
		return untrusted("provides: %w", err)
	}
	if err := h.checkFloor(); err != nil {
		return err
	}
	if len(h.Labels) > maxItems || len(h.RequiresCommands) > maxItems || len(h.RequiresSpace) > maxItems {
		return untrusted("labels, requires_commands, requires_space: at most %d", maxItems)
	}
	for name, value := range h.Labels {
		if !validLabel(name) || name == "" || !validLabel(value) {
			return untrusted("labels: bad label %q with value %q", name, value)
		}
	}
	for _, name := range h.RequiresCommands {
		if !validMember(name) {
			return untrusted("requires_commands: bad name %q: want the name of a program without a folder", name)
		}
	}
	for i, s := range h.RequiresSpace {
		switch {
		case !manifest.ValidPath(s.Path) || !utf8.ValidString(s.Path):
			return untrusted("requires_space: bad path %q", s.Path)
		case s.Bytes <= 0:
			return untrusted("requires_space: %q: got %d bytes, want 1 or more", s.Path, s.Bytes)
		case i > 0 && manifest.Compare(h.RequiresSpace[i-1].Path, s.Path) >= 0:
			return untrusted("requires_space: %q is not after %q", s.Path, h.RequiresSpace[i-1].Path)
		}
	}
	if len(h.Managed)+len(h.Never) > 0 && !h.Full {
		return untrusted("managed, never: only a full patch removes what it does not name")
	}
	return nil
}

func (h *Header) checkFloor() error {
	if h.Floor == "" {
		return nil
	}
	if err := version.Valid(h.Floor); err != nil {
		return untrusted("floor: %w", err)
	}
	if h.To.Version == "" || version.Compare(h.To.Version, h.Floor) < 0 {
		return untrusted("floor: %s is above the version that the patch leads to, %q", h.Floor, h.To.Version)
	}
	return nil
}

func validLabel(s string) bool {
	return len(s) <= maxLabel && utf8.ValidString(s) && !strings.ContainsAny(s, "\x00\n\r=,")
}

// SortSpace puts what a person listed into the one order, the larger of two
// amounts for one path.
func SortSpace(all []Space) []Space {
	slices.SortFunc(all, func(a, b Space) int {
		if c := manifest.Compare(a.Path, b.Path); c != 0 {
			return c
		}
		return int(min(max(b.Bytes-a.Bytes, -1), 1))
	})
	return slices.CompactFunc(all, func(a, b Space) bool { return a.Path == b.Path })
}
