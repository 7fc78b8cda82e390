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

// sizeValue is the value of a flag that holds a size in bytes: "4096", "5MiB",
// "1.5G", "10MB". K, M, G and T with or without iB are powers of 1024, with B
// alone powers of 1000. 0 where the flag is not given.
func sizeValue(c *cli.Context, name string) (int64, error) {
	s := c.String(name)
	if s == "" {
		return 0, nil
	}
	n, err := parseSize(s)
	if err != nil {
		return 0, failure.Errorf(failure.Usage, "reading --%s: %w", name, err)
	}
	return n, nil
}

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

func parseSize(s string) (int64, error) {
	digits := strings.TrimRight(s, "KMGTkmgtiBb")
	unit := strings.ToLower(s[len(digits):])
	n, err := strconv.ParseFloat(digits, 64)
	if err != nil || n < 0 || strings.ContainsAny(digits, "eExX_pPnN+") {
		return 0, fmt.Errorf("bad size %q, want a number with K, M, G or T, as in 5MiB", s)
	}
	base := 1024.0
	letter := strings.TrimSuffix(unit, "ib")
	if letter == unit {
		if letter = strings.TrimSuffix(unit, "b"); letter != unit {
			base = 1000
		}
	}
	exponent := strings.Index(" kmgt", letter)
	if len(letter) > 1 || exponent < 0 || (letter == "" && unit == "ib") {
		return 0, fmt.Errorf("bad unit %q in the size %q, want K, M, G or T, as in 5MiB", s[len(digits):], s)
	}
	if letter == "" {
		exponent = 0
	}
	bytes := n * math.Pow(base, float64(exponent))
	if bytes >= math.MaxInt64 {
		return 0, fmt.Errorf("size %q is too large", s)
	}
	return int64(bytes), nil
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
