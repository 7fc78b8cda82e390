package fetch

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"github.com/relkit/relkit/pkg/failure"
)

// RetryError is a failure that may pass.
type RetryError struct {
	Err error
	// After is how long the source asks to be left alone; 0 where it does not say.
	After time.Duration
}

func (e *RetryError) Error() string { return e.Err.Error() }
func (e *RetryError) Unwrap() error { return e.Err }

// finalError is a failure that trying again does not mend.
type finalError struct{ error }

func (e finalError) Unwrap() error { return e.error }

// Final marks an error as one that trying again does not mend; nil stays nil.
func Final(err error) error {
	if err == nil {
		return nil
	}
	return finalError{err}
}

func final(err error) bool {
	var f finalError
	var retry *RetryError
	if errors.As(err, &retry) {
		return false
	}
	return errors.As(err, &f) || errors.Is(err, fs.ErrNotExist) || failure.Of(err) != failure.Failed
}

// causeOr prefers why a context was cancelled to what came of that.
func causeOr(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}
