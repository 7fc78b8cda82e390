package update

import (
	"github.com/relkit/relkit/pkg/engine/trust"
	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/journal"
)

// Status is how an apply ended.
type Status string

// The statuses.
const (
	Applied  Status = "applied"
	Already  Status = "already"  // the tree had all of it
	Planned  Status = "planned"  // a dry run
	Repaired Status = "repaired" // what differed is restored
	Staged   Status = "staged"   // Commit makes it visible
	Armed    Status = "armed"    // the next boot makes it visible
	Unstaged Status = "unstaged" // it was staged and is given up
	Awaiting Status = "awaiting" // it is visible since a boot, and awaits Confirm
	Stays    Status = "stays"    // its rollback at the next boot is given up
)

// Result is relkit.apply/v1: what became of one patch.
type Result struct {
	Schema      string           `json:"schema"`
	Status      Status           `json:"status"`
	Patch       string           `json:"patch"`
	Digest      digest.Digest    `json:"digest"`
	Product     string           `json:"product"`
	From        string           `json:"from,omitempty"`
	To          string           `json:"to,omitempty"`
	Transaction string           `json:"transaction,omitempty"`
	Signoffs    []trust.Accepted `json:"signoffs"`
	Changes     int              `json:"changes"`
	// Full says that the patch has all of the tree, and nothing of what was there before.
	Full bool `json:"full,omitempty"`
	// Kept are folders that stay because they hold something the patch does not know.
	Kept []string `json:"kept,omitempty"`
	// Deviations are what its owner had changed and stays so.
	Deviations []journal.Deviation `json:"deviations,omitempty"`
	// Supersedes are applied patches whose place this one takes.
	Supersedes []string `json:"supersedes,omitempty"`
	// Replaced are files that were changed, and are replaced all the same, vis(3)-escaped.
	Replaced []string `json:"replaced,omitempty"`
	// Modified are paths that were changed since, where the patch had been applied
	// already and none came after it, but for config files; vis(3)-escaped.
	Modified []string `json:"modified,omitempty"`
	// Removed are what a full patch removes since the product manages it and the
	// patch does not have it; Repaired what a repair restores; vis(3)-escaped.
	Removed  []string `json:"removed,omitempty"`
	Repaired []string `json:"repaired,omitempty"`
	Plan     []string `json:"plan,omitempty"`
	// Insecure lists what was waived.
	Insecure []string `json:"insecure,omitempty"`
	// Reboot says that it takes a reboot for the patch to take effect.
	Reboot bool `json:"reboot,omitempty"`
	// VisibleSeconds is the time from the first change of the tree to the last.
	VisibleSeconds float64 `json:"visible_seconds,omitempty"`

	// atBoot says that it is committed at the next boot, or in a dry run would be.
	atBoot bool
}

// ApplySchema is the schema of Result.
const ApplySchema = "relkit.apply/v1"
