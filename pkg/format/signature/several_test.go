package signature

import (
	"bytes"
	"strings"
	"testing"

	"github.com/relkit/relkit/pkg/relkittest"
)

func TestSplit(t *testing.T) {
	a, b := mustSign(t, newSigner(t, "ed25519"), "n", "m"), mustSign(t, newSigner(t, "ecdsa"), "n", "m")
	for name, text := range map[string]string{
		"joined":   string(Join([][]byte{a, b})),
		"by cat":   string(a) + string(b),
		"apart":    "\n" + string(a) + "\r\n\n" + string(b) + "\n\n",
		"together": strings.TrimSpace(string(a)) + string(b),
	} {
		all, err := Split([]byte(text))
		if err != nil || len(all) != 2 {
			t.Fatalf("%s: %d signatures, %v", name, len(all), err)
		}
		for _, s := range all {
			if _, err := Verify(strings.NewReader("m"), s, "n"); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	for text, want := range map[string]string{
		"":                    "no signature",
		" \n":                 "no signature",
		"x" + string(a):       "signature 1 does not start with",
		string(a) + "x":       "signature 2 does not start with",
		string(a[:len(a)-10]): "signature 1 does not end within",
		string(a[:40]) + strings.Repeat("A", MaxSize) + string(a[40:]): "signature 1 does not end within",
		strings.Repeat(string(a), MaxSeveral+1):                        "more than 64 signatures",
		strings.Repeat(" ", MaxSeveralSize+1):                          "at most",
	} {
		if _, err := Split([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Split(%.60q) = %v, want %q", text, err, want)
		}
	}
}

// TestSplitMemory: what is allocated is the list, whatever the file says.
func TestSplitMemory(t *testing.T) {
	hostile := []byte(strings.Repeat("-----BEGIN SSH SIGNATURE-----\n\n-----END SSH SIGNATURE-----\n", MaxSeveralSize/61))
	relkittest.Allocates(t, 64<<10, func() {
		if _, err := Split(hostile); err == nil {
			t.Error("taken")
		}
	})
}

// FuzzSplit: what is read and joined again is read the same.
func FuzzSplit(f *testing.F) {
	a := mustSign(f, newSigner(f, "ed25519"), "n", "m")
	f.Add(Join([][]byte{a, a}))
	f.Add([]byte("-----BEGIN SSH SIGNATURE-----\n\n-----END SSH SIGNATURE-----"))
	f.Fuzz(func(t *testing.T, b []byte) {
		all, err := Split(b)
		if err != nil {
			return
		}
		once := Join(all)
		again, err := Split(once)
		if err != nil || !bytes.Equal(Join(again), once) || len(again) != len(all) {
			t.Errorf("%q is written as %q, which is %d signatures, %v", b, once, len(again), err)
		}
	})
}
