package patch

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/strict"
)

// Schema is what patch.json says it is.
const Schema = "relkit.patch/v1"

// MaxHeader bounds patch.json in bytes.
const MaxHeader = 16 << 20

// The values of Header.Reboot.
const (
	RebootNone     = "none"
	RebootRequired = "required"
)

// Header is patch.json: all there is to know about a patch before its content.
//
// Its JSON has one spelling (see Encode), so that the digest of the bytes and
// the meaning of the bytes cannot part.
type Header struct {
	Schema string `json:"schema"`
	// ID names the patch among others of its product; others require it by this name.
	ID      string `json:"id"`
	Product string `json:"product"`
	// Model is the globs one of which the machine's model must match; none = any machine.
	Model []string `json:"model,omitempty"`
	// Labels must all be on the machine, with these values; none = any machine.
	Labels map[string]string `json:"labels,omitempty"`
	// Full says that the patch carries every file and needs no base.
	Full bool `json:"full,omitempty"`
	// From is nil for a full patch.
	From *Side `json:"from,omitempty"`
	To   Side  `json:"to"`
	// Supersedes are ids of patches this one takes the place of.
	Supersedes []string `json:"supersedes,omitempty"`
	// Requires and Conflicts are expressions of pkg/format/version; "" for none.
	Requires  string `json:"requires,omitempty"`
	Conflicts string `json:"conflicts,omitempty"`
	// Provides are names that others may require as they require the patch, each
	// with a version or none: "tls, schema (= 7)".
	Provides string `json:"provides,omitempty"`
	// Floor is the oldest version that may be installed from this patch on.
	Floor string `json:"floor,omitempty"`
	// RequiresCommands are programs that the machine must have.
	RequiresCommands []string `json:"requires_commands,omitempty"`
	// RequiresSpace is what must be free once the patch is applied.
	RequiresSpace []Space `json:"requires_space,omitempty"`
	// Reboot is RebootNone or RebootRequired.
	Reboot string `json:"reboot"`
	// Restart, Reload and Stop are service units: to restart afterwards, to reload
	// afterwards, and to be stopped while the tree changes.
	Restart []string `json:"restart,omitempty"`
	Reload  []string `json:"reload,omitempty"`
	Stop    []string `json:"stop,omitempty"`
	Hooks   Hooks    `json:"hooks,omitzero"`
	// ConfigFiles are globs of paths that a machine's owner edits: they carry full content.
	ConfigFiles []string `json:"config_files,omitempty"`
	// Managed and Never, of a full patch, are globs of what belongs to the product
	// and of what never does: what is managed and not in the patch is removed.
	Managed []string `json:"managed,omitempty"`
	Never   []string `json:"never,omitempty"`
	// Created and Expires are UTC, whole seconds; a zero Expires is never.
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires,omitzero"`
	Builds  []Build   `json:"builds,omitempty"`
	Sizes   Sizes     `json:"sizes"`
	// Members are all members after the sign-offs, in the order of the file.
	Members []Member `json:"members"`
	// Segments cut the payload: their lengths add up to its size.
	Segments []Segment `json:"segments,omitempty"`
}

// Side is one end of a patch.
type Side struct {
	// Version is "" where nobody named one: then the digest of the tree alone tells.
	Version string `json:"version,omitempty"`
	// Tree is the digest of the tree's manifest.
	Tree digest.Digest `json:"tree"`
}

// Hooks name the members that hold the scripts; "" for none.
type Hooks struct {
	Pre          string `json:"pre,omitempty"`
	Post         string `json:"post,omitempty"`
	Check        string `json:"check,omitempty"`
	PreRollback  string `json:"pre_rollback,omitempty"`
	PostRollback string `json:"post_rollback,omitempty"`
}

// Names lists the members named, each once, in the order of the fields.
func (h Hooks) Names() []string {
	var names []string
	seen := map[string]bool{"": true}
	for _, name := range []string{h.Pre, h.Post, h.Check, h.PreRollback, h.PostRollback} {
		if !seen[name] {
			seen[name] = true
			names = append(names, name)
		}
	}
	return names
}

