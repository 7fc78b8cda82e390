package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Size is a number of bytes, written as an integer with an optional unit: K, M,
// G or T for powers of 1024, with or without "B" or "iB" ("4G", "200MiB").
type Size int64

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Size) UnmarshalText(text []byte) error {
	v, err := ParseSize(string(text))
	*s = Size(v)
	return err
}

// ParseSize reads the written form of a Size.
func ParseSize(text string) (int64, error) {
	digits := strings.TrimRight(text, "KMGTiB")
	n, err := strconv.ParseUint(digits, 10, 63)
	shift, ok := shiftOf(text[len(digits):])
	if err != nil || !ok {
		return 0, fmt.Errorf("bad size %q, want for example \"200M\" or \"4G\"", text)
	}
	if n > math.MaxInt64>>shift {
		return 0, fmt.Errorf("size %q is too large", text)
	}
	return int64(n << shift), nil
}

// shiftOf is the power of two that a unit stands for; false where it is none.
func shiftOf(unit string) (shift int, ok bool) {
	if unit == "" || unit == "B" {
		return 0, true
	}
	i := strings.IndexByte("KMGT", unit[0])
	if i < 0 || (unit[1:] != "" && unit[1:] != "B" && unit[1:] != "iB") {
		return 0, false
	}
	return 10 * (i + 1), true
}
