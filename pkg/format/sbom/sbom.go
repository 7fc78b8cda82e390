// Package sbom writes bills of materials of what a build made: CycloneDX 1.6 and
// SPDX 2.3, both in JSON. They list what is known and nothing else: the
// artifacts, the sources, what other builds handed over, and the modules that Go
// writes into its programs. Equal builds give equal bytes.
package sbom

import (
	"cmp"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/provenance"
	"github.com/relkit/relkit/pkg/format/record"
)

// Bill is what both formats are written of.
type Bill struct {
	build   *record.Build
	files   []file
	sources []component
	needs   []component
	modules []component
}

// File is what a bill has to be told of an artifact beside its record.
type File struct {
	SHA1 string // hexadecimal; SPDX wants it
	// Go is nil for what is no program of Go's.
	Go *buildinfo.BuildInfo
}

// file is an artifact.
type file struct {
	path    string
	digest  digest.Digest
	sha1    string
	modules []int // indexes into Bill.modules
}

// component is what an artifact is made of.
type component struct {
	name, version, purl, location string
	sha256                        string // hexadecimal, or ""
	notes                         map[string]string
}

// New gathers the bill of a build; files are by the paths in its record.
func New(b *record.Build, files map[string]File) *Bill {
	l := &Bill{build: b}
	for _, s := range b.Sources {
		l.sources = append(l.sources, source(s))
	}
	for _, n := range b.Needs {
		for _, a := range n.Artifacts {
			if a.Target == "" {
				name := n.Builder + "/" + strconv.Itoa(n.Number) + "/" + a.Path
				l.needs = append(l.needs, component{name: name, version: strconv.Itoa(n.Number), sha256: a.Digest.Hex(),
					purl: purl("generic", name, "", "checksum=sha256:"+a.Digest.Hex())})
			}
		}
	}
	used := map[string][]component{} // by path of the artifact
	for path, f := range files {
		used[path] = modules(f.Go)
		l.modules = append(l.modules, used[path]...)
	}
	byPURL := func(a, b component) int { return cmp.Compare(a.purl, b.purl) }
	slices.SortFunc(l.modules, byPURL)
	l.modules = slices.CompactFunc(l.modules, func(a, b component) bool { return a.purl == b.purl })
	for _, a := range b.Artifacts {
		if a.Target != "" {
			continue
		}
		f := file{path: a.Path, digest: a.Digest, sha1: files[a.Path].SHA1}
		for _, m := range used[a.Path] {
			i, _ := slices.BinarySearchFunc(l.modules, m, byPURL)
			f.modules = append(f.modules, i)
		}
		slices.Sort(f.modules)
		f.modules = slices.Compact(f.modules)
		l.files = append(l.files, f)
	}
	return l
}

// source is a source at the revision that was built.
func source(s record.BuildSource) component {
	uri := provenance.SourceURI(s.VCS, s.URL)
	c := component{name: s.Name, version: s.Revision, location: uri, notes: map[string]string{"vcs": s.VCS}}
	hash, isDigest := strings.CutPrefix(s.Revision, "sha256:")
	switch {
	case s.VCS == "tar" && isDigest:
		c.sha256 = hash
		c.purl = purl("generic", s.Name, "", "checksum=sha256:"+hash, "download_url="+quote(uri))
	case s.VCS == "file":
		c.purl = purl("generic", s.Name, s.Revision)
	default:
		c.location = uri + "@" + s.Revision
		c.purl = purl("generic", s.Name, s.Revision, "vcs_url="+quote(c.location))
	}
	if strings.HasSuffix(uri, "hidden:") {
		c.location, c.purl = "", purl("generic", s.Name, s.Revision)
	}
	return c
}

// modules are those that Go has linked into a program, Go's own library included.
func modules(info *buildinfo.BuildInfo) []component {
	if info == nil {
		return nil
	}
	var list []component
	if words := strings.Fields(info.GoVersion); len(words) > 0 && strings.HasPrefix(words[0], "go") {
		list = append(list, module("stdlib", strings.TrimPrefix(words[0], "go"), ""))
	}
	if info.Main.Path != "" {
		list = append(list, module(info.Main.Path, strings.TrimPrefix(info.Main.Version, "(devel)"), info.Main.Sum))
	}
	for _, d := range info.Deps {
		m := module(d.Path, d.Version, d.Sum)
		if r := d.Replace; r != nil && r.Version != "" {
			m = module(r.Path, r.Version, r.Sum)
			m.notes["replaces"] = d.Path + "@" + d.Version
		} else if r != nil { // by a folder: of no version that anybody else has
			m = module(d.Path, "", "")
			m.notes["replaces"] = d.Path + "@" + d.Version
		}
		list = append(list, m)
	}
	return list
}

func module(path, version, sum string) component {
	c := component{name: path, version: version, purl: purl("golang", path, version), notes: map[string]string{}}
	if sum != "" {
		c.notes["go.sum"] = sum // of the tree, not of any one file
	}
	return c
}

// purl is a package URL (https://github.com/package-url/purl-spec). Qualifiers are
// in the order of their names.
func purl(kind, name, version string, qualifiers ...string) string {
	parts := strings.Split(name, "/")
	for i := range parts {
		parts[i] = quote(parts[i])
	}
	text := "pkg:" + kind + "/" + strings.Join(parts, "/")
	if version != "" {
		text += "@" + quote(version)
	}
	if len(qualifiers) > 0 {
		text += "?" + strings.Join(qualifiers, "&")
	}
	return text
}

// quote is percent-encoding as package URLs have it: a colon stands for itself.
func quote(s string) string {
	return strings.NewReplacer("+", "%20", "%3A", ":").Replace(url.QueryEscape(s))
}

// name of the whole: what was built, and which build of it.
func (l *Bill) name() string { return l.build.Builder + "/" + strconv.Itoa(l.build.Number) }

func (l *Bill) version() string {
	if l.build.Version != "" {
		return l.build.Version
	}
	return strconv.Itoa(l.build.Number)
}

// uuid makes a UUID, version 8, of what it is to stand for.
func uuid(of []byte) string {
	h := sha256.Sum256(of)
	h[6], h[8] = h[6]&0x0f|0x80, h[8]&0x3f|0x80
	x := hex.EncodeToString(h[:16])
	return x[:8] + "-" + x[8:12] + "-" + x[12:16] + "-" + x[16:20] + "-" + x[20:]
}
