package signature

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/relkit/relkit/pkg/relkittest"
)

// sshKeygen runs ssh-keygen with message on stdin, in UTC.
func sshKeygen(t *testing.T, message string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.Command("ssh-keygen", args...)
	cmd.Stdin = strings.NewReader(message)
	cmd.Env = append(os.Environ(), "TZ=UTC")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// TestOpenSSH signs with ssh-keygen and with relkit, and has the other check.
func TestOpenSSH(t *testing.T) {
	relkittest.Need(t, "ssh-keygen")
	for _, kind := range [][]string{{"ed25519"}, {"ecdsa", "-b", "256"}, {"ecdsa", "-b", "384"}, {"ecdsa", "-b", "521"}, {"rsa", "-b", "2048"}} {
		t.Run(strings.Join(kind, ""), func(t *testing.T) {
			dir := t.TempDir()
			key, doc := filepath.Join(dir, "key"), filepath.Join(dir, "doc")
			if out, err := sshKeygen(t, "", append([]string{"-q", "-N", "secret", "-C", "c", "-f", key, "-t"}, kind...)...); err != nil {
				t.Fatal(out, err)
			}
			if out, err := sshKeygen(t, "", "-q", "-p", "-P", "secret", "-N", "", "-f", key); err != nil {
				t.Fatal(out, err)
			}
			public := readFile(t, key+".pub")
			signers := "release namespaces=\"relkit-signoff\" " + public
			writeFile(t, filepath.Join(dir, "allowed"), signers)
			writeFile(t, doc, "the document\n")

			if out, err := sshKeygen(t, "", "-q", "-Y", "sign", "-n", NamespaceSignoff, "-f", key, doc); err != nil {
				t.Fatal(out, err)
			}
			theirs := readFile(t, doc+".sig")
			got, err := Verify(strings.NewReader("the document\n"), []byte(theirs), NamespaceSignoff)
			if err != nil {
				t.Fatalf("what ssh-keygen signed: %v", err)
			}
			allowed, err := ParseAllowedSigners([]byte(signers))
			if err != nil {
				t.Fatal(err)
			}
			if roles := allowed.Roles(got, NamespaceSignoff, time.Now(), time.Now()); len(roles) != 1 || roles[0] != "release" {
				t.Errorf("Roles = %q, want release", roles)
			}

			signer, err := ParsePrivateKey([]byte(readFile(t, key)), nil)
			if err != nil {
				t.Fatal(err)
			}
			writeFile(t, doc+".sig", string(mustSign(t, signer, NamespaceSignoff, "the document\n")))
			verify := []string{"-Y", "verify", "-n", NamespaceSignoff, "-I", "release", "-f", filepath.Join(dir, "allowed"), "-s", doc + ".sig"}
			if out, err := sshKeygen(t, "the document\n", verify...); err != nil || !strings.Contains(out, "Good") {
				t.Errorf("what relkit signed, ssh-keygen does not verify: %s %v", out, err)
			}
			if out, err := sshKeygen(t, "another\n", verify...); err == nil {
				t.Errorf("ssh-keygen verifies another document: %s", out)
			}
			if out, _ := sshKeygen(t, "", "-l", "-f", key+".pub"); !strings.Contains(out, Fingerprint(got)) {
				t.Errorf("Fingerprint = %s, ssh-keygen -l says %s", Fingerprint(got), out)
			}
		})
	}
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func writeFile(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
