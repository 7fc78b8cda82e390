package bootenv

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"
	"strconv"
	"strings"
)

// UBoot is U-Boot's environment as it lies in flash or a file (env/common.c,
// tools/env/fw_env.c): the CRC-32 of the data in the processor's byte order,
// little-endian here; in a redundant environment one byte that counts writes;
// then NAME=VALUE, each ended by a zero byte, and one more zero byte.
type UBoot struct {
	// Flag is the count of a redundant copy; it wraps.
	Flag byte
	vars []Var
}

// maxUBoot bounds an environment, in bytes: the largest boards have 256 KiB.
const maxUBoot = 1 << 20

// ParseUBoot reads one copy, of all the bytes that it has room for.
func ParseUBoot(b []byte, redundant bool) (*UBoot, error) {
	head := uBootHead(redundant)
	if len(b) < head+2 || len(b) > maxUBoot {
		return nil, fmt.Errorf("reading U-Boot environment: it has %d bytes", len(b))
	}
	if got, want := crc32.ChecksumIEEE(b[head:]), binary.LittleEndian.Uint32(b); got != want {
		return nil, fmt.Errorf("reading U-Boot environment: got CRC %08x, want %08x", got, want)
	}
	e := &UBoot{}
	if redundant {
		e.Flag = b[4]
	}
	for data := b[head:]; len(data) > 0 && data[0] != 0; {
		end := bytes.IndexByte(data, 0)
		if end < 0 {
			return nil, fmt.Errorf("reading U-Boot environment: it does not end")
		}
		name, value, ok := strings.Cut(string(data[:end]), "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("reading U-Boot environment: offset %d: got %q, want NAME=VALUE", len(b)-len(data), data[:end])
		}
		e.vars = append(e.vars, Var{name, value})
		data = data[end+1:]
	}
	return e, nil
}

func uBootHead(redundant bool) int {
	if redundant {
		return 5
	}
	return 4
}

// Get is the value of a variable.
func (e *UBoot) Get(name string) (string, bool) {
	for _, v := range e.vars {
		if v.Name == name {
			return v.Value, true
		}
	}
	return "", false
}

// Set gives a variable a value; "" takes it away, as setenv does.
func (e *UBoot) Set(name, value string) {
	i := slices.IndexFunc(e.vars, func(v Var) bool { return v.Name == name })
	switch {
	case i < 0 && value != "":
		e.vars = append(e.vars, Var{name, value})
	case i >= 0 && value == "":
		e.vars = slices.Delete(e.vars, i, i+1)
	case i >= 0:
		e.vars[i].Value = value
	}
}

// Encode is a copy of size bytes.
func (e *UBoot) Encode(size int, redundant bool) ([]byte, error) {
	head := uBootHead(redundant)
	if size < head+2 || size > maxUBoot {
		return nil, fmt.Errorf("writing U-Boot environment: it has %d bytes", size)
	}
	b := make([]byte, head, size)
	if redundant {
		b[4] = e.Flag
	}
	for _, v := range e.vars {
		if v.Name == "" || strings.ContainsAny(v.Name, "=\x00") || strings.Contains(v.Value, "\x00") {
			return nil, fmt.Errorf("writing U-Boot environment: %q=%q cannot be written", v.Name, v.Value)
		}
		b = append(b, v.Name+"="+v.Value+"\x00"...)
	}
	if len(b) >= size {
		return nil, fmt.Errorf("writing U-Boot environment: its variables need %d bytes, and it has %d", len(b)+1, size)
	}
	b = b[:size]
	binary.LittleEndian.PutUint32(b, crc32.ChecksumIEEE(b[head:]))
	return b, nil
}

// NewerUBoot tells which of the flags of two good copies counts, as U-Boot
// decides: the higher one, but 0 after 255. It is -1 for a tie.
func NewerUBoot(a, b byte) int {
	switch {
	case a == b:
		return -1
	case a == 255 && b == 0:
		return 1
	case b == 255 && a == 0, a > b:
		return 0
	}
	return 1
}

// UBootPlace is a line of fw_env.config(5): where a copy of the environment lies.
type UBootPlace struct {
	File   string // a device or file
	Offset int64
	Size   int
}

// ParseUBootConfig reads fw_env.config: one place, or two for a redundant
// environment; what follows the size (sectors of raw flash) is not kept.
func ParseUBootConfig(b []byte) ([]UBootPlace, error) {
	var places []UBootPlace
	n := 0
	for line := range strings.Lines(string(b)) {
		n++
		fields := strings.Fields(strings.TrimSpace(line))
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		if len(fields) < 3 {
			return nil, fmt.Errorf("reading fw_env.config: line %d: got %q, want FILE OFFSET SIZE", n, strings.TrimSpace(line))
		}
		off, err := strconv.ParseInt(fields[1], 0, 64)
		if err != nil || off < 0 {
			return nil, fmt.Errorf("reading fw_env.config: line %d: bad offset %q", n, fields[1])
		}
		size, err := strconv.ParseInt(fields[2], 0, 32)
		if err != nil || size < 6 || size > maxUBoot {
			return nil, fmt.Errorf("reading fw_env.config: line %d: bad size %q", n, fields[2])
		}
		places = append(places, UBootPlace{fields[0], off, int(size)})
	}
	if len(places) != 1 && len(places) != 2 {
		return nil, fmt.Errorf("reading fw_env.config: got %d places, want one or two", len(places))
	}
	return places, nil
}
