package build

import (
	"fmt"
	"time"

	"github.com/relkit/relkit/pkg/format/record"
)

// Stage is where a cell of a run stands.
type Stage struct {
	// What says it in a few words: "waiting", "2/5 compile", "failed: …".
	What string
	// Status is how it ended; "" while it has not. A cell that nothing was built
	// of has ended with BuildSuccess or BuildError and without a number.
	Status record.BuildStatus
	// Number is the build's, 0 before it has one.
	Number int
	At     time.Time
}

// at tells whoever watches where the cell stands.
func (c *Cell) at(s Stage) {
	if c.watch != nil {
		s.At = time.Now()
		c.watch(s)
	}
}

// doing is at while a build has not ended.
func (j *job) doing(format string, args ...any) {
	s := Stage{What: fmt.Sprintf(format, args...)}
	if j.build != nil {
		s.Number = j.build.Number
	}
	j.cell.at(s)
}

// ended is at for what became of a cell.
func (c *Cell) ended(o outcome) {
	switch {
	case o.build != nil:
		s := Stage{What: string(o.build.Status), Status: o.build.Status, Number: o.build.Number}
		if o.build.Error != "" {
			s.What += ": " + o.build.Error
		}
		c.at(s)
	case o.err != nil:
		c.at(Stage{What: o.err.Error(), Status: record.BuildError})
	default:
		c.at(Stage{What: "unchanged", Status: record.BuildSuccess})
	}
}
