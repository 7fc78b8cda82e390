package health

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/identity"
	"github.com/relkit/relkit/pkg/format/record"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

func collectorOf(name string, deadline time.Duration, f func(context.Context) (*output, error)) collector {
	return collector{name, deadline, func(ctx context.Context, _ *input) (*output, error) { return f(ctx) }}
}

func okCheck(name string) *output {
	return &output{checks: []record.HealthCheck{{Name: name, Status: record.HealthOK, Values: map[string]any{}}}}
}

// TestHangingCollector shows that one that never answers, deaf to its context,
// costs its deadline and nothing else.
func TestHangingCollector(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		began := time.Now()
		h, err := run(context.Background(), f.sys, []collector{
			collectorOf("hangs", 5*time.Second, func(context.Context) (*output, error) { <-f.hang; return okCheck("hangs"), nil }),
			collectorOf("slow", 5*time.Second, func(context.Context) (*output, error) { time.Sleep(4 * time.Second); return okCheck("slow"), nil }),
			collectorOf("fails", 5*time.Second, func(context.Context) (*output, error) { return nil, syscall.EIO }),
			collectorOf("panics", 5*time.Second, func(context.Context) (*output, error) { panic("odd file") }),
		}, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took != 5*time.Second {
			t.Errorf("took %v, want 5s", took)
		}
		for name, want := range map[string]string{
			"hangs": "unknown: no answer within 5s", "slow": "ok: ", "fails": "unknown: input/output error", "panics": "unknown: internal error: odd file",
		} {
			if c := check(t, h, name, ""); string(c.Status)+": "+c.Summary != want {
				t.Errorf("%s: got %s: %s, want %s", name, c.Status, c.Summary, want)
			}
		}
		if h.Status != record.HealthUnknown || h.Counts != (record.HealthCounts{OK: 1, Unknown: 3}) {
			t.Errorf("status %s, counts %+v", h.Status, h.Counts)
		}
	})
}

// TestEverythingHangs holds the timeout where nothing answers at all: not the
// state folder, not /proc, no file system.
func TestEverythingHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.sys.Kernel, f.sys.Tree = hangingFS{f.hang}, hangingFS{f.hang}
		f.sys.OpenState = func() (fsys.FS, error) { <-f.hang; return nil, fs.ErrNotExist }
		f.sys.WriteState = func(string, []byte) error { <-f.hang; return nil }
		f.opt.Timeout, f.opt.Redact = 20*time.Second, []string{"serial"}
		began := time.Now()
		h := f.report(t)
		if took := time.Since(began); took > f.opt.Timeout {
			t.Errorf("took %v, more than %v", took, f.opt.Timeout)
		}
		if h.Counts != (record.HealthCounts{Unknown: 4}) || h.Seq != nil {
			t.Errorf("counts %+v, seq %v", h.Counts, h.Seq)
		}
	})
}

type hangingFS struct{ hang chan struct{} }

func (h hangingFS) Open(string) (fs.File, error) { <-h.hang; return nil, fs.ErrNotExist }

func TestCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.sys.Kernel = hangingFS{f.hang}
		why := errors.New("stopped by signal 15")
		ctx, cancel := context.WithCancelCause(context.Background())
		time.AfterFunc(time.Second, func() { cancel(why) })
		if _, err := Run(ctx, f.sys, Options{}); !errors.Is(err, why) {
			t.Errorf("got %v, want %v", err, why)
		}
	})
}

// TestManyHangingMounts shows that mounts of a dead server hold up neither the
// report nor the local file systems asked before them, and tie up few threads.
func TestManyHangingMounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b strings.Builder
		b.WriteString("27 1 254:1 / / rw - ext4 /dev/vda1 rw\n")
		for i := range 10000 {
			fmt.Fprintf(&b, "%d 27 0:%d / /nfs/%05d rw - nfs4 dead:/%d rw\n", i+100, i+100, i, i)
		}
		b.WriteString("28 1 254:2 / /var rw - ext4 /dev/vda2 rw\n")
		f := newFixture(t)
		f.sys.Kernel = fstest.MapFS{"proc/self/mountinfo": {Data: []byte(b.String())}}
		asked := make(chan string, 10001)
		f.sys.Statfs = func(point string) (Space, error) {
			asked <- point
			if strings.HasPrefix(point, "/nfs") {
				<-f.hang
			}
			return Space{Size: 100, Free: 50, Available: 50}, nil
		}
		f.opt.Only = []string{"filesystem"}
		began := time.Now()
		h := f.report(t)
		if took := time.Since(began); took > 11*time.Second {
			t.Errorf("took %v", took)
		}
		if n := len(asked); n > 100 {
			t.Errorf("%d file systems were left hanging", n)
		}
		for _, point := range []string{"/", "/var"} {
			if c := check(t, h, "filesystem", point); c.Status != record.HealthOK {
				t.Errorf("%s is %s: %s", point, c.Status, c.Summary)
			}
		}
		if h.Counts.Unknown != 10000 {
			t.Errorf("counts %+v", h.Counts)
		}
	})
}

