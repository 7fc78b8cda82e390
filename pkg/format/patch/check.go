package patch

import (
	"fmt"
	"math"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/delta"
	"github.com/relkit/relkit/pkg/format/glob"
	"github.com/relkit/relkit/pkg/format/version"
)

// The members with a fixed name; sign-offs and hooks have a folder each.
const (
	headerName   = "patch.json"
	entriesName  = "entries"
	payloadName  = "payload"
	signoffsPart = "signoffs/"
	hooksPart    = "hooks/"
)

// Bounds on what a header may ask of a reader.
const (
	MaxHook     = 1 << 20  // bytes of one hook
	MaxHooks    = 16       // hook members
	MaxSegment  = 64 << 20 // bytes of one segment, packed or not
	maxItems    = 10_000   // elements of a list that a person writes
	maxText     = 4096     // bytes of such an element
	maxEntries  = 1 << 30  // bytes of the entries member, packed
	maxUnpacked = 4 << 30  // and unpacked
)

// check holds the header to its rules: each is one a reader relies on.
func (h *Header) check() error {
	if h.Schema != Schema {
		return untrusted("schema %q: want %q", h.Schema, Schema)
	}
	for _, part := range []func() error{h.CheckMeta, h.checkMembers, h.checkSegments} {
		if err := part(); err != nil {
			return err
		}
	}
	return nil
}

// CheckMeta checks what is known of a patch before it is packed.
func (h *Header) CheckMeta() error {
	for _, part := range []func() error{h.checkSides, h.checkNames, h.checkLists, h.checkNeeds, h.checkTimes} {
		if err := part(); err != nil {
			return err
		}
	}
	return nil
}

func (h *Header) checkNames() error {
	if err := ValidID(h.ID); err != nil {
		return untrusted("id: %w", err)
	}
	if err := version.ValidName(h.Product); err != nil {
		return untrusted("product: %w", err)
	}
	for _, id := range h.Supersedes {
		if err := ValidID(id); err != nil {
			return untrusted("supersedes: %w", err)
		}
	}
	if _, err := version.ParseExpr(h.Requires); err != nil {
		return untrusted("requires: %w", err)
	}
	if _, err := version.ParseExpr(h.Conflicts); err != nil {
		return untrusted("conflicts: %w", err)
	}
	if h.Reboot != RebootNone && h.Reboot != RebootRequired {
		return untrusted("reboot: bad value %q: want %q or %q", h.Reboot, RebootNone, RebootRequired)
	}
	return nil
}

// ValidID tells what is wrong with s as a patch id: a name of pkg/format/version
// that can also be a file name.
func ValidID(s string) error {
	if strings.ContainsAny(s, "/:") || strings.HasPrefix(s, ".") {
		return fmt.Errorf("bad id %q: no \"/\", no \":\", no dot in front", s)
	}
	return version.ValidName(s)
}

func (h *Header) checkSides() error {
	if h.Full != (h.From == nil) {
		return untrusted("from: a full patch has none, every other one has")
	}
	sides := map[string]*Side{"from": h.From, "to": &h.To}
	for _, name := range []string{"from", "to"} {
		s := sides[name]
		if s == nil {
			continue
		}
		if s.Tree.IsZero() {
			return untrusted("%s: no tree digest", name)
		}
		if s.Version != "" {
			if err := version.Valid(s.Version); err != nil {
				return untrusted("%s: %w", name, err)
			}
		}
	}
	for _, b := range h.Builds {
		if sides[b.Side] == nil || b.Record.IsZero() || b.Build == "" || len(b.Build) > maxText {
			return untrusted("builds: bad reference %q of side %q", b.Build, b.Side)
		}
	}
	return nil
}

func (h *Header) checkLists() error {
	for name, list := range map[string][]string{"model": h.Model, "config_files": h.ConfigFiles,
		"managed": h.Managed, "never": h.Never} {
		if len(list) > maxItems {
			return untrusted("%s: %d elements: at most %d", name, len(list), maxItems)
		}
		for _, s := range list {
			if s == "" || len(s) > maxText || !utf8.ValidString(s) || strings.ContainsAny(s, "\x00\n\r") {
				return untrusted("%s: bad element %q", name, s)
			}
			if _, err := glob.Parse(s); err != nil {
				return untrusted("%s: %w", name, err)
			}
		}
	}
	for name, units := range map[string][]string{"restart": h.Restart, "reload": h.Reload, "stop": h.Stop} {
		if len(units) > maxItems {
			return untrusted("%s: %d elements: at most %d", name, len(units), maxItems)
		}
		for _, unit := range units {
			if !validUnit(unit) {
				return untrusted("%s: bad unit name %q", name, unit)
			}
		}
	}
	return nil
}

