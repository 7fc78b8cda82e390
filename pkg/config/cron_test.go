package config

import (
	"testing"
	"time"
	_ "time/tzdata" // the zones are the same on every machine
)

// TestCronNext holds the moments of lines, over the changes of the clock too.
func TestCronNext(t *testing.T) {
	for _, c := range []struct{ zone, line, after, want string }{
		{"UTC", "30 2 * * *", "2026-11-22T02:29:59Z", "2026-11-22T02:30:00Z"},
		{"UTC", "30 2 * * *", "2026-11-22T02:30:00Z", "2026-11-23T02:30:00Z"},
		{"UTC", "*/20 9-17/4 * * mon-fri", "2026-11-20T17:40:00Z", "2026-11-23T09:00:00Z"},
		{"UTC", "*/20 9-17/4 * * mon-fri", "2026-11-23T09:40:00Z", "2026-11-23T13:00:00Z"},
		{"UTC", "0 0 13 * 5", "2026-11-01T00:00:00Z", "2026-11-06T00:00:00Z"},   // the 13th, or a Friday
		{"UTC", "0 0 */13 * 5", "2026-11-01T00:00:00Z", "2026-11-27T00:00:00Z"}, // and: it begins with "*"
		{"UTC", "0 12 * * 7", "2026-11-22T12:00:00Z", "2026-11-29T12:00:00Z"},
		{"UTC", "@monthly", "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"},
		{"UTC", "0 0 29 2 *", "2096-02-29T00:00:00Z", "2104-02-29T00:00:00Z"},
		{"UTC", "5/20 * * * *", "2026-11-22T10:06:00Z", "2026-11-22T10:25:00Z"},
		// The clock goes from 2:00 to 3:00 on 29 March 2026.
		{"Europe/Berlin", "30 2 * * *", "2026-03-28T02:30:00+01:00", "2026-03-29T03:00:00+02:00"},
		{"Europe/Berlin", "30 2 * * *", "2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"},
		{"Europe/Berlin", "0,30 2 * * *", "2026-03-29T03:00:00+02:00", "2026-03-30T02:00:00+02:00"},
		{"Europe/Berlin", "30 3 * * *", "2026-03-28T03:30:00+01:00", "2026-03-29T03:30:00+02:00"},
		{"Europe/Berlin", "30 * * * *", "2026-03-29T01:30:00+01:00", "2026-03-29T03:30:00+02:00"},
		// From 3:00 back to 2:00 on 25 October.
		{"Europe/Berlin", "30 2 * * *", "2026-10-24T02:30:00+02:00", "2026-10-25T02:30:00+02:00"},
		{"Europe/Berlin", "30 2 * * *", "2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"},
		{"Europe/Berlin", "30 2 * * *", "2026-10-25T02:10:00+01:00", "2026-10-26T02:30:00+01:00"},
		{"Europe/Berlin", "30 * * * *", "2026-10-25T02:30:00+02:00", "2026-10-25T02:30:00+01:00"},
		{"Europe/Berlin", "30 * * * *", "2026-10-25T02:30:00+01:00", "2026-10-25T03:30:00+01:00"},
		{"Europe/Berlin", "*/10 2-3 * * *", "2026-10-25T02:50:00+02:00", "2026-10-25T03:00:00+01:00"},
		// At midnight, and by half an hour.
		{"America/Santiago", "15 0 * * *", "2026-09-05T00:15:00-04:00", "2026-09-06T01:00:00-03:00"},
		{"America/Santiago", "30 23 * * *", "2026-04-04T23:30:00-03:00", "2026-04-05T23:30:00-04:00"},
		{"America/Santiago", "30 * * * *", "2026-04-04T23:30:00-03:00", "2026-04-04T23:30:00-04:00"},
		{"Australia/Lord_Howe", "15 2 * * *", "2026-10-03T02:15:00+10:30", "2026-10-04T02:30:00+11:00"},
		// 30 December 2011 is not there at all.
		{"Pacific/Apia", "0 12 30 * *", "2011-12-01T00:00:00-10:00", "2011-12-31T00:00:00+14:00"},
	} {
		zone, err := time.LoadLocation(c.zone)
		if err != nil {
			t.Fatal(err)
		}
		cron, err := ParseCron(c.line)
		if err != nil {
			t.Fatal(err)
		}
		after, err := time.Parse(time.RFC3339, c.after)
		if err != nil {
			t.Fatal(err)
		}
		got, ok := cron.Next(after.In(zone))
		if !ok || got.Format(time.RFC3339) != c.want {
			t.Errorf("%s: %q after %s: got %s, want %s", c.zone, c.line, c.after, got.Format(time.RFC3339), c.want)
		}
	}
}

// TestCronAdvances walks a year of two zones: each moment is later than the one
// before, is a minute, and a line that names a time of day comes once a day.
func TestCronAdvances(t *testing.T) {
	for _, name := range []string{"Europe/Berlin", "America/Santiago"} {
		zone, err := time.LoadLocation(name)
		if err != nil {
			t.Fatal(err)
		}
		for line, want := range map[string]int{"30 2 * * *": 365, "15 0 * * *": 365, "59 23 * * *": 365, "0 * * * *": 365 * 24} {
			cron, err := ParseCron(line)
			if err != nil {
				t.Fatal(err)
			}
			n := 0
			at := time.Date(2025, 12, 31, 23, 59, 59, 0, zone)
			for end := time.Date(2026, 12, 31, 23, 59, 59, 0, zone); ; n++ {
				next, ok := cron.Next(at)
				if !ok || !next.After(at) || next.Second() != 0 {
					t.Fatalf("%s: %q after %v: %v", name, line, at, next)
				}
				if next.After(end) {
					break
				}
				at = next
			}
			if n != want {
				t.Errorf("%s: %q came %d times in a year, want %d", name, line, n, want)
			}
		}
	}
}

func TestCronThatNeverFires(t *testing.T) {
	for _, line := range []string{"0 0 30 2 *", "0 0 31 4,6,9,11 *"} {
		if _, err := ParseCron(line); err == nil {
			t.Errorf("%q: no error", line)
		}
	}
	if _, err := ParseCron("0 0 31 2 1"); err != nil { // a Monday in February will do
		t.Error(err)
	}
}
