package provenance

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/relkit/relkit/pkg/format/signature"
	"github.com/relkit/relkit/pkg/format/strict"
)

// PayloadType is what an envelope says that its payload is.
const PayloadType = "application/vnd.in-toto+json"

// Limits on what is read.
const (
	MaxStatement  = 16 << 20 // bytes, of the payload
	MaxEnvelope   = 24 << 20 // bytes; base64 makes four of three
	MaxSignatures = 16
)

// Envelope is a DSSE envelope, version 1, around a statement
// (https://github.com/secure-systems-lab/dsse).
type Envelope struct {
	PayloadType string `json:"payloadType"`
	// Payload is the statement's JSON, in base64.
	Payload    string      `json:"payload"`
	Signatures []Signature `json:"signatures"`
}

// Signature is one signature over PAE of an envelope.
type Signature struct {
	// KeyID is the fingerprint of the key as ssh-keygen -l has it. It is a hint: it
	// is not signed.
	KeyID string `json:"keyid"`
	// Sig is the armored SSH signature, in base64.
	Sig string `json:"sig"`
}

// Seal makes an envelope, with no signature yet, of a statement.
func Seal(s *Statement) (*Envelope, error) {
	payload, err := s.Encode()
	if err != nil {
		return nil, err
	}
	return &Envelope{PayloadType: PayloadType, Payload: base64.StdEncoding.EncodeToString(payload)}, nil
}

// Add puts an armored signature over PAE into the envelope.
func (e *Envelope) Add(keyID string, armored []byte) {
	e.Signatures = append(e.Signatures, Signature{KeyID: keyID, Sig: base64.StdEncoding.EncodeToString(armored)})
}

// PAE is what the signatures are made over: DSSE's pre-authentication encoding of
// the payload with its type, so that neither passes for another's.
func (e *Envelope) PAE() ([]byte, error) {
	payload, err := e.payload()
	if err != nil {
		return nil, err
	}
	head := "DSSEv1 " + strconv.Itoa(len(e.PayloadType)) + " " + e.PayloadType + " " + strconv.Itoa(len(payload)) + " "
	return append([]byte(head), payload...), nil
}

// Armored is the SSH signature, as ssh-keygen(1) -Y verify reads it.
func (s *Signature) Armored() ([]byte, error) {
	b, err := decode64(s.Sig, signature.MaxSize)
	if err != nil {
		return nil, fmt.Errorf("sig: %w", err)
	}
	return b, nil
}

// Statement reads the payload. What it says counts for nothing until a signature
// over PAE has been verified.
func (e *Envelope) Statement() (*Statement, error) {
	payload, err := e.payload()
	if err != nil {
		return nil, err
	}
	return DecodeStatement(payload)
}

func (e *Envelope) payload() ([]byte, error) {
	b, err := decode64(e.Payload, MaxStatement)
	if err != nil {
		return nil, fmt.Errorf("payload: %w", err)
	}
	return b, nil
}

// decode64 reads base64 that has one spelling: line breaks, which
// encoding/base64 skips, and stray bits at the end are refused.
func decode64(text string, limit int) ([]byte, error) {
	if strings.ContainsAny(text, "\r\n") {
		return nil, errors.New("a line break in base64")
	}
	if n := base64.StdEncoding.DecodedLen(len(text)); n > limit+2 {
		return nil, fmt.Errorf("%d bytes: at most %d", n, limit)
	}
	b, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil {
		return nil, err
	}
	if len(b) > limit {
		return nil, fmt.Errorf("%d bytes: at most %d", len(b), limit)
	}
	return b, nil
}

// Encode writes the envelope as relkit writes provenance.dsse.json: one line. It
// is an error where Decode would not take it back.
func (e *Envelope) Encode() ([]byte, error) {
	if err := e.check(); err != nil {
		return nil, fmt.Errorf("writing an envelope: %w", err)
	}
	b, err := strict.Encode(e)
	if err == nil && len(b) > MaxEnvelope {
		err = fmt.Errorf("%d bytes: at most %d", len(b), MaxEnvelope)
	}
	if err != nil {
		return nil, fmt.Errorf("writing an envelope: %w", err)
	}
	return b, nil
}

// Decode reads an envelope strictly. The payload is looked at by Statement.
func Decode(data []byte) (*Envelope, error) {
	e := &Envelope{}
	err := strict.Decode(data, MaxEnvelope, e)
	if err == nil {
		err = e.check()
	}
	if err != nil {
		return nil, fmt.Errorf("reading an envelope: %w", err)
	}
	return e, nil
}

func (e *Envelope) check() error {
	switch {
	case e.PayloadType != PayloadType:
		return fmt.Errorf("payload of type %q, want %q", e.PayloadType, PayloadType)
	case len(e.Signatures) == 0:
		return errors.New("no signature")
	case len(e.Signatures) > MaxSignatures:
		return fmt.Errorf("%d signatures: at most %d", len(e.Signatures), MaxSignatures)
	}
	if _, err := e.payload(); err != nil {
		return err
	}
	for i := range e.Signatures {
		if _, err := e.Signatures[i].Armored(); err != nil {
			return fmt.Errorf("signature %d: %w", i+1, err)
		}
	}
	return nil
}
