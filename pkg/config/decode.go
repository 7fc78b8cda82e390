// Package config reads relkit's TOML files strictly: a key that nobody reads is
// a mistake that would stay silent, so it is an error, with its place.
package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"

	"github.com/relkit/relkit/pkg/failure"
)

// maxSize bounds a configuration file, in bytes: ten times the largest sensible one.
const maxSize = 1 << 20

// Decode reads data, the content of the file called name, into v, a pointer to
// a struct. Every key must be the `toml:"…"` tag of a field, letter for letter,
// and hold a value of the field's type; a time.Duration is text ("10m"). Errors
// are of kind failure.Usage and begin with name:line:column, one line a mistake:
//
//	relkit.toml:12:3: unknown key "rum" in builder.step, did you mean "run"?
//	relkit.toml:15:1: builder.name: got an integer, want a string
func Decode(name string, data []byte, v any) error {
	if len(data) > maxSize {
		return failure.Errorf(failure.Usage, "%s: got %d bytes, want at most %d", name, len(data), maxSize)
	}
	var tree map[string]any
	if err := toml.Unmarshal(data, &tree); err != nil {
		return syntaxError(name, err)
	}
	checker := checker{places: findPlaces(data)}
	checker.check(tree, typeOf(v), place{}, "")
	if len(checker.mistakes) > 0 {
		return checker.error(name, data)
	}
	if err := toml.Unmarshal(data, v); err != nil {
		return syntaxError(name, err)
	}
	return nil
}

// syntaxError gives an error of the TOML parser its place.
func syntaxError(name string, err error) error {
	var pe toml.ParseError
	if errors.As(err, &pe) {
		line, column := max(pe.Position.Line, 1), max(pe.Position.Col, 1)
		return failure.Errorf(failure.Usage, "%s:%d:%d: %s", name, line, column, strings.TrimSuffix(lowerFirst(pe.Message), "."))
	}
	return failure.Errorf(failure.Usage, "%s: %s", name, strings.TrimPrefix(err.Error(), "toml: "))
}

// mistake is one thing wrong with a file that is valid TOML.
type mistake struct {
	offset int
	text   string
}

func (c *checker) error(name string, data []byte) error {
	slices.SortStableFunc(c.mistakes, func(a, b mistake) int { return a.offset - b.offset })
	const most = 10
	var lines []string
	for i, m := range c.mistakes {
		if i == most {
			lines = append(lines, fmt.Sprintf("%s: %d more", name, len(c.mistakes)-most))
			break
		}
		line, column := lineColumn(data, m.offset)
		lines = append(lines, fmt.Sprintf("%s:%d:%d: %s", name, line, column, m.text))
	}
	return failure.Errorf(failure.Usage, "%s", strings.Join(lines, "\n"))
}

// lineColumn counts from 1; a column is a byte, as compilers count it.
func lineColumn(data []byte, offset int) (line, column int) {
	before := string(data[:min(offset, len(data))])
	return 1 + strings.Count(before, "\n"), offset - strings.LastIndexByte(before, '\n')
}

func lowerFirst(s string) string {
	if len(s) > 1 && s[0] >= 'A' && s[0] <= 'Z' && s[1] >= 'a' && s[1] <= 'z' {
		return strings.ToLower(s[:1]) + s[1:]
	}
	return s
}
