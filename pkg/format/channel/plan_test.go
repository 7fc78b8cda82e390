package channel

import (
	"fmt"
	"math"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/relkittest"
)

func ids(d Decision) string {
	var s []string
	for _, st := range d.Steps {
		s = append(s, st.ID)
	}
	return strings.Join(s, " ")
}

var late = t0.Add(100 * time.Hour) // every stage has begun

func TestPlan(t *testing.T) {
	key := strings.Repeat("0", 31) + "1"
	m := Machine{Key: key, Models: []string{"r3000-b", "r3000"}}
	for name, c := range map[string]struct {
		installed string
		change    func(*Releases, *Status)
		machine   Machine
		force     bool
		want      string // "TARGET: steps", or "-: note"
	}{
		"lightest chain":        {"4.0", nil, m, false, "4.2: fw-4.0-4.1 fw-4.1-4.2"},
		"same weight, fewer":    {"4.0", func(r *Releases, _ *Status) { r.Patches[2].Size = 150 }, m, false, "4.2: fw-4.0-4.2"},
		"full is lighter":       {"4.0", func(r *Releases, _ *Status) { r.Releases[2].Full.Size = 149 }, m, false, "4.2: fw-4.2-full"},
		"unknown base":          {"3.0", nil, m, false, "4.2: fw-4.2-full"},
		"nothing known":         {"", nil, m, false, "4.2: fw-4.2-full"},
		"another spelling":      {"4.01-0", nil, m, false, "4.2: fw-4.1-4.2"},
		"up to date":            {"4.2", nil, m, false, "-: 4.2 is installed, and nothing in the channel is newer"},
		"newer":                 {"5", nil, m, false, "-: 5 is installed, and nothing in the channel is newer"},
		"halted":                {"4.0", func(_ *Releases, s *Status) { s.State = Halted }, m, true, "-: the channel is halted"},
		"paused":                {"4.0", func(_ *Releases, s *Status) { s.State = Paused }, m, false, "-: the channel is paused"},
		"paused, forced":        {"4.1", func(_ *Releases, s *Status) { s.State = Paused }, m, true, "4.2: fw-4.1-4.2"},
		"no release":            {"4.0", func(r *Releases, _ *Status) { r.Releases, r.Patches = nil, nil }, m, false, "-: the channel has no releases"},
		"capped":                {"4.0", func(_ *Releases, s *Status) { s.CapBasisPoints = 1 }, m, false, "4.1: fw-4.0-4.1"},
		"capped to none":        {"4.1", func(_ *Releases, s *Status) { s.CapBasisPoints = 0 }, m, false, "-: 4.2: it is out for 0 % of the machines, and this one is not among them yet"},
		"capped, forced":        {"4.1", func(_ *Releases, s *Status) { s.CapBasisPoints = 0 }, m, true, "4.2: fw-4.1-4.2"},
		"no machine id":         {"4.1", func(_ *Releases, s *Status) { s.CapBasisPoints = 9999 }, Machine{}, false, "-: 4.2: it is out for 99.99 % of the machines, and this one has no machine id"},
		"no id, whole share":    {"4.1", nil, Machine{}, false, "4.2: fw-4.1-4.2"},
		"model":                 {"4.0", func(r *Releases, _ *Status) { r.Patches[1].Model = []string{"x*", "r3000-?"} }, m, false, "4.2: fw-4.0-4.1 fw-4.1-4.2"},
		"other model's patch":   {"4.0", func(r *Releases, _ *Status) { r.Patches[1].Model = []string{"x*"} }, m, false, "4.2: fw-4.0-4.2"},
		"other model's release": {"4.0", func(r *Releases, _ *Status) { r.Releases[2].Selector.Model = []string{"x*"} }, m, true, "4.1: fw-4.0-4.1"},
		"denied": {"4.1", func(r *Releases, _ *Status) {
			r.Releases[2].Selector = Selector{Deny: []string{key}, Allow: []string{key}}
		}, m, true, "-: 4.2: this machine is denied it"},
		"allowed": {"4.1", func(r *Releases, s *Status) { r.Releases[2].Selector.Allow = []string{key}; s.CapBasisPoints = 0 }, m, false, "4.2: fw-4.1-4.2"},
		"label":   {"4.1", func(r *Releases, _ *Status) { r.Releases[2].Selector.Labels = map[string]string{"ring": "beta"} }, m, false, "-: 4.2: it is for machines labelled ring=beta"},
		"labelled": {"4.1", func(r *Releases, _ *Status) { r.Releases[2].Selector.Labels = map[string]string{"ring": "beta"} },
			Machine{Labels: map[string]string{"ring": "beta"}}, false, "4.2: fw-4.1-4.2"},
		"min base":              {"4.0", func(r *Releases, _ *Status) { r.Releases[2].MinBase = "4.1"; r.Patches[2].Size = 1 }, m, false, "4.2: fw-4.0-4.1 fw-4.1-4.2"},
		"min base, unknown":     {"", func(r *Releases, _ *Status) { r.Releases[2].MinBase = "4.1"; f := art("f", 5); r.Releases[1].Full = &f }, m, false, "4.2: f fw-4.1-4.2"},
		"floor":                 {"3.0", func(r *Releases, _ *Status) { r.Floor = "4.3" }, m, false, "-: 4.2: it is below the security floor 4.3; 4.1"},
		"no way":                {"3.0", func(r *Releases, _ *Status) { r.Releases[2].Full = nil }, m, false, `!: no patches lead from "3.0" to "4.2"`},
		"no way, nothing known": {"", func(r *Releases, _ *Status) { r.Releases[2].Full = nil }, m, false, `!: the installed version is not known`},
		"way to an older one":   {"4.0", func(r *Releases, _ *Status) { r.Releases[2].Full = nil; r.Patches = r.Patches[:1] }, m, false, "4.1: fw-4.0-4.1"},
	} {
		r := fixture()
		s := statusOf(r)
		s.Issued = late
		if c.change != nil {
			c.change(r, s)
		}
		d, err := Plan(r, s, c.machine, c.installed, late, Options{Force: c.force})
		got := d.Target + ": " + ids(d)
		switch {
		case err != nil && failure.Of(err) == failure.Refused:
			got = "!: " + err.Error()
		case err != nil:
			t.Errorf("%s: %v", name, err)
		case d.Target == "":
			got = "-: " + d.Note
		}
		if got != c.want && !(c.want[0] < '0' && strings.HasPrefix(got, c.want)) {
			t.Errorf("%s: Plan = %q, want %q", name, got, c.want)
		}
	}
}

