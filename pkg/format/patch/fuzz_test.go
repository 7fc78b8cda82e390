package patch

import (
	"bytes"
	"testing"

	"github.com/relkit/relkit/pkg/failure"
)

func FuzzHeader(f *testing.F) {
	s, _ := seal(f)
	f.Add(s.Raw)
	f.Add([]byte(`{"schema":"relkit.patch/v1"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := ParseHeader(b)
		if err != nil {
			return
		}
		again, err := h.Encode()
		if err != nil || !bytes.Equal(b, again) {
			t.Fatalf("read %q, wrote %q, %v", b, again, err)
		}
	})
}

func FuzzEntries(f *testing.F) {
	text, err := testEntries().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte("#relkit-entries v1\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := DecodeEntries(bytes.NewReader(b))
		if err != nil {
			return
		}
		again, err := e.Encode()
		if err != nil || !bytes.Equal(b, again) {
			t.Fatalf("read %q, wrote %q, %v", b, again, err)
		}
		e.Contents()
	})
}

// FuzzReader: whatever the bytes, the whole reader answers with content or with
// an error of a kind that leaves a target untouched.
func FuzzReader(f *testing.F) {
	f.Add(testPatch(f))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, e, content, err := readAll(b)
		if err != nil {
			if k := failure.Of(err); k != failure.Untrusted && k != failure.Refused && k != failure.Failed {
				t.Fatalf("kind %d: %v", k, err)
			}
			return
		}
		if int64(len(content)) != p.Header().Sizes.NewBytes || int64(len(e.Changes)) != p.Header().Sizes.Entries {
			t.Fatalf("%d bytes, %d entries: the header has %+v", len(content), len(e.Changes), p.Header().Sizes)
		}
		var again bytes.Buffer
		q, err := Open(bytes.NewReader(b))
		if err == nil {
			err = q.copy(&again, q.Signoffs())
		}
		if err != nil || !bytes.Equal(again.Bytes(), b) {
			t.Fatalf("written again: %d bytes of %d, %v", again.Len(), len(b), err)
		}
	})
}
