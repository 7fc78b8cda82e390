// Package agent signs with the keys that an ssh-agent(1) holds: decrypted ones,
// and those of security keys and PKCS#11 tokens, which never leave them.
package agent

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
	sshagent "golang.org/x/crypto/ssh/agent"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/signature"
)

// listTimeout bounds how long an agent may take to say what it holds. Signing
// may take for as long as somebody looks for the security key to touch.
const listTimeout = 30 * time.Second

// Agent is a connection to an ssh-agent.
type Agent struct {
	client sshagent.ExtendedAgent
	close  func() error
	keys   []held
}

// held is a key of an agent whose signatures are accepted.
type held struct {
	ssh.PublicKey
	comment string
}

func (h held) String() string {
	return strings.TrimSpace(h.Type() + " " + signature.Fingerprint(h.PublicKey) + " " + h.comment)
}

// Dial asks the agent that listens on a Unix socket (SSH_AUTH_SOCK) what keys it
// holds. Once ctx ends, nothing waits for the agent any more.
func Dial(ctx context.Context, socket string) (*Agent, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, fmt.Errorf("connecting to the ssh-agent: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	a := &Agent{client: sshagent.NewClient(conn), close: func() error { stop(); return conn.Close() }}
	slow := time.AfterFunc(listTimeout, func() { conn.Close() })
	listed, err := a.client.List()
	if !slow.Stop() && err != nil {
		err = fmt.Errorf("no answer within %s", listTimeout)
	}
	if err != nil {
		a.Close()
		return nil, fmt.Errorf("asking the ssh-agent for its keys: %w", cause(ctx, err))
	}
	for _, k := range listed {
		key, err := ssh.ParsePublicKey(k.Blob)
		if err == nil && signature.CheckKey(key) == nil {
			a.keys = append(a.keys, held{key, k.Comment})
		}
	}
	return a, nil
}

// Close ends the connection.
func (a *Agent) Close() error { return a.close() }

// Signer is the agent's key want, which may be a certificate for a key that the
// agent holds without it; nil is the only key there is.
func (a *Agent) Signer(ctx context.Context, want ssh.PublicKey) (ssh.Signer, error) {
	if want == nil {
		return a.only(ctx)
	}
	plain := string(signature.Plain(want).Marshal())
	for _, k := range a.keys {
		if string(k.Marshal()) == string(want.Marshal()) {
			return &signer{ctx, a.client, want}, nil
		}
	}
	for _, k := range a.keys {
		if cert, ok := want.(*ssh.Certificate); ok && string(k.Marshal()) == plain {
			return ssh.NewCertSigner(cert, &signer{ctx, a.client, k.PublicKey})
		}
	}
	return nil, failure.Errorf(failure.Usage, "the ssh-agent does not hold the key %s; it holds %s", signature.Fingerprint(want), a.list())
}

func (a *Agent) only(ctx context.Context) (ssh.Signer, error) {
	switch len(a.keys) {
	case 0:
		return nil, failure.WithHint(failure.Errorf(failure.Usage, "the ssh-agent holds no key to sign with"), "ssh-add KEYFILE gives it one")
	case 1:
		return &signer{ctx, a.client, a.keys[0].PublicKey}, nil
	}
	return nil, failure.WithHint(failure.Errorf(failure.Usage, "the ssh-agent holds several keys: %s", a.list()), "--pubkey FILE says which one")
}

// list names the keys.
func (a *Agent) list() string {
	var names []string
	for _, k := range a.keys {
		names = append(names, k.String())
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, "; ")
}

// signer is one key of an agent.
type signer struct {
	ctx    context.Context // an ssh.Signer is called without one
	client sshagent.ExtendedAgent
	key    ssh.PublicKey
}

func (s *signer) PublicKey() ssh.PublicKey { return s.key }

func (s *signer) Sign(rand io.Reader, data []byte) (*ssh.Signature, error) {
	return s.SignWithAlgorithm(rand, data, "")
}

// SignWithAlgorithm signs; the algorithm matters for RSA alone.
func (s *signer) SignWithAlgorithm(_ io.Reader, data []byte, algorithm string) (*ssh.Signature, error) {
	var flags sshagent.SignatureFlags
	switch algorithm {
	case ssh.KeyAlgoRSASHA256:
		flags = sshagent.SignatureFlagRsaSha256
	case ssh.KeyAlgoRSASHA512:
		flags = sshagent.SignatureFlagRsaSha512
	}
	sig, err := s.client.SignWithFlags(s.key, data, flags)
	if err != nil {
		return nil, fmt.Errorf("the ssh-agent does not sign with key %s: %w", signature.Fingerprint(s.key), cause(s.ctx, err))
	}
	return sig, nil
}

// cause is why a connection was given up, where that is why it failed.
func cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}