func TestShareAt(t *testing.T) {
	stages := fixture().Releases[2].Rollout
	hour := func(h int) time.Time { return t0.Add(time.Duration(h) * time.Hour) }
	for _, c := range []struct{ now, issued, want int }{
		{-1, -1, 0}, {0, -1, 100}, {0, 0, 100}, {23, 0, 100}, {24, 0, 1000}, {24, -1, 100},
		{100, 0, 1000}, {100, 23, 1000}, {100, 24, 10000}, {71, 24, 1000}, {72, 72, 10000},
	} {
		if got := ShareAt(stages, hour(c.now), hour(c.issued)); got != c.want {
			t.Errorf("ShareAt %d h, status of %d h = %d, want %d", c.now, c.issued, got, c.want)
		}
	}
	if got := ShareAt(nil, t0, t0); got != WholeShare {
		t.Errorf("ShareAt of no stages = %d", got)
	}
}

// TestRolloutShares draws the lots of 100,000 machines for several releases:
// each share is met within 4 standard deviations, grows without anybody
// falling out, and is another set of machines for another release.
func TestRolloutShares(t *testing.T) {
	const n = 100_000
	shares := []int{1, 100, 500, 1000, 5000, 9999, 10000}
	inBoth := 0
	for release := range 3 {
		id := ReleaseID("fw", fmt.Sprint("4.", release))
		count := make([]int, len(shares))
		for i := range n {
			key := fmt.Sprintf("%032x", i*2654435761)
			b := Bucket(id, key)
			was := false
			for j, share := range shares {
				in := InShare(b, share)
				if was && !in {
					t.Fatalf("machine %s is in share %d of %s and not in the larger %d", key, shares[j-1], id, share)
				}
				if was = in; in {
					count[j]++
				}
			}
			if release == 0 && InShare(b, 1000) && InShare(Bucket(ReleaseID("fw", "4.1"), key), 1000) {
				inBoth++
			}
		}
		for j, share := range shares {
			p := float64(share) / WholeShare
			if sigma := math.Sqrt(n * p * (1 - p)); math.Abs(float64(count[j])-n*p) > 4*sigma {
				t.Errorf("%s: %d of %d machines are in share %d, want %.0f ± %.0f", id, count[j], n, share, n*p, 4*sigma)
			}
		}
	}
	if sigma := math.Sqrt(n * 0.01 * 0.99); math.Abs(float64(inBoth)-n*0.01) > 4*sigma {
		t.Errorf("%d machines are in the first tenth of both releases, want about %d", inBoth, n/100)
	}
	if InShare(math.MaxUint64, 9999) || !InShare(math.MaxUint64, WholeShare) || InShare(0, 0) || !InShare(0, 1) {
		t.Error("the ends of the shares are wrong")
	}
	if InShare(1<<63, 5000) || !InShare(1<<63-1, 5000) {
		t.Error("half the machines are not the lower half of the lots")
	}
}

