package health

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/relkit/relkit/pkg/format/record"
)

// Config is what an administrator decides: health.toml, relkit-health(5). The
// zero Config works.
type Config struct {
	// UnknownIs is what a check that could not be made counts as in the report's
	// status: ok, unknown (the default), warn or crit.
	UnknownIs string `toml:"unknown_is"`
	// Disable names checks that are not made.
	Disable []string `toml:"disable"`
	Check   Checks   `toml:"check"`
}

// Checks holds the rules of each check. Rules of filesystem and nic are keyed
// by object or by a pattern in which * stands for any text; where several fit,
// the longer pattern decides, key by key, and the exact name above all.
type Checks struct {
	Identity   Rule                      `toml:"identity"`
	Patches    Rule                      `toml:"patches"`
	Filesystem map[string]FilesystemRule `toml:"filesystem"`
	NIC        map[string]NICRule        `toml:"nic"`
}

// Rule is what every check of the machine as a whole can be told.
type Rule struct {
	// Required makes an answer of unknown a crit.
	Required bool `toml:"required"`
}

// FilesystemRule is what is asked of a mount point. Shares are from 0 to 1.
type FilesystemRule struct {
	Warn       *float64 `toml:"warn"`
	Crit       *float64 `toml:"crit"`
	InodesWarn *float64 `toml:"inodes_warn"`
	InodesCrit *float64 `toml:"inodes_crit"`
	// Required makes it a crit that nothing is mounted there or that it cannot be measured.
	Required *bool `toml:"required"`
	Disable  *bool `toml:"disable"`
}

// NICRule is what is asked of a network interface.
type NICRule struct {
	// ErrorsWarn and ErrorsCrit are shares of the packets since the last run.
	ErrorsWarn *float64 `toml:"errors_warn"`
	ErrorsCrit *float64 `toml:"errors_crit"`
	// DropsWarn is a share as well; by default drops are not judged, since Linux
	// counts frames of unknown protocols as dropped.
	DropsWarn *float64 `toml:"drops_warn"`
	// CarrierChangesWarn is a number of changes since the last run.
	CarrierChangesWarn *uint64 `toml:"carrier_changes_warn"`
	// SpeedMin is the least speed that a link may have come up with.
	SpeedMin *uint64 `toml:"speed_min_bits_per_second"`
	// Required makes it a crit that the interface is missing or has no carrier.
	Required *bool `toml:"required"`
	Disable  *bool `toml:"disable"`
}

// The thresholds where the configuration gives none.
const (
	defaultWarn               = 0.85
	defaultCrit               = 0.95
	defaultErrorsWarn         = 0.0001
	defaultErrorsCrit         = 0.01
	defaultCarrierChangesWarn = 10
)

// Validate tells what is wrong with c, naming the key.
func (c *Config) Validate() error {
	if c.UnknownIs != "" && record.HealthStatus(c.UnknownIs).Rank() < 0 {
		return fmt.Errorf("unknown_is: got %q, want ok, unknown, warn or crit", c.UnknownIs)
	}
	if err := checkNames(c.Disable); err != nil {
		return fmt.Errorf("disable: %w", err)
	}
	for _, object := range slices.Sorted(maps.Keys(c.Check.Filesystem)) {
		r := c.Check.Filesystem[object]
		if err := checkShares(r.Warn, r.Crit, r.InodesWarn, r.InodesCrit); err != nil {
			return fmt.Errorf("check.filesystem.%q: %w", object, err)
		}
	}
	for _, object := range slices.Sorted(maps.Keys(c.Check.NIC)) {
		r := c.Check.NIC[object]
		if err := checkShares(r.ErrorsWarn, r.ErrorsCrit, r.DropsWarn); err != nil {
			return fmt.Errorf("check.nic.%q: %w", object, err)
		}
	}
	return nil
}

// required tells whether an unknown of the check as a whole is a crit.
func (c *Config) required(check string) bool {
	switch check {
	case "identity":
		return c.Check.Identity.Required
	case "patches":
		return c.Check.Patches.Required
	}
	return false
}

func checkShares(shares ...*float64) error {
	for _, s := range shares {
		if s != nil && !(*s >= 0 && *s <= 1) {
			return fmt.Errorf("got %v, want a share from 0 to 1", *s)
		}
	}
	return nil
}

// filesystem is the rule for a mount point, every threshold filled in.
func (c *Checks) filesystem(point string) FilesystemRule {
	var r FilesystemRule
	for _, pattern := range fitting(c.Filesystem, point) {
		o := c.Filesystem[pattern]
		overlay(&r.Warn, o.Warn)
		overlay(&r.Crit, o.Crit)
		overlay(&r.InodesWarn, o.InodesWarn)
		overlay(&r.InodesCrit, o.InodesCrit)
		overlay(&r.Required, o.Required)
		overlay(&r.Disable, o.Disable)
	}
	fill(&r.Warn, defaultWarn)
	fill(&r.Crit, defaultCrit)
	fill(&r.InodesWarn, *r.Warn)
	fill(&r.InodesCrit, *r.Crit)
	fill(&r.Required, false)
	fill(&r.Disable, false)
	return r
}

// nic is the rule for an interface; DropsWarn and SpeedMin may be nil.
func (c *Checks) nic(name string) NICRule {
	var r NICRule
	for _, pattern := range fitting(c.NIC, name) {
		o := c.NIC[pattern]
		overlay(&r.ErrorsWarn, o.ErrorsWarn)
		overlay(&r.ErrorsCrit, o.ErrorsCrit)
		overlay(&r.DropsWarn, o.DropsWarn)
		overlay(&r.CarrierChangesWarn, o.CarrierChangesWarn)
		overlay(&r.SpeedMin, o.SpeedMin)
		overlay(&r.Required, o.Required)
		overlay(&r.Disable, o.Disable)
	}
	fill(&r.ErrorsWarn, defaultErrorsWarn)
	fill(&r.ErrorsCrit, defaultErrorsCrit)
	fill(&r.CarrierChangesWarn, defaultCarrierChangesWarn)
	fill(&r.Required, false)
	fill(&r.Disable, false)
	return r
}

func overlay[T any](dst **T, src *T) {
	if src != nil {
		*dst = src
	}
}

func fill[T any](dst **T, v T) {
	if *dst == nil {
		*dst = &v
	}
}

// fitting lists the keys of rules that fit object, the most telling last.
func fitting[R any](rules map[string]R, object string) []string {
	var keys []string
	for k := range rules {
		if k == object || matches(k, object) {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, func(a, b string) int {
		if (a == object) != (b == object) {
			if a == object {
				return 1
			}
			return -1
		}
		return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
	})
	return keys
}

// matches tells whether object fits pattern, in which each * stands for any
// text, slashes too.
func matches(pattern, object string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == object
	}
	first, last := parts[0], parts[len(parts)-1]
	if len(object) < len(first)+len(last) || !strings.HasPrefix(object, first) || !strings.HasSuffix(object, last) {
		return false
	}
	object = object[len(first) : len(object)-len(last)]
	for _, p := range parts[1 : len(parts)-1] {
		i := strings.Index(object, p)
		if i < 0 {
			return false
		}
		object = object[i+len(p):]
	}
	return true
}
