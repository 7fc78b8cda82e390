package provenance

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/record"
)

func sampleBuild() *record.Build {
	when := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	rev := strings.Repeat("a", 40)
	return &record.Build{
		Schema: record.BuildSchema, Project: "r 3000", Builder: "fw[cc=gcc]", Number: 7, Status: record.BuildSuccess, Schedule: "nightly",
		Version: "4.2.7", Started: when, Finished: when.Add(time.Second), SourceDateEpoch: 1772000000,
		Relkit: record.BuildRelkit{Version: "v1"}, Worker: record.BuildWorker{Name: "local", Kind: "local", OS: "linux", Arch: "amd64", Slots: 2},
		Matrix: map[string]string{"cc": "gcc"}, Set: map[string]string{"k": "v"},
		Sources: []record.BuildSource{
			{Name: "fw", VCS: "git", URL: "https://bob:hunter2@vcs.example/fw.git?token=hunter2", Revision: rev},
			{Name: "ui", VCS: "svn", URL: "svn+ssh://bob@vcs.example/ui", Revision: "17"},
			{Name: "sdk", VCS: "tar", URL: "/srv/s dk.tar", Revision: "sha256:" + strings.Repeat("b", 64)}},
		Needs: []record.BuildNeed{{Builder: "lib", Number: 3, Artifacts: []record.BuildArtifact{{Path: "artifacts/x", SizeBytes: 3, Digest: digest.Of([]byte("abc")), Mode: "0644"}, {Path: "artifacts/y", Mode: "0777", Target: "x"}}}},
		Artifacts: []record.BuildArtifact{{Path: `artifacts/a\040b`, SizeBytes: 3, Digest: digest.Of([]byte("abc")), Mode: "0644"},
			{Path: "artifacts/l", Mode: "0777", Target: `a\040b`}},
	}
}

func sample(t testing.TB) *Envelope {
	t.Helper()
	s, err := Of(sampleBuild(), digest.Of([]byte("config")))
	if err != nil {
		t.Fatal(err)
	}
	e, err := Seal(s)
	if err != nil {
		t.Fatal(err)
	}
	e.Add("SHA256:x", []byte("-----BEGIN SSH SIGNATURE-----\n"))
	return e
}

func TestStatement(t *testing.T) {
	pae, err := sample(t).PAE()
	if err != nil {
		t.Fatal(err)
	}
	abc := digest.Of([]byte("abc")).Hex()
	head, payload, _ := bytes.Cut(pae, []byte("{"))
	if want := fmt.Sprintf("DSSEv1 28 application/vnd.in-toto+json %d ", len(payload)+1); string(head) != want {
		t.Errorf("PAE begins %q, want %q", head, want)
	}
	for _, want := range []string{
		`"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"artifacts/a\\040b","digest":{"sha256":"` + abc + `"},"annotations":{"mode":"0644"}}],"predicateType":"https://slsa.dev/provenance/v1"`,
		`"externalParameters":{"project":"r 3000","builder":"fw","matrix":{"cc":"gcc"},"set":{"k":"v"},"schedule":"nightly","config":{"name":"relkit.toml","digest":{"sha256":"` + digest.Of([]byte("config")).Hex() + `"}}}`,
		`{"name":"fw","uri":"git+https://vcs.example/fw.git","digest":{"gitCommit":"` + strings.Repeat("a", 40) + `"}`,
		`{"name":"ui","uri":"svn+ssh://bob@vcs.example/ui","annotations":{"revision":"17","vcs":"svn"}}`,
		`{"name":"sdk","uri":"file:///srv/s%20dk.tar","digest":{"sha256":"` + strings.Repeat("b", 64) + `"}`,
		`{"name":"lib/3/artifacts/x","digest":{"sha256":"` + abc + `"}}]`,
		`"builder":{"id":"https://github.com/relkit/relkit/builder/v1/r%203000/local","version":{"relkit":"v1"}}`,
		`"metadata":{"invocationId":"fw[cc=gcc]/7","startedOn":"2026-03-04T05:06:07Z","finishedOn":"2026-03-04T05:06:08Z"}`,
		`"byproducts":[{"name":"artifacts/l","content":"YSBi","mediaType":"inode/symlink","annotations":{"mode":"0777"}}]`,
	} {
		if !bytes.Contains(pae, []byte(want)) {
			t.Errorf("%s\nis not in %s", want, pae)
		}
	}
	if bytes.Contains(pae, []byte("hunter2")) {
		t.Errorf("a secret is in %s", pae)
	}
}

func TestSourceURI(t *testing.T) {
	for _, c := range [][3]string{
		{"git", "/srv/fw", "git+file:///srv/fw"},
		{"git", "git@vcs.example:fw.git", "git+ssh://git@vcs.example/fw.git"},
		{"git", "https://token@vcs.example/fw.git", "git+https://vcs.example/fw.git"},
		{"git", "ssh://bob:pw@vcs.example/fw.git#x", "git+ssh://bob@vcs.example/fw.git"},
		{"cvs", ":pserver:bob:pw@vcs.example:/cvs", "cvs+hidden:"},
		{"cvs", "pserver:bob:pw@vcs.example:/cvs", "cvs+hidden:"},
		{"git", "https://a b:pw@%zz/", "git+hidden:"},
		{"file", "/srv/*.tar", "file:///srv/%2A.tar"},
		{"tar", "https://x.example/a.tar?sig=1", "https://x.example/a.tar"},
	} {
		if got := SourceURI(c[0], c[1]); got != c[2] {
			t.Errorf("SourceURI(%q, %q) = %q, want %q", c[0], c[1], got, c[2])
		}
	}
}

