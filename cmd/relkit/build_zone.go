package main

import (
	"os"
	"strings"
	"time"

	"github.com/relkit/relkit/pkg/failure"
)

// checkZone refuses a TZ that names no time zone: times would be UTC without a word.
func checkZone(lookup func(string) (string, bool)) error {
	zone, _ := lookup("TZ")
	name := strings.TrimPrefix(zone, ":")
	var err error
	switch {
	case strings.HasPrefix(name, "/"):
		var data []byte
		if data, err = os.ReadFile(name); err == nil {
			_, err = time.LoadLocationFromTZData(name, data)
		}
	case name != "":
		_, err = time.LoadLocation(name)
	}
	if err == nil {
		return nil
	}
	return failure.WithHint(failure.Errorf(failure.Usage, "TZ is %q, which is no time zone that is known here: %w", zone, err), "ls /usr/share/zoneinfo")
}
