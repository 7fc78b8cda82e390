package process

import (
	"context"
	"fmt"
	"sync"
	"time"
)

const (
	// cancelTime is how long a call may take to end that is told to.
	cancelTime = 2 * time.Second
	// answerTime is how long after a program's own limits and grace the supervisor
	// may take to kill what is left, to empty the pipes, and to say so.
	answerTime = sweepTime + 10*time.Second
)

func graceOf(grace time.Duration) time.Duration {
	if grace <= 0 {
		return stopGrace
	}
	return grace
}

// jobPatience is how long a supervisor that keeps a program's limits can be without
// a word of it; 0 where it has none.
func jobPatience(job Job) time.Duration {
	limit := job.Timeout
	if job.Idle > 0 && (limit <= 0 || job.Idle < limit) {
		limit = job.Idle
	}
	if limit <= 0 {
		return 0
	}
	return limit + graceOf(job.Grace) + answerTime
}

// watch is over one call or program. Beats show that a supervisor lives, and not
// that what it was asked for goes on: one system call on a file system that does not
// answer holds it for good. The watch then breaks the link off, which ends all reads
// and writes on it.
type watch struct {
	s        *Supervisor
	ctx      context.Context
	patience time.Duration // 0: without end
	told     func() bool   // ends the watch over ctx

	mu      sync.Mutex
	waiting bool // for a frame, and not for whoever takes what came
	ended   bool
	idle    *time.Timer // nil without patience
	last    *time.Timer // set once ctx has ended
	why     error       // the link was broken off
}

func (s *Supervisor) patience(call string) time.Duration {
	if s.Patience == nil {
		return 0
	}
	return s.Patience(call)
}

// watch begins one. Where ctx ends, the supervisor is told, and has grace to answer.
func (s *Supervisor) watch(ctx context.Context, id uint64, what string, patience, grace time.Duration) *watch {
	w := &watch{s: s, ctx: ctx, patience: patience, waiting: true}
	if patience > 0 {
		w.idle = time.AfterFunc(patience, func() {
			w.giveUp(fmt.Errorf("%s has been at a standstill for %v", what, patience))
		})
	}
	w.told = context.AfterFunc(ctx, func() {
		w.mu.Lock()
		if w.ended {
			w.mu.Unlock()
			return
		}
		w.last = time.AfterFunc(grace, func() { w.giveUp(fmt.Errorf("%s was told to end and has not for %v", what, grace)) })
		w.mu.Unlock()
		s.cancel(id) // which waits where nobody reads
	})
	return w
}

// giveUp breaks the link off, unless it is ourselves that keep the supervisor waiting.
func (w *watch) giveUp(why error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended || !w.waiting && w.ctx.Err() == nil {
		return
	}
	w.ended, w.why = true, why
	w.s.link.Kill()
}

// waits says that a frame is waited for, pause that one came, moved that the other
// side took a piece of input.
func (w *watch) waits() { w.set(true) }
func (w *watch) pause() { w.set(false) }

func (w *watch) moved() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.idle != nil && w.waiting && !w.ended {
		w.idle.Reset(w.patience)
	}
}

func (w *watch) set(waiting bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting = waiting
	switch {
	case w.idle == nil || w.ended:
	case waiting:
		w.idle.Reset(w.patience)
	default:
		w.idle.Stop()
	}
}

// stop ends the watch: the answer is there, or the link is broken, or even both.
func (w *watch) stop() {
	w.told()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
	if w.s.broken == nil {
		w.s.broken = w.why
	}
	for _, t := range []*time.Timer{w.idle, w.last} {
		if t != nil {
			t.Stop()
		}
	}
}

// lost is the error of a watch whose link has failed with err.
func (w *watch) lost(err error) error {
	w.stop()
	err = w.s.lost(err)
	if w.s.broken != nil && w.ctx.Err() != nil {
		return fmt.Errorf("%w: %w", context.Cause(w.ctx), err)
	}
	return err
}
