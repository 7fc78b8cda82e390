package record

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/relkit/relkit/pkg/format/strict"
)

// HealthSchema names the health report of relkit healthcheck, relkit-health(5).
const HealthSchema = "relkit.health/v1"

// MaxHealth is the longest health report that is read, in bytes. A machine with
// ten thousand file systems stays under it.
const MaxHealth = 16 << 20

// HealthStatus is the answer of one check, and of a whole report.
type HealthStatus string

// The answers, from good to bad: an unknown is worse than ok, for something
// could not be looked at, and better than a fault that was seen.
const (
	HealthOK      HealthStatus = "ok"
	HealthUnknown HealthStatus = "unknown"
	HealthWarn    HealthStatus = "warn"
	HealthCrit    HealthStatus = "crit"
)

// Rank orders answers by how bad they are, 0 for ok to 3 for crit; -1 for a
// text that is no answer.
func (s HealthStatus) Rank() int {
	switch s {
	case HealthOK:
		return 0
	case HealthUnknown:
		return 1
	case HealthWarn:
		return 2
	case HealthCrit:
		return 3
	}
	return -1
}

// Worse is the worse of two answers.
func (s HealthStatus) Worse(o HealthStatus) HealthStatus {
	if o.Rank() > s.Rank() {
		return o
	}
	return s
}

// Health is one report of one machine. A nil pointer (null) means that the
// value could not be measured; Errors says why.
type Health struct {
	Schema string `json:"schema"`
	// ID is a version 7 UUID, new for every report.
	ID string `json:"id"`
	// Time is when the report was begun, in UTC, whole seconds.
	Time time.Time `json:"time"`
	// Seq counts the reports of this machine; nil where no state can be kept.
	Seq *uint64 `json:"seq"`
	// DurationSeconds is how long making the report took.
	DurationSeconds float64 `json:"duration_seconds"`
	// IntervalSeconds is the time since the report before; nil for the first.
	IntervalSeconds *float64 `json:"interval_seconds"`
	// UptimeSeconds is the time since the kernel started.
	UptimeSeconds *float64      `json:"uptime_seconds"`
	Relkit        HealthRelkit  `json:"relkit"`
	Status        HealthStatus  `json:"status"`
	Counts        HealthCounts  `json:"counts"`
	Machine       HealthMachine `json:"machine"`
	Release       HealthRelease `json:"release"`
	Audit         HealthAudit   `json:"audit"`
	Checks        []HealthCheck `json:"checks"`
	Errors        []HealthError `json:"errors"`
	// Redacted lists the classes of values that were replaced: serial, hostname, mac, ip.
	Redacted []string `json:"redacted"`
}

// HealthRelkit is the program that made the report.
type HealthRelkit struct {
	Version string `json:"version"`
}

// HealthCounts is how many checks gave each answer.
type HealthCounts struct {
	OK      int `json:"ok"`
	Warn    int `json:"warn"`
	Crit    int `json:"crit"`
	Unknown int `json:"unknown"`
}

// HealthMachine says which machine it is.
type HealthMachine struct {
	// ID is the machine key of pkg/format/identity, 32 hex digits.
	ID           *string `json:"id"`
	Serial       *string `json:"serial"`
	UUID         *string `json:"uuid"`
	Vendor       *string `json:"vendor"`
	Product      *string `json:"product"`
	BoardSerial  *string `json:"board_serial"`
	BIOSVendor   *string `json:"bios_vendor"`
	BIOSVersion  *string `json:"bios_version"`
	BIOSDate     *string `json:"bios_date"`
	Hostname     *string `json:"hostname"`
	OS           *string `json:"os"`
	Kernel       *string `json:"kernel"`
	Architecture *string `json:"architecture"`
	// MACs are those of the network interfaces that the nic check looks at, sorted.
	MACs []string `json:"macs"`
}

// HealthRelease says what is installed.
type HealthRelease struct {
	Product *string `json:"product"`
	Version *string `json:"version"`
	// Patches are those that can be rolled back, oldest first.
	Patches []HealthPatch `json:"patches"`
	// Transaction is the change that has not ended; nil for none.
	Transaction *HealthTransaction `json:"transaction"`
	// RebootRequired tells whether /run/reboot-required is there.
	RebootRequired *bool `json:"reboot_required"`
	// Deviations are files that are not as the patches say, since somebody had
	// changed them here: the first MaxHealthDeviations.
	Deviations []HealthDeviation `json:"deviations"`
	// Trust is the trust document; nil for none, or where it cannot be read.
	Trust *HealthTrust `json:"trust"`
}

// MaxHealthDeviations is how many deviations a report lists at most.
const MaxHealthDeviations = 100

