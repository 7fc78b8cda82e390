package build

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/provenance"
	"github.com/relkit/relkit/pkg/format/record"
	"github.com/relkit/relkit/pkg/relkittest"
)

const attested = artifact + "provenance = true\nkey = \"build.key\"\n"

// tool runs a program in the bench's folder and answers its standard output.
func (b *bench) tool(stdin, name string, args ...string) string {
	b.t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Stdin = b.dir, strings.NewReader(stdin)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		b.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, stderr.String())
	}
	return string(out)
}

func newAttestedBench(t *testing.T, sh string) *bench {
	t.Helper()
	relkittest.Need(t, "ssh-keygen")
	b := newBench(t, builder(sh, "", attested), map[string]string{"in": "hello\n"})
	b.tool("", "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "build.key")
	b.write("allowed", "build@fw "+b.read("build.key.pub"))
	return b
}

// TestProvenance: what ssh-keygen verifies says what was built of what.
func TestProvenance(t *testing.T) {
	b := newAttestedBench(t, "mkdir -p out; cp in out/x; ln -s x out/l")
	b.opt.Set = map[string]string{"k": "v"}
	r := b.must()
	data := b.read("state/builds/fw/000001", record.ProvenanceFile)
	onDisk, err := record.DecodeBuild([]byte(b.read("state/builds/fw/000001/build.json")))
	if err != nil {
		t.Fatal(err)
	}
	finger := strings.Fields(b.tool("", "ssh-keygen", "-l", "-f", "build.key.pub"))[1]
	want := record.BuildProvenance{Path: record.ProvenanceFile, SizeBytes: int64(len(data)), Digest: digest.Of([]byte(data)), Key: finger}
	if onDisk.Provenance == nil || *onDisk.Provenance != want {
		t.Errorf("the record says %+v, want %+v", onDisk.Provenance, want)
	}
	e, err := provenance.Decode([]byte(data))
	if err != nil || len(e.Signatures) != 1 || e.Signatures[0].KeyID != finger {
		t.Fatalf("%v, %+v", err, e)
	}
	pae, err := e.PAE()
	if err != nil {
		t.Fatal(err)
	}
	armored, err := e.Signatures[0].Armored()
	if err != nil {
		t.Fatal(err)
	}
	b.write("sig", string(armored))
	b.tool(string(pae), "ssh-keygen", "-Y", "verify", "-f", "allowed", "-I", "build@fw", "-n", "relkit-provenance", "-s", "sig")

	// As any reader of in-toto's statements sees it.
	_, payload, _ := strings.Cut(string(pae), "{")
	var s struct {
		Subject []struct {
			Name   string
			Digest map[string]string
		}
		Predicate struct {
			BuildDefinition struct {
				ExternalParameters struct {
					Set    map[string]string
					Config struct{ Digest map[string]string }
				}
				ResolvedDependencies []struct{ Digest map[string]string }
			}
			RunDetails struct{ Metadata struct{ InvocationID string } }
		}
	}
	if err := json.Unmarshal([]byte("{"+payload), &s); err != nil {
		t.Fatal(err)
	}
	def := s.Predicate.BuildDefinition
	if len(s.Subject) != 1 || s.Subject[0].Name != "artifacts/out/x" || s.Subject[0].Digest["sha256"] != digest.Of([]byte("hello\n")).Hex() ||
		def.ResolvedDependencies[0].Digest["gitCommit"] != r.Sources[0].Revision || def.ExternalParameters.Set["k"] != "v" ||
		def.ExternalParameters.Config.Digest["sha256"] != digest.Of([]byte(b.read("relkit.toml"))).Hex() || s.Predicate.RunDetails.Metadata.InvocationID != "fw/1" {
		t.Errorf("%s", pae)
	}
	if sums := b.read("state/builds/fw/000001/SHA256SUMS"); strings.Contains(sums, record.ProvenanceFile) {
		t.Errorf("%s", sums)
	}
}

// TestProvenanceOfWhatIsNone: neither a try build nor one that failed is signed for.
func TestProvenanceOfWhatIsNone(t *testing.T) {
	b := newAttestedBench(t, "mkdir -p out; cp in out/x; test $(cat in) = hello")
	b.must()
	b.opt.Diffs = []Diff{{Name: "x.diff", Data: []byte("--- a/more\n+++ b/more\n@@ -0,0 +1 @@\n+three\n")}}
	if err := os.Rename(b.path("build.key"), b.path("away")); err != nil {
		t.Fatal(err)
	}
	b.must() // without a key even
	b.opt.Diffs = nil
	if err := os.Rename(b.path("away"), b.path("build.key")); err != nil {
		t.Fatal(err)
	}
	b.commit(map[string]string{"in": "other\n"})
	b.fails("")
	for n, want := range map[string]bool{"000001": true, "000002": false, "000003": false} {
		_, err := os.Stat(b.path("state/builds/fw", n, record.ProvenanceFile))
		if got := !errors.Is(err, fs.ErrNotExist); got != want {
			t.Errorf("build %s: %v, want %v", n, got, want)
		}
	}
	b.write("relkit.toml", head+builder("rm -rf out; mkdir out; ln -s y out/l", "", attested))
	if r := b.fails("no artifact is a file"); r.Status != record.BuildFailed || r.Provenance != nil {
		t.Errorf("%+v", r)
	}
}

// TestProvenanceKey: a key that cannot sign is told of before a build begins, and
// one that is gone when it is needed is not the code's fault.
func TestProvenanceKey(t *testing.T) {
	b := newAttestedBench(t, "mkdir -p out; cp in out/x; if test -e ../../../../vanish; then mv ../../../../build.key ../../../../away; fi")
	refused := func(want string, kind failure.Kind) {
		t.Helper()
		err := b.run()
		if err == nil || !strings.Contains(err.Error(), want) || failure.Of(err) != kind || len(b.built) != 0 {
			t.Errorf("got %v (%v, %d builds), want %s", err, failure.Of(err), len(b.built), want)
		}
		if _, err := os.Stat(b.path("state/builds/fw/000001")); err == nil {
			t.Errorf("%s: a number was taken", want)
		}
	}
	key := b.read("build.key")
	if err := os.Remove(b.path("build.key")); err != nil {
		t.Fatal(err)
	}
	refused(`relkit.toml:24:1: builder.artifacts.key: open `, failure.Usage)
	b.write("build.key", "no key\n")
	refused(`relkit.toml:24:1: builder.artifacts.key: "`, failure.Usage)
	b.opt.LookupEnv = func(string) (string, bool) { return "", false }
	b.write("build.key", b.read("build.key.pub"))
	refused("takes ssh-agent to sign with: SSH_AUTH_SOCK is not set", failure.Failed)
	b.opt.LookupEnv = nil
	if err := os.Remove(b.path("build.key")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(b.path("build.key"), []byte(key), 0o600); err != nil {
		t.Fatal(err)
	}
	b.write("vanish", "")
	err := b.run()
	if err == nil || failure.Of(err) != failure.Failed || len(b.built) != 1 || b.built[0].Status != record.BuildError || !strings.Contains(b.built[0].Error, "builder.artifacts.key: open") {
		t.Fatalf("%v, %+v", err, b.built)
	}
	if _, err := os.Stat(b.path("state/builds/fw/000001", record.ProvenanceFile)); err == nil {
		t.Error("it was signed")
	}
}

// TestProvenanceByAgent: a key with a passphrase signs as the real ssh-agent holds it.
func TestProvenanceByAgent(t *testing.T) {
	relkittest.Need(t, "ssh-agent", "ssh-add")
	b := newAttestedBench(t, "mkdir -p out; cp in out/x")
	agent := exec.Command("ssh-agent", "-D", "-a", b.path("sock"))
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = agent.Process.Kill()
		_ = agent.Wait()
	})
	relkittest.WaitFor(t, "a socket of ssh-agent", func() bool { _, err := os.Stat(b.path("sock")); return err == nil })
	t.Setenv("SSH_AUTH_SOCK", b.path("sock"))
	b.tool("", "ssh-keygen", "-q", "-p", "-P", "", "-N", "a secret", "-f", "build.key")
	err := b.run()
	if err == nil || failure.Of(err) != failure.Failed || !strings.Contains(err.Error(), "takes ssh-agent to sign with") {
		t.Fatalf("%v", err)
	}
	b.tool("", "ssh-keygen", "-q", "-p", "-P", "a secret", "-N", "", "-f", "build.key")
	b.tool("", "ssh-add", "-q", "build.key")
	b.tool("", "ssh-keygen", "-q", "-p", "-P", "", "-N", "a secret", "-f", "build.key")
	if r := b.must(); r.Provenance == nil || !slices.Contains(strings.Fields(b.tool("", "ssh-keygen", "-l", "-f", "build.key.pub")), r.Provenance.Key) {
		t.Errorf("%+v", r.Provenance)
	}
}
