package signature

import (
	"math/rand/v2"
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
			if roles := allowed.Roles(got, NamespaceSignoff, time.Now()); len(roles) != 1 || roles[0] != "release" {
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

// TestAllowedSignersOpenSSH holds the parser against ssh-keygen on lines made
// at random out of good and bad pieces: where relkit accepts a key as a role,
// ssh-keygen does, and where ssh-keygen accepts it, relkit does or has refused
// the file for one of the reasons where it is stricter.
func TestAllowedSignersOpenSSH(t *testing.T) {
	relkittest.Need(t, "ssh-keygen")
	local := time.Local
	time.Local = time.UTC
	t.Cleanup(func() { time.Local = local })
	signer, other := newSigner(t, "ed25519"), newSigner(t, "ed25519")
	dir := t.TempDir()
	sig, allowed := filepath.Join(dir, "sig"), filepath.Join(dir, "allowed")
	writeFile(t, sig, string(mustSign(t, signer, NamespaceSignoff, "doc")))

	r := rand.New(rand.NewPCG(3, 4))
	pick := func(s ...string) string { return s[r.IntN(len(s))] }
	option := func() string {
		return pick("cert-authority", `namespaces="relkit-signoff"`, `namespaces="file,relkit-*"`, `namespaces="file"`, `Namespaces="*,!relkit-signoff"`,
			`valid-after="20200101"`, `valid-after="20200101Z"`, `valid-before="209901010000"`, `valid-before="20210101000000Z"`, `valid-after="20980101"`,
			`valid-before="2021"`, `namespaces=relkit-signoff`, `namespaces="a\"b"`, "nonsense", `valid-after=""`)
	}
	line := func() string {
		s := pick("release", "release", "qa,release", `"release"`, `"qa,release"`, "qa", "release,", " release", "\trelease", "#release") + pick(" ", "  ", "\t")
		if r.IntN(3) > 0 {
			s += option()
			for r.IntN(3) == 0 {
				s += pick(",", ",", ",", ", ", "") + option()
			}
			s += pick(" ", " ", "  ", "\t", ",")
		}
		key := keyLine(signer)
		if r.IntN(6) == 0 {
			key = keyLine(other)
		}
		return s + key + pick("", " comment", " \"", "\r") + "\n"
	}
	agreed := 0
	for range 250 {
		text := line()
		if r.IntN(3) == 0 {
			text += line()
		}
		writeFile(t, allowed, text)
		out, err := sshKeygen(t, "doc", "-Y", "verify", "-n", NamespaceSignoff, "-I", "release", "-f", allowed, "-s", sig)
		theirs := err == nil
		parsed, perr := ParseAllowedSigners([]byte(text))
		ours := false
		if perr == nil {
			for _, role := range parsed.Roles(signer.PublicKey(), NamespaceSignoff, time.Now()) {
				ours = ours || role == "release"
			}
		}
		if ours && theirs {
			agreed++
		}
		if ours && !theirs {
			t.Errorf("relkit accepts what ssh-keygen does not: %q: %s", text, out)
		}
		// A bad line after the good one: ssh-keygen stops at the first that fits.
		if theirs && !ours && perr == nil {
			t.Errorf("ssh-keygen accepts what relkit reads and does not accept: %q", text)
		}
		if theirs && perr != nil && strings.Count(text, "\n") == 1 && !strings.Contains(perr.Error(), "an empty name") {
			t.Errorf("ssh-keygen accepts %q, relkit: %v", text, perr)
		}
	}
	if agreed < 40 {
		t.Errorf("only %d of 250 files were accepted by both: the generator makes too little that is good", agreed)
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
