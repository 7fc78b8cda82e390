package manifest

// Firsts remembers the first name of each hard-link group of a tree, packed: a
// name takes its bytes and twelve more, where a map takes a hundred.
type Firsts struct {
	chunks [][]byte
	at     []place // of group i+1; no length: of none yet
}

// place is where in the chunks a name is.
type place struct{ chunk, offset, length uint32 }

const firstsChunk = 1 << 17

// Of is the name that was set for the group of an ordinal, "" for none.
func (f *Firsts) Of(link int) string {
	if !f.Has(link) {
		return ""
	}
	p := f.at[link-1]
	return string(f.chunks[p.chunk][p.offset:][:p.length])
}

// Has tells whether a name was set for the group of an ordinal.
func (f *Firsts) Has(link int) bool {
	return link > 0 && link <= len(f.at) && f.at[link-1].length > 0
}

// Set sets the first name of a group, by its ordinal: from 1, without large gaps.
func (f *Firsts) Set(link int, path string) {
	for len(f.at) < link {
		f.at = append(f.at, place{})
	}
	last := len(f.chunks) - 1
	if last < 0 || len(f.chunks[last])+len(path) > firstsChunk {
		f.chunks = append(f.chunks, make([]byte, 0, max(firstsChunk, len(path))))
		last++
	}
	f.at[link-1] = place{uint32(last), uint32(len(f.chunks[last])), uint32(len(path))}
	f.chunks[last] = append(f.chunks[last], path...)
}
