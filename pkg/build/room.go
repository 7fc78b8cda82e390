package build

import (
	"bytes"
	"context"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/relkit/relkit/pkg/failure"
)

const (
	// fullBytes is how little room makes a file system full.
	fullBytes = 1 << 20
	// littleRoom is below what one is believed who says that there is none, or a
	// twentieth of the file system: compilers remove what they could not write whole.
	littleRoom = 1 << 30
)

// noRoom are the words of programs for which a file system is full, in the locale
// that steps run in.
var noRoom = [][]byte{[]byte(unix.ENOSPC.Error()), []byte("No space left on device")}

func saysNoRoom(text []byte) bool {
	for _, words := range noRoom {
		if bytes.Contains(text, words) {
			return true
		}
	}
	return false
}

// outOfRoom answers an error where what has failed did so as the worker's file
// system is full, or may have: none of that is the code's fault. The builder's trees
// there, TMPDIR among them, are removed, so that others find room; said tells
// whether a program has complained of it. Where the worker cannot be asked, nil.
func (j *job) outOfRoom(ctx context.Context, said bool) error {
	s, err := j.on.Space(ctx, j.work)
	if err != nil || s.Free >= fullBytes && (!said || s.Free > max(littleRoom, s.Size/20)) {
		return nil
	}
	done := "the builder's trees there were removed"
	if err := j.on.Remove(ctx, j.work); err != nil {
		done = fmt.Sprintf("removing the builder's trees there: %v", err)
	}
	err = fmt.Errorf("worker %q: the file system of %q is full, with %d of %d MiB free; %s", j.cell.Worker.Name, j.on.Dir, s.Free>>20, s.Size>>20, done)
	return failure.WithHint(err, "df -h %s; df -i %[1]s  # on the worker", failure.Word(j.on.Dir))
}
