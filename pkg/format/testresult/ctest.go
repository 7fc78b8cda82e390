package testresult

import (
	"bytes"
	"compress/zlib"
	"encoding/base64"
	"encoding/xml"
	"io"
	"strings"
)

// ReadCTest reads what ctest(1) writes: the Test.xml of ctest -T Test, or the
// JUnit XML of ctest --output-junit. In either a test that could not be run -
// its program is missing, a fixture that it needs failed - is an error, as ctest
// itself has it; a plain JUnit reader takes it for one that was skipped.
func ReadCTest(r io.Reader) ([]Case, error) {
	c := &ctest{}
	if err := readXML("ctest XML", r, c, "Site", "testsuite", "testsuites"); err != nil {
		return nil, err
	}
	if c.junit != nil {
		return c.junit.cases, nil
	}
	return c.cases, nil
}

// leftOut tells from ctest's completion status whether a test that did not run
// was meant not to (cmCTestRunTest.cxx of CMake has the words).
func leftOut(completion string) bool {
	return completion == "Disabled" || strings.HasPrefix(completion, "SKIP_")
}

// ctest is the reader of Test.xml.
type ctest struct {
	keeper
	junit *junit // reads the file where it is JUnit XML

	test Case
	in   bool   // within a Test of results, as opposed to one of the list
	name string // of the measurement around
	// values are those of the measurements that matter, by name; "" is the output.
	values map[string]*clip
	// base64 and zlib tell how the output is packed.
	base64, zlib bool
}

func (c *ctest) start(e *elements, name string, t xml.StartElement) error {
	if len(e.stack) == 1 && name != "Site" {
		c.junit = &junit{ofCTest: true}
	}
	if c.junit != nil {
		return c.junit.start(e, name, t)
	}
	switch name {
	case "Test":
		if status := attr(t, "Status"); status != "" {
			c.in, c.name, c.base64, c.zlib = true, "", false, false
			c.values = map[string]*clip{}
			c.test = Case{Status: Passed}
			switch status {
			case "failed":
				c.test.Status = Failed
			case "notrun":
				c.test.Status = Skipped
			}
		}
	case "Measurement", "NamedMeasurement":
		c.name = cut(attr(t, "name"), MaxName)
	case "Value":
		if c.name == "" {
			c.base64, c.zlib = attr(t, "encoding") == "base64", attr(t, "compression") == "gzip"
		}
	}
	return nil
}

func (c *ctest) text(e *elements, data []byte) {
	switch {
	case c.junit != nil:
		c.junit.text(e, data)
	case !c.in:
	case e.top() == "Name":
		c.test.Name = cut(c.test.Name+string(data), MaxName)
	case e.top() == "Value":
		switch c.name {
		case "", "Execution Time", "Exit Code", "Exit Value", "Completion Status":
			if c.values[c.name] == nil {
				c.values[c.name] = &clip{}
			}
			if c.name == "" && c.base64 {
				data = c.unpack(data)
			}
			c.values[c.name].write(data)
		}
	}
}

// unpack undoes what ctest packs long output with; it says gzip and means zlib.
// Of what does not unpack, such as the part that was too long to be kept, there
// is nothing.
func (c *ctest) unpack(data []byte) []byte {
	in := base64.NewDecoder(base64.StdEncoding, bytes.NewReader(data))
	if c.zlib {
		z, err := zlib.NewReader(in)
		if err != nil {
			return nil
		}
		in = z
	}
	// Deflate packs a thousand to one: the bound is on what comes out.
	out, _ := io.ReadAll(io.LimitReader(in, maxText)) // what came before the error is of use
	return out
}

func (c *ctest) end(e *elements, name string) error {
	switch {
	case c.junit != nil:
		return c.junit.end(e, name)
	case name == "NamedMeasurement" || name == "Measurement":
		c.name = ""
	case name == "Test" && c.in:
		c.in = false
		return c.close()
	}
	return nil
}

func (c *ctest) value(name string) string {
	if v := c.values[name]; v != nil {
		return v.String()
	}
	return ""
}

func (c *ctest) close() error {
	t := c.test
	t.Duration = seconds(c.value("Execution Time"))
	completion := cut(strings.TrimSpace(c.value("Completion Status")), MaxName)
	switch code := cut(strings.TrimSpace(c.value("Exit Code")), MaxName); {
	case t.Status == Skipped:
		t.Message = completion
		if !leftOut(completion) {
			t.Status = Errored
		}
	case t.Status == Failed && code != "" && code != "Failed": // Timeout, SEGFAULT, ...
		t.Status, t.Message = Errored, code
	case t.Status == Failed:
		t.Message = "exit status " + cut(c.value("Exit Value"), MaxName)
	}
	if t.Status.Bad() {
		t.Detail = strings.TrimSpace(c.value(""))
	}
	return c.add(t)
}
