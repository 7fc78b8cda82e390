package config

import (
	"fmt"
	"strconv"
	"strings"
)

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

// checkCron checks the shape of a cron line as crontab(5) has it.
func checkCron(line string) error {
	switch line {
	case "@hourly", "@daily", "@midnight", "@weekly", "@monthly", "@yearly", "@annually":
		return nil
	}
	fields := strings.Fields(line)
	if len(fields) != len(cronFields) {
		return fmt.Errorf("bad cron line %q: got %d fields, want 5: minute, hour, day of month, month, day of week", line, len(fields))
	}
	for i, field := range fields {
		for _, part := range strings.Split(field, ",") {
			if err := checkCronPart(part, i); err != nil {
				return fmt.Errorf("bad cron line %q: %s %q: %w", line, cronFields[i].name, part, err)
			}
		}
	}
	return nil
}

// checkCronPart checks "*", "N" or "N-M", each with an optional "/STEP".
func checkCronPart(part string, field int) error {
	span, step, hasStep := strings.Cut(part, "/")
	if hasStep {
		if n, err := strconv.Atoi(step); err != nil || n < 1 {
			return fmt.Errorf("bad step %q", step)
		}
	}
	if span == "*" {
		return nil
	}
	low, high, isRange := strings.Cut(span, "-")
	a, err := cronNumber(low, field)
	if err != nil || !isRange {
		return err
	}
	b, err := cronNumber(high, field)
	if err == nil && b < a {
		return fmt.Errorf("the range is empty")
	}
	return err
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
