package sbom

import (
	"crypto/sha1"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
)

// The parts of an SPDX 2.3 document that are used
// (https://spdx.github.io/spdx-spec/v2.3/).
type (
	spdxDocument struct {
		Version       string             `json:"spdxVersion"`
		DataLicense   string             `json:"dataLicense"`
		ID            string             `json:"SPDXID"`
		Name          string             `json:"name"`
		Namespace     string             `json:"documentNamespace"`
		Creation      spdxCreation       `json:"creationInfo"`
		Packages      []spdxPackage      `json:"packages"`
		Files         []spdxFile         `json:"files,omitempty"`
		Relationships []spdxRelationship `json:"relationships"`
	}
	spdxCreation struct {
		Created  string   `json:"created"`
		Creators []string `json:"creators"`
	}
	spdxPackage struct {
		ID           string            `json:"SPDXID"`
		Name         string            `json:"name"`
		Version      string            `json:"versionInfo,omitempty"`
		Location     string            `json:"downloadLocation"`
		Analyzed     bool              `json:"filesAnalyzed"`
		Verification *spdxVerification `json:"packageVerificationCode,omitempty"`
		Checksums    []spdxChecksum    `json:"checksums,omitempty"`
		License      string            `json:"licenseConcluded"`
		Declared     string            `json:"licenseDeclared"`
		Copyright    string            `json:"copyrightText"`
		Comment      string            `json:"comment,omitempty"`
		Refs         []spdxRef         `json:"externalRefs,omitempty"`
	}
	spdxVerification struct {
		Value string `json:"packageVerificationCodeValue"`
	}
	spdxChecksum struct {
		Algorithm string `json:"algorithm"`
		Value     string `json:"checksumValue"`
	}
	spdxRef struct {
		Category string `json:"referenceCategory"`
		Type     string `json:"referenceType"`
		Locator  string `json:"referenceLocator"`
	}
	spdxFile struct {
		ID        string         `json:"SPDXID"`
		Name      string         `json:"fileName"`
		Checksums []spdxChecksum `json:"checksums"`
		License   string         `json:"licenseConcluded"`
		Copyright string         `json:"copyrightText"`
	}
	spdxRelationship struct {
		Of   string `json:"spdxElementId"`
		Type string `json:"relationshipType"`
		To   string `json:"relatedSpdxElement"`
	}
)

// unknown is what SPDX has for what nobody has looked at.
const unknown = "NOASSERTION"

// SPDX is the bill as SPDX 2.3 has it.
func (l *Bill) SPDX() ([]byte, error) {
	const document, whole = "SPDXRef-DOCUMENT", "SPDXRef-Build"
	d := &spdxDocument{Version: "SPDX-2.3", DataLicense: "CC0-1.0", ID: document, Name: l.name(),
		Creation: spdxCreation{Created: l.build.Finished.UTC().Format("2006-01-02T15:04:05Z"), Creators: []string{"Tool: relkit-" + l.build.Relkit.Version}}}
	top := spdxPackage{ID: whole, Name: l.build.Builder, Version: l.version(), Location: unknown, License: unknown, Declared: unknown, Copyright: unknown}
	if len(l.files) > 0 {
		top.Analyzed, top.Verification = true, &spdxVerification{l.verificationCode()}
	}
	d.Packages = append(d.Packages, top)
	relate := func(of, kind, to string) { d.Relationships = append(d.Relationships, spdxRelationship{of, kind, to}) }
	relate(document, "DESCRIBES", whole)
	add := func(prefix string, list []component) []string {
		var ids []string
		for i := range list {
			ids = append(ids, prefix+strconv.Itoa(i+1))
			d.Packages = append(d.Packages, list[i].spdx(ids[i]))
		}
		return ids
	}
	parts := slices.Concat(add("SPDXRef-Source-", l.sources), add("SPDXRef-Need-", l.needs))
	modules := add("SPDXRef-Go-", l.modules)
	for i, f := range l.files {
		id := "SPDXRef-Artifact-" + strconv.Itoa(i+1)
		d.Files = append(d.Files, spdxFile{ID: id, Name: "./" + f.path, License: unknown, Copyright: unknown,
			Checksums: []spdxChecksum{{"SHA1", f.sha1}, {"SHA256", f.digest.Hex()}}})
		relate(whole, "CONTAINS", id)
		for _, p := range parts {
			relate(id, "GENERATED_FROM", p)
		}
		for _, m := range f.modules {
			relate(id, "STATIC_LINK", modules[m])
		}
	}
	d.Namespace = namespace
	unnamed, err := encode(d)
	if err != nil {
		return nil, err
	}
	d.Namespace += uuid(unnamed)
	return encode(d)
}

// namespace begins the name of each document, which nothing need be found at.
const namespace = "https://github.com/relkit/relkit/spdx/"

// verificationCode is SPDX's of all files (7.9): the SHA-1 of their SHA-1s.
func (l *Bill) verificationCode() string {
	var sums []string
	for _, f := range l.files {
		sums = append(sums, f.sha1)
	}
	slices.Sort(sums)
	h := sha1.Sum([]byte(strings.Join(sums, "")))
	return hex.EncodeToString(h[:])
}

func (c *component) spdx(id string) spdxPackage {
	p := spdxPackage{ID: id, Name: c.name, Version: c.version, Location: unknown, License: unknown, Declared: unknown, Copyright: unknown,
		Refs: []spdxRef{{"PACKAGE-MANAGER", "purl", c.purl}}}
	if c.sha256 != "" {
		p.Checksums = []spdxChecksum{{"SHA256", c.sha256}}
	}
	switch c.notes["vcs"] { // those that SPDX knows
	case "git", "hg", "svn", "bzr", "tar":
		if c.location != "" {
			p.Location = c.location
		}
	}
	if r := c.notes["replaces"]; r != "" {
		p.Comment = "in place of " + r
	}
	return p
}
