package journal

import (
	"bytes"
	"testing"

	"github.com/relkit/relkit/pkg/format/digest"
)

func FuzzParseSignedHead(f *testing.F) {
	b, err := Head{Count: 12, Digest: digest.Of(nil)}.Message()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(append(b, "-----BEGIN SSH SIGNATURE-----\nAAAA\n-----END SSH SIGNATURE-----\n"...))
	f.Fuzz(func(t *testing.T, b []byte) {
		head, message, armored, err := ParseSignedHead(b)
		if err != nil {
			return
		}
		again, err := head.Message()
		if err != nil || !bytes.Equal(again, message) || !bytes.Equal(append(again, armored...), b) {
			t.Fatalf("%q became %q, %v", b, again, err)
		}
	})
}
