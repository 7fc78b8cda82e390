package health

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/relkit/relkit/pkg/format/record"
)

// judgement gathers what is found about one object: the worst of the answers,
// and as the summary what each of them says, or what is normal where none does.
type judgement struct {
	check  *record.HealthCheck
	normal string
	faults []string
}

// say is the summary where nothing is found.
func (j *judgement) say(format string, args ...any) { j.normal = fmt.Sprintf(format, args...) }

// found adds a finding.
func (j *judgement) found(status record.HealthStatus, what string) {
	j.check.Status = j.check.Status.Worse(status)
	j.faults = append(j.faults, what)
}

// end writes the summary.
func (j *judgement) end() {
	j.check.Summary = j.normal
	if len(j.faults) > 0 {
		j.check.Summary = strings.Join(j.faults, "; ")
	}
}

// over is the answer for a value that is bad when it is large.
func over(v, warn, crit float64) record.HealthStatus {
	switch {
	case v >= crit:
		return record.HealthCrit
	case v >= warn:
		return record.HealthWarn
	}
	return record.HealthOK
}

// atLeast writes a threshold.
func atLeast(v float64) string { return ">=" + strconv.FormatFloat(v, 'g', -1, 64) }

// percent writes a share without rounding 99.96 % up to 100 %.
func percent(v float64) string {
	return strconv.FormatFloat(float64(int(v*1000))/10, 'f', -1, 64) + " %"
}

// bytesText writes an amount for a person, in units of 1024.
func bytesText(n uint64) string {
	v, unit := float64(n), "B"
	for _, u := range []string{"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"} {
		if v < 1024 {
			break
		}
		v, unit = v/1024, u
	}
	if v < 10 && unit != "B" {
		return fmt.Sprintf("%.1f %s", v, unit)
	}
	return fmt.Sprintf("%.0f %s", v, unit)
}
