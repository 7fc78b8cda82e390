package health

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/format/record"
)

const (
	netDir = "sys/class/net/"
	// flagUp is IFF_UP of netdevice(7): an administrator wants the interface on.
	flagUp = 1
	// loopbackType is ARPHRD_LOOPBACK of linux/if_arp.h.
	loopbackType = "772"
)

// nicCounters maps the report's names to files under /sys/class/net/NAME.
var nicCounters = map[string]string{
	"receive_bytes": "statistics/rx_bytes", "transmit_bytes": "statistics/tx_bytes",
	"receive_packets": "statistics/rx_packets", "transmit_packets": "statistics/tx_packets",
	"receive_errors": "statistics/rx_errors", "transmit_errors": "statistics/tx_errors",
	"receive_crc_errors": "statistics/rx_crc_errors",
	"receive_drops":      "statistics/rx_dropped", "transmit_drops": "statistics/tx_dropped",
	"collisions": "statistics/collisions", "carrier_changes": "carrier_changes",
}

// nic is a network interface.
type nic struct {
	name, mac string
	hardware  bool
}

// key is what a nic is remembered by: a card put in the place of another starts afresh.
func (n *nic) key() string { return n.name + " " + n.mac }

// findNICs lists the interfaces to look at: those with hardware behind them,
// bonds, and those the configuration names. Where there is no hardware, as in a
// container, all but the loopback.
func findNICs(kernel fs.FS, rules *Checks) ([]nic, error) {
	entries, err := fs.ReadDir(kernel, strings.TrimSuffix(netDir, "/"))
	if err != nil {
		return nil, err
	}
	var all []nic
	hardware := false
	for _, e := range entries {
		dir := netDir + e.Name()
		kind, err := readText(kernel, dir+"/type")
		if err != nil || kind == loopbackType {
			continue // bonding_masters and its like are plain files among the interfaces
		}
		n := nic{name: e.Name()}
		n.mac, _ = readText(kernel, dir+"/address")
		if strings.Trim(n.mac, "0:") == "" {
			n.mac = ""
		}
		for _, sign := range []string{"/device", "/bonding"} {
			if _, err := fs.Stat(kernel, dir+sign); err == nil {
				n.hardware = true
			}
		}
		hardware = hardware || n.hardware
		all = append(all, n)
	}
	return slices.DeleteFunc(all, func(n nic) bool {
		_, named := rules.NIC[n.name]
		return !named && hardware && !n.hardware || *rules.nic(n.name).Disable
	}), nil
}

// collectNICs looks at the network interfaces.
func collectNICs(ctx context.Context, in *input) (*output, error) {
	nics, err := findNICs(in.sys.Kernel, in.rules)
	if err != nil {
		return nil, err
	}
	out := &output{counters: map[string]remembered{}}
	for _, n := range nics {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		seen := readNIC(in.sys.Kernel, n.name)
		last, known := in.last.Objects["nic"][n.key()]
		if !known {
			last = remembered{}
		}
		out.checks = append(out.checks, judgeNIC(in, &n, seen, last, known))
		out.counters[n.key()] = remembered{
			Time: in.now, Boot: in.boot.id, UptimeSeconds: in.boot.uptime, Counters: seen.counters,
			CarrierSeen: last.CarrierSeen || seen.hadCarrier(),
		}
	}
	for _, name := range slices.Sorted(maps.Keys(in.rules.NIC)) {
		r := in.rules.nic(name)
		if *r.Required && !*r.Disable && !strings.Contains(name, "*") &&
			!slices.ContainsFunc(nics, func(n nic) bool { return n.name == name }) {
			out.checks = append(out.checks, record.HealthCheck{
				Name: "nic", Object: manifest.Escape(name), Status: record.HealthCrit, Summary: "not present", Values: map[string]any{},
			})
		}
	}
	if len(out.checks) == 0 {
		return nil, errors.New("no network interface")
	}
	return out, nil
}

// link is what an interface shows of itself.
type link struct {
	up       bool
	carrier  *bool   // nil while the interface is off
	speed    *uint64 // bits a second; nil where there is no link or the driver does not know
	duplex   string  // full, half; "" for not known
	state    string  // operstate
	counters map[string]uint64
	err      error
}

// readNIC reads an interface. The kernel answers EINVAL for what has no meaning
// while it is off.
func readNIC(kernel fs.FS, name string) link {
	l := link{counters: map[string]uint64{}}
	dir := netDir + name + "/"
	flags, err := readText(kernel, dir+"flags")
	if err != nil {
		l.err = err
		return l
	}
	bits, err := strconv.ParseUint(flags, 0, 32)
	if err != nil {
		l.err = fmt.Errorf("reading flags: bad number %q", flags)
		return l
	}
	l.up = bits&flagUp != 0
	if v, err := readUint(kernel, dir+"carrier"); err == nil {
		l.carrier = ptr(v != 0)
	} else if !errors.Is(err, syscall.EINVAL) && l.up {
		l.err = err
	}
	// -1 stands for not known, and so, in some drivers, does the largest number.
	if v, err := readUint(kernel, dir+"speed"); err == nil && v > 0 && v < 1<<32-1 {
		l.speed = ptr(v * 1e6)
	}
	if v, err := readText(kernel, dir+"duplex"); err == nil && (v == "full" || v == "half") {
		l.duplex = v
	}
	l.state, _ = readText(kernel, dir+"operstate")
	for counter, file := range nicCounters {
		if v, err := readUint(kernel, dir+file); err == nil {
			l.counters[counter] = v
		}
	}
	return l
}

