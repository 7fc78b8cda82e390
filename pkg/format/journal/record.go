// Package journal holds what relkit writes down about a change to a machine:
// the journal of one transaction, its plan, and the audit log that is derived
// from every journal.
//
// A journal is an append-only file of one record a line. Each line is
//
//	<16 hex digits> <JSON>\n
//
// where the digits are the first 8 bytes of the SHA-256 of the JSON, so that a
// line torn by a power cut is known from a whole one.
package journal

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/strict"
)

// Event is what a record says has happened, or is about to.
type Event string

// The events of a transaction. Commit and Rollback announce a change before it
// is made; all others say what is already durable.
const (
	Begin      Event = "begin"       // a transaction exists; its slots may hold anything
	Staged     Event = "staged"      // every new inode is complete and durable in its slot
	Ready      Event = "ready"       // it is kept like that, for a commit later on
	Armed      Event = "armed"       // it is to be committed at the next boot
	Committing Event = "committing"  // from here on the tree changes
	Committed  Event = "committed"   // the whole tree is new and durable; checks are to come
	Awaiting   Event = "awaiting"    // it was committed at boot and awaits confirmation
	Booted     Event = "booted"      // one more boot has begun without it
	Applied    Event = "applied"     // checks passed: the transaction stands
	Undoing    Event = "undoing"     // it failed and is being taken back
	Undone     Event = "undone"      // the whole tree is old again and durable
	Withdrawn  Event = "withdrawn"   // it is to be taken back at the next boot
	Rollback   Event = "rollback"    // an applied transaction is being taken back
	RolledBack Event = "rolled-back" // it is taken back; its slots may hold what it brought, to be committed again
	Reapplied  Event = "reapplied"   // taking it back failed, and it stands again as applied
	Aborted    Event = "aborted"     // it ended before anything visible changed
	Freeing    Event = "freeing"     // it stands, and its rollback copies are being given up
	Freed      Event = "freed"       // its slots are gone
)

// Hook notes that a hook was started, or how it ended. It may stand anywhere in
// a transaction that is open, and does not change what state that is in.
const Hook Event = "hook"

// valid tells which event may follow which; "" is the empty journal.
var valid = map[Event][]Event{
	"":         {Begin},
	Begin:      {Staged, Aborted},
	Staged:     {Committing, Ready, Aborted},
	Ready:      {Committing, Armed, Aborted},
	Armed:      {Committing, Aborted},
	Committing: {Committed, Undoing},
	Committed:  {Applied, Awaiting, Undoing},
	Awaiting:   {Applied, Booted, Withdrawn},
	Booted:     {Applied, Booted, Withdrawn},
	Applied:    {Rollback, Withdrawn, Freeing},
	Withdrawn:  {Rollback, Reapplied, Applied},
	Freeing:    {Freed},
	Undoing:    {Undone},
	Undone:     {Freed},
	Rollback:   {RolledBack, Reapplied},
	Reapplied:  {Rollback, Withdrawn, Freeing},
	RolledBack: {Committing, Ready, Freeing, Freed},
	Aborted:    {Freed},
}

// Follows tells whether next may stand after last in a journal; last is not Hook.
func Follows(last, next Event) bool {
	if next == Hook {
		return last != "" && last != Freed
	}
	for _, e := range valid[last] {
		if e == next {
			return true
		}
	}
	return false
}

// Version is a product and its version; both "" where nothing is known.
type Version struct {
	Product string `json:"product,omitempty"`
	Version string `json:"version,omitempty"`
}

// Top is the top folder of a file system that holds slots.
type Top struct {
	// Path is vis(3)-escaped, relative to the root of the target.
	Path string `json:"path"`
	// Sec and Nsec are the folder's modification time before relkit touched it.
	Sec  int64 `json:"mtime_seconds"`
	Nsec int64 `json:"mtime_nanoseconds"`
	// Remount is how to make it writable, where it is mounted read-only: for as
	// long as the transaction works on it.
	Remount *Remount `json:"remount,omitempty"`
}

// Remount is a mount that is read-only, and in which of two ways: as a mount, or
// with every other mount of its file system.
type Remount struct {
	// At is the mount point, vis(3)-escaped, relative to the root of the target.
	At         string `json:"at"`
	Mount      bool   `json:"mount,omitempty"`
	FileSystem bool   `json:"file_system,omitempty"`
}

// Services are units of the service manager.
type Services struct {
	// Restart and Reload are restarted, or reloaded, after a change; Stop are
	// stopped while the tree changes.
	Restart []string `json:"restart,omitempty"`
	Reload  []string `json:"reload,omitempty"`
	Stop    []string `json:"stop,omitempty"`
}

