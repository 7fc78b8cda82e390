package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"

	"github.com/relkit/relkit/pkg/failure"
)

// print is the one print of a command: with --json the document, elsewhere the
// lines. The document is a struct with a `json:"schema"` field.
func (e *env) print(document any, lines ...string) error {
	if e.JSON {
		return e.printJSON(document, "  ")
	}
	for _, l := range lines {
		if err := e.line(l); err != nil {
			return err
		}
	}
	return nil
}

// printJSONLine writes one document of JSON Lines.
func (e *env) printJSONLine(document any) error { return e.printJSON(document, "") }

// line writes one line of data.
func (e *env) line(s string) error {
	_, err := io.WriteString(e.Stdout, s+"\n")
	return writing(err)
}

var schemaPattern = regexp.MustCompile(`^relkit\.[a-z][a-z0-9-]*/v[1-9][0-9]*$`)

func (e *env) printJSON(document any, indent string) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", indent)
	if err := enc.Encode(document); err != nil {
		return fmt.Errorf("encoding the result: %w", err)
	}
	var head struct {
		Schema string `json:"schema"`
	}
	if err := json.Unmarshal(b.Bytes(), &head); err != nil || !schemaPattern.MatchString(head.Schema) {
		return fmt.Errorf("encoding the result: %T has no schema field like \"relkit.noun/v1\", got %q", document, head.Schema)
	}
	_, err := e.Stdout.Write(b.Bytes())
	return writing(err)
}

func writing(err error) error {
	if err != nil {
		return fmt.Errorf("writing standard output: %w", err)
	}
	return nil
}

// open opens a FILE operand for reading; "-" is standard input, which a run can
// read only once.
func (e *env) open(name string) (io.ReadCloser, error) {
	if name != "-" {
		f, err := os.Open(name)
		return f, failure.As(failure.Usage, err)
	}
	if e.stdinTaken {
		return nil, failure.Errorf(failure.Usage, "only one operand may be \"-\"")
	}
	e.stdinTaken = true
	return io.NopCloser(e.Stdin), nil
}

// columns lays rows out in columns two blanks apart, for lists that people read
// and scripts cut; the last column is not padded.
func columns(rows [][]string) []string {
	var width []int
	for _, r := range rows {
		for i, s := range r {
			if i == len(width) {
				width = append(width, 0)
			}
			width[i] = max(width[i], len([]rune(s)))
		}
	}
	lines := make([]string, len(rows))
	for n, r := range rows {
		var b strings.Builder
		for i, s := range r {
			b.WriteString(s)
			if i < len(r)-1 {
				b.WriteString(strings.Repeat(" ", width[i]-len([]rune(s))+2))
			}
		}
		lines[n] = b.String()
	}
	return lines
}