// hasCarrier tells whether there is a link now, hadCarrier whether there was
// one since the boot: the carrier changed at least once (it starts without).
func (l *link) hasCarrier() bool { return l.carrier != nil && *l.carrier }

func (l *link) hadCarrier() bool { return l.hasCarrier() || l.counters["carrier_changes"] > 1 }

// judgeNIC is the check of one interface; known tells that last holds what the
// run before saw.
func judgeNIC(in *input, n *nic, l link, last remembered, known bool) record.HealthCheck {
	rule := in.rules.nic(n.name)
	c := record.HealthCheck{
		Name: "nic", Object: manifest.Escape(n.name), Status: record.HealthOK,
		Warn: atLeast(*rule.ErrorsWarn), Crit: atLeast(*rule.ErrorsCrit),
		Values: map[string]any{"mac": nil, "up": l.up, "carrier": nil, "speed_bits_per_second": nil, "duplex": nil, "state": nil},
	}
	if n.mac != "" {
		c.Values["mac"] = n.mac
	}
	if l.carrier != nil {
		c.Values["carrier"] = *l.carrier
	}
	if l.speed != nil {
		c.Values["speed_bits_per_second"] = *l.speed
	}
	if l.duplex != "" {
		c.Values["duplex"] = l.duplex
	}
	if l.state != "" {
		c.Values["state"] = l.state
	}
	for name := range nicCounters {
		c.Values[name+"_total"] = nil
		if v, ok := l.counters[name]; ok {
			c.Values[name+"_total"] = v
		}
	}
	j := judgement{check: &c}
	j.say("%s", linkText(&l))
	if l.err != nil {
		j.found(record.HealthUnknown, clean(l.err.Error()))
	}
	j.link(rule, &l, last.CarrierSeen)
	if known {
		grown, seconds, reset := last.delta(in.boot, in.now, l.counters)
		c.Delta = map[string]any{"seconds": nil, "reset": reset}
		if seconds != nil {
			c.Delta["seconds"] = *seconds
		}
		for name, v := range grown {
			c.Delta[name] = v
		}
		j.growth(rule, grown)
	}
	j.end()
	return c
}

// linkText says how the link stands, for a person.
func linkText(l *link) string {
	switch {
	case !l.up:
		return "off"
	case !l.hasCarrier():
		return "no carrier"
	case l.speed == nil:
		return "carrier"
	}
	text := strconv.FormatUint(*l.speed/1e6, 10) + " Mbit/s"
	if l.duplex != "" {
		text += " " + l.duplex + " duplex"
	}
	return text
}

// link judges the link itself. A port that never had a cable is no fault.
func (j *judgement) link(rule NICRule, l *link, seenBefore bool) {
	switch {
	case l.hasCarrier() || l.err != nil:
	case *rule.Required:
		j.found(record.HealthCrit, linkText(l))
	case seenBefore || l.hadCarrier():
		j.found(record.HealthWarn, linkText(l)+", had a link before")
	}
	if l.hasCarrier() && l.duplex == "half" {
		j.found(record.HealthWarn, "half duplex")
	}
	if rule.SpeedMin != nil && l.hasCarrier() && l.speed != nil && *l.speed < *rule.SpeedMin {
		j.found(record.HealthWarn, fmt.Sprintf("%d Mbit/s, want at least %d", *l.speed/1e6, *rule.SpeedMin/1e6))
	}
}

// minErrors is how many errors it takes before their share means anything: a
// single one of a hundred packets is no one per cent of a day's.
const minErrors = 10

// growth judges the counters since the run before.
func (j *judgement) growth(rule NICRule, grown map[string]uint64) {
	for _, way := range []string{"receive", "transmit"} {
		packets, bad, dropped := grown[way+"_packets"], grown[way+"_errors"], grown[way+"_drops"]
		if bad >= minErrors {
			if status := over(share(bad, packets), *rule.ErrorsWarn, *rule.ErrorsCrit); status != record.HealthOK {
				j.found(status, fmt.Sprintf("%d %s errors since the last run", bad, way))
			}
		}
		if rule.DropsWarn != nil && dropped >= minErrors && share(dropped, packets) >= *rule.DropsWarn {
			j.found(record.HealthWarn, fmt.Sprintf("%d %s drops since the last run", dropped, way))
		}
	}
	if n := grown["carrier_changes"]; n >= *rule.CarrierChangesWarn {
		j.found(record.HealthWarn, fmt.Sprintf("the carrier changed %d times since the last run", n))
	}
}

// share is n of all that were handled, good and bad.
func share(n, good uint64) float64 { return float64(n) / (float64(n) + float64(good)) }
