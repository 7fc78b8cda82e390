package health

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"math/bits"
	"time"

	"github.com/relkit/relkit/pkg/format/identity"
)

// Splay is how long this machine waits within window before it reports: always
// the same, and spread evenly over a fleet, so that its reports are a day apart
// and the intake sees no rush hour. A machine without an id draws a lot.
func Splay(sys *System, window time.Duration) time.Duration {
	if window <= 0 {
		return 0
	}
	key, err := readKey(sys.Tree)
	if err != nil {
		_, _ = rand.Read(key[:])
	}
	return splay(key, window)
}

// splay maps HMAC-SHA-256(key, "splay") evenly onto [0, window).
func splay(key identity.ID, window time.Duration) time.Duration {
	mac := hmac.New(sha256.New, key[:])
	mac.Write([]byte("splay"))
	hi, _ := bits.Mul64(binary.BigEndian.Uint64(mac.Sum(nil)), uint64(window))
	return time.Duration(hi)
}
