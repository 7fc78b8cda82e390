// Package bootenv reads and writes what boot loaders keep between boots: GRUB's
// environment block, U-Boot's environment, and the names and files of boot loader
// entries with their counters.
package bootenv

import (
	"bytes"
	"fmt"
	"strings"
)

// GRUBSize is the size of GRUB's environment block, in bytes; SectorSize is what
// a disk writes as a whole.
const (
	GRUBSize   = 1024
	SectorSize = 512
)

const (
	grubHead = "# GRUB Environment Block\n"
	// fillHead begins the comment that fills the first sector.
	fillHead = "# relkit owns these 512 bytes "
)

// GRUB is an environment block (grub-editenv(1), include/grub/lib/envblk.h):
// GRUBSize bytes that begin with a signature, hold NAME=VALUE lines and comments,
// a backslash before each backslash and newline of a value, and end in "#".
type GRUB struct {
	lines []string // without their newlines, values as they are escaped
}

// NewGRUB is an empty block.
func NewGRUB() *GRUB { return &GRUB{} }

// ParseGRUB reads a block. Encode gives the same bytes back.
func ParseGRUB(b []byte) (*GRUB, error) {
	if len(b) != GRUBSize {
		return nil, fmt.Errorf("reading grubenv: got %d bytes, want %d", len(b), GRUBSize)
	}
	if !bytes.HasPrefix(b, []byte(grubHead)) {
		return nil, fmt.Errorf("reading grubenv: it does not begin with %q", strings.TrimSpace(grubHead))
	}
	body := bytes.TrimRight(b[len(grubHead):], "#")
	g := &GRUB{}
	for off := 0; off < len(body); {
		end := lineEnd(body[off:])
		if end < 0 {
			return nil, fmt.Errorf("reading grubenv: offset %d: a line without end", len(grubHead)+off)
		}
		line := string(body[off : off+end])
		if !strings.HasPrefix(line, "#") && strings.Index(line, "=") < 1 {
			return nil, fmt.Errorf("reading grubenv: offset %d: got %q, want NAME=VALUE", len(grubHead)+off, line)
		}
		g.lines = append(g.lines, line)
		off += end + 1
	}
	return g, nil
}

// lineEnd is where the line at the beginning of b ends: at a newline that is not escaped.
func lineEnd(b []byte) int {
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '\\':
			if b[0] != '#' {
				i++
			}
		case '\n':
			return i
		}
	}
	return -1
}

// Get is the value of a variable.
func (g *GRUB) Get(name string) (string, bool) {
	for _, line := range g.lines {
		if value, ok := strings.CutPrefix(line, name+"="); ok && name != "" && name[0] != '#' {
			return unescape(value), true
		}
	}
	return "", false
}

func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// escaped is what GRUB would write.
var escaped = strings.NewReplacer(`\`, `\\`, "\n", "\\\n")

// Var is one variable.
type Var struct{ Name, Value string }

// Owned tells whether the block begins with just these variables, in this order,
// and a comment that fills the first sector: see Own.
func (g *GRUB) Owned(names ...string) bool {
	if len(g.lines) <= len(names) {
		return false
	}
	n := len(grubHead)
	for i, name := range names {
		if !strings.HasPrefix(g.lines[i], name+"=") {
			return false
		}
		n += len(g.lines[i]) + 1
	}
	fill := g.lines[len(names)]
	return strings.HasPrefix(fill, fillHead) && n+len(fill)+1 == SectorSize
}

// Own makes vars the first in the block and fills the rest of the first sector
// with a comment; all other variables come behind, in the second. A later Own of
// the same variables changes the first sector alone, as does GRUB's save_env
// where a value keeps its length: so a write of the block is old or new even when
// the power fails during it, for a disk writes a sector or does not.
func (g *GRUB) Own(vars ...Var) error {
	var first, rest []string
	n := len(grubHead)
	for _, v := range vars {
		if v.Name == "" || strings.ContainsAny(v.Name, "=#\n\\") {
			return fmt.Errorf("writing grubenv: %q is no name of a variable", v.Name)
		}
		line := v.Name + "=" + escaped.Replace(v.Value)
		first = append(first, line)
		n += len(line) + 1
	}
	fill := SectorSize - n - len(fillHead) - 1
	if fill < 0 {
		return fmt.Errorf("writing grubenv: the variables need %d bytes more than a sector has", -fill)
	}
	first = append(first, fillHead+strings.Repeat("#", fill))
next:
	for _, line := range g.lines {
		if strings.HasPrefix(line, fillHead) {
			continue
		}
		for _, v := range vars {
			if strings.HasPrefix(line, v.Name+"=") {
				continue next
			}
		}
		rest = append(rest, line)
	}
	g.lines = append(first, rest...)
	return nil
}

// Encode is the block.
func (g *GRUB) Encode() ([]byte, error) {
	b := make([]byte, 0, GRUBSize)
	b = append(b, grubHead...)
	for _, line := range g.lines {
		b = append(b, line...)
		b = append(b, '\n')
	}
	if len(b) > GRUBSize {
		return nil, fmt.Errorf("writing grubenv: its variables need %d bytes, and it has %d", len(b), GRUBSize)
	}
	return append(b, bytes.Repeat([]byte("#"), GRUBSize-len(b))...), nil
}
