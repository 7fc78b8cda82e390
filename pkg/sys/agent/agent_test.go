package agent

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	sshagent "golang.org/x/crypto/ssh/agent"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/signature"
	"github.com/relkit/relkit/pkg/relkittest"
)

// serve answers for an agent on a new socket.
func serve(t *testing.T, handle func(net.Conn)) (socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go handle(conn)
		}
	}()
	return socket
}

func keyring(t *testing.T, keys ...sshagent.AddedKey) (socket string) {
	t.Helper()
	ring := sshagent.NewKeyring()
	for _, k := range keys {
		if err := ring.Add(k); err != nil {
			t.Fatal(err)
		}
	}
	return serve(t, func(conn net.Conn) { _ = sshagent.ServeAgent(ring, conn) })
}

func newKey(t *testing.T, kind string) (crypto.Signer, ssh.PublicKey) {
	t.Helper()
	var key crypto.Signer
	var err error
	if kind == "rsa" {
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	} else {
		_, key, err = ed25519.GenerateKey(nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	public, err := ssh.NewPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return key, public
}

func certify(t *testing.T, key ssh.PublicKey) *ssh.Certificate {
	t.Helper()
	private, _ := newKey(t, "ed25519")
	ca, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert := &ssh.Certificate{Key: key, CertType: ssh.UserCert, ValidPrincipals: []string{"qa"}, ValidBefore: ssh.CertTimeInfinity}
	if err := cert.SignCert(rand.Reader, ca); err != nil {
		t.Fatal(err)
	}
	return cert
}

// signs has the signer sign, and wants a signature by key of a format.
func signs(t *testing.T, s ssh.Signer, key ssh.PublicKey) {
	t.Helper()
	sig, err := signature.Sign(s, "relkit-file", strings.NewReader("text"))
	if err != nil {
		t.Fatal(err)
	}
	by, err := signature.Verify(strings.NewReader("text"), sig, "relkit-file")
	if err != nil || string(by.Marshal()) != string(key.Marshal()) {
		t.Errorf("signed by %v, %v, want %v", by, err, key)
	}
}

func TestSigner(t *testing.T) {
	ctx := context.Background()
	ed, edKey := newKey(t, "ed25519")
	rs, rsKey := newKey(t, "rsa")
	_, other := newKey(t, "ed25519")
	edCert, rsCert := certify(t, edKey), certify(t, rsKey)
	both := keyring(t, sshagent.AddedKey{PrivateKey: ed, Comment: "one"}, sshagent.AddedKey{PrivateKey: rs, Comment: "two words"},
		sshagent.AddedKey{PrivateKey: rs, Certificate: rsCert})
	for name, c := range map[string]struct {
		socket string
		want   ssh.PublicKey
		says   []string
	}{
		"ed25519":                   {both, edKey, nil},
		"rsa":                       {both, rsKey, nil},
		"held certificate":          {both, rsCert, nil},
		"certificate for held key":  {both, edCert, nil},
		"only one":                  {keyring(t, sshagent.AddedKey{PrivateKey: rs}), nil, nil},
		"several":                   {both, nil, []string{"several keys", signature.Fingerprint(edKey) + " one;", "ssh-rsa " + signature.Fingerprint(rsKey) + " two words;", "ssh-rsa-cert-v01@openssh.com"}},
		"not held":                  {both, other, []string{"does not hold the key " + signature.Fingerprint(other), signature.Fingerprint(edKey)}},
		"certificate, key not held": {both, certify(t, other), []string{"does not hold the key " + signature.Fingerprint(other)}},
		"none":                      {keyring(t), nil, []string{"holds no key"}},
		"none of these":             {keyring(t), other, []string{"it holds none"}},
	} {
		t.Run(name, func(t *testing.T) {
			a, err := Dial(ctx, c.socket)
			if err != nil {
				t.Fatal(err)
			}
			defer a.Close()
			s, err := a.Signer(ctx, c.want)
			if len(c.says) == 0 {
				if err != nil {
					t.Fatal(err)
				}
				want := c.want
				if want == nil {
					want = rsKey
				}
				signs(t, s, want)
				return
			}
			for _, says := range c.says {
				if err == nil || failure.Of(err) != failure.Usage || !strings.Contains(err.Error(), says) {
					t.Errorf("Signer = %v, want a usage error with %q", err, says)
				}
			}
		})
	}
}

// TestRealAgent: the keys of the real ssh-agent, among them an authenticator's
// stub and one too short, which are passed over or refused.
func TestRealAgent(t *testing.T) {
	relkittest.Need(t, "ssh-agent", "ssh-add", "ssh-keygen")
	dir := t.TempDir()
	socket := filepath.Join(dir, "s")
	ctx, cancel := context.WithCancel(context.Background())
	daemon := exec.CommandContext(ctx, "ssh-agent", "-D", "-a", socket)
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); _ = daemon.Wait() })
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if conn, err := net.Dial("unix", socket); err == nil {
			conn.Close()
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("ssh-agent does not listen")
		}
	}
	run := func(args ...string) {
		t.Helper()
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Dir, cmd.Env = dir, append(cmd.Environ(), "SSH_AUTH_SOCK="+socket)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v %s", args, err, out)
		}
	}
	run("ssh-keygen", "-q", "-t", "rsa", "-b", "1024", "-N", "", "-f", "short")
	run("ssh-add", "-q", "short")
	for _, kind := range [][]string{{"ed25519"}, {"ecdsa", "-b", "256"}, {"ecdsa", "-b", "384"}, {"ecdsa", "-b", "521"}, {"rsa", "-b", "2048"}} {
		run(append([]string{"ssh-keygen", "-q", "-N", "", "-f", "key", "-t"}, kind...)...)
		run("ssh-add", "-q", "key")
		a, err := Dial(ctx, socket)
		if err != nil {
			t.Fatal(err)
		}
		s, err := a.Signer(ctx, nil)
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		signs(t, s, s.PublicKey())
		run("ssh-add", "-q", "-d", "key")
		if _, err := signature.Sign(s, "relkit-file", strings.NewReader("text")); err == nil || !strings.Contains(err.Error(), "the ssh-agent does not sign with key SHA256:") {
			t.Errorf("%s: Sign with a key taken away = %v", kind, err)
		}
		a.Close()
		run("rm", "key", "key.pub")
	}
}

