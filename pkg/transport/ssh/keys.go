package ssh

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/relkit/relkit/pkg/failure"
)

// keyFiles are the names of private keys in ~/.ssh, as ssh(1) tries them.
var keyFiles = []string{"id_ed25519", "id_ecdsa", "id_rsa"}

// maxKeyFile bounds what is read of a key file, in bytes.
const maxKeyFile = 64 << 10

// keys are the user's: those of the agent first, then those of files.
type keys struct {
	list  []ssh.Signer
	agent net.Conn
	// offered tells the keys there are, trouble why others are not used.
	offered, trouble []string
	// locked are files that need a passphrase.
	locked []string
}

func (k *keys) signers() ([]ssh.Signer, error) { return k.list, nil }

// Close lets go of the agent.
func (k *keys) Close() error {
	if k.agent == nil {
		return nil
	}
	return k.agent.Close()
}

func loadKeys(ctx context.Context, o Options) *keys {
	k := &keys{}
	if o.AgentSocket != "" {
		if err := k.ask(ctx, o.AgentSocket); err != nil {
			k.trouble = append(k.trouble, fmt.Sprintf("asking the ssh-agent: %v", err))
		}
	}
	if o.Home == "" {
		return k
	}
	for _, name := range keyFiles {
		file := filepath.Join(o.Home, ".ssh", name)
		err := k.load(file)
		var locked *ssh.PassphraseMissingError
		switch {
		case err == nil, errors.Is(err, fs.ErrNotExist):
		case errors.As(err, &locked):
			k.locked = append(k.locked, file)
		default:
			k.trouble = append(k.trouble, fmt.Sprintf("key %q: %v", file, err))
		}
	}
	return k
}

func (k *keys) ask(ctx context.Context, socket string) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	signers, err := agent.NewClient(conn).Signers()
	if !stop() || err != nil {
		conn.Close()
		return because(ctx, err)
	}
	k.agent = conn
	for _, s := range signers {
		k.list = append(k.list, s)
		k.offered = append(k.offered, "one of the ssh-agent, "+ssh.FingerprintSHA256(s.PublicKey()))
	}
	return nil
}

// load takes a key file, with the certificate beside it where there is one.
func (k *keys) load(file string) error {
	b, err := readSmall(file)
	if err != nil {
		return err
	}
	s, err := ssh.ParsePrivateKey(b)
	if err != nil {
		return err
	}
	if b, err := readSmall(file + "-cert.pub"); err == nil {
		if pub, _, _, _, err := ssh.ParseAuthorizedKey(b); err == nil {
			if cert, ok := pub.(*ssh.Certificate); ok {
				if cs, err := ssh.NewCertSigner(cert, s); err == nil {
					k.list = append(k.list, cs)
				}
			}
		}
	}
	k.list = append(k.list, s)
	k.offered = append(k.offered, fmt.Sprintf("%q, %s", file, ssh.FingerprintSHA256(s.PublicKey())))
	return nil
}

func readSmall(file string) ([]byte, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxKeyFile {
		return nil, fmt.Errorf("not a file of at most %d bytes", maxKeyFile)
	}
	return os.ReadFile(file)
}

// refused says why no key was good enough.
func (k *keys) refused(t Target) error {
	text := "it accepts none of the keys: " + strings.Join(k.offered, "; ")
	if len(k.offered) == 0 {
		text = "there is no key to log in with"
	}
	if len(k.locked) > 0 {
		text += fmt.Sprintf("; %q has a passphrase", k.locked)
	}
	if len(k.trouble) > 0 {
		text += "; " + strings.Join(k.trouble, "; ")
	}
	err := errors.New(text)
	switch {
	case len(k.locked) > 0:
		return failure.WithHint(err, `eval "$(ssh-agent)" && ssh-add %s`, failure.Word(k.locked[0]))
	case len(k.offered) == 0:
		return failure.WithHint(err, "ssh-keygen -t ed25519 && ssh-copy-id %s", copyArgs(t))
	}
	return failure.WithHint(err, "ssh-copy-id %s", copyArgs(t))
}

func copyArgs(t Target) string {
	host := t.Host
	if t.User != "" {
		host = t.User + "@" + host
	}
	if t.Port != defaultPort {
		return fmt.Sprintf("-p %d %s", t.Port, failure.Word(host))
	}
	return failure.Word(host)
}
