package identity

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/relkit/relkit/pkg/relkittest"
)

// TestKeyVector holds the derivation still: reports and rollouts of released
// versions depend on it. The value is Python's hmac module's.
func TestKeyVector(t *testing.T) {
	key, err := Key([]byte("0f1e2d3c4b5a69788796a5b4c3d2e1f4\n"))
	if err != nil {
		t.Fatal(err)
	}
	const want = "9c570c4f01c543bb9e024376c1526f76"
	if key.String() != want {
		t.Errorf("Key = %s, want %s", key, want)
	}
}

// TestKeyAgainstSystemd asks the peer, on the machine the test runs on.
func TestKeyAgainstSystemd(t *testing.T) {
	relkittest.Need(t, "systemd-id128")
	raw, err := os.ReadFile("/etc/machine-id")
	if err != nil {
		relkittest.Skip(t, "no machine id: %v", err)
	}
	key, err := Key(raw)
	if errors.Is(err, ErrNone) {
		relkittest.Skip(t, "no machine id: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("systemd-id128", "machine-id", "--app-specific="+App.String()).Output()
	if err != nil {
		t.Fatal(err)
	}
	if want := strings.TrimSpace(string(out)); key.String() != want {
		t.Errorf("Key = %s, systemd-id128 says %s", key, want)
	}
}

func TestParse(t *testing.T) {
	const plain = "0f1e2d3c4b5a69788796a5b4c3d2e1f4"
	for _, in := range []string{plain, plain + "\n", "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f4\n", strings.ToUpper(plain)} {
		id, err := Parse([]byte(in))
		if err != nil || id.String() != plain {
			t.Errorf("Parse(%q) = %s, %v", in, id, err)
		}
	}
	for _, in := range []string{"", "\n", "uninitialized\n", strings.Repeat("0", 32)} {
		if _, err := Parse([]byte(in)); !errors.Is(err, ErrNone) {
			t.Errorf("Parse(%q): %v, want ErrNone", in, err)
		}
	}
	for _, in := range []string{"abc", plain + "ff", plain[:31] + "g", "0f1e-2d3c4b5a69788796a5b4c3d2e1f4", strings.Repeat("a", 1000)} {
		id, err := Parse([]byte(in))
		if err == nil || errors.Is(err, ErrNone) || !id.IsZero() {
			t.Errorf("Parse(%q) = %s, %v; want an error", in, id, err)
		}
		if err != nil && strings.Contains(err.Error(), in) {
			t.Errorf("Parse(%q): the message %q repeats it", in, err)
		}
	}
}

func TestRedact(t *testing.T) {
	a, _ := Parse([]byte("0f1e2d3c4b5a69788796a5b4c3d2e1f4"))
	b, _ := Parse([]byte("0f1e2d3c4b5a69788796a5b4c3d2e1f5"))
	x := a.Redact("serial", "SN-1")
	if x != a.Redact("serial", "SN-1") {
		t.Error("the same value gives two texts")
	}
	for what, y := range map[string]string{
		"another value": a.Redact("serial", "SN-2"), "another class": a.Redact("mac", "SN-1"), "another machine": b.Redact("serial", "SN-1"),
	} {
		if x == y {
			t.Errorf("%s gives the same text", what)
		}
	}
	if got := (ID{}).Redact("serial", "SN-1"); got != "redacted:" {
		t.Errorf("without an id: %q", got)
	}
}

func TestNewV7(t *testing.T) {
	// RFC 9562 appendix A.6.
	random := [10]byte{0x0c, 0xc3, 0x18, 0xc4, 0xdc, 0x0c, 0x0c, 0x07, 0x39, 0x8f}
	if got, want := NewV7(0x017F22E279B0, random).UUID(), "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"; got != want {
		t.Errorf("NewV7 = %s, want %s", got, want)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("0f1e2d3c4b5a69788796a5b4c3d2e1f4\n"))
	f.Add([]byte("0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f4"))
	f.Add([]byte("uninitialized\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		id, err := Parse(b)
		if (err != nil) != id.IsZero() {
			t.Fatalf("Parse(%q) = %s, %v", b, id, err)
		}
		if err != nil {
			return
		}
		for _, again := range []string{id.String(), id.UUID()} {
			if back, err := Parse([]byte(again)); err != nil || back != id {
				t.Fatalf("Parse(%q) = %s, %v; want %s", again, back, err, id)
			}
		}
	})
}
