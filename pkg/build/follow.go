package build

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/relkit/relkit/pkg/failure"
)

// followEvery is how often a log that is followed is looked at.
const followEvery = 200 * time.Millisecond

// Follow passes on the lines of the logs that ref names, as Logs has it, and
// those that come, until the build has ended. "last" is the newest build, which
// may have only begun.
func (p *Project) Follow(ctx context.Context, ref string, line func(*StepLog, LogLine) error) error {
	builder, n, step, err := p.logRef(ref, true)
	if err != nil {
		return err
	}
	shown := 0
	for {
		running, err := p.running(builder, n)
		if err != nil {
			return err
		}
		logs, err := p.logs(builder, n, step)
		if err != nil {
			return err
		}
		if shown < len(logs) {
			l := &logs[shown]
			shown++
			if err := p.followOne(ctx, l, func(x LogLine) error { return line(l, x) }); err != nil {
				return err
			}
			continue
		}
		if !running {
			if cut, err := p.state.cutOff(builder, n); cut || err != nil {
				return errors.Join(err, p.interruptedError(builder, n))
			}
			if shown == 0 {
				return failure.Errorf(failure.Usage, "there is no log %q", ref)
			}
			return nil
		}
		if err := pause(ctx); err != nil {
			return err
		}
	}
}

// running tells whether a build has not ended, and is going to.
func (p *Project) running(builder string, n int) (bool, error) {
	if cut, err := p.state.cutOff(builder, n); cut || err != nil {
		return false, err
	}
	_, err := os.Lstat(filepath.Join(p.state.build(builder, n), runningFile))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// followOne follows one log until its build has ended or a later step has begun.
func (p *Project) followOne(ctx context.Context, l *StepLog, line func(LogLine) error) error {
	f, err := os.Open(l.path)
	if err != nil {
		return err
	}
	defer f.Close()
	return readLog(&growing{ctx: ctx, f: f, ended: func() (bool, error) {
		running, err := p.running(l.Builder, l.Number)
		if !running || err != nil {
			return true, err
		}
		logs, err := p.logs(l.Builder, l.Number, "")
		return len(logs) > 0 && logs[len(logs)-1].path > l.path, err
	}}, line)
}

// growing is a file that is being written: its end is waited for.
type growing struct {
	ctx   context.Context
	f     *os.File
	ended func() (bool, error)
	last  bool
}

func (g *growing) Read(p []byte) (int, error) {
	for {
		n, err := g.f.Read(p)
		if n > 0 || err != io.EOF || g.last {
			return n, err
		}
		// What was written before it ended is still to be read.
		if g.last, err = g.ended(); err != nil {
			return 0, err
		}
		if !g.last {
			if err := pause(g.ctx); err != nil {
				return 0, err
			}
		}
	}
}

func pause(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(followEvery):
		return nil
	}
}