func TestRoundTrip(t *testing.T) {
	b, err := sample(t).Encode()
	if err != nil {
		t.Fatal(err)
	}
	e, err := Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := e.Encode(); err != nil || !bytes.Equal(again, b) {
		t.Errorf("%v: %s", err, again)
	}
	s, err := e.Statement()
	if err != nil {
		t.Fatal(err)
	}
	if payload, err := s.Encode(); err != nil || base64.StdEncoding.EncodeToString(payload) != e.Payload {
		t.Errorf("%v: %s", err, payload)
	}
}

func TestMistakes(t *testing.T) {
	whole, err := sample(t).Encode()
	if err != nil {
		t.Fatal(err)
	}
	for old, c := range map[string][2]string{
		`"payloadType":"application`: {`"payloadType":"text`, "payload of type"},
		`"payload":"`:                {`"payload":"\n`, "line break"},
		`"payload":"e`:               {`"payload":"*`, "illegal base64"},
		`"keyid":`:                   {`"keyId":`, "offset "},
		`"sig":"`:                    {`"sig":"` + strings.Repeat("AAAA", 6000), "bytes: at most"},
	} {
		if _, err := Decode(bytes.Replace(whole, []byte(old), []byte(c[0]), 1)); err == nil || !strings.Contains(err.Error(), c[1]) {
			t.Errorf("%s: got %v, want %q", c[0], err, c[1])
		}
	}
	if _, err := Decode([]byte(`{"payloadType":"application/vnd.in-toto+json","payload":"e30=","signatures":[]}`)); err == nil || !strings.Contains(err.Error(), "no signature") {
		t.Errorf("no signature: %v", err)
	}
	for want, change := range map[string]func(*Statement){
		"type \"x\"":           func(s *Statement) { s.Type = "x" },
		"predicate type \"x\"": func(s *Statement) { s.PredicateType = "x" },
		"build type \"x\"":     func(s *Statement) { s.Predicate.BuildDefinition.BuildType = "x" },
		"no builder":           func(s *Statement) { s.Predicate.RunDetails.Builder.ID = "" },
		"no subject":           func(s *Statement) { s.Subject = nil },
		"subject 1":            func(s *Statement) { s.Subject[0].Digest = nil },
		"dependency 4":         func(s *Statement) { s.Predicate.BuildDefinition.Dependencies[3].Digest = nil },
	} {
		s, err := sample(t).Statement()
		if err != nil {
			t.Fatal(err)
		}
		change(s)
		if _, err := s.Encode(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", want, err)
		}
	}
}

// TestMemory: what is read costs a few times its size, whatever it says.
func TestMemory(t *testing.T) {
	big := `{"payloadType":"` + PayloadType + `","payload":"` + strings.Repeat("AAAA", 1<<18) + `","signatures":[` + strings.Repeat(`{"keyid":"","sig":""},`, 1<<14)
	big += `{"keyid":"","sig":""}]}`
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := Decode([]byte(big)); err == nil || !strings.Contains(err.Error(), "16385 signatures") {
		t.Fatalf("%v", err)
	}
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > 24*uint64(len(big)) {
		t.Errorf("%d bytes for %d", used, len(big))
	}
	if _, err := Decode(make([]byte, MaxEnvelope+1)); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("%v", err)
	}
}

func FuzzDecode(f *testing.F) {
	b, err := sample(f).Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"payloadType":"application/vnd.in-toto+json","payload":"e30=","signatures":[{"keyid":"","sig":"eA=="}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := Decode(data)
		if err != nil {
			return
		}
		once, err := e.Encode()
		if err != nil {
			t.Fatal(err)
		}
		again, err := Decode(once)
		if err != nil {
			t.Fatalf("%v: %s", err, once)
		}
		if twice, err := again.Encode(); err != nil || !bytes.Equal(once, twice) {
			t.Errorf("%v:\n%s\n%s", err, once, twice)
		}
		if s, err := e.Statement(); err == nil {
			roundTrip(t, s)
		}
	})
}

func FuzzDecodeStatement(f *testing.F) {
	s, err := sample(f).Statement()
	if err != nil {
		f.Fatal(err)
	}
	b, err := s.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, data []byte) {
		if s, err := DecodeStatement(data); err == nil {
			roundTrip(t, s)
		}
	})
}

func roundTrip(t *testing.T, s *Statement) {
	t.Helper()
	once, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	again, err := DecodeStatement(once)
	if err != nil {
		t.Fatalf("%v: %s", err, once)
	}
	if twice, err := again.Encode(); err != nil || !bytes.Equal(once, twice) {
		t.Errorf("%v:\n%s\n%s", err, once, twice)
	}
}
