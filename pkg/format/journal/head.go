package journal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/relkit/relkit/pkg/format/strict"
)

// HeadSchema is the schema field of a head that is signed or printed.
const HeadSchema = "relkit.audit-head/v1"

// MaxHead bounds a signed head, in bytes.
const MaxHead = 128 << 10

type headDoc struct {
	Schema string `json:"schema"`
	Head
}

// Message is what is signed of a head: a JSON document on one line, with its newline.
func (h Head) Message() ([]byte, error) {
	b, err := json.Marshal(headDoc{HeadSchema, h})
	return append(b, '\n'), err
}

// ParseSignedHead reads a head and its signature: the line of Message, then an
// armored SSH signature over that line, which is not verified here.
func ParseSignedHead(b []byte) (head Head, message, armored []byte, err error) {
	if len(b) > MaxHead {
		return head, nil, nil, fmt.Errorf("%d bytes, at most %d", len(b), MaxHead)
	}
	end := bytes.IndexByte(b, '\n') + 1
	if end == 0 {
		return head, nil, nil, errors.New("no line end")
	}
	var d headDoc
	if err := strict.Decode(b[:end], MaxHead, &d); err != nil {
		return head, nil, nil, err
	}
	if d.Schema != HeadSchema {
		return head, nil, nil, fmt.Errorf("schema %q, want %q", d.Schema, HeadSchema)
	}
	want, err := d.Head.Message()
	if err == nil && !bytes.Equal(want, b[:end]) {
		err = errors.New("the head is not in the one form that it has")
	}
	return d.Head, b[:end], b[end:], err
}
