// Package failure says what kind of failure an error is, so that one switch in
// cmd/relkit turns it into the exit status of the command-line contract.
//
// A package that merely fails returns a plain error (status 1). It wraps one of
// these only where the status says more than "failed".
package failure

import (
	"errors"
	"fmt"
)

// Kind is a class of failure; its number is the exit status.
type Kind int

// The kinds, with the state each leaves a target in.
const (
	Failed    Kind = 1 // I/O, network, lost worker, internal; target untouched unless stated
	Usage     Kind = 2 // usage or configuration; nothing was tried
	No        Kind = 3 // it ran and the answer is no
	Refused   Kind = 4 // a precondition does not hold; target untouched
	Untrusted Kind = 5 // signature, sign-off, digest, truncation, expiry; target untouched
	Busy      Kind = 6 // another relkit holds the lock; target untouched
	Restored  Kind = 7 // failed midway, target restored
	Mixed     Kind = 8 // failed midway, target NOT restored
)

// Error is an error with its kind and, where there is one, a command that helps.
type Error struct {
	Kind Kind
	Err  error
	// Hint is a line for a person, best a command that can be pasted; "" for none.
	Hint string
	// Changed says that the target was changed before the failure, and stays so.
	Changed bool
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// Errorf makes an error of a kind; it wraps as fmt.Errorf does.
func Errorf(k Kind, format string, args ...any) error {
	return &Error{Kind: k, Err: fmt.Errorf(format, args...)}
}

// As gives err a kind, keeping its text; nil stays nil.
func As(k Kind, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Kind: k, Err: err, Hint: Hint(err)}
}

// WithHint adds a hint to err, keeping its kind; nil stays nil.
func WithHint(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return &Error{Kind: Of(err), Err: err, Hint: fmt.Sprintf(format, args...)}
}

// Changed marks err as one that came after the target had been changed for
// good: the first of several patches stands, say. nil stays nil.
func Changed(err error) error {
	if err == nil {
		return nil
	}
	return &Error{Kind: Of(err), Err: err, Changed: true}
}

// IsChanged tells whether err was marked by Changed.
func IsChanged(err error) bool {
	for err != nil {
		var e *Error
		if !errors.As(err, &e) {
			return false
		}
		if e.Changed {
			return true
		}
		err = e.Err
	}
	return false
}

// Of is the kind of err: the outermost one said, Failed where none is.
func Of(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return Failed
}

// Hint is the hint that goes with err; "" for none.
func Hint(err error) string {
	for err != nil {
		var e *Error
		if !errors.As(err, &e) {
			return ""
		}
		if e.Hint != "" {
			return e.Hint
		}
		err = e.Err
	}
	return ""
}
