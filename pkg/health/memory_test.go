package health

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/relkit/relkit/pkg/format/record"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

const bootA, bootB = "6a1bdee5-3f4a-4b0a-9b1e-1f0f3c9d2a11", "7b1bdee5-3f4a-4b0a-9b1e-1f0f3c9d2a22"

// wired is a machine with one interface, whose counters a test sets.
func wired(t *testing.T) (f *fixture, set func(boot string, uptime float64, counters string)) {
	f = newFixture(t)
	f.opt.Only = []string{"nic"}
	set = func(boot string, uptime float64, counters string) {
		kernel := fstest.MapFS{
			"proc/uptime":                         {Data: fmt.Appendf(nil, "%.2f 0.00\n", uptime)},
			"proc/sys/kernel/random/boot_id":      {Data: []byte(boot + "\n")},
			"sys/class/net/eth0/device/vendor":    {},
			"sys/class/net/eth0/type":             {Data: []byte("1\n")},
			"sys/class/net/eth0/address":          {Data: []byte("02:00:00:00:00:01\n")},
			"sys/class/net/eth0/flags":            {Data: []byte("0x1003\n")},
			"sys/class/net/eth0/carrier":          {Data: []byte("1\n")},
			"sys/class/net/eth0/carrier_changes":  {Data: []byte("1\n")},
			"sys/class/net/eth0/operstate":        {Data: []byte("up\n")},
			"sys/class/net/eth0/statistics/stray": {},
		}
		for c := range strings.FieldsSeq(counters) {
			name, v, _ := strings.Cut(c, "=")
			kernel["sys/class/net/eth0/statistics/"+name] = &fstest.MapFile{Data: []byte(v + "\n")}
		}
		f.sys.Kernel = kernel
	}
	return f, set
}

// TestDeltas follows one interface over several runs.
func TestDeltas(t *testing.T) {
	f, set := wired(t)
	clock := fixtureTime
	f.sys.Now = func() time.Time { return clock }
	for _, step := range []struct {
		what     string
		boot     string
		uptime   float64
		advance  time.Duration
		counters string
		status   record.HealthStatus
		delta    string // "" for none
		interval string
	}{
		{"the first run alarms of nothing", bootA, 1000, 0, "rx_packets=1000 rx_errors=900", "ok", "", "<nil>"},
		{"nothing happened", bootA, 1060, time.Minute, "rx_packets=2000 rx_errors=900", "ok", "seconds=60 errors=0 reset=false", "60"},
		{"a burst of errors", bootA, 1120, time.Minute, "rx_packets=3000 rx_errors=990", "crit", "seconds=60 errors=90 reset=false", "60"},
		{"few errors", bootA, 1180, time.Minute, "rx_packets=4000 rx_errors=999", "ok", "seconds=60 errors=9 reset=false", "60"},
		{"one error in a thousand", bootA, 1240, time.Minute, "rx_packets=24000 rx_errors=1019", "warn", "seconds=60 errors=20 reset=false", "60"},
		{"the clock goes back a day", bootA, 1300, -24 * time.Hour, "rx_packets=25000 rx_errors=1019", "ok", "seconds=60 errors=0 reset=false", "60"},
		{"the driver is loaded anew", bootA, 1360, 24 * time.Hour, "rx_packets=5 rx_errors=0", "ok", "seconds=60 errors=0 reset=true", "60"},
		{"a new boot, with larger counters", bootB, 300, time.Hour, "rx_packets=90000 rx_errors=30", "warn", "seconds=300 errors=30 reset=true", "3600"},
		{"a new boot, the clock behind", bootA, 10, -time.Hour, "rx_packets=1 rx_errors=0", "ok", "seconds=10 errors=0 reset=true", "<nil>"},
		{"a counter at the end of its range", bootA, 20, 10 * time.Second, "rx_packets=18446744073709551615 rx_errors=0", "ok", "seconds=10 errors=0 reset=false", "10"},
	} {
		clock = clock.Add(step.advance)
		set(step.boot, step.uptime, step.counters)
		h := f.report(t)
		c := check(t, h, "nic", "eth0")
		delta := ""
		if c.Delta != nil {
			delta = fmt.Sprintf("seconds=%v errors=%v reset=%v", c.Delta["seconds"], c.Delta["receive_errors"], c.Delta["reset"])
		}
		interval := "<nil>"
		if h.IntervalSeconds != nil {
			interval = fmt.Sprint(*h.IntervalSeconds)
		}
		if c.Status != step.status || delta != step.delta || interval != step.interval {
			t.Errorf("%s: got %s (%s), delta %q, interval %s; want %s, %q, %s",
				step.what, c.Status, c.Summary, delta, interval, step.status, step.delta, step.interval)
		}
	}
	if h := f.report(t); *h.Seq != 11 {
		t.Errorf("seq is %d, want 11", *h.Seq)
	}
}

