package build

import (
	"fmt"
)

// downError is a source or a worker that cannot be used, whoever wants it.
type downError struct {
	what, name string
	err        error
}

func (e *downError) Error() string { return fmt.Sprintf("%s %q: %v", e.what, e.name, e.err) }
func (e *downError) Unwrap() error { return e.err }

// key tells one from another.
func (e *downError) key() string { return e.what + " " + e.name }
