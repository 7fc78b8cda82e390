package sbom

import (
	"bytes"
	"crypto/sha1"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/record"
)

func sha1Of(s string) string {
	h := sha1.Sum([]byte(s))
	return hex.EncodeToString(h[:])
}

func sample() (*record.Build, map[string]File) {
	when := time.Date(2026, 3, 4, 5, 6, 7, 1e6, time.UTC)
	b := &record.Build{Project: "r3000", Builder: "fw[cc=gcc]", Number: 7, Version: "4.2.7", Finished: when, Relkit: record.BuildRelkit{Version: "v1"},
		Sources: []record.BuildSource{
			{Name: "fw", VCS: "git", URL: "https://bob:hunter2@vcs.example/fw.git", Revision: strings.Repeat("a", 40)},
			{Name: "old", VCS: "cvs", URL: ":pserver:bob:hunter2@vcs.example:/cvs", Revision: "2026-03-04"},
			{Name: "sdk", VCS: "tar", URL: "https://x.example/sdk.tar?sig=hunter2", Revision: "sha256:" + strings.Repeat("b", 64)}},
		Needs: []record.BuildNeed{{Builder: "lib", Number: 3, Artifacts: []record.BuildArtifact{{Path: "artifacts/l.a", Digest: digest.Of([]byte("lib"))}, {Path: "artifacts/l", Target: "l.a"}}}},
		Artifacts: []record.BuildArtifact{{Path: `artifacts/a\040b`, Digest: digest.Of([]byte("abc")), Mode: "0644"},
			{Path: "artifacts/l", Target: "prog"}, {Path: "artifacts/prog", Digest: digest.Of([]byte("prog")), Mode: "0755"}}}
	info := &buildinfo.BuildInfo{GoVersion: "go1.26.8 X:nothing", Main: debug.Module{Path: "example.com/prog", Version: "(devel)"}, Deps: []*debug.Module{
		{Path: "example.com/a", Version: "v1.0.0", Sum: "h1:x="},
		{Path: "example.com/b", Version: "v1.0.0", Replace: &debug.Module{Path: "example.com/c", Version: "v2.0.0"}},
		{Path: "example.com/d", Version: "v1.0.0", Replace: &debug.Module{Path: "/home/bob/d"}}}}
	return b, map[string]File{`artifacts/a\040b`: {SHA1: sha1Of("abc")}, "artifacts/prog": {SHA1: sha1Of("prog"), Go: info}}
}

// purls are what the sample is made of.
var purls = []string{
	"pkg:generic/fw@" + strings.Repeat("a", 40) + "?vcs_url=git%2Bhttps:%2F%2Fvcs.example%2Ffw.git%40" + strings.Repeat("a", 40),
	"pkg:generic/old@2026-03-04",
	"pkg:generic/sdk?checksum=sha256:" + strings.Repeat("b", 64) + "&download_url=https:%2F%2Fx.example%2Fsdk.tar",
	"pkg:generic/lib/3/artifacts/l.a?checksum=sha256:" + digest.Of([]byte("lib")).Hex(),
	"pkg:golang/example.com/a@v1.0.0", "pkg:golang/example.com/c@v2.0.0", "pkg:golang/example.com/d", "pkg:golang/example.com/prog", "pkg:golang/stdlib@1.26.8",
}

func TestCycloneDX(t *testing.T) {
	b, files := sample()
	data, err := New(b, files).CycloneDX()
	if err != nil {
		t.Fatal(err)
	}
	var d cdxDocument
	if err := json.Unmarshal(data, &d); err != nil {
		t.Fatal(err)
	}
	if d.Format != "CycloneDX" || d.SpecVersion != "1.6" || d.Version != 1 || d.Metadata.Timestamp != "2026-03-04T05:06:07Z" || d.Metadata.Component.Version != "4.2.7" ||
		!regexp.MustCompile(`^urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`).MatchString(d.Serial) {
		t.Errorf("%+v", d)
	}
	refs, got := map[string]bool{"build": true}, []string{}
	for _, c := range d.Components {
		if c.Name == "" || c.Type == "" || refs[c.Ref] {
			t.Errorf("component %+v", c)
		}
		refs[c.Ref] = true
		if c.PURL != "" {
			got = append(got, c.PURL)
		}
	}
	if !slices.Equal(got, purls) {
		t.Errorf("got  %s\nwant %s", strings.Join(got, "\n     "), strings.Join(purls, "\n     "))
	}
	on := map[string][]string{}
	for _, dep := range d.Dependencies {
		if _, twice := on[dep.Ref]; twice || !refs[dep.Ref] {
			t.Errorf("dependency %+v", dep)
		}
		on[dep.Ref] = dep.DependsOn
		for _, r := range dep.DependsOn {
			if !refs[r] {
				t.Errorf("%s depends on %s, which is not there", dep.Ref, r)
			}
		}
	}
	if len(on) != len(refs) || len(on["build"]) != 2 || len(on[`artifact:artifacts/a\040b`]) != 4 || len(on["artifact:artifacts/prog"]) != 9 {
		t.Errorf("%v", on)
	}
	if h := d.Components[1].Hashes; len(h) != 1 || h[0] != (cdxHash{"SHA-256", digest.Of([]byte("prog")).Hex()}) {
		t.Errorf("%v", h)
	}
	if bytes.Contains(data, []byte("hunter2")) || bytes.Contains(data, []byte("/home/bob")) {
		t.Errorf("%s", data)
	}
}

