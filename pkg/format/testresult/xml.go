package testresult

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// MaxFile is how much of one result file of XML is read, in bytes.
const MaxFile = 256 << 20

// maxDepth bounds how deep elements stand in each other.
const maxDepth = 64

// elements are the names of the elements around the current place of an XML
// document, the outermost first.
type elements struct{ stack []string }

// handler is told of what readXML finds; names come without their name space.
// start is called with the element on the stack, end when it is off again.
type handler interface {
	start(e *elements, name string, t xml.StartElement) error
	end(e *elements, name string) error
	text(e *elements, data []byte)
}

// readXML reads a document of any declared charset whose root is one of roots.
// Overlong text is dropped while it is read: what is held at a time is bounded,
// whatever the size of the document.
func readXML(what string, r io.Reader, h handler, roots ...string) error {
	limited := &io.LimitedReader{R: r, N: MaxFile + 1}
	clean, err := cleanXML(limited)
	if err != nil {
		return fmt.Errorf("reading %s: %w", what, err)
	}
	d := xml.NewDecoder(clean)
	// cleanXML has made it UTF-8, whatever the declaration says.
	d.CharsetReader = func(_ string, in io.Reader) (io.Reader, error) { return in, nil }
	err = (&elements{}).read(d, h, roots)
	if err == nil && limited.N <= 0 {
		err = fmt.Errorf("more than %d bytes", MaxFile)
	}
	if err != nil {
		line, _ := d.InputPos()
		return fmt.Errorf("reading %s: line %d: %w", what, line, err)
	}
	return nil
}

func (e *elements) read(d *xml.Decoder, h handler, roots []string) error {
	root := false
	for {
		tok, err := d.RawToken()
		if errors.Is(err, io.EOF) {
			switch {
			case len(e.stack) > 0:
				return fmt.Errorf("the file ends within element %q", e.top())
			case !root:
				return fmt.Errorf("no %s element", strings.Join(roots, " or "))
			}
			return nil
		}
		if err != nil {
			return plainSyntax(err)
		}
		switch t := tok.(type) {
		case xml.StartElement:
			name := t.Name.Local
			switch {
			case len(e.stack) == maxDepth:
				return fmt.Errorf("elements stand more than %d deep", maxDepth)
			case len(e.stack) == 0 && root:
				return fmt.Errorf("second root element %q", name)
			case len(e.stack) == 0 && !slices.Contains(roots, name):
				return fmt.Errorf("root element %q, want %s", name, strings.Join(roots, " or "))
			}
			root = true
			e.stack = append(e.stack, name)
			err = h.start(e, name, t)
		case xml.EndElement:
			if name := t.Name.Local; e.top() != name || len(e.stack) == 0 {
				return fmt.Errorf("unexpected end of element %q", name)
			}
			e.stack = e.stack[:len(e.stack)-1]
			err = h.end(e, t.Name.Local)
		case xml.CharData:
			h.text(e, t)
		}
		if err != nil {
			return err
		}
	}
}

// top is the innermost element, "" outside of all.
func (e *elements) top() string {
	if len(e.stack) == 0 {
		return ""
	}
	return e.stack[len(e.stack)-1]
}

// plainSyntax drops the line number that the caller adds.
func plainSyntax(err error) error {
	var se *xml.SyntaxError
	if errors.As(err, &se) {
		return errors.New(se.Msg)
	}
	return err
}

func attr(t xml.StartElement, name string) string {
	for _, a := range t.Attr {
		if a.Name.Local == name && a.Name.Space == "" {
			return a.Value
		}
	}
	return ""
}

// seconds reads a decimal number of seconds; surefire groups its digits
// ("1,234.5"). What is no number is 0.
func seconds(s string) time.Duration {
	f, err := strconv.ParseFloat(strings.ReplaceAll(strings.TrimSpace(s), ",", ""), 64)
	if err != nil || math.IsNaN(f) || f < 0 {
		return 0
	}
	return time.Duration(min(f, 1e9) * float64(time.Second))
}
