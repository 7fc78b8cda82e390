package ssh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os/user"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/relkit/relkit/pkg/failure"
)

// connectTimeout bounds the way from nothing to a session: address, connection,
// key exchange and authentication.
const connectTimeout = 30 * time.Second

// Options of a connection; the zero value is a user without a home or an agent.
type Options struct {
	// Home is the user's folder, with .ssh in it.
	Home string
	// User is the name of a target that gives none; "" is the system's for this process.
	User string
	// AgentSocket is where ssh-agent(1) listens, SSH_AUTH_SOCK.
	AgentSocket string
	// Timeout bounds connecting; 0 is 30 s.
	Timeout time.Duration
}

// Client is a connection.
type Client struct {
	conn   *ssh.Client
	agent  io.Closer
	prompt *promptConn
}

// Dial connects to a host that is known, with a key that it accepts.
func Dial(ctx context.Context, t Target, o Options) (*Client, error) {
	c, err := dial(ctx, t, o)
	if err != nil {
		return nil, failure.WithHint(fmt.Errorf("connecting to %s: %w", t, err), "%s", failure.Hint(err))
	}
	return c, nil
}

func dial(ctx context.Context, t Target, o Options) (*Client, error) {
	if o.Timeout == 0 {
		o.Timeout = connectTimeout
	}
	ctx, cancel := context.WithTimeoutCause(ctx, o.Timeout, fmt.Errorf("no session within %v", o.Timeout))
	defer cancel()
	if t.User == "" {
		t.User = o.User
	}
	if t.User == "" {
		u, err := user.Current()
		if err != nil {
			return nil, err
		}
		t.User = u.Username
	}
	hosts, err := openKnownHosts(o.Home)
	if err != nil {
		return nil, err
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", t.Address())
	if err != nil {
		return nil, because(ctx, err)
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	keys := loadKeys(ctx, o)
	prompt := &promptConn{Conn: conn}
	client, err := handshake(prompt, t, keys, hosts)
	if !stop() || err != nil {
		conn.Close()
		keys.Close()
		return nil, because(ctx, err)
	}
	return &Client{conn: client, agent: keys, prompt: prompt}, nil
}

// because is the reason that ctx gives for an error, where it ended.
func because(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func handshake(conn net.Conn, t Target, keys *keys, hosts *knownHosts) (*ssh.Client, error) {
	var refused error // of the host's key: the library tells it as text
	config := &ssh.ClientConfig{
		User: t.User,
		Auth: []ssh.AuthMethod{ssh.PublicKeysCallback(keys.signers)},
		HostKeyCallback: func(host string, remote net.Addr, key ssh.PublicKey) error {
			refused = hosts.check(t, host, remote, key)
			return refused
		},
		HostKeyAlgorithms: hosts.algorithms(t),
		ClientVersion:     "SSH-2.0-relkit",
	}
	c, channels, requests, err := ssh.NewClientConn(conn, t.Address(), config)
	switch {
	case refused != nil:
		return nil, refused
	case err != nil && strings.Contains(err.Error(), "unable to authenticate"):
		return nil, keys.refused(t)
	case err != nil:
		return nil, err
	}
	return ssh.NewClient(c, channels, requests), nil
}

// Close ends the connection and all on it.
func (c *Client) Close() error {
	err := c.conn.Close()
	c.agent.Close()
	return err
}

// Process is a program that runs on the other machine.
type Process struct {
	Stdin  io.WriteCloser
	Stdout io.Reader
	// Stderr is what the program has written to its error stream, its last bytes.
	Stderr func() string

	session *ssh.Session
}

// Start has the user's shell on the other machine run a command line.
func (c *Client) Start(ctx context.Context, command string) (*Process, error) {
	stop := context.AfterFunc(ctx, func() { c.conn.Close() })
	p, err := c.start(command)
	c.prompt.enough.Store(true)
	if !stop() {
		return nil, context.Cause(ctx)
	}
	return p, err
}

func (c *Client) start(command string) (*Process, error) {
	session, err := c.conn.NewSession()
	if err != nil {
		return nil, fmt.Errorf("opening a session: %w", err)
	}
	note := &tail{max: 4 << 10}
	session.Stderr = note
	p := &Process{Stderr: note.String, session: session}
	if p.Stdin, err = session.StdinPipe(); err == nil {
		if p.Stdout, err = session.StdoutPipe(); err == nil {
			err = session.Start(command)
		}
	}
	if err != nil {
		session.Close()
		return nil, fmt.Errorf("running a command: %w", err)
	}
	return p, nil
}

// Wait waits for the program's end, for which its output must have been read.
func (p *Process) Wait() error {
	err := p.session.Wait()
	var missing *ssh.ExitMissingError
	if errors.As(err, &missing) {
		return errors.New("the connection broke off")
	}
	return err
}

// tail keeps the last max bytes written to it.
type tail struct {
	mu  sync.Mutex
	max int
	b   []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p...)
	t.b = t.b[max(0, len(t.b)-t.max):]
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.b)
}
