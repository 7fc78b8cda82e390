package build

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/provenance"
	"github.com/relkit/relkit/pkg/format/record"
	"github.com/relkit/relkit/pkg/format/signature"
	"github.com/relkit/relkit/pkg/sys/agent"
)

// maxKeyFile bounds what is read of a key file, in bytes: more than a key has.
const maxKeyFile = 64<<10 + 1

// signs tells whether a cell's builds are signed. A try build is of no revision,
// and goes to nobody.
func (r *runner) signs(c *Cell) bool { return c.builder.Artifacts.Provenance && !r.try() }

// checkSigner tells before anything is built whether what a build signs with is
// there: an hour's build must not fail of it.
func (r *runner) checkSigner(ctx context.Context, c *Cell) error {
	if !r.signs(c) {
		return nil
	}
	_, done, err := r.signer(ctx, c)
	done()
	return err
}

// signer is the key that a cell's builds are signed with: of artifacts.key, or,
// where that is a public key or has a passphrase, which nobody may be there to
// type, as ssh-agent holds it. done lets go of it.
func (r *runner) signer(ctx context.Context, c *Cell) (s ssh.Signer, done func(), err error) {
	name := r.p.abs(c.builder.Artifacts.Key)
	done = func() {}
	at := func(err error) error {
		return r.p.cfg.ErrorAt([]any{"builder", c.index, "artifacts", "key"}, "builder.artifacts.key: %v", err)
	}
	data, err := readKey(name)
	if err != nil {
		return nil, done, at(err)
	}
	want, err := signature.ParsePublicKey(data)
	if err != nil {
		s, err = signature.ParsePrivateKey(data, nil)
		if err != nil {
			if want = signature.EncryptedKey(data); want == nil {
				return nil, done, at(fmt.Errorf("%q: %w", name, err))
			}
		}
	}
	if s == nil {
		if s, done, err = r.held(ctx, name, want); err != nil {
			return nil, func() {}, fmt.Errorf("builder.artifacts.key: %q takes ssh-agent to sign with: %w", name, err)
		}
	}
	if err := signature.CheckSigner(s.PublicKey(), r.opt.Now()); err != nil {
		done()
		return nil, func() {}, at(fmt.Errorf("%q: %w", name, err))
	}
	return s, done, nil
}

// held is a key that ssh-agent holds.
func (r *runner) held(ctx context.Context, name string, want ssh.PublicKey) (ssh.Signer, func(), error) {
	socket, _ := r.opt.LookupEnv("SSH_AUTH_SOCK")
	if socket == "" {
		return nil, nil, failure.WithHint(errors.New("SSH_AUTH_SOCK is not set"), `eval "$(ssh-agent)" && ssh-add %s`, failure.Word(strings.TrimSuffix(name, ".pub")))
	}
	a, err := agent.Dial(ctx, socket)
	if err != nil {
		return nil, nil, err
	}
	s, err := a.Signer(ctx, want)
	if err != nil {
		a.Close()
		return nil, nil, failure.As(failure.Failed, err)
	}
	return s, func() { a.Close() }, nil
}

func readKey(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxKeyFile))
}

// attest signs what a build that succeeded was made of, and notes that in its
// record. What it writes is whole and durable before the record is written that
// names it; a cut before that leaves a build that did not succeed, whose
// provenance recovery removes.
func (j *job) attest(ctx context.Context) (failed string, err error) {
	if !j.r.signs(j.cell) {
		return "", nil
	}
	j.doing("signing")
	statement, err := provenance.Of(j.build, j.r.p.digest)
	if err != nil {
		return "", err
	}
	if len(statement.Subject) == 0 {
		return "provenance: no artifact is a file, and nothing else can be signed for", nil
	}
	// Whoever must touch a security key may have left; the build is not to wait for ever.
	ctx, cancel := context.WithTimeout(ctx, signTime)
	defer cancel()
	s, done, err := j.r.signer(ctx, j.cell)
	defer done()
	if err != nil {
		return "", failure.As(failure.Failed, err)
	}
	data, err := seal(statement, s)
	if err != nil {
		return "", fmt.Errorf("provenance: %w", err)
	}
	if err := writeWhole(filepath.Join(j.dir, record.ProvenanceFile), data); err != nil {
		return "", fmt.Errorf("provenance: %w", err)
	}
	j.build.Provenance = &record.BuildProvenance{Path: record.ProvenanceFile, SizeBytes: int64(len(data)), Digest: digest.Of(data), Key: signature.Fingerprint(s.PublicKey())}
	return "", nil
}

// signTime bounds how long a signature may take.
const signTime = 2 * time.Minute

// seal is a signed envelope around a statement, as provenance.dsse.json has it.
func seal(statement *provenance.Statement, s ssh.Signer) ([]byte, error) {
	e, err := provenance.Seal(statement)
	if err != nil {
		return nil, err
	}
	pae, err := e.PAE()
	if err != nil {
		return nil, err
	}
	armored, err := signature.Sign(s, signature.NamespaceProvenance, bytes.NewReader(pae))
	if err != nil {
		return nil, err
	}
	e.Add(signature.Fingerprint(s.PublicKey()), armored)
	return e.Encode()
}
