package window

import (
	"strings"
	"testing"
	"time"
)

// at is a time of the week of Sunday 2026-11-22.
func at(t *testing.T, text string) time.Time {
	t.Helper()
	got, err := time.Parse("2006-01-02 15:04", text)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestOpen(t *testing.T) {
	for _, c := range []struct {
		windows, when string
		want          bool
	}{
		{"Sun 02:00-04:00", "2026-11-22 02:00", true},
		{"Sun 02:00-04:00", "2026-11-22 03:59", true},
		{"Sun 02:00-04:00", "2026-11-22 04:00", false},
		{"Sun 02:00-04:00", "2026-11-22 01:59", false},
		{"Sun 02:00-04:00", "2026-11-23 03:00", false},
		{"03:00-03:30", "2026-11-25 03:10", true},
		{"Mon-Fri 22:00-05:00", "2026-11-27 23:00", true},  // Friday night
		{"Mon-Fri 22:00-05:00", "2026-11-28 04:00", true},  // and on into Saturday
		{"Mon-Fri 22:00-05:00", "2026-11-28 22:00", false}, // Saturday night
		{"Mon-Fri 22:00-05:00", "2026-11-23 04:00", false}, // Monday morning is Sunday's night
		{"sunday 00:00-24:00", "2026-11-22 23:59", true},
		{"Fri-Mon 01:00-02:00", "2026-11-22 01:30", true},
		{"Fri-Mon 01:00-02:00", "2026-11-24 01:30", false},
		{"Tue 01:00-02:00, Sun 05:00-06:00", "2026-11-22 05:30", true},
	} {
		w, err := Parse(c.windows)
		if err != nil {
			t.Fatal(err)
		}
		if got := w.Open(at(t, c.when)); got != c.want {
			t.Errorf("%q at %s: open = %v", c.windows, c.when, got)
		}
	}
}

func TestNext(t *testing.T) {
	w, err := Parse("Sun 02:00-04:00")
	if err != nil {
		t.Fatal(err)
	}
	if got := w.Next(at(t, "2026-11-22 04:00")); got != at(t, "2026-11-29 02:00") {
		t.Errorf("got %s", got)
	}
	if got := w.Next(at(t, "2026-11-22 02:30")); got != at(t, "2026-11-22 02:30") {
		t.Errorf("got %s", got)
	}
	if got := (Windows{}).Next(at(t, "2026-11-22 02:30")); !got.IsZero() {
		t.Errorf("no window opens at %s", got)
	}
}

func TestParseRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"":                           "want",
		"Sun":                        `"Sun": want HH:MM-HH:MM`,
		"Son 02:00-04:00":            `"Son" is no day`,
		"Sun 02:00":                  "want HH:MM-HH:MM",
		"Sun 02:00-02:00":            "never open",
		"Sun 24:00-03:00":            "never open",
		"Sun 2:0-3:00":               "no time of day",
		"Sun 25:00-03:00":            "no time of day",
		"Sun 02:60-03:00":            "no time of day",
		"Sun 02:00-04:00,":           "want",
		"Sun 02:00-04:00 every week": "want",
		strings.Repeat(" ", 5000):    "at most",
	} {
		if _, err := Parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"Sun 02:00-04:00", "Mon-Fri 22:00-05:00, Sat 00:00-24:00", "03:00-03:30", "Fri-Mon 1:00-02:00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		w, err := Parse(text)
		if err != nil {
			return
		}
		again, err := Parse(w.String())
		if err != nil {
			t.Fatalf("%q gives %q: %v", text, w, err)
		}
		when := time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
		for range 7 * 24 * 12 {
			if w.Open(when) != again.Open(when) {
				t.Fatalf("%q and %q differ at %s", text, again, when)
			}
			when = when.Add(5 * time.Minute)
		}
		if w.Next(when).IsZero() {
			t.Fatalf("%q never opens", text)
		}
	})
}
