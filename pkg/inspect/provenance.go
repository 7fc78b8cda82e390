package inspect

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/relkit/relkit/pkg/engine/trust"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/provenance"
	"github.com/relkit/relkit/pkg/format/record"
	"github.com/relkit/relkit/pkg/format/signature"
)

// BuildRole is the role that provenance is to be signed as, where nothing is said.
const BuildRole = "build"

// provenance tells who signed for a build. The statement has to be what the
// record says, so that the signature speaks for the record and, since they have
// been compared with it, for the artifacts. The error is a failure.Untrusted.
func (res *Result) provenance(b *record.Build, o Options) error {
	policy := o.Policy
	if len(policy.Require) == 0 {
		policy.Require = []string{BuildRole}
	}
	accepted, err := checkProvenance(filepath.Dir(res.File), b, policy, o.Now)
	if err != nil {
		return failure.As(failure.Untrusted, fmt.Errorf("%s: %w", record.ProvenanceFile, err))
	}
	res.Verified = append(res.Verified, accepted...)
	return nil
}

func checkProvenance(dir string, b *record.Build, policy trust.Policy, now time.Time) ([]trust.Accepted, error) {
	data, err := readBeside(dir, record.ProvenanceFile)
	if err != nil {
		return nil, err
	}
	if d := digest.Of(data); d != b.Provenance.Digest {
		return nil, fmt.Errorf("digest %s, and build.json lists %s", d, b.Provenance.Digest)
	}
	e, err := provenance.Decode(data)
	if err != nil {
		return nil, err
	}
	pae, err := e.PAE()
	if err != nil {
		return nil, err
	}
	var sigs []signature.SignedDoc
	for i := range e.Signatures {
		armored, err := e.Signatures[i].Armored()
		if err != nil {
			return nil, err
		}
		sigs = append(sigs, signature.SignedDoc{Name: fmt.Sprintf("signature %d", i+1), Doc: pae, Sig: armored})
	}
	accepted, err := trust.CheckDocument(policy, signature.NamespaceProvenance, pae, sigs, now)
	if err != nil {
		return nil, err
	}
	s, err := e.Statement()
	if err != nil {
		return nil, err
	}
	return accepted, saysSame(s, b)
}

// saysSame tells whether a statement is the one that a build's record makes.
func saysSame(s *provenance.Statement, b *record.Build) error {
	config, err := digest.ParseHex(s.Predicate.BuildDefinition.External.Config.Digest["sha256"])
	if err != nil {
		return fmt.Errorf("the digest of relkit.toml: %w", err)
	}
	want, err := provenance.Of(b, config)
	if err != nil {
		return err
	}
	signed, err := s.Encode()
	if err != nil {
		return err
	}
	listed, err := want.Encode()
	if err != nil {
		return err
	}
	if string(signed) == string(listed) {
		return nil
	}
	for i := range max(len(s.Subject), len(want.Subject)) {
		switch {
		case i >= len(s.Subject):
			return fmt.Errorf("build.json lists artifact %q, which was not signed for", want.Subject[i].Name)
		case i >= len(want.Subject):
			return fmt.Errorf("artifact %q was signed for, and build.json does not list it", s.Subject[i].Name)
		case s.Subject[i].Name != want.Subject[i].Name || s.Subject[i].Digest["sha256"] != want.Subject[i].Digest["sha256"]:
			return fmt.Errorf("artifact %q was signed for with the sha256 %s, and build.json lists %q with %s",
				s.Subject[i].Name, s.Subject[i].Digest["sha256"], want.Subject[i].Name, want.Subject[i].Digest["sha256"])
		}
	}
	return errors.New("build.json is not what was signed: of the sources, the needs, the worker, the times, or what was asked for")
}

// readBeside reads a file of the folder that must not lead out of it.
func readBeside(dir, name string) ([]byte, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	info, err := root.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("not a file")
	}
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, provenance.MaxEnvelope+1))
}