// Build refers to the build record of one side: where the bytes come from.
type Build struct {
	// Side is "from" or "to".
	Side string `json:"side"`
	// Build is BUILDER/NUMBER.
	Build string `json:"build"`
	// Record is the digest of the build.json.
	Record digest.Digest `json:"record"`
}

// Sizes are what a reader needs to know before it starts; all in bytes but Entries and Files.
type Sizes struct {
	// Entries is the number of changes.
	Entries int64 `json:"entries"`
	// Files is how many of them are files whose content the payload carries.
	Files int64 `json:"files"`
	// EntriesBytes is the size of the entries member, unpacked.
	EntriesBytes int64 `json:"entries_bytes"`
	// NewBytes is the output of all segments.
	NewBytes int64 `json:"new_bytes"`
	// PayloadBytes is the size of the payload.
	PayloadBytes int64 `json:"payload_bytes"`
}

// Member is one member of the tar.
type Member struct {
	Name   string        `json:"name"`
	Size   int64         `json:"size"`
	Digest digest.Digest `json:"digest"`
}

// Segment is one independent piece of the payload. Outputs of all segments,
// end to end, are the stream that entries point into.
type Segment struct {
	// Length is its bytes in the payload; Digest is of those bytes.
	Length int64         `json:"length"`
	Digest digest.Digest `json:"digest"`
	// Method is how it is packed: see pkg/format/delta.
	Method int `json:"method"`
	// Output is its length in bytes when unpacked.
	Output int64 `json:"output"`
}

// Expired tells whether the patch may no longer be applied at now.
func (h *Header) Expired(now time.Time) bool {
	return !h.Expires.IsZero() && !now.Before(h.Expires)
}

// Member finds a member by name.
func (h *Header) Member(name string) (Member, bool) {
	for _, m := range h.Members {
		if m.Name == name {
			return m, true
		}
	}
	return Member{}, false
}

// Encode writes h in its one spelling: the fields in the order of Header, no
// white space, no HTML escapes, absent fields left out, a newline at the end.
func (h *Header) Encode() ([]byte, error) {
	b, err := strict.Encode(h)
	if err != nil {
		return nil, fmt.Errorf("writing %s: %w", headerName, err)
	}
	if len(b) > MaxHeader {
		return nil, fmt.Errorf("writing %s: %d bytes: at most %d", headerName, len(b), MaxHeader)
	}
	return b, nil
}

// ParseHeader reads patch.json strictly: any other spelling than Encode's is an
// error, as is anything that Header does not know or allow.
func ParseHeader(raw []byte) (*Header, error) {
	h, err := parseHeader(raw)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", headerName, err)
	}
	return h, nil
}

func parseHeader(raw []byte) (*Header, error) {
	if err := knownSchema(raw); err != nil {
		return nil, err
	}
	var h Header
	if err := strict.Decode(raw, MaxHeader, &h); err != nil {
		return nil, untrusted("%w", err)
	}
	again, err := h.Encode()
	if err != nil {
		return nil, untrusted("%w", err)
	}
	if i := firstDifference(raw, again); i >= 0 {
		return nil, untrusted("offset %d: not in canonical form", i)
	}
	return &h, h.check()
}

// knownSchema looks at the schema alone: a newer relkit's patch is refused as
// that, not as damaged.
func knownSchema(raw []byte) error {
	var s struct {
		Schema string `json:"schema"`
	}
	if err := json.Unmarshal(raw, &s); err != nil || s.Schema == Schema || !strings.HasPrefix(s.Schema, "relkit.patch/v") {
		return nil // what is wrong with it is said with its offset later
	}
	return failure.Errorf(failure.Refused, "schema %q: this relkit reads %q", s.Schema, Schema)
}

// firstDifference is the offset where a and b part; -1 when they are the same.
func firstDifference(a, b []byte) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	if len(a) == len(b) {
		return -1
	}
	return n
}