// token is an agent with a security key, whose signatures carry flags and a
// counter (PROTOCOL.u2f).
type token struct {
	sshagent.ExtendedAgent
	key ed25519.PrivateKey
}

const skEd25519 = "sk-ssh-ed25519@openssh.com"

func (k token) List() ([]*sshagent.Key, error) {
	blob := ssh.Marshal(struct{ Kind, Key, Application string }{skEd25519, string(k.key.Public().(ed25519.PublicKey)), "ssh:"})
	return []*sshagent.Key{{Format: skEd25519, Blob: blob, Comment: "token"}}, nil
}

func (k token) SignWithFlags(_ ssh.PublicKey, data []byte, _ sshagent.SignatureFlags) (*ssh.Signature, error) {
	application, message := sha256.Sum256([]byte("ssh:")), sha256.Sum256(data)
	said := []byte{1, 0, 0, 0, 9}
	signed := append(append(application[:], said...), message[:]...)
	return &ssh.Signature{Format: skEd25519, Blob: ed25519.Sign(k.key, signed), Rest: said}, nil
}

func TestSecurityKey(t *testing.T) {
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	a, err := Dial(ctx, serve(t, func(conn net.Conn) { _ = sshagent.ServeAgent(token{key: key}, conn) }))
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	s, err := a.Signer(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	if s.PublicKey().Type() != skEd25519 {
		t.Errorf("the key is of type %s", s.PublicKey().Type())
	}
	signs(t, s, s.PublicKey())
}

// TestDialFails: what is no agent, and what never answers.
func TestDialFails(t *testing.T) {
	stop := errors.New("enough")
	silent := serve(t, func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) })
	for name, c := range map[string]struct{ socket, says string }{
		"no socket": {filepath.Join(t.TempDir(), "s"), "connecting to the ssh-agent"},
		"hangs up":  {serve(t, func(conn net.Conn) { conn.Close() }), "asking the ssh-agent for its keys"},
		"rubbish":   {serve(t, func(conn net.Conn) { _, _ = conn.Write([]byte("\xff\xff\xff\xff\x0c")) }), "asking the ssh-agent for its keys"},
		"silent":    {silent, "enough"},
	} {
		ctx, cancel := context.WithCancelCause(context.Background())
		if c.socket == silent {
			time.AfterFunc(50*time.Millisecond, func() { cancel(stop) })
		}
		if a, err := Dial(ctx, c.socket); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: Dial = %v, %v, want an error with %q", name, a, err, c.says)
		}
		cancel(nil)
	}
}

// liar signs something else than it is asked to.
type liar struct{ sshagent.ExtendedAgent }

func (l liar) SignWithFlags(key ssh.PublicKey, _ []byte, _ sshagent.SignatureFlags) (*ssh.Signature, error) {
	return l.ExtendedAgent.SignWithFlags(key, []byte("another"), 0)
}

// TestBadAgent: one that signs something else, or RSA with SHA-1 as old ones
// do, makes no signature. One that waits for a touch is waited for no longer
// than the caller wants.
func TestBadAgent(t *testing.T) {
	for kind, says := range map[string]string{"rsa": `made with "ssh-rsa"`, "ed25519": "did not verify"} {
		ring := sshagent.NewKeyring().(sshagent.ExtendedAgent)
		key, _ := newKey(t, kind)
		if err := ring.Add(sshagent.AddedKey{PrivateKey: key}); err != nil {
			t.Fatal(err)
		}
		ctx := context.Background()
		a, err := Dial(ctx, serve(t, func(conn net.Conn) { _ = sshagent.ServeAgent(liar{ring}, conn) }))
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		s, err := a.Signer(ctx, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := signature.Sign(s, "relkit-file", strings.NewReader("text")); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: Sign = %v, want an error with %q", kind, err, says)
		}
	}
}

// sleeper never signs.
type sleeper struct{ sshagent.ExtendedAgent }

func (sleeper) SignWithFlags(ssh.PublicKey, []byte, sshagent.SignatureFlags) (*ssh.Signature, error) {
	time.Sleep(time.Minute)
	return nil, errors.New("nobody touched it")
}

func TestSignIsGivenUp(t *testing.T) {
	ring := sshagent.NewKeyring().(sshagent.ExtendedAgent)
	key, _ := newKey(t, "ed25519")
	if err := ring.Add(sshagent.AddedKey{PrivateKey: key}); err != nil {
		t.Fatal(err)
	}
	enough := errors.New("enough")
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	a, err := Dial(ctx, serve(t, func(conn net.Conn) { _ = sshagent.ServeAgent(sleeper{ring}, conn) }))
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	s, err := a.Signer(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(50*time.Millisecond, func() { cancel(enough) })
	if _, err := signature.Sign(s, "relkit-file", strings.NewReader("text")); !errors.Is(err, enough) {
		t.Errorf("Sign = %v, want it given up", err)
	}
}
