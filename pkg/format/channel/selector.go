package channel

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"time"

	"github.com/relkit/relkit/pkg/format/glob"
)

// Machine is what a channel needs to know of the machine that asks.
type Machine struct {
	// Key is the machine key (pkg/format/identity), 32 hex digits; "" where the
	// machine has none: then it is in no share but the whole.
	Key string
	// Models is the machine's `compatible` list, its own name first.
	Models []string
	Labels map[string]string
}

// Selector says which machines are meant. The zero Selector means all.
type Selector struct {
	// Model is globs (pkg/format/glob), one of which must match one of the machine's models.
	Model []string `json:"model,omitempty"`
	// Labels must all be on the machine, with these values: {"ring": "beta"}.
	Labels map[string]string `json:"labels,omitempty"`
	// Allow is keys of machines that get it whatever their labels and share.
	Allow []string `json:"allow,omitempty"`
	// Deny is keys of machines that never get it.
	Deny []string `json:"deny,omitempty"`
}

func (s *Selector) check() error {
	for _, key := range slices.Concat(s.Allow, s.Deny) {
		if len(key) != 32 || slices.ContainsFunc([]byte(key), func(c byte) bool { return (c < '0' || c > '9') && (c < 'a' || c > 'f') }) {
			return fmt.Errorf("machine key %q: want 32 lower-case hex digits", key)
		}
	}
	if len(s.Allow)+len(s.Deny)+len(s.Labels) > maxNames {
		return fmt.Errorf("more than %d names", maxNames)
	}
	for name := range s.Labels {
		if name == "" {
			return errors.New("a label without a name")
		}
	}
	return checkGlobs(s.Model)
}

func checkGlobs(globs []string) error {
	if len(globs) > 1000 {
		return fmt.Errorf("%d models: at most 1000", len(globs))
	}
	for _, g := range globs {
		if len(g) > 200 {
			return fmt.Errorf("model %.200q…: at most 200 bytes", g)
		}
	}
	if _, err := glob.ParseSet(globs); err != nil {
		return fmt.Errorf("model: %w", err)
	}
	return nil
}

// matchesModel tells whether one of the globs matches one of the models, as
// patch-apply would; no globs match all.
func matchesModel(globs, models []string) bool {
	if len(globs) == 0 {
		return true
	}
	set, err := glob.ParseSet(globs)
	return err == nil && slices.ContainsFunc(models, set.Covers)
}

// selects tells why s does not mean m; "" where it does. allowed says that m
// is listed by name and takes no lot. Deny goes before allow, allow before the rest.
func (s *Selector) selects(m Machine) (why string, allowed bool) {
	switch {
	case m.Key != "" && slices.Contains(s.Deny, m.Key):
		return "this machine is denied it", false
	case !matchesModel(s.Model, m.Models):
		return fmt.Sprintf("it is for models %q, this machine is %q", s.Model, m.Models), false
	case m.Key != "" && slices.Contains(s.Allow, m.Key):
		return "", true
	}
	for name, want := range s.Labels {
		if got, ok := m.Labels[name]; !ok || got != want {
			return fmt.Sprintf("it is for machines labelled %s=%s", name, want), false
		}
	}
	return "", false
}

// ReleaseID is what the lots of a release are drawn with.
func ReleaseID(product, version string) string { return product + ":" + version }

// Bucket is the lot that a machine draws for a release: anywhere in [0, 2^64),
// always the same, and another one for every release. As a shell has it:
//
//	printf 'relkit-rollout-v1\0%s\0%s' fw:4.2 MACHINEKEY | sha256sum | cut -c1-16
func Bucket(releaseID, machineKey string) uint64 {
	sum := sha256.Sum256([]byte("relkit-rollout-v1\x00" + releaseID + "\x00" + machineKey))
	return binary.BigEndian.Uint64(sum[:8])
}

// InShare tells whether a lot is within a share in basis points: bucket < share·2^64.
func InShare(bucket uint64, basisPoints int) bool {
	if basisPoints >= WholeShare {
		return true
	}
	if basisPoints <= 0 {
		return false
	}
	limit, _ := bits.Div64(uint64(basisPoints), 0, WholeShare)
	return bucket < limit
}

// ShareAt is the share, in basis points, that stages have reached at a time.
// A stage begins only under a status that was issued after the stage before it
// began: a channel whose publisher has gone silent, or whose status somebody
// holds back, widens by one stage at most.
func ShareAt(stages []Stage, now, statusIssued time.Time) int {
	if len(stages) == 0 {
		return WholeShare
	}
	share := 0
	for i, s := range stages {
		if now.Before(s.At) || i > 0 && statusIssued.Before(stages[i-1].At) {
			break
		}
		share = s.ShareBasisPoints
	}
	return share
}
