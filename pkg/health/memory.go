package health

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/relkit/relkit/pkg/sys/fsys"
)

const (
	memoryFile   = "health.json"
	memorySchema = "relkit.health-state/v1"
	// maxMemory bounds what is read of health.json, in bytes.
	maxMemory = 8 << 20
	// forgetAfter is how long an object that is gone is remembered.
	forgetAfter = 90 * 24 * time.Hour
)

// boot says which boot of the kernel this is.
type boot struct {
	id     string  // boot_id; "" where it cannot be read
	uptime float64 // seconds, the time asleep included
}

// readBoot reads the kernel's word on this boot.
func readBoot(kernel fs.FS) (boot, error) {
	b, err := readLimited(kernel, "proc/uptime", maxText)
	if err != nil {
		return boot{}, err
	}
	uptime, err := parseUptime(b)
	if err != nil {
		return boot{}, fmt.Errorf("reading proc/uptime: %w", err)
	}
	id, err := readText(kernel, "proc/sys/kernel/random/boot_id")
	if err != nil {
		return boot{}, err
	}
	return boot{id: id, uptime: uptime}, nil
}

// memory is health.json in the state folder: what one run leaves to the next.
// Keys that this relkit does not know are passed over, since a rolled-back
// machine reads what a newer relkit wrote.
type memory struct {
	Schema        string    `json:"schema"`
	Seq           uint64    `json:"seq"`
	Time          time.Time `json:"time"`
	Boot          string    `json:"boot"`
	UptimeSeconds float64   `json:"uptime_seconds"`
	// Objects holds, by check and object, when it was last seen and its counters then.
	Objects map[string]map[string]remembered `json:"objects"`
}

// remembered is what is kept of one object.
type remembered struct {
	Time          time.Time         `json:"time"`
	Boot          string            `json:"boot"`
	UptimeSeconds float64           `json:"uptime_seconds"`
	Counters      map[string]uint64 `json:"counters"`
	// CarrierSeen tells that a network interface once had a link.
	CarrierSeen bool `json:"carrier_seen,omitempty"`
}

// readMemory is what the last run left; an empty memory on the first run.
func readMemory(sys *System) (*memory, error) {
	dir, err := sys.OpenState()
	if errors.Is(err, fs.ErrNotExist) {
		return new(memory), nil
	}
	if err != nil {
		return nil, fmt.Errorf("opening the state folder: %w", err)
	}
	defer dir.Close()
	b, err := fsys.ReadFile(dir, memoryFile, maxMemory)
	if errors.Is(err, fs.ErrNotExist) {
		return new(memory), nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", memoryFile, err)
	}
	return parseMemory(b)
}

func parseMemory(b []byte) (*memory, error) {
	m := new(memory)
	if err := json.Unmarshal(b, m); err != nil {
		return nil, fmt.Errorf("reading %s: %w", memoryFile, err)
	}
	if m.Schema != memorySchema {
		return nil, fmt.Errorf("reading %s: schema %q, want %q", memoryFile, m.Schema, memorySchema)
	}
	return m, nil
}

// write makes m what the next run finds.
func (m *memory) write(sys *System) error {
	b, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("writing %s: %w", memoryFile, err)
	}
	if err := sys.WriteState(memoryFile, append(b, '\n')); err != nil {
		return fmt.Errorf("writing %s: %w", memoryFile, err)
	}
	return nil
}

// since is the time from the run before to now, in seconds; nil where there was
// none, or where the clock went back between two boots.
func (m *memory) since(b boot, now time.Time) *float64 {
	if m.Time.IsZero() {
		return nil
	}
	return elapsed(m.Boot, m.UptimeSeconds, m.Time, b, now)
}

// elapsed goes by the uptime within one boot, which nobody can set back, and by
// the clock across boots.
func elapsed(bootID string, uptime float64, then time.Time, b boot, now time.Time) *float64 {
	s := now.Sub(then).Seconds()
	if b.id != "" && bootID == b.id {
		s = b.uptime - uptime
	}
	if s < 0 {
		return nil
	}
	return ptr(round(s))
}

// remember takes the counters of one check; objects of the check that were not
// seen this time stay.
func (m *memory) remember(check string, objects map[string]remembered) {
	if m.Objects == nil {
		m.Objects = map[string]map[string]remembered{}
	}
	if m.Objects[check] == nil {
		m.Objects[check] = map[string]remembered{}
	}
	for object, r := range objects {
		m.Objects[check][object] = r
	}
}

// next is m as the run after this one shall find it.
func (m *memory) next(b boot, now time.Time) *memory {
	n := &memory{Schema: memorySchema, Seq: m.Seq + 1, Time: now, Boot: b.id, UptimeSeconds: b.uptime, Objects: m.Objects}
	for _, objects := range n.Objects {
		for object, r := range objects {
			if now.Sub(r.Time) > forgetAfter {
				delete(objects, object)
			}
		}
	}
	return n
}

// delta is how far counters have come since they were remembered. seconds is
// nil where the time cannot be told. reset tells that counters began again at 0
// (a new boot, a driver loaded anew): those have grown by all they show.
func (r *remembered) delta(b boot, now time.Time, counters map[string]uint64) (grown map[string]uint64, seconds *float64, reset bool) {
	grown = map[string]uint64{}
	rebooted := b.id == "" || r.Boot != b.id
	for name, v := range counters {
		old, known := r.Counters[name]
		switch {
		case rebooted || known && v < old:
			grown[name], reset = v, true
		case known:
			grown[name] = v - old
		}
	}
	if rebooted && b.id != "" {
		return grown, ptr(round(b.uptime)), true
	}
	return grown, elapsed(r.Boot, r.UptimeSeconds, r.Time, b, now), reset
}
