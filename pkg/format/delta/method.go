package delta

// How a segment is packed. The numbers stand in patches: they are never reused.
const (
	Raw  = 0 // the bytes themselves
	Zstd = 1 // one zstd frame
	// Block is one zstd frame of instructions: literal bytes, and ranges to
	// copy from files that are there already.
	Block = 2
)

// Known tells whether Decode reads a method.
func Known(method int) bool { return method >= Raw && method <= Block }