// TestOnlyKeepsTheRest shows that a run of some checks leaves what the others remember.
func TestOnlyKeepsTheRest(t *testing.T) {
	f, set := wired(t)
	set(bootA, 100, "rx_packets=1000 rx_errors=0")
	f.report(t)
	f.opt.Only = []string{"identity"}
	f.report(t)
	f.opt.Only = []string{"nic"}
	set(bootA, 400, "rx_packets=2000 rx_errors=0")
	if c := check(t, f.report(t), "nic", "eth0"); c.Delta["receive_packets"] != uint64(1000) || c.Delta["seconds"] != 300.0 {
		t.Errorf("delta is %v", c.Delta)
	}
}

// TestStateFaults shows that a report is made without a usable state folder.
func TestStateFaults(t *testing.T) {
	for what, c := range map[string]struct {
		spoil func(*fixture)
		want  string // the errors
		seq   bool
	}{
		"no folder yet": {func(f *fixture) { f.sys.OpenState = func() (fsys.FS, error) { return nil, fs.ErrNotExist } }, "", true},
		"unreadable": {func(f *fixture) {
			f.sys.OpenState = func() (fsys.FS, error) { return nil, syscall.EACCES }
			f.sys.WriteState = func(string, []byte) error { return syscall.EACCES }
		}, "state: opening the state folder: permission denied; state: writing health.json: permission denied", false},
		"full": {func(f *fixture) {
			f.sys.WriteState = func(string, []byte) error { return syscall.ENOSPC }
		}, "state: writing health.json: no space left on device", false},
		"rubbish": {func(f *fixture) { f.writeState(t, "health.json", []byte("{")) }, "state: reading health.json: unexpected end of JSON input", true},
		"of another kind": {func(f *fixture) { f.writeState(t, "health.json", []byte(`{"schema":"relkit.version/v1"}`)) },
			`state: reading health.json: schema "relkit.version/v1", want "relkit.health-state/v1"`, true},
		"of a newer relkit": {func(f *fixture) {
			f.writeState(t, "health.json", []byte(`{"schema":"relkit.health-state/v1","seq":7,"held":{"x":1},"objects":{"nic":{},"smart":{"sda":{"held":2}}}}`))
		}, "", true},
	} {
		f, set := wired(t)
		set(bootA, 100, "rx_packets=1000 rx_errors=0")
		c.spoil(f)
		h := f.report(t)
		var errs []string
		for _, e := range h.Errors {
			errs = append(errs, e.Collector+": "+e.Error)
		}
		if got := strings.Join(errs, "; "); got != c.want || (h.Seq != nil) != c.seq || h.Status != record.HealthOK {
			t.Errorf("%s: got %q, seq %v, status %s; want %q", what, got, h.Seq, h.Status, c.want)
		}
	}
}

// TestForget shows that objects that are gone leave the state in the end.
func TestForget(t *testing.T) {
	now := fixtureTime
	m := &memory{Objects: map[string]map[string]remembered{"nic": {
		"new": {Time: now.Add(-89 * 24 * time.Hour)}, "old": {Time: now.Add(-91 * 24 * time.Hour)},
	}}}
	n := m.next(boot{id: bootA}, now)
	if keys := fmt.Sprint(maps.Keys(n.Objects["nic"])); len(n.Objects["nic"]) != 1 || n.Objects["nic"]["new"].Time.IsZero() {
		t.Errorf("kept %v", keys)
	}
}

// TestHost looks at the machine the test runs on: a report must come of any.
func TestHost(t *testing.T) {
	state := t.TempDir()
	sys, closer, err := Host("/", state, "1.0.0")
	if err != nil {
		t.Fatal(err)
	}
	defer closer.Close()
	for seq := uint64(1); seq <= 2; seq++ {
		h, err := Run(context.Background(), sys, Options{Timeout: 20 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		checkReport(t, h)
		if h.Seq == nil || *h.Seq != seq {
			t.Errorf("seq is %v, want %d: %+v", h.Seq, seq, h.Errors)
		}
		if h.UptimeSeconds == nil || *h.UptimeSeconds <= 0 || h.Machine.Kernel == nil {
			t.Errorf("uptime %v, kernel %v", h.UptimeSeconds, h.Machine.Kernel)
		}
	}
}

// TestHostTree shows that a tree is read by itself: its links do not lead out.
func TestHostTree(t *testing.T) {
	root := t.TempDir()
	if err := writeState(root+"/etc", "machine-id", []byte("0f1e2d3c4b5a69788796a5b4c3d2e1f4\n")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Symlink("/etc/passwd", root+"/etc/hostname"); err != nil {
		t.Fatal(err)
	}
	sys, closer, err := Host(root, "", "1.0.0")
	if err != nil {
		t.Fatal(err)
	}
	defer closer.Close()
	h, err := Run(context.Background(), sys, Options{Only: []string{"identity", "patches"}})
	if err != nil {
		t.Fatal(err)
	}
	checkReport(t, h)
	if h.Machine.ID == nil || *h.Machine.ID != "9c570c4f01c543bb9e024376c1526f76" {
		t.Errorf("machine id is %v", h.Machine.ID)
	}
	if h.Machine.Hostname != nil {
		t.Errorf("the host name %q was read through a link out of the tree", *h.Machine.Hostname)
	}
	if _, err := fsys.Open(root + "/var/lib/relkit"); errors.Is(err, fs.ErrNotExist) {
		t.Error("the state is not kept in the tree")
	}
}
