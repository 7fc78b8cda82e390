package sbom

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"time"
)

// The parts of a CycloneDX 1.6 document that are used
// (https://cyclonedx.org/docs/1.6/json/).
type (
	cdxDocument struct {
		Schema       string          `json:"$schema"`
		Format       string          `json:"bomFormat"`
		SpecVersion  string          `json:"specVersion"`
		Serial       string          `json:"serialNumber,omitempty"`
		Version      int             `json:"version"`
		Metadata     cdxMetadata     `json:"metadata"`
		Components   []cdxComponent  `json:"components"`
		Dependencies []cdxDependency `json:"dependencies"`
	}
	cdxMetadata struct {
		Timestamp string       `json:"timestamp"`
		Tools     cdxTools     `json:"tools"`
		Component cdxComponent `json:"component"`
	}
	cdxTools struct {
		Components []cdxComponent `json:"components"`
	}
	cdxComponent struct {
		Type       string         `json:"type"`
		Ref        string         `json:"bom-ref,omitempty"`
		Group      string         `json:"group,omitempty"`
		Name       string         `json:"name"`
		Version    string         `json:"version,omitempty"`
		Hashes     []cdxHash      `json:"hashes,omitempty"`
		PURL       string         `json:"purl,omitempty"`
		References []cdxReference `json:"externalReferences,omitempty"`
		Properties []cdxProperty  `json:"properties,omitempty"`
	}
	cdxHash struct {
		Algorithm string `json:"alg"`
		Content   string `json:"content"`
	}
	cdxReference struct {
		Type string `json:"type"`
		URL  string `json:"url"`
	}
	cdxProperty struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	}
	cdxDependency struct {
		Ref       string   `json:"ref"`
		DependsOn []string `json:"dependsOn,omitempty"`
	}
)

// CycloneDX is the bill as CycloneDX 1.6 has it.
func (l *Bill) CycloneDX() ([]byte, error) {
	d := &cdxDocument{Schema: "http://cyclonedx.org/schema/bom-1.6.schema.json", Format: "CycloneDX", SpecVersion: "1.6", Version: 1,
		Metadata: cdxMetadata{
			Timestamp: l.build.Finished.UTC().Format(time.RFC3339),
			Tools:     cdxTools{[]cdxComponent{{Type: "application", Name: "relkit", Version: l.build.Relkit.Version}}},
			Component: cdxComponent{Type: "application", Ref: "build", Group: l.build.Project, Name: l.build.Builder, Version: l.version()},
		},
		Components: []cdxComponent{}}
	whole := cdxDependency{Ref: "build"}
	var parts []string
	var others []cdxDependency
	add := func(kind, of string, list []component) {
		for i := range list {
			c := list[i].cyclonedx(kind, of)
			d.Components, others = append(d.Components, c), append(others, cdxDependency{Ref: c.Ref})
			if of != moduleRef {
				parts = append(parts, c.Ref)
			}
		}
	}
	for _, f := range l.files {
		ref := "artifact:" + f.path
		whole.DependsOn = append(whole.DependsOn, ref)
		d.Components = append(d.Components, cdxComponent{Type: "file", Ref: ref, Name: f.path, Hashes: sha256Hash(f.digest.Hex())})
	}
	add("library", "source:", l.sources)
	add("file", "need:", l.needs)
	add("library", moduleRef, l.modules)
	d.Dependencies = append(d.Dependencies, whole)
	for _, f := range l.files {
		dep := cdxDependency{Ref: "artifact:" + f.path, DependsOn: slices.Clone(parts)}
		for _, m := range f.modules {
			dep.DependsOn = append(dep.DependsOn, moduleRef+l.modules[m].purl)
		}
		d.Dependencies = append(d.Dependencies, dep)
	}
	d.Dependencies = append(d.Dependencies, others...)
	unnamed, err := encode(d)
	if err != nil {
		return nil, err
	}
	d.Serial = "urn:uuid:" + uuid(unnamed)
	return encode(d)
}

// moduleRef begins what Go modules are referred to by.
const moduleRef = "go:"

func (c *component) cyclonedx(kind, of string) cdxComponent {
	out := cdxComponent{Type: kind, Ref: of + c.name, Name: c.name, Version: c.version, PURL: c.purl, Hashes: sha256Hash(c.sha256)}
	if of == moduleRef {
		out.Ref = of + c.purl // several versions of one, in several programs
	}
	if c.location != "" {
		out.References = []cdxReference{{Type: "vcs", URL: c.location}}
		if v := c.notes["vcs"]; v == "tar" || v == "file" {
			out.References[0].Type = "distribution"
		}
	}
	for _, k := range slices.Sorted(maps.Keys(c.notes)) {
		out.Properties = append(out.Properties, cdxProperty{"relkit:" + k, c.notes[k]})
	}
	return out
}

func sha256Hash(hex string) []cdxHash {
	if hex == "" {
		return nil
	}
	return []cdxHash{{"SHA-256", hex}}
}

// encode writes JSON for people to read.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	err := enc.Encode(v)
	return b.Bytes(), err
}
