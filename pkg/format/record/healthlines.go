package record

import (
	"fmt"
	"time"

	"github.com/relkit/relkit/pkg/format/strict"
)

// The schemas of the lines that a report falls into, relkit-health(5).
const (
	HealthCheckSchema   = "relkit.health-check/v1"
	HealthSummarySchema = "relkit.health-summary/v1"
)

// healthCheckLine is one check with what says whose it is.
type healthCheckLine struct {
	Schema string `json:"schema"`
	// Report is the report's id, Machine the machine's.
	Report  string    `json:"report"`
	Time    time.Time `json:"time"`
	Machine *string   `json:"machine"`
	HealthCheck
}

// healthSummaryLine is the report without its checks, which the lines before it hold.
type healthSummaryLine struct {
	Schema string `json:"schema"`
	*Health
	Checks any `json:"checks,omitempty"`
}

// EncodeLines is the report as JSON Lines: one a check, then what is left of it.
func (h *Health) EncodeLines() ([]byte, error) {
	var out []byte
	lines := make([]any, 0, len(h.Checks)+1)
	for _, c := range h.Checks {
		lines = append(lines, healthCheckLine{HealthCheckSchema, h.ID, h.Time, h.Machine.ID, c})
	}
	for _, line := range append(lines, healthSummaryLine{Health: h, Schema: HealthSummarySchema}) {
		b, err := strict.Encode(line)
		if err != nil {
			return nil, fmt.Errorf("writing health report: %w", err)
		}
		out = append(out, b...)
	}
	return out, nil
}
