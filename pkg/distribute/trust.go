package distribute

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/relkit/relkit/pkg/engine/trust"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// readTrust has the machine's trust document, nil for none, say who may sign, and
// what the machine knows of the time say how early it can be. A channel's document
// takes one key of each role, whatever a sign-off takes: its patches are signed
// off on their own.
func (o *FetchOptions) readTrust() (d *trust.Document, err error) {
	if _, err := os.Stat(o.State); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	state, err := fsys.Open(o.State)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, state.Close()) }()
	clock, err := trust.ReadClock(state, o.Now(), o.NotBefore)
	if err != nil {
		return nil, err
	}
	o.NotBefore = clock.Floor
	if d, err = trust.Load(state); err != nil {
		return nil, err
	}
	require := o.Policy.Require
	if d != nil {
		if o.SignersGiven {
			o.Log.Warn(fmt.Sprintf("trust document %d of this machine says who may sign, --allowed-signers does not", d.Version))
		}
		o.Policy = d.Policy(clock)
		o.Policy.Thresholds = nil
	}
	o.Policy.Require, o.Policy.ClockWrong = require, clock.Wrong()
	return d, nil
}
