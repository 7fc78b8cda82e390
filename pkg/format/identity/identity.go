// Package identity gives a machine a name that can leave it.
//
// machine-id(5) is confidential: it must not be shown to a network. What
// relkit reports, and what a staged rollout draws its lot from, is a keyed hash
// of it, made exactly as sd_id128_get_machine_app_specific(3) makes one, so
//
//	systemd-id128 machine-id --app-specific=14e6d25a584c4db6ba46bf354385202d
//
// prints on the machine the name its reports go by.
package identity

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// ID is 128 bits. The zero ID means "none" and prints as "".
type ID [16]byte

// App is relkit's application id: the message the machine id is hashed with to
// give the machine key.
var App = ID{0x14, 0xe6, 0xd2, 0x5a, 0x58, 0x4c, 0x4d, 0xb6, 0xba, 0x46, 0xbf, 0x35, 0x43, 0x85, 0x20, 0x2d}

// redactApp is the application id of the key that redacted values are hashed
// with. That key never leaves the machine, so a redacted serial number cannot
// be found by trying them all.
var redactApp = ID{0x57, 0xd9, 0x0c, 0x3c, 0x71, 0x0e, 0x4b, 0x43, 0x9f, 0x8a, 0x5d, 0x6e, 0x9a, 0x2e, 0x14, 0xc7}

// ErrNone tells that a machine has no id yet: the file is empty or says
// "uninitialized", as in a golden image before its first boot.
var ErrNone = errors.New("the machine has no id yet")

// Parse reads the contents of /etc/machine-id: 32 hex digits (a UUID's dashes
// and upper case are accepted, as systemd accepts them) and a newline.
func Parse(b []byte) (ID, error) {
	var id ID
	// 36 digits and dashes and a line end; what is longer is some other file.
	if len(b) > 64 {
		return id, fmt.Errorf("bad machine id: %d bytes long, want 32 hex digits", len(b))
	}
	s := strings.TrimRight(string(b), " \t\r\n")
	if s == "" || s == "uninitialized" {
		return id, ErrNone
	}
	digits := s
	if len(s) == 36 && s[8] == '-' && s[13] == '-' && s[18] == '-' && s[23] == '-' {
		digits = strings.ReplaceAll(s, "-", "")
	}
	raw, err := hex.DecodeString(digits)
	if err != nil || len(raw) != len(id) {
		// The text itself stays out of the message: it may be some other secret.
		return id, errors.New("bad machine id: want 32 hex digits")
	}
	copy(id[:], raw)
	if id.IsZero() {
		return id, ErrNone
	}
	return id, nil
}

// Key is the machine key: what names the machine in reports, and what the lot
// of a staged rollout is drawn from. machineID is the contents of
// /etc/machine-id. The error is ErrNone where there is no id yet.
func Key(machineID []byte) (ID, error) {
	id, err := Parse(machineID)
	if err != nil {
		return ID{}, err
	}
	return id.AppSpecific(App), nil
}

// AppSpecific is the id that app sees instead of id: the first 16 bytes of
// HMAC-SHA-256 keyed by id over app, marked as a version 4 UUID (RFC 9562).
// It cannot be turned back into id, nor into the one that another app sees.
func (id ID) AppSpecific(app ID) ID {
	mac := hmac.New(sha256.New, id[:])
	mac.Write(app[:])
	var out ID
	copy(out[:], mac.Sum(nil))
	out[6] = out[6]&0x0f | 0x40
	out[8] = out[8]&0x3f | 0x80
	return out
}

// Redact hides value behind a keyed hash, "redacted:" and 16 hex digits: the
// same value of the same class gives the same text on one machine and another
// text on any other. Without an id there is no key, and all values look alike.
func (id ID) Redact(class, value string) string {
	if id.IsZero() {
		return "redacted:"
	}
	key := id.AppSpecific(redactApp)
	mac := hmac.New(sha256.New, key[:])
	mac.Write([]byte(class + "\x00" + value))
	return "redacted:" + hex.EncodeToString(mac.Sum(nil)[:8])
}

// IsZero tells whether id is the zero ID, "none".
func (id ID) IsZero() bool { return id == ID{} }

// String is 32 lower-case hex digits; "" for the zero ID.
func (id ID) String() string {
	if id.IsZero() {
		return ""
	}
	return hex.EncodeToString(id[:])
}

// UUID is the id in the form 8-4-4-4-12 of RFC 9562.
func (id ID) UUID() string {
	s := hex.EncodeToString(id[:])
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}

// NewV7 makes a version 7 UUID (RFC 9562 section 5.7): it sorts by time.
// unixMilli is the time in milliseconds since 1970; random fills the rest.
func NewV7(unixMilli int64, random [10]byte) ID {
	var id ID
	for i := range 6 {
		id[i] = byte(unixMilli >> (40 - 8*i))
	}
	copy(id[6:], random[:])
	id[6] = id[6]&0x0f | 0x70
	id[8] = id[8]&0x3f | 0x80
	return id
}
