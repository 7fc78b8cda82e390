package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Cron is the times that a line of crontab(5) names. They are those of a clock on
// the wall: where summer time begins, a time that the clock skips stands for the
// moment after the gap, and where it ends, one that the clock shows twice stands
// for the first. Only where the hour is "*" does a line follow the hours as they
// pass, whatever the clock shows.
type Cron struct {
	fields [5]uint64 // bit n is the value n
	// anyDay and anyWeekday are days that begin with "*": where neither does, a
	// day that one of the two names is enough, as crontab(5) has it.
	anyDay, anyWeekday bool
	everyHour          bool
}

// cronFields are the five fields of crontab(5) with their bounds; 7 is Sunday too.
var cronFields = []struct {
	name     string
	min, max int
	words    []string
}{
	{"minute", 0, 59, nil},
	{"hour", 0, 23, nil},
	{"day of month", 1, 31, nil},
	{"month", 1, 12, []string{"jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"}},
	{"day of week", 0, 7, []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}},
}

// cronWords are the lines that have a name.
var cronWords = map[string]string{
	"@hourly": "0 * * * *", "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@weekly": "0 0 * * 0",
	"@monthly": "0 0 1 * *", "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *",
}

// ParseCron reads a line as crontab(5) has it: five fields, or "@daily" and its like.
func ParseCron(line string) (Cron, error) {
	text := line
	if whole, ok := cronWords[line]; ok {
		text = whole
	}
	fields := strings.Fields(text)
	if len(fields) != len(cronFields) {
		return Cron{}, fmt.Errorf("bad cron line %q: got %d fields, want 5: minute, hour, day of month, month, day of week", line, len(fields))
	}
	var c Cron
	for i, field := range fields {
		for part := range strings.SplitSeq(field, ",") {
			bits, err := parseCronPart(part, i)
			if err != nil {
				return Cron{}, fmt.Errorf("bad cron line %q: %s %q: %w", line, cronFields[i].name, part, err)
			}
			c.fields[i] |= bits
		}
	}
	c.anyDay, c.anyWeekday = strings.HasPrefix(fields[2], "*"), strings.HasPrefix(fields[4], "*")
	c.everyHour = c.fields[1] == 1<<24-1
	if c.fields[4]&(1<<7) != 0 {
		c.fields[4] |= 1
	}
	// In any 9 years there is a 29 February.
	if _, fires := c.Next(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)); !fires {
		return Cron{}, fmt.Errorf("bad cron line %q: there is no such day, it never fires", line)
	}
	return c, nil
}

// parseCronPart reads "*", "N" or "N-M", each with an optional "/STEP".
func parseCronPart(part string, field int) (uint64, error) {
	f := cronFields[field]
	span, stepText, hasStep := strings.Cut(part, "/")
	step := 1
	if hasStep {
		n, err := strconv.Atoi(stepText)
		if err != nil || n < 1 {
			return 0, fmt.Errorf("bad step %q", stepText)
		}
		step = min(n, f.max+1)
	}
	low, high := f.min, f.max
	if span != "*" {
		first, last, isRange := strings.Cut(span, "-")
		var err error
		if low, err = cronNumber(first, field); err != nil {
			return 0, err
		}
		switch {
		case isRange:
			if high, err = cronNumber(last, field); err != nil {
				return 0, err
			}
		case !hasStep:
			high = low
		}
		if high < low {
			return 0, fmt.Errorf("the range is empty")
		}
	}
	var bits uint64
	for n := low; n <= high; n += step {
		bits |= 1 << n
	}
	return bits, nil
}

func cronNumber(s string, field int) (int, error) {
	f := cronFields[field]
	for i, w := range f.words {
		if strings.EqualFold(s, w) {
			return f.min + i, nil
		}
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < f.min || n > f.max {
		return 0, fmt.Errorf("want %d to %d", f.min, f.max)
	}
	return n, nil
}

func (c *Cron) has(field, n int) bool { return c.fields[field]&(1<<n) != 0 }

// onDay tells whether the line fires on a day at all.
func (c *Cron) onDay(d time.Time) bool {
	day, weekday := c.has(2, d.Day()), c.has(4, int(d.Weekday()))
	if !c.anyDay && !c.anyWeekday {
		return c.has(3, int(d.Month())) && (day || weekday)
	}
	return c.has(3, int(d.Month())) && day && weekday
}

// Next is the first moment later than after, in its time zone; false where there
// is none in the next nine years.
func (c *Cron) Next(after time.Time) (time.Time, bool) {
	year, month, day := after.Date()
	// From the day before: where a clock is put back over midnight, its evening
	// comes twice.
	for i := -1; i < 9*366; i++ {
		// In UTC, which has each day at noon.
		d := time.Date(year, month, day+i, 12, 0, 0, 0, time.UTC)
		if !c.onDay(d) {
			continue
		}
		if next, ok := c.nextOn(d, after); ok {
			return next, true
		}
	}
	return time.Time{}, false
}

// nextOn is the first moment on a day that is later than after. All are looked
// at: over a change of the clock they are not in the order of the line's.
func (c *Cron) nextOn(d, after time.Time) (next time.Time, ok bool) {
	for hour := range 24 {
		for minute := range 60 {
			if !c.has(1, hour) || !c.has(0, minute) {
				continue
			}
			wall := time.Date(d.Year(), d.Month(), d.Day(), hour, minute, 0, 0, time.UTC)
			for _, t := range c.moments(wall, after.Location()) {
				if t.After(after) && (!ok || t.Before(next)) {
					next, ok = t, true
				}
			}
		}
	}
	return next, ok
}

// wallClock is what the clock on the wall shows, as if it were UTC.
func wallClock(t time.Time) time.Time {
	year, month, day := t.Date()
	return time.Date(year, month, day, t.Hour(), t.Minute(), 0, 0, time.UTC)
}

// moments are when the clock on the wall shows a time, which is given as if it
// were UTC: once as a rule.
func (c *Cron) moments(wall time.Time, zone *time.Location) []time.Time {
	// One of two where the clock shows it twice; where it skips it, a time that
	// is right in the zone before or after the gap.
	t := time.Date(wall.Year(), wall.Month(), wall.Day(), wall.Hour(), wall.Minute(), 0, 0, zone)
	begin, end := t.ZoneBounds()
	if shown := wallClock(t); !shown.Equal(wall) {
		switch {
		case c.everyHour:
			return nil
		case shown.Before(wall):
			return []time.Time{end}
		}
		return []time.Time{begin}
	}
	all := []time.Time{t}
	for _, bound := range []time.Time{begin, end} {
		if bound.IsZero() {
			continue
		}
		_, before := bound.Add(-time.Second).Zone()
		_, since := bound.Zone()
		back := time.Duration(before-since) * time.Second // how far the clock is put back
		other := t.Add(back)
		if bound.Equal(begin) {
			other = t.Add(-back)
		}
		if back > 0 && wallClock(other).Equal(wall) && other.Before(bound) != t.Before(bound) {
			all = append(all, other)
		}
	}
	slices.SortFunc(all, time.Time.Compare)
	if !c.everyHour {
		all = all[:1]
	}
	return all
}
