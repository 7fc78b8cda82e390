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
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("bad size %q, want for example \"200M\" or \"4G\"", text)
	}
	shift := 0
	switch strings.TrimSuffix(strings.TrimSuffix(text[len(digits):], "B"), "i") {
	case "":
	case "K":
		shift = 10
	case "M":
		shift = 20
	case "G":
		shift = 30
	case "T":
		shift = 40
	default:
		return 0, fmt.Errorf("bad size %q, want for example \"200M\" or \"4G\"", text)
	}
	if n > math.MaxInt64>>shift {
		return 0, fmt.Errorf("size %q is too large", text)
	}
	return n << shift, nil
}
