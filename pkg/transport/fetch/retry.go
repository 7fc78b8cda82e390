package fetch

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// Retry calls do until it succeeds, fails for good, or has failed Retries times
// more. Each call has Stall as its time.
func Retry(ctx context.Context, opt Options, do func(ctx context.Context) error) error {
	opt = opt.withDefaults()
	pause := opt.Pause
	for failed := 0; ; failed++ {
		err := within(ctx, opt.Stall, do)
		if err == nil {
			return nil
		}
		if context.Cause(ctx) != nil {
			return context.Cause(ctx)
		}
		if final(err) || failed >= opt.Retries {
			return err
		}
		if err := opt.wait(ctx, pause, err); err != nil {
			return err
		}
		pause = min(2*pause, maxPause)
	}
}

func within(ctx context.Context, limit time.Duration, do func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, &RetryError{Err: fmt.Errorf("no answer within %s", limit)})
	defer cancel()
	if err := do(ctx); err != nil {
		return causeOr(ctx, err)
	}
	return nil
}

// wait pauses after a failure: some of pause at random, so that the machines of
// a fleet do not come back together, and as long as the server asks for.
func (o Options) wait(ctx context.Context, pause time.Duration, failed error) error {
	d := pause/2 + rand.N(pause/2+1)
	var retry *RetryError
	if errors.As(failed, &retry) {
		d = min(max(d, retry.After), maxPause)
	}
	o.Log.Info("trying again", "error", failed, "wait_seconds", d.Seconds())
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
