package relkittest

import "runtime"

// Heap is what is reachable on the heap, in bytes: what a program holds, whatever
// the garbage collector leaves lying about.
func Heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// HeapGrowth tells how much more is held at the later of two points of a run than
// at the earlier: Count is called once an entry.
type HeapGrowth struct {
	// From and To are the counts of calls between which the heap is compared.
	From, To int
	calls    int
	start    int64
	// Bytes is the difference; it stands when To calls were made.
	Bytes int64
	Done  bool
}

// Count is one call.
func (h *HeapGrowth) Count() {
	h.calls++
	switch h.calls {
	case h.From:
		h.start = Heap()
	case h.To:
		h.Bytes, h.Done = Heap()-h.start, true
	}
}
