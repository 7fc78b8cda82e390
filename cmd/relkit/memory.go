package main

import "runtime/debug"

// spareMemory has the garbage collector begin when the heap has grown by two
// fifths, not when it has doubled: for commands that hold a little of each of a million
// files, on a machine that has other work. GOGC stands where it is set.
func (e *env) spareMemory() {
	if e.Getenv("GOGC") == "" {
		debug.SetGCPercent(40)
	}
}
