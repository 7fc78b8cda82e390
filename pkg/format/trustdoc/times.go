package trustdoc

import (
	"fmt"
	"time"

	"github.com/relkit/relkit/pkg/format/strict"
)

// TimesSchema is what a Times says it is.
const TimesSchema = "relkit.times/v1"

// MaxTimes bounds a Times in bytes.
const MaxTimes = 4 << 10

// plausible is how far a clock may be ahead of everything signed that a machine
// has seen, and still be remembered. One that was once set to a far future must
// not make all that is signed now look expired for ever.
const plausible = 366 * 24 * time.Hour

// step is by how much a clock must have advanced to be remembered anew.
const step = time.Hour

// Times is what a machine remembers of time, so that a clock that was set back
// does not make an expired document good again. Neither ever goes back.
type Times struct {
	Schema string `json:"schema"`
	// Signed is the latest time at which something that was verified says that it
	// was signed.
	Signed time.Time `json:"signed,omitzero"`
	// Clock is the latest time that the machine's own clock has plausibly shown.
	Clock time.Time `json:"clock,omitzero"`
}

// ParseTimes reads what Encode wrote.
func ParseTimes(b []byte) (*Times, error) {
	t := new(Times)
	if err := strict.Decode(b, MaxTimes, t); err != nil {
		return nil, err
	}
	return t, t.check()
}

// Encode writes it.
func (t *Times) Encode() ([]byte, error) {
	if err := t.check(); err != nil {
		return nil, err
	}
	return strict.Encode(t)
}

func (t *Times) check() error {
	if t.Schema != TimesSchema {
		return fmt.Errorf("schema %q: want %q", t.Schema, TimesSchema)
	}
	for _, at := range []time.Time{t.Signed, t.Clock} {
		if !at.IsZero() && !validTime(at) {
			return fmt.Errorf("time %s: want one from 1970 to 9999, in UTC and whole seconds", at.Format(time.RFC3339Nano))
		}
	}
	return nil
}

// After is what is to be remembered once something was verified that was signed
// at a time (zero for nothing) while the clock showed another; floor is the time
// that it cannot be before anyway. changed tells whether it is worth writing down.
func (t Times) After(signed, clock, floor time.Time) (next Times, changed bool) {
	next = Times{Schema: TimesSchema, Signed: t.Signed, Clock: t.Clock}
	signed, clock = signed.UTC().Truncate(time.Second), clock.UTC().Truncate(time.Second)
	if signed.After(t.Signed) && validTime(signed) {
		next.Signed, changed = signed, true
	}
	anchor := Later(next.Signed, floor)
	if anchor.IsZero() || clock.After(anchor.Add(plausible)) || clock.Before(Later(t.Clock, next.Signed).Add(step)) || !validTime(clock) {
		return next, changed
	}
	next.Clock = clock
	return next, true
}

// Floor is the time that it cannot be before.
func (t Times) Floor() time.Time { return Later(t.Signed, t.Clock) }

// Later is the later of several times, the zero time for none.
func Later(times ...time.Time) time.Time {
	var last time.Time
	for _, t := range times {
		if t.After(last) {
			last = t
		}
	}
	return last
}