func TestChoose(t *testing.T) {
	for _, c := range []struct {
		o    Options
		want string
	}{
		{Options{}, "identity filesystem nic patches"},
		{Options{Only: []string{"nic", "identity"}}, "identity nic"},
		{Options{Skip: []string{"nic"}}, "identity filesystem patches"},
		{Options{Only: []string{"nic", "patches"}, Skip: []string{"nic"}}, "patches"},
		{Options{Config: Config{Disable: []string{"patches", "identity"}}}, "filesystem nic"},
	} {
		var got []string
		for _, c := range c.o.choose() {
			got = append(got, c.name)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%+v chooses %v, want %s", c.o, got, c.want)
		}
	}
	share := 1.5
	for what, o := range map[string]Options{
		`reading --only: unknown check "disk"`:  {Only: []string{"disk"}},
		`reading --skip: unknown check "disk"`:  {Skip: []string{"disk"}},
		`reading --redact: unknown class "all"`: {Redact: []string{"all"}},
		`disable: unknown check "disk"`:         {Config: Config{Disable: []string{"disk"}}},
		`unknown_is: got "fine"`:                {Config: Config{UnknownIs: "fine"}},
		`check.filesystem."/": got 1.5`:         {Config: Config{Check: Checks{Filesystem: map[string]FilesystemRule{"/": {Crit: &share}}}}},
		`check.nic."e*": got 1.5`:               {Config: Config{Check: Checks{NIC: map[string]NICRule{"e*": {DropsWarn: &share}}}}},
	} {
		_, err := Run(context.Background(), newFixture(t).sys, o)
		if err == nil || !strings.HasPrefix(err.Error(), what) || failure.Of(err) != failure.Usage {
			t.Errorf("got %v (kind %d), want %s", err, failure.Of(err), what)
		}
	}
}

func TestRollUp(t *testing.T) {
	for _, c := range []struct {
		n         record.HealthCounts
		unknownIs record.HealthStatus
		want      record.HealthStatus
	}{
		{record.HealthCounts{}, "", "ok"}, {record.HealthCounts{OK: 3}, "", "ok"},
		{record.HealthCounts{OK: 3, Unknown: 1}, "", "unknown"}, {record.HealthCounts{OK: 3, Unknown: 1}, "ok", "ok"},
		{record.HealthCounts{Warn: 1, Unknown: 1}, "", "warn"}, {record.HealthCounts{Warn: 1, Unknown: 1}, "crit", "crit"},
		{record.HealthCounts{Warn: 1, Unknown: 1, Crit: 1}, "ok", "crit"},
	} {
		if got := rollUp(c.n, c.unknownIs); got != c.want {
			t.Errorf("rollUp(%+v, %q) = %s, want %s", c.n, c.unknownIs, got, c.want)
		}
	}
}

// TestRequired shows that what may not be unknown turns crit.
func TestRequired(t *testing.T) {
	f := newFixture(t)
	f.opt.Config.Check.Identity.Required = true
	h := f.report(t)
	if c := check(t, h, "identity", ""); c.Status != record.HealthCrit {
		t.Errorf("identity is %s: %s", c.Status, c.Summary)
	}
	if c := check(t, h, "patches", ""); c.Status != record.HealthUnknown {
		t.Errorf("patches is %s: %s", c.Status, c.Summary)
	}
}

func TestSplay(t *testing.T) {
	const window = time.Hour
	var buckets [4]int
	for i := range 4000 {
		key := identity.ID{byte(i), byte(i >> 8), 7}
		d := splay(key, window)
		if d < 0 || d >= window || d != splay(key, window) {
			t.Fatalf("splay is %v of %v, then %v", d, window, splay(key, window))
		}
		buckets[d/(window/4)]++
	}
	if slices.Min(buckets[:]) < 900 || slices.Max(buckets[:]) > 1100 {
		t.Errorf("4000 machines fall into quarters of the window as %v", buckets)
	}
	f := newFixture(t)
	if Splay(f.sys, 0) != 0 || Splay(f.sys, window) >= window {
		t.Error("a machine without an id leaves the window")
	}
}

func TestMatches(t *testing.T) {
	for pattern, objects := range map[string][2][]string{
		"*":         {{"", "/", "/var/log", "eth0"}, nil},
		"/var/*":    {{"/var/", "/var/log", "/var/a/b"}, {"/var", "/srv/var/x"}},
		"en*s*":     {{"enp0s3", "ens", "ens3"}, {"eth0s", "enp0"}},
		"/mnt/*/x":  {{"/mnt/a/x", "/mnt/a/b/x"}, {"/mnt/x", "/mnt/a/xy"}},
		"eth0":      {{"eth0"}, {"eth01", "et"}},
		"a*a":       {{"aa", "aba"}, {"a"}},
		"/a[1]?":    {{"/a[1]?"}, {"/a1b"}},
		"*docker*x": {{"/var/docker/x"}, {"dockex"}},
	} {
		for _, o := range objects[0] {
			if !matches(pattern, o) {
				t.Errorf("%q does not fit %q", o, pattern)
			}
		}
		for _, o := range objects[1] {
			if matches(pattern, o) {
				t.Errorf("%q fits %q", o, pattern)
			}
		}
	}
}

// TestRules shows which of several rules decides.
func TestRules(t *testing.T) {
	share := func(v float64) *float64 { return &v }
	c := Checks{Filesystem: map[string]FilesystemRule{
		"*":       {Warn: share(0.5), Crit: share(0.6)},
		"/var/*":  {Warn: share(0.7)},
		"/var/lo": {Crit: share(0.9), InodesWarn: share(0.1)},
	}}
	for point, want := range map[string]string{
		"/":        "0.5 0.6 0.5 0.6",
		"/var/x":   "0.7 0.6 0.7 0.6",
		"/var/lo":  "0.7 0.9 0.1 0.9",
		"/var/log": "0.7 0.6 0.7 0.6",
	} {
		r := c.filesystem(point)
		if got := fmt.Sprint(*r.Warn, *r.Crit, *r.InodesWarn, *r.InodesCrit); got != want {
			t.Errorf("%s: got %s, want %s", point, got, want)
		}
	}
	if r := new(Checks).filesystem("/"); *r.Warn != 0.85 || *r.Crit != 0.95 || *r.InodesCrit != 0.95 {
		t.Errorf("the defaults are %v %v %v", *r.Warn, *r.Crit, *r.InodesCrit)
	}
}
