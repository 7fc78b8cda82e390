package trustdoc

import (
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/relkit/relkit/pkg/format/signature"
	"github.com/relkit/relkit/pkg/format/version"
)

// check holds what the types cannot, and that the document does not lock its own
// makers out: whoever it asks for has to exist in it.
func (d *Document) check() (err error) {
	switch {
	case d.Schema != Schema:
		return fmt.Errorf("schema %q: want %q", d.Schema, Schema)
	case d.Version < 1 || d.Version > 1<<53:
		return fmt.Errorf("version %d: want 1 to 2^53", d.Version)
	case !validTime(d.Issued) || !validTime(d.Expires):
		return errors.New("issued and expires: want times from 1970 to 9999, in UTC and whole seconds")
	case !d.Expires.After(d.Issued):
		return fmt.Errorf("expires %s is not after issued %s", d.Expires.Format(time.RFC3339), d.Issued.Format(time.RFC3339))
	}
	if err := version.ValidName(d.Product); err != nil {
		return fmt.Errorf("product: %w", err)
	}
	if d.signers, err = signature.ParseAllowedSigners([]byte(d.AllowedSigners)); err != nil {
		return fmt.Errorf("allowed_signers: %w", err)
	}
	if err := d.checkRevoked(); err != nil {
		return err
	}
	for _, s := range d.signers.Signers {
		if local(s.ValidAfter) || local(s.ValidBefore) {
			return fmt.Errorf("allowed_signers: line %d: a time without a Z after it means another instant on another machine", s.Line)
		}
	}
	return d.checkThresholds()
}

func (d *Document) checkRevoked() error {
	if len(d.Revoked) > maxRevoked {
		return fmt.Errorf("revoked: %d keys: at most %d", len(d.Revoked), maxRevoked)
	}
	revoked := map[string]bool{}
	for i, r := range d.Revoked {
		switch {
		case ValidFingerprint(r.Key) != nil:
			return fmt.Errorf("revoked: %w", ValidFingerprint(r.Key))
		case i > 0 && cmp.Compare(d.Revoked[i-1].Key, r.Key) >= 0:
			return fmt.Errorf("revoked: key %s does not come after the one before", r.Key)
		case len(r.Reason) > maxReason || strings.ContainsFunc(r.Reason, unicode.IsControl):
			return fmt.Errorf("revoked: key %s: reason: want at most %d bytes and no control characters", r.Key, maxReason)
		}
		revoked[r.Key] = true
	}
	for _, s := range d.signers.Signers {
		if print := signature.Fingerprint(s.Key); revoked[print] {
			return fmt.Errorf("allowed_signers: line %d: key %s is revoked", s.Line, print)
		}
	}
	return nil
}

func (d *Document) checkThresholds() error {
	if d.Thresholds[RoleRoot] < 1 {
		return fmt.Errorf("thresholds: no %q, which says how many keys the next document takes", RoleRoot)
	}
	if len(d.Thresholds) > maxRoles {
		return fmt.Errorf("thresholds: %d roles: at most %d", len(d.Thresholds), maxRoles)
	}
	for _, role := range slices.Sorted(maps.Keys(d.Thresholds)) {
		n := d.Thresholds[role]
		if err := signature.ValidRole(role); err != nil {
			return fmt.Errorf("thresholds: %w", err)
		}
		if n < 1 || n > MaxThreshold {
			return fmt.Errorf("thresholds: role %q: got %d, want 1 to %d", role, n, MaxThreshold)
		}
		if have, many := d.keysOf(role); !many && have < n {
			return fmt.Errorf("thresholds: role %q takes %d keys, and %d are listed", role, n, have)
		}
	}
	return nil
}

// keysOf counts the keys that may sign as a role; many says that an authority can
// certify any number of them.
func (d *Document) keysOf(role string) (n int, many bool) {
	keys := map[string]bool{}
	for _, s := range d.signers.Signers {
		if !slices.Contains(s.Principals, role) || role == RoleRoot && !s.ForNamespace(signature.NamespaceTrust) {
			continue
		}
		many = many || s.CertAuthority
		keys[signature.Fingerprint(s.Key)] = true
	}
	return len(keys), many
}

// ValidFingerprint tells what is wrong with a key's fingerprint: "SHA256:" and 43
// characters of base64.
func ValidFingerprint(print string) error {
	encoded, ok := strings.CutPrefix(print, "SHA256:")
	raw, err := base64.RawStdEncoding.Strict().DecodeString(encoded)
	if !ok || err != nil || len(raw) != 32 || len(encoded) != 43 {
		return fmt.Errorf("bad fingerprint %q: want SHA256: and 43 characters, as ssh-keygen -l prints it", print)
	}
	return nil
}

func validTime(t time.Time) bool {
	return t.Year() >= 1970 && t.Year() <= 9999 && t.Nanosecond() == 0 && t.Location() == time.UTC
}

func local(t time.Time) bool { return !t.IsZero() && t.Location() != time.UTC }
