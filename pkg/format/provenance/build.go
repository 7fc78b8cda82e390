package provenance

import (
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/format/record"
)

// symlinkType is a symlink's media type, as freedesktop's shared-mime-info has it.
const symlinkType = "inode/symlink"

// Of is the statement about a build whose record, but for what it says of the
// provenance itself, is whole; config is the digest of its relkit.toml. It is a
// function of these two alone: whoever verifies makes it again and compares.
func Of(b *record.Build, config digest.Digest) (*Statement, error) {
	name, _, _ := strings.Cut(b.Builder, "[")
	s := &Statement{Type: StatementType, PredicateType: PredicateType}
	s.Predicate.BuildDefinition = Definition{
		BuildType: BuildType,
		External: Parameters{Project: b.Project, Builder: name, Matrix: b.Matrix, Set: b.Set, Schedule: b.Schedule,
			Config: Resource{Name: "relkit.toml", Digest: map[string]string{"sha256": config.Hex()}}},
		Internal: Internal{Version: b.Version, SourceDateEpoch: b.SourceDateEpoch,
			Worker: b.Worker.Name, Kind: b.Worker.Kind, Host: b.Worker.Host, OS: b.Worker.OS, Arch: b.Worker.Arch},
		Dependencies: dependencies(b),
	}
	s.Predicate.RunDetails = Run{
		Builder: Builder{ID: "https://github.com/relkit/relkit/builder/v1/" + url.PathEscape(b.Project) + "/" + url.PathEscape(b.Worker.Name),
			Version: map[string]string{"relkit": b.Relkit.Version}},
		Metadata: Metadata{InvocationID: b.Builder + "/" + strconv.Itoa(b.Number), StartedOn: b.Started, FinishedOn: b.Finished},
	}
	for _, a := range b.Artifacts {
		mode := map[string]string{"mode": a.Mode}
		if a.Target == "" {
			s.Subject = append(s.Subject, Resource{Name: a.Path, Digest: map[string]string{"sha256": a.Digest.Hex()}, Annotations: mode})
			continue
		}
		target, err := manifest.Unescape(a.Target)
		if err != nil {
			return nil, err
		}
		run := &s.Predicate.RunDetails
		run.Byproducts = append(run.Byproducts, Resource{Name: a.Path, Content: []byte(target), MediaType: symlinkType, Annotations: mode})
	}
	for _, m := range b.SBOM {
		run := &s.Predicate.RunDetails
		run.Byproducts = append(run.Byproducts, Resource{Name: m.Path, Digest: map[string]string{"sha256": m.Digest.Hex()}})
	}
	return s, nil
}

// dependencies are the sources, then what other builds handed over.
func dependencies(b *record.Build) []Resource {
	var list []Resource
	for _, s := range b.Sources {
		list = append(list, Resource{Name: s.Name, URI: SourceURI(s.VCS, s.URL), Digest: sourceDigest(s.VCS, s.Revision),
			Annotations: map[string]string{"vcs": s.VCS, "revision": s.Revision}})
	}
	for _, n := range b.Needs {
		for _, a := range n.Artifacts {
			if a.Target == "" {
				list = append(list, Resource{Name: n.Builder + "/" + strconv.Itoa(n.Number) + "/" + a.Path, Digest: map[string]string{"sha256": a.Digest.Hex()}})
			}
		}
	}
	return list
}

var hexID = regexp.MustCompile(`^([0-9a-f]{40}|[0-9a-f]{64})$`)

// sourceDigest is a revision that is a digest; nil for those that are not, as
// Subversion's.
func sourceDigest(vcs, revision string) map[string]string {
	plain, isDigest := strings.CutPrefix(revision, "sha256:")
	switch {
	case !hexID.MatchString(plain):
		return nil
	case vcs == "git" && !isDigest:
		return map[string]string{"gitCommit": plain}
	case vcs == "hg" && !isDigest:
		return map[string]string{"hgNode": plain}
	case vcs == "tar" && isDigest:
		return map[string]string{"sha256": plain}
	case vcs == "file" && isDigest:
		return map[string]string{"relkitFiles": plain} // of names, modes and digests
	}
	return nil
}

// SourceURI is a source's URL as a URI, "git+ssh://git@host/fw.git", without what
// lets somebody in: passwords, and what web addresses carry as a user's name or
// in a query, where tokens go.
func SourceURI(vcs, text string) string {
	prefix := vcs + "+"
	if vcs == "file" || vcs == "tar" {
		prefix = ""
	}
	host, path, isHost := strings.Cut(text, ":")
	switch {
	case strings.HasPrefix(text, "/"):
		return prefix + (&url.URL{Scheme: "file", Path: text}).String()
	case vcs == "git" && isHost && host != "" && !strings.Contains(host, "/") && !strings.HasPrefix(path, "//"):
		text = "ssh://" + host + "/" + strings.TrimPrefix(path, "/")
	}
	u, err := url.Parse(text)
	if err != nil || strings.Contains(u.Opaque, "@") {
		return prefix + "hidden:" // what cannot be read, as a root of CVS, may hold anything
	}
	switch {
	case u.Scheme == "http" || u.Scheme == "https":
		u.User = nil
	case u.User != nil:
		u.User = url.User(u.User.Username())
	}
	u.RawQuery, u.Fragment, u.RawFragment, u.ForceQuery = "", "", "", false
	if strings.HasPrefix(u.Scheme, vcs+"+") {
		prefix = "" // svn+ssh already is one
	}
	return prefix + u.String()
}