func TestSPDX(t *testing.T) {
	b, files := sample()
	data, err := New(b, files).SPDX()
	if err != nil {
		t.Fatal(err)
	}
	var d spdxDocument
	if err := json.Unmarshal(data, &d); err != nil {
		t.Fatal(err)
	}
	if d.Version != "SPDX-2.3" || d.DataLicense != "CC0-1.0" || d.ID != "SPDXRef-DOCUMENT" || d.Name != "fw[cc=gcc]/7" || d.Creation.Created != "2026-03-04T05:06:07Z" ||
		!slices.Equal(d.Creation.Creators, []string{"Tool: relkit-v1"}) || !strings.HasPrefix(d.Namespace, namespace) || len(d.Namespace) != len(namespace)+36 {
		t.Errorf("%+v", d)
	}
	ids, got := map[string]bool{d.ID: true}, []string{}
	legal := regexp.MustCompile(`^SPDXRef-[A-Za-z0-9.-]+$`)
	take := func(id string) {
		if ids[id] || !legal.MatchString(id) {
			t.Errorf("id %q", id)
		}
		ids[id] = true
	}
	for _, p := range d.Packages {
		take(p.ID)
		if p.Name == "" || p.Location == "" || p.Analyzed != (p.Verification != nil) {
			t.Errorf("package %+v", p)
		}
		for _, r := range p.Refs {
			got = append(got, r.Locator)
		}
	}
	if !slices.Equal(got, purls) {
		t.Errorf("got %s", strings.Join(got, "\n"))
	}
	sums := []string{sha1Of("abc"), sha1Of("prog")}
	slices.Sort(sums)
	if v := d.Packages[0].Verification.Value; v != sha1Of(sums[0]+sums[1]) {
		t.Errorf("verification code %s", v)
	}
	if l := d.Packages[1].Location; l != "git+https://vcs.example/fw.git@"+strings.Repeat("a", 40) || d.Packages[2].Location != unknown {
		t.Errorf("locations %s, %s", l, d.Packages[2].Location)
	}
	for _, f := range d.Files {
		take(f.ID)
		if !strings.HasPrefix(f.Name, "./artifacts/") || len(f.Checksums) != 2 || f.Checksums[0].Algorithm != "SHA1" || len(f.Checksums[0].Value) != 40 {
			t.Errorf("file %+v", f)
		}
	}
	kinds := map[string]int{}
	for _, r := range d.Relationships {
		kinds[r.Type]++
		if !ids[r.Of] || !ids[r.To] {
			t.Errorf("%+v leads nowhere", r)
		}
	}
	if kinds["DESCRIBES"] != 1 || kinds["CONTAINS"] != 2 || kinds["GENERATED_FROM"] != 8 || kinds["STATIC_LINK"] != 5 {
		t.Errorf("%v", kinds)
	}
	if bytes.Contains(data, []byte("hunter2")) || bytes.Contains(data, []byte("/home/bob")) {
		t.Errorf("%s", data)
	}
}

// TestSame: equal builds have equal bills, others have serial numbers of their own.
func TestSame(t *testing.T) {
	b, files := sample()
	bill := func() (string, string) {
		c, err := New(b, files).CycloneDX()
		if err != nil {
			t.Fatal(err)
		}
		s, err := New(b, files).SPDX()
		if err != nil {
			t.Fatal(err)
		}
		return string(c), string(s)
	}
	c, s := bill()
	for range 20 {
		if c2, s2 := bill(); c2 != c || s2 != s {
			t.Fatal("not the same")
		}
	}
	b.Number, b.Version = 8, "4.2.8"
	c2, s2 := bill()
	number := regexp.MustCompile(`urn:uuid:[0-9a-f-]+|spdx/[0-9a-f-]+`)
	if number.FindString(c) == number.FindString(c2) || number.FindString(s) == number.FindString(s2) {
		t.Error("another build has the same serial number")
	}
}
