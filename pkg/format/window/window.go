// Package window reads maintenance windows: when a machine may be changed.
//
//	Sun 02:00-04:00
//	Mon-Fri 22:00-05:00, Sat 00:00-24:00
//	03:00-03:30                              every day
//
// Times are those of the local clock, a window that ends before it begins goes
// over midnight, and the days are those it begins on. Where a clock change
// skips or repeats an hour, what counts is the time that the clock shows.
package window

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// MaxLen bounds the text of windows, in bytes.
const MaxLen = 4096

const day = 24 * 60 // minutes

// Windows is a list of windows; the zero value is never open.
type Windows []Window

// Window is open on certain days, from one minute up to, and without, another.
type Window struct {
	// Days has a bit for each time.Weekday.
	Days uint8
	// From and To are minutes since midnight; To is at most 24:00.
	From, To int
}

const everyDay = 1<<7 - 1

var dayNames = [...]string{"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"}

// Parse reads windows, divided by commas.
func Parse(text string) (Windows, error) {
	if len(text) > MaxLen {
		return nil, fmt.Errorf("%d bytes: at most %d", len(text), MaxLen)
	}
	var all Windows
	for part := range strings.SplitSeq(text, ",") {
		w, err := parse(strings.Fields(part))
		if err != nil {
			return nil, fmt.Errorf("%q: %w", strings.TrimSpace(part), err)
		}
		all = append(all, w)
	}
	return all, nil
}

func parse(fields []string) (w Window, err error) {
	w.Days = everyDay
	if len(fields) == 2 {
		if w.Days, err = parseDays(fields[0]); err != nil {
			return w, err
		}
		fields = fields[1:]
	}
	if len(fields) != 1 {
		return w, fmt.Errorf(`want "[DAY[-DAY]] HH:MM-HH:MM"`)
	}
	from, to, ok := strings.Cut(fields[0], "-")
	if !ok {
		return w, fmt.Errorf("%q: want HH:MM-HH:MM", fields[0])
	}
	if w.From, err = parseTime(from); err != nil {
		return w, err
	}
	if w.To, err = parseTime(to); err != nil {
		return w, err
	}
	if w.From == w.To || w.From == day {
		return w, fmt.Errorf("%q: is never open", fields[0])
	}
	return w, nil
}

func parseDays(text string) (uint8, error) {
	first, last, isRange := strings.Cut(text, "-")
	a, err := parseDay(first)
	if err != nil || !isRange {
		return 1 << a, err
	}
	b, err := parseDay(last)
	if err != nil {
		return 0, err
	}
	var days uint8
	for d := a; ; d = (d + 1) % 7 {
		days |= 1 << d
		if d == b {
			return days, nil
		}
	}
}

func parseDay(text string) (int, error) {
	for d, name := range dayNames {
		if strings.EqualFold(text, name) || strings.EqualFold(text, time.Weekday(d).String()) {
			return d, nil
		}
	}
	return 0, fmt.Errorf("%q is no day: want Mon, Tue, Wed, Thu, Fri, Sat or Sun", text)
}

func parseTime(text string) (minutes int, err error) {
	h, m, ok := strings.Cut(text, ":")
	hours, err1 := strconv.ParseUint(h, 10, 8)
	mins, err2 := strconv.ParseUint(m, 10, 8)
	minutes = int(hours)*60 + int(mins)
	if !ok || err1 != nil || err2 != nil || len(h) > 2 || len(m) != 2 || mins > 59 || minutes > day {
		return 0, fmt.Errorf("%q is no time of day: want 00:00 to 24:00", text)
	}
	return minutes, nil
}

// String is the windows as Parse reads them.
func (all Windows) String() string {
	var parts []string
	for _, w := range all {
		clock := fmt.Sprintf("%02d:%02d-%02d:%02d", w.From/60, w.From%60, w.To/60, w.To%60)
		if w.Days == everyDay {
			parts = append(parts, clock)
			continue
		}
		for d, name := range dayNames {
			if w.Days&(1<<d) != 0 {
				parts = append(parts, name+" "+clock)
			}
		}
	}
	return strings.Join(parts, ", ")
}

// Open tells whether one of the windows is open at t, by the clock of t's location.
func (all Windows) Open(t time.Time) bool {
	now, today := t.Hour()*60+t.Minute(), t.Weekday()
	for _, w := range all {
		if w.To > w.From {
			if w.on(today) && now >= w.From && now < w.To {
				return true
			}
			continue
		}
		if w.on(today) && now >= w.From || w.on((today+6)%7) && now < w.To {
			return true
		}
	}
	return false
}

func (w Window) on(d time.Weekday) bool { return w.Days&(1<<d) != 0 }

// Next is the first minute from t on in which one of the windows is open; the
// zero Time where there is none.
func (all Windows) Next(t time.Time) time.Time {
	t = t.Truncate(time.Minute)
	for end := t.Add(8 * 24 * time.Hour); t.Before(end); t = t.Add(time.Minute) {
		if all.Open(t) {
			return t
		}
	}
	return time.Time{}
}