// HealthDeviation is one file that a patch has left as somebody made it.
type HealthDeviation struct {
	Path string `json:"path"` // vis(3)-escaped
	// Outcome is kept, kept-removed or stays-deleted.
	Outcome string `json:"outcome"`
	// New is where the patch's version is, "" for nowhere.
	New   string `json:"new"`
	Patch string `json:"patch"`
}

// HealthTrust is the trust document of a machine.
type HealthTrust struct {
	Version int64     `json:"version"`
	Digest  string    `json:"digest"`
	Expires time.Time `json:"expires"`
}

// HealthPatch is a patch that was applied.
type HealthPatch struct {
	ID      string    `json:"id"`
	Digest  string    `json:"digest"`
	Applied time.Time `json:"applied"`
}

// HealthTransaction is a change of the machine that has not ended.
type HealthTransaction struct {
	ID string `json:"id"`
	// State is the word of relkit-patch-apply(1) for how far it has come.
	State string `json:"state"`
	Patch string `json:"patch"`
}

// HealthAudit is where the audit log stands: a later report with a smaller
// count, or with the same count and another head, shows that it was rewritten.
type HealthAudit struct {
	Count *uint64 `json:"count"`
	// Head is the digest of the last line, "sha256:…"; nil for an empty log.
	Head *string `json:"head"`
}

// HealthCheck is one answer about one object.
type HealthCheck struct {
	Name string `json:"name"`
	// Object is what was looked at (a mount point, an interface), vis(3)-escaped;
	// "" where the check looks at the machine as a whole.
	Object string       `json:"object"`
	Status HealthStatus `json:"status"`
	// Summary is a line for a person; the reason, where the status is unknown.
	Summary string `json:"summary"`
	// Warn and Crit are the thresholds that were used, ">=0.85"; "" for none.
	Warn string `json:"warn,omitempty"`
	Crit string `json:"crit,omitempty"`
	// Values hold numbers, texts, booleans and null; HealthFields lists the keys.
	Values map[string]any `json:"values"`
	// Delta is what the counters grew by since the report before (or since the
	// boot, where reset is true); nil on the first run.
	Delta map[string]any `json:"delta,omitempty"`
}

// HealthError is something that could not be looked at, and why.
type HealthError struct {
	Collector string `json:"collector"`
	// Field is the path of the value that is null because of it; "" for none.
	Field string `json:"field,omitempty"`
	Error string `json:"error"`
}

// Check tells what a reader relies on and does not find.
func (h *Health) Check() error {
	if h.Schema != HealthSchema {
		return fmt.Errorf("schema is %q, want %q", h.Schema, HealthSchema)
	}
	if h.ID == "" || h.Time.IsZero() {
		return errors.New("id or time is missing")
	}
	if h.Status.Rank() < 0 {
		return fmt.Errorf("bad status %q", h.Status)
	}
	var n HealthCounts
	for i, c := range h.Checks {
		if c.Name == "" {
			return fmt.Errorf("check %d has no name", i)
		}
		if c.Status.Rank() < 0 {
			return fmt.Errorf("check %q: bad status %q", c.Name, c.Status)
		}
		n.Add(c.Status)
	}
	if n != h.Counts {
		return fmt.Errorf("counts say %+v, the checks %+v", h.Counts, n)
	}
	return nil
}

// Add counts one more answer.
func (n *HealthCounts) Add(s HealthStatus) {
	switch s {
	case HealthOK:
		n.OK++
	case HealthWarn:
		n.Warn++
	case HealthCrit:
		n.Crit++
	case HealthUnknown:
		n.Unknown++
	}
}

// Encode is the report as one line of JSON with its line feed, so that reports
// laid end to end are JSON Lines.
func (h *Health) Encode() ([]byte, error) {
	b, err := strict.Encode(h)
	if err != nil {
		return nil, fmt.Errorf("writing health report: %w", err)
	}
	return b, nil
}

// DecodeHealth reads one report. Fields that are not known are passed over: a
// fleet in the middle of an update sends what newer relkits have to say. What
// follows the document is an error, and so is a report longer than MaxHealth.
// Numbers in Values and Delta are json.Number: counters have 64 bits.
func DecodeHealth(b []byte) (*Health, error) {
	if len(b) > MaxHealth {
		return nil, fmt.Errorf("reading health report: %d bytes, more than %d", len(b), MaxHealth)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	h := new(Health)
	if err := d.Decode(h); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("reading health report: offset %d: %w", d.InputOffset(), err)
	}
	if rest := bytes.TrimLeft(b[d.InputOffset():], " \t\r\n"); len(rest) > 0 {
		return nil, fmt.Errorf("reading health report: offset %d: data after the document", len(b)-len(rest))
	}
	if err := h.Check(); err != nil {
		return nil, fmt.Errorf("reading health report: %w", err)
	}
	return h, nil
}
