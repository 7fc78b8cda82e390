package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/relkit/relkit/pkg/failure"
)

// spanValue is the value of a flag that holds a span of time: what Go's
// durations allow ("90s", "1h30m") and whole days and weeks ("30d", "2w").
// 0 where the flag is not given.
func spanValue(c *cli.Context, name string) (time.Duration, error) {
	s := c.String(name)
	if s == "" {
		return 0, nil
	}
	d, err := parseSpan(s)
	if err != nil {
		return 0, failure.Errorf(failure.Usage, "reading --%s: %w", name, err)
	}
	return d, nil
}

func parseSpan(s string) (time.Duration, error) {
	for suffix, unit := range map[string]time.Duration{"d": 24 * time.Hour, "w": 7 * 24 * time.Hour} {
		digits, ok := strings.CutSuffix(s, suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(digits, 10, 32)
		if err != nil || time.Duration(n) > math.MaxInt64/unit {
			return 0, fmt.Errorf("bad span %q, want for example 90s, 2h or 30d", s)
		}
		return time.Duration(n) * unit, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("bad span %q, want for example 90s, 2h or 30d", s)
	}
	return d, nil
}
