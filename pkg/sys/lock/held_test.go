package lock

import (
	"path/filepath"
	"testing"
)

// TestHeld: seen while it is held, by whoever asks, and not before or after.
func TestHeld(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	want := func(held bool) {
		t.Helper()
		if got, err := Held(path); err != nil || got != held {
			t.Errorf("Held = %v, %v, want %v", got, err, held)
		}
	}
	want(false) // no file
	l, err := Try(path)
	if err != nil {
		t.Fatal(err)
	}
	want(true)
	want(true)
	if err := l.Release(); err != nil {
		t.Fatal(err)
	}
	want(false)
	if l, err = Try(path); err != nil {
		t.Fatalf("asking has taken the lock: %v", err)
	}
	l.Release()
}