// Record is one line of a journal.
type Record struct {
	// Seq numbers the records of all journals of a machine, from 1, in the order
	// in which they were written.
	Seq   int64     `json:"seq"`
	Event Event     `json:"event"`
	Time  time.Time `json:"time"`
	// Patch, PatchID, From, To: with Begin.
	Patch   digest.Digest `json:"patch,omitzero"`
	PatchID string        `json:"patch_id,omitempty"`
	From    *Version      `json:"from,omitempty"`
	To      *Version      `json:"to,omitempty"`
	// Signoffs are "role SHA256:<fingerprint>" of those accepted: with Begin.
	Signoffs []string `json:"signoffs,omitempty"`
	// Insecure lists the safety-lowering flags that were used: with Begin, Withdrawn and Rollback,
	// and with Committing and Ready of what was taken back.
	Insecure []string `json:"insecure,omitempty"`
	// Tops are the file systems that get slots, Slot the name of the slot folder
	// on each: with Begin. With Rollback and Freeing, Tops tell how they are
	// mounted by then, as with Committing and Ready of what was taken back.
	Tops []Top  `json:"tops,omitempty"`
	Slot string `json:"slot,omitempty"`
	// Plan is the digest of the plan file: with Staged, and with Committing where
	// the plan was brought up to date.
	Plan digest.Digest `json:"plan,omitzero"`
	// Scripts are the digests of the scripts that are kept, by name: with Staged.
	Scripts map[string]digest.Digest `json:"scripts,omitempty"`
	// Boot says that it is committed at boot only, Reboot that the machine has to
	// be rebooted for it to take effect: with Ready.
	Boot   bool `json:"boot,omitempty"`
	Reboot bool `json:"reboot,omitempty"`
	// Changes is how many changes there are to make: with Ready.
	Changes int `json:"changes,omitempty"`
	// Services are those that the change concerns: with Begin.
	Services *Services `json:"services,omitempty"`
	// OnModified is what a rollback at boot does about files changed since: with Withdrawn.
	OnModified string `json:"on_modified,omitempty"`
	// Hook is the hook's name, Attempt how often it was started (from 1), Result
	// how it ended, "" where it begins: with Hook.
	Hook    string `json:"hook,omitempty"`
	Attempt int    `json:"attempt,omitempty"`
	Result  string `json:"result,omitempty"`
	// Output is the end of what the hook printed: with Hook, where it ended.
	Output string `json:"output,omitempty"`
	// Units are the services that ran and were stopped: with Hook.
	Units []string `json:"units,omitempty"`
	// Skip are the ordinals of plan steps that a rollback leaves as they are; of
	// those, Beside are the ones whose old side it puts beside the path. Saved are
	// the steps of which it sets aside what stands at the path, whatever that looks
	// like; Owners those of which only the metadata was changed, which the old side
	// is given: with Rollback.
	Skip   []int `json:"skip,omitempty"`
	Beside []int `json:"beside,omitempty"`
	Saved  []int `json:"saved,omitempty"`
	Owners []int `json:"owners,omitempty"`
	// Reason says why: with Begin, of a repair or of what was waived, and with
	// Undoing, Rollback, Withdrawn, Reapplied, Aborted, Freeing; with Committing and
	// Ready of what was taken back, of what was waived.
	Reason string `json:"reason,omitempty"`
	// Kept are vis(3)-escaped paths that were left or set aside because
	// something else had changed them: with Committed, Undone and RolledBack.
	Kept []string `json:"kept,omitempty"`
	// Supersedes, Provides and Floor are the patch's: with Begin.
	Supersedes []string `json:"supersedes,omitempty"`
	Provides   string   `json:"provides,omitempty"`
	Floor      string   `json:"floor,omitempty"`
	// ConfigFiles are the patch's globs of files that belong to the machine's
	// owner: with Begin.
	ConfigFiles []string `json:"config_files,omitempty"`
	// Deviations are all paths that are not as the patches say once this
	// transaction is applied, those of earlier ones among them: with Begin. With
	// Rollback they are what it decides about config files that were changed since.
	Deviations []Deviation `json:"deviations,omitempty"`
}

const (
	sumLen = 16
	// MaxLine bounds one journal or audit line, in bytes.
	MaxLine = 16 << 20
)

func sum(b []byte) string {
	d := digest.Of(b)
	return hex.EncodeToString(d[:sumLen/2])
}

// Append adds r's line to b.
func Append(b []byte, r *Record) ([]byte, error) {
	text, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	return appendLine(b, text), nil
}

func appendLine(b, text []byte) []byte {
	b = append(b, sum(text)...)
	b = append(b, ' ')
	b = append(b, text...)
	return append(b, '\n')
}

// Parse reads a journal. A torn tail (a last line that is incomplete or fails
// its checksum) is not an error: whole is the length of what precedes it, in
// bytes. Anything wrong before the last line is. Whether a tail may have been
// torn, or a record was damaged that had been whole, the audit log tells.
func Parse(b []byte) (records []Record, whole int, err error) {
	var last Event
	for line := 1; whole < len(b); line++ {
		rest := b[whole:]
		n := bytes.IndexByte(rest, '\n')
		if n < 0 {
			return records, whole, nil
		}
		r, err := parseLine(rest[:n])
		if errors.Is(err, errTorn) && whole+n+1 == len(b) {
			return records, whole, nil
		}
		if err != nil {
			return nil, 0, fmt.Errorf("line %d: %w", line, err)
		}
		if valid[r.Event] == nil && r.Event != Freed && r.Event != Hook {
			return nil, 0, fmt.Errorf("line %d: %w", line, newer("unknown event %q", r.Event))
		}
		if !Follows(last, r.Event) {
			return nil, 0, fmt.Errorf("line %d: event %q cannot follow %q", line, r.Event, last)
		}
		if r.Event != Hook {
			last = r.Event
		}
		records = append(records, *r)
		whole += n + 1
	}
	return records, whole, nil
}

// errTorn is a line that is not as it was written.
var errTorn = errors.New("checksum does not match")

// lineText is what a line holds behind its checksum, which fits.
func lineText(line []byte) ([]byte, error) {
	if len(line) > MaxLine {
		return nil, fmt.Errorf("%w: line of %d bytes, at most %d", errTorn, len(line), MaxLine)
	}
	if len(line) < sumLen+1 || line[sumLen] != ' ' {
		return nil, fmt.Errorf("%w: there is none", errTorn)
	}
	text := line[sumLen+1:]
	if sum(text) != string(line[:sumLen]) {
		return nil, errTorn
	}
	return text, nil
}

func parseLine(line []byte) (*Record, error) {
	text, err := lineText(line)
	if err != nil {
		return nil, err
	}
	r := new(Record)
	if err := strict.Decode(text, MaxLine, r); err != nil {
		return nil, newer("%w", err)
	}
	return r, nil
}