// TestBucketShell holds Bucket against the shell command that its comment gives.
func TestBucketShell(t *testing.T) {
	relkittest.Need(t, "sh", "sha256sum")
	key := "00112233445566778899aabbccddeeff"
	out, err := exec.Command("sh", "-c", `printf 'relkit-rollout-v1\0%s\0%s' fw:4.2 `+key+` | sha256sum | cut -c1-16`).Output()
	if want := strings.TrimSpace(string(out)); err != nil || fmt.Sprintf("%016x", Bucket(ReleaseID("fw", "4.2"), key)) != want {
		t.Errorf("Bucket = %016x, the shell says %s, %v", Bucket(ReleaseID("fw", "4.2"), key), want, err)
	}
}

func TestParseRollout(t *testing.T) {
	for in, want := range map[string]string{
		"1%,10%@24h,100%@72h":           "100@0s 1000@24h0m0s 10000@72h0m0s",
		"2.5%, 50%@2d, 99.99%@2w":       "250@0s 5000@48h0m0s 9999@336h0m0s",
		"10%@2026-12-01T05:00:00+02:00": "1000@1h0m0s",
		"100%":                          "",
		"100%@1h":                       "10000@1h0m0s",
	} {
		stages, err := ParseRollout(in, t0)
		var got []string
		for _, s := range stages {
			got = append(got, fmt.Sprintf("%d@%s", s.ShareBasisPoints, s.At.Sub(t0)))
		}
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("ParseRollout(%q) = %q, %v, want %q", in, got, err, want)
		}
	}
	for in, want := range map[string]string{
		"": "bad share", "1": "bad share", "0%": "more than 0%", "101%": "at most 100%", "1.234%": "two decimals", "1.%": "bad share", "-1%": "more than 0%",
		"1%@": "bad time", "1%@soon": "bad time", "10%,5%@1h": "not above", "5%@2h,10%@1h": "not after", "5%,10%": "not after", "5%@99999d": "bad time",
	} {
		if _, err := ParseRollout(in, t0); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseRollout(%q) = %v, want an error with %q", in, err, want)
		}
	}
}
