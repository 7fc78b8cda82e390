package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/urfave/cli/v2"
	"golang.org/x/crypto/ssh"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/signature"
	"github.com/relkit/relkit/pkg/sys/agent"
	"github.com/relkit/relkit/pkg/ui"
)

// signerFlags are the flags of every command that signs; signer reads them.
func signerFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "key", Usage: "sign with the SSH private key `KEYFILE`"},
		&cli.BoolFlag{Name: "agent", Usage: "sign with a key that ssh-agent holds"},
		&cli.StringFlag{Name: "pubkey", Usage: "sign with the key of `FILE`, a public key or a certificate"},
	}
}

// errNoSigner is for commands that cannot do without a key.
var errNoSigner = failure.Errorf(failure.Usage, "missing flag --key KEYFILE or --agent")

// maxKeyFile bounds what is read of a key file, in bytes: more than a key has.
const maxKeyFile = 64<<10 + 1

// signer is the key that --key, --agent and --pubkey ask for, nil where none
// does; done lets go of it.
func (e *env) signer(c *cli.Context) (s ssh.Signer, done func(), err error) {
	done = func() {}
	var want ssh.PublicKey
	if name := c.String("pubkey"); name != "" {
		if want, err = readPublicKey(name); err != nil {
			return nil, done, err
		}
	}
	switch key := c.String("key"); {
	case key != "" && c.Bool("agent"):
		return nil, done, failure.Errorf(failure.Usage, "--key and --agent exclude each other")
	case key != "":
		s, err = e.openKey(c.Context, key, want)
	case c.Bool("agent"):
		s, done, err = e.dialAgent(c.Context, want)
	case want != nil:
		return nil, done, failure.Errorf(failure.Usage, "--pubkey says with which key, and there is no --key or --agent to sign with")
	default:
		return nil, done, nil
	}
	if err != nil {
		return nil, done, err
	}
	at, err := e.stamp()
	if err == nil {
		err = signature.CheckSigner(s.PublicKey(), at)
	}
	if err != nil {
		done()
		return nil, func() {}, failure.Errorf(failure.Usage, "key %s: %w", signature.Fingerprint(s.PublicKey()), err)
	}
	return s, done, nil
}

func (e *env) dialAgent(ctx context.Context, want ssh.PublicKey) (ssh.Signer, func(), error) {
	nothing := func() {}
	socket := e.Getenv("SSH_AUTH_SOCK")
	if socket == "" {
		return nil, nothing, failure.WithHint(failure.Errorf(failure.Usage, "no ssh-agent: SSH_AUTH_SOCK is not set"), `eval "$(ssh-agent)" && ssh-add KEYFILE`)
	}
	a, err := agent.Dial(ctx, socket)
	if err != nil {
		return nil, nothing, err
	}
	s, err := a.Signer(ctx, want)
	if err != nil {
		a.Close()
		return nil, nothing, err
	}
	return s, func() { a.Close() }, nil
}

// openKey reads a private key file, asking for the passphrase where it has one.
// want, where given, is its public key, or a certificate to sign with.
func (e *env) openKey(ctx context.Context, name string, want ssh.PublicKey) (ssh.Signer, error) {
	b, err := readKeyFile(name)
	if err != nil {
		return nil, err
	}
	if _, err := signature.ParsePublicKey(b); err == nil {
		return nil, publicKeyGiven(name)
	}
	key, err := signature.ParsePrivateKey(b, func() ([]byte, error) { return e.askPassphrase(ctx, name) })
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil:
		return nil, failure.As(failure.Usage, fmt.Errorf("key %q: %w", name, err))
	case want == nil:
		return key, nil
	case signature.Fingerprint(want) != signature.Fingerprint(key.PublicKey()):
		return nil, failure.Errorf(failure.Usage, "key %q is %s, and --pubkey is of %s", name, signature.Fingerprint(key.PublicKey()), signature.Fingerprint(want))
	}
	if cert, ok := want.(*ssh.Certificate); ok {
		return ssh.NewCertSigner(cert, key)
	}
	return key, nil
}

// publicKeyGiven says that a key cannot sign since only its public half is there,
// and where the other one may be.
func publicKeyGiven(name string) error {
	err := failure.Errorf(failure.Usage, "key %q is a public key, and it takes the private one to sign", name)
	private := strings.TrimSuffix(strings.TrimSuffix(name, ".pub"), "-cert")
	if _, absent := os.Stat(private); private != name && absent == nil {
		return failure.WithHint(err, "--key %s", failure.Word(private))
	}
	return failure.WithHint(err, "--agent --pubkey %s  # where ssh-agent holds the private one", failure.Word(name))
}

// askPassphrase asks whoever started the command, whatever its streams are.
func (e *env) askPassphrase(ctx context.Context, name string) ([]byte, error) {
	var tty *os.File
	err := os.ErrNotExist
	if e.OpenTerminal != nil {
		tty, err = e.OpenTerminal()
	}
	if err != nil {
		return nil, failure.WithHint(fmt.Errorf("there is no terminal to ask on: %w", err), "ssh-add %s, then --agent instead of --key", name)
	}
	defer tty.Close()
	return ui.ReadPassphrase(ctx, tty, fmt.Sprintf("Passphrase for %q: ", name))
}

func readPublicKey(name string) (ssh.PublicKey, error) {
	b, err := readKeyFile(name)
	if err != nil {
		return nil, err
	}
	key, err := signature.ParsePublicKey(b)
	if err != nil {
		return nil, failure.Errorf(failure.Usage, "reading the public key %q: %w", name, err)
	}
	return key, nil
}

func readKeyFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, failure.As(failure.Usage, fmt.Errorf("reading the key: %w", err))
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxKeyFile))
	return b, failure.As(failure.Usage, err)
}
