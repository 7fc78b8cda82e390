package signature

import (
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/relkit/relkit/pkg/relkittest"
)

// zeros reads as zero bytes without end, but for an 'a' in every place where one
// of the messages of TestLarge ends.
type zeros struct{ ends []int64 }

func (z zeros) ReadAt(b []byte, at int64) (int, error) {
	clear(b)
	for _, end := range z.ends {
		if i := end - 1 - at; i >= 0 && i < int64(len(b)) {
			b[i] = 'a'
		}
	}
	return len(b), nil
}

// TestLarge: messages around 2 and 4 GiB, where a length of 32 bits ends, are
// signed and verified as ssh-keygen does. With -short they are around 2 and 4 MiB.
func TestLarge(t *testing.T) {
	relkittest.Need(t, "ssh-keygen")
	unit := int64(1 << 30)
	if testing.Short() {
		unit = 1 << 20
	}
	dir := t.TempDir()
	key, allowed := filepath.Join(dir, "key"), filepath.Join(dir, "allowed")
	if out, err := sshKeygen(t, "", "-q", "-t", "ed25519", "-N", "", "-f", key); err != nil {
		t.Fatal(out, err)
	}
	writeFile(t, allowed, "release "+readFile(t, key+".pub"))
	sizes := []int64{2*unit - 1, 2*unit + 1, 4*unit - 1, 4*unit + 1}
	message := func(size int64) io.Reader { return io.NewSectionReader(zeros{sizes}, 0, size) }
	keygen := func(in io.Reader, args ...string) (string, error) {
		cmd := exec.Command("ssh-keygen", args...)
		cmd.Stdin = in
		out, err := cmd.Output()
		return string(out), err
	}
	t.Run("group", func(t *testing.T) {
		// What ssh-keygen signs, with the hash that machines are quick at.
		for _, size := range sizes[:3] {
			t.Run("", func(t *testing.T) {
				t.Parallel()
				sig, err := keygen(message(size), "-q", "-Y", "sign", "-n", NamespaceSignoff, "-O", "hashalg=sha256", "-f", key)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := Verify(message(size), []byte(sig), NamespaceSignoff); err != nil {
					t.Errorf("%d bytes: %v", size, err)
				}
			})
		}
		t.Run("", func(t *testing.T) {
			t.Parallel()
			size := sizes[3]
			signer, err := ParsePrivateKey([]byte(readFile(t, key)), nil)
			if err != nil {
				t.Fatal(err)
			}
			sig, err := Sign(signer, NamespaceSignoff, message(size))
			if err != nil {
				t.Fatal(err)
			}
			writeFile(t, filepath.Join(dir, "sig"), string(sig))
			out, err := keygen(message(size), "-Y", "verify", "-n", NamespaceSignoff, "-I", "release", "-f", allowed, "-s", filepath.Join(dir, "sig"))
			if err != nil || !strings.Contains(out, "Good") {
				t.Errorf("%d bytes: ssh-keygen says %q, %v", size, out, err)
			}
		})
	})
}
