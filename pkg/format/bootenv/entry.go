package bootenv

import (
	"fmt"
	"strconv"
	"strings"
)

// EntryName is the file name of a boot loader entry with its boot counter, as the
// Boot Loader Specification and systemd's Automatic Boot Assessment have it:
// NAME.conf is not counted, NAME+LEFT.conf and NAME+LEFT-DONE.conf are. The boot
// loader counts by renaming the file; with none left the entry is bad.
type EntryName struct {
	Name    string
	Counted bool
	Left    int
	Done    int
}

// maxCount bounds a counter; systemd-boot's has no more digits than an int.
const maxCount = 1 << 30

// ParseEntryName reads a file name. A "+" that no counter follows belongs to the name.
func ParseEntryName(file string) (EntryName, error) {
	base, ok := strings.CutSuffix(file, ".conf")
	if !ok || base == "" || strings.ContainsAny(base, "/\x00") {
		return EntryName{}, fmt.Errorf("reading boot entry: %q is no name of one", file)
	}
	i := strings.LastIndexByte(base, '+')
	if i < 1 {
		return EntryName{Name: base}, nil
	}
	left, done, two := strings.Cut(base[i+1:], "-")
	e := EntryName{Name: base[:i], Counted: true}
	var good bool
	if e.Left, good = count(left); good && two {
		e.Done, good = count(done)
	}
	if !good || two && e.Done == 0 {
		return EntryName{Name: base}, nil
	}
	return e, nil
}

func count(s string) (int, bool) {
	n, err := strconv.Atoi(s)
	return n, err == nil && n >= 0 && n <= maxCount && strconv.Itoa(n) == s
}

// File is the file name.
func (e EntryName) File() string {
	switch {
	case !e.Counted:
		return e.Name + ".conf"
	case e.Done == 0:
		return fmt.Sprintf("%s+%d.conf", e.Name, e.Left)
	}
	return fmt.Sprintf("%s+%d-%d.conf", e.Name, e.Left, e.Done)
}

// Settings are the lines of a boot loader entry or of loader.conf: a key, blanks
// and a value each; comments and empty lines are not kept.
type Settings []Var

// ParseSettings reads them.
func ParseSettings(b []byte) (Settings, error) {
	var s Settings
	n := 0
	for line := range strings.Lines(string(b)) {
		n++
		line = strings.Trim(line, " \t\r\n")
		if line == "" || line[0] == '#' {
			continue
		}
		end := strings.IndexAny(line, " \t")
		if strings.ContainsAny(line, "\x00") {
			return nil, fmt.Errorf("reading boot entry: line %d: a zero byte", n)
		}
		if end < 0 {
			s = append(s, Var{Name: line})
			continue
		}
		s = append(s, Var{line[:end], strings.Trim(line[end:], " \t")})
	}
	return s, nil
}

// Get is the first value of a key.
func (s Settings) Get(key string) (string, bool) {
	for _, v := range s {
		if v.Name == key {
			return v.Value, true
		}
	}
	return "", false
}

// Encode is the text.
func (s Settings) Encode() []byte {
	var b strings.Builder
	for _, v := range s {
		b.WriteString(strings.TrimRight(v.Name+" "+v.Value, " ") + "\n")
	}
	return []byte(b.String())
}
