package patch

import (
	"bytes"
	"strings"
	"testing"

	"github.com/relkit/relkit/pkg/failure"
)

// TestForeign: what is no patch is told by what it looks like, and as cut only
// what begins as a patch does.
func TestForeign(t *testing.T) {
	tar := string(ustarBlock("bin/", 0, '5'))
	for text, want := range map[string]string{
		"\x1f\x8b\x08rest":              "it looks like a gzip-compressed file",
		"\x28\xb5\x2f\xfd":              "it looks like a zstd-compressed file",
		"\xfd7zXZ\x00\x00":              "it looks like an xz-compressed file",
		"BZh91AY":                       "it looks like a bzip2-compressed file",
		"PK\x03\x04":                    "it looks like a zip archive",
		"\x7fELF\x02":                   "it looks like a program (ELF)",
		"!<arch>\ndebian-binary":        "it looks like a Debian package or another ar archive",
		"#mtree\n":                      "it looks like a manifest",
		"#!/bin/sh\n":                   "it looks like a script",
		"-----BEGIN SSH SIGNATURE-----": "it looks like a key or a signature",
		"version https://git-lfs.github.com/spec/v1\n": "it looks like a pointer of Git LFS, in place of the file itself",
		"\n <!DOCTYPE HTML>\n<html>":                   "it looks like an HTML page",
		"\ufeff<html lang=en>":                         "it looks like an HTML page",
		"<?xml version=\"1.0\"?>":                      "it looks like an XML document",
		" {\"error\":404}":                             "it looks like a JSON document",
		"404 page not fou" + "\xc3":                    "it looks like text",
		"\x00\x00\x00":                                 "it looks like nothing but zeros",
		"\x01\x02\xff":                                 "it looks like data of no known kind",
		strings.Repeat("x", 600):                       "it looks like text",
		tar:                                            `it is a tar archive whose first member is "bin/", want "patch.json"`,
		strings.Repeat("\x00", 1024):                   "it looks like nothing but zeros",
		"":                                             "truncated at offset 0",
		"patch":                                        "truncated at offset 5",
		"patch.json\x00\x00":                           "truncated at offset 12",
	} {
		_, err := Open(bytes.NewReader([]byte(text)))
		if failure.Of(err) != failure.Untrusted || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "not a relkit patch") == strings.HasPrefix(want, "truncated") {
			t.Errorf("%.20q: got %v, want %q", text, err, want)
		}
	}
}
