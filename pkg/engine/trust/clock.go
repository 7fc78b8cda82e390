package trust

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/channel"
	"github.com/relkit/relkit/pkg/format/trustdoc"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

const (
	timesFile   = "times.json"
	channelsDir = "channels"
)

// Clock is what a machine knows of the time.
type Clock struct {
	// Shown is what its own clock says.
	Shown time.Time
	// Floor is a time that has passed for certain: the newest of all that was
	// verified, of what the clock once showed, and of when relkit was built.
	Floor time.Time
}

// Now is the time to hold documents against.
func (c Clock) Now() time.Time { return trustdoc.Later(c.Shown, c.Floor) }

// skew is by how much the clocks of two people may differ who both look after theirs.
const skew = 24 * time.Hour

// Wrong tells whether the clock shows a time that has long passed.
func (c Clock) Wrong() bool { return c.Shown.Before(c.Floor.Add(-skew)) }

// ReadClock is what a machine with that state knows of the time. built is when
// relkit was built, zero where nobody knows.
func ReadClock(state fsys.FS, shown, built time.Time) (Clock, error) {
	t, err := readTimes(state)
	if err != nil {
		return Clock{}, err
	}
	c := Clock{Shown: shown, Floor: trustdoc.Later(built, t.Floor())}
	kept, err := Load(state)
	if err != nil {
		return Clock{}, err
	}
	if kept != nil {
		c.Floor = trustdoc.Later(c.Floor, kept.Issued)
	}
	seen, err := newestSeen(state)
	c.Floor = trustdoc.Later(c.Floor, seen)
	return c, err
}

// newestSeen is when the newest channel document was issued that was verified here.
func newestSeen(state fsys.FS) (newest time.Time, err error) {
	names, err := state.ReadDir(channelsDir)
	if errors.Is(err, fs.ErrNotExist) {
		return newest, nil
	}
	for _, name := range names {
		if !strings.HasSuffix(name, ".json") {
			continue
		}
		b, err := fsys.ReadFile(state, channelsDir+"/"+name, channel.MaxSeen)
		if err != nil {
			return newest, err
		}
		// One that cannot be read is for whoever fetches from that channel to tell.
		if seen, err := channel.ParseSeen(b); err == nil {
			newest = trustdoc.Later(newest, seen.Newest)
		}
	}
	return newest, err
}

// Remember notes in the state what the clock shows, and that something was
// verified that was signed at a time, zero for nothing. The lock of the machine
// is held. The file is the old one or the new one, whenever the power goes; both
// are true, the old one only says less.
func (c Clock) Remember(state fsys.FS, signed time.Time) error {
	old, err := readTimes(state)
	if err != nil {
		return err
	}
	next, changed := old.After(signed, c.Shown, c.Floor)
	if !changed {
		return nil
	}
	return writeTimes(state, next)
}

// Forget has the machine remember nothing of time but what its trust document
// and the channels it has seen say: for one whose clock was once ahead.
func Forget(state fsys.FS) error {
	return writeTimes(state, trustdoc.Times{Schema: trustdoc.TimesSchema})
}

func writeTimes(state fsys.FS, t trustdoc.Times) error {
	b, err := t.Encode()
	if err == nil {
		err = fsys.WriteFile(state, timesFile, b, 0o644)
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", timesFile, err)
	}
	return nil
}

func readTimes(state fsys.FS) (trustdoc.Times, error) {
	b, err := fsys.ReadFile(state, timesFile, trustdoc.MaxTimes)
	if errors.Is(err, fs.ErrNotExist) {
		return trustdoc.Times{}, nil
	}
	var t *trustdoc.Times
	if err == nil {
		if t, err = trustdoc.ParseTimes(b); err == nil {
			return *t, nil
		}
		// Without it an expired document could pass for good.
		err = failure.WithHint(failure.As(failure.Untrusted, err), "relkit trust --insecure-reset-time  # has this machine begin anew from what is signed")
	}
	return trustdoc.Times{}, fmt.Errorf("reading %s: %w", timesFile, err)
}
