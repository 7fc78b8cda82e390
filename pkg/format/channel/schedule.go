package channel

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// ParseRollout reads a schedule as people write it, "1%,10%@24h,100%@72h": each
// share with the time after start at which it begins (units h, m, s, and d and
// w for whole days and weeks) or the moment itself in RFC 3339. The first may
// stand without one and begins at start. "100%" alone is no schedule at all.
func ParseRollout(text string, start time.Time) ([]Stage, error) {
	var stages []Stage
	for part := range strings.SplitSeq(text, ",") {
		share, when, timed := strings.Cut(strings.TrimSpace(part), "@")
		points, err := ParseShare(share)
		if err != nil {
			return nil, fmt.Errorf("rollout %q: %w", text, err)
		}
		at := start
		if timed {
			if at, err = parseWhen(when, start); err != nil {
				return nil, fmt.Errorf("rollout %q: %w", text, err)
			}
		}
		stages = append(stages, Stage{at.UTC().Truncate(time.Second), points})
	}
	if err := checkStages(stages); err != nil {
		return nil, fmt.Errorf("rollout %q: %w", text, err)
	}
	if len(stages) == 1 && stages[0].ShareBasisPoints == WholeShare && !stages[0].At.After(start) {
		return nil, nil
	}
	return stages, nil
}

// ParseShare reads a share in percent with at most two decimals, "2.5%", as basis points.
func ParseShare(s string) (int, error) {
	number, ok := strings.CutSuffix(s, "%")
	whole, decimals, hasDecimals := strings.Cut(number, ".")
	if !ok || len(decimals) > 2 || hasDecimals && decimals == "" {
		return 0, fmt.Errorf("bad share %q: want a percentage with at most two decimals, as 2.5%%", s)
	}
	n, err := strconv.ParseUint(whole+(decimals + "00")[:2], 10, 16)
	if err != nil || whole == "" || n < 1 || n > WholeShare {
		return 0, fmt.Errorf("bad share %q: want more than 0%% and at most 100%%", s)
	}
	return int(n), nil
}

func parseWhen(s string, start time.Time) (time.Time, error) {
	if at, err := time.Parse(time.RFC3339, s); err == nil {
		return at, nil
	}
	for suffix, unit := range map[string]time.Duration{"d": 24 * time.Hour, "w": 7 * 24 * time.Hour} {
		if digits, ok := strings.CutSuffix(s, suffix); ok {
			n, err := strconv.ParseUint(digits, 10, 12)
			if err != nil {
				return time.Time{}, fmt.Errorf("bad time %q", s)
			}
			return start.Add(time.Duration(n) * unit), nil
		}
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return time.Time{}, fmt.Errorf("bad time %q: want 24h, 3d or a moment in RFC 3339", s)
	}
	return start.Add(d), nil
}