// validUnit tells whether a name may be given to systemctl(1): the characters
// that systemd.unit(5) allows, and no option.
func validUnit(name string) bool {
	const special = `:-_.\@`
	for _, c := range name {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune(special, c) {
			return false
		}
	}
	return name != "" && len(name) <= 255 && name[0] != '-'
}

func (h *Header) checkTimes() error {
	for _, t := range []time.Time{h.Created, h.Expires} {
		if _, offset := t.Zone(); offset != 0 || t.Nanosecond() != 0 {
			return untrusted("time %s: want UTC and whole seconds", t.Format(time.RFC3339Nano))
		}
	}
	if h.Created.IsZero() {
		return untrusted("created: no time")
	}
	return nil
}

// checkMembers wants hooks/*, entries, payload in this order and exactly the
// hooks that are used.
func (h *Header) checkMembers() error {
	hooks := len(h.Members) - 2
	if hooks < 0 || hooks > MaxHooks || h.Members[hooks].Name != entriesName || h.Members[hooks+1].Name != payloadName {
		return untrusted("members: want hooks (at most %d), entries, payload in this order", MaxHooks)
	}
	listed := map[string]bool{}
	for i, m := range h.Members {
		limit := int64(math.MaxInt64 >> 1)
		switch {
		case i < hooks:
			base, ok := strings.CutPrefix(m.Name, hooksPart)
			if !ok || !validMember(base) || listed[m.Name] {
				return untrusted("members: bad hook name %q", m.Name)
			}
			listed[m.Name] = true
			limit = MaxHook
		case i == hooks:
			limit = maxEntries
		}
		if m.Size < 0 || m.Size > limit {
			return untrusted("members: %q: bad size %d: at most %d", m.Name, m.Size, limit)
		}
		if m.Digest.IsZero() {
			return untrusted("members: %q: no digest", m.Name)
		}
	}
	used := h.Hooks.Names()
	for _, name := range used {
		if !listed[name] {
			return untrusted("hooks: no member %q", name)
		}
	}
	if len(used) != hooks {
		return untrusted("members: %d hooks, %d of them used", hooks, len(used))
	}
	if n := h.Sizes.EntriesBytes; n < 0 || n > maxUnpacked {
		return untrusted("sizes: entries_bytes %d: at most %d", n, int64(maxUnpacked))
	}
	return nil
}

func (h *Header) checkSegments() error {
	var length, output int64
	for i, s := range h.Segments {
		if !delta.Known(s.Method) {
			return failure.Errorf(failure.Refused, "segment %d: method %d is unknown to this relkit", i, s.Method)
		}
		if s.Length <= 0 || s.Length > MaxSegment || s.Output <= 0 || s.Output > MaxSegment {
			return untrusted("segment %d: bad length %d or output %d: 1 to %d", i, s.Length, s.Output, MaxSegment)
		}
		if s.Digest.IsZero() {
			return untrusted("segment %d: no digest", i)
		}
		length += s.Length
		output += s.Output
	}
	payload := h.Members[len(h.Members)-1].Size
	if length != payload || h.Sizes.PayloadBytes != payload {
		return untrusted("segments: %d bytes in all, payload of %d, payload_bytes %d", length, payload, h.Sizes.PayloadBytes)
	}
	if output != h.Sizes.NewBytes {
		return untrusted("segments: %d bytes of output in all, new_bytes %d", output, h.Sizes.NewBytes)
	}
	return nil
}

// validMember tells whether s may follow "hooks/" or "signoffs/".
func validMember(s string) bool {
	if s == "" || len(s) > 80 || s[0] == '.' || s[0] == '-' {
		return false
	}
	for _, c := range []byte(s) {
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("._+-", c) >= 0) {
			return false
		}
	}
	return true
}

// untrusted is an error of the kind that damage and tampering have.
func untrusted(format string, args ...any) error {
	return failure.Errorf(failure.Untrusted, format, args...)
}
