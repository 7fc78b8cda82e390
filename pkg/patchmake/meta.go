package patchmake

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/relkit/relkit/pkg/config"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/patch"
)

// Meta is what a person says about a patch: a patch.toml, or flags.
type Meta struct {
	ID          string   `toml:"id"`
	Product     string   `toml:"product"`
	FromVersion string   `toml:"from_version"`
	ToVersion   string   `toml:"to_version"`
	Model       []string `toml:"model"`
	Supersedes  []string `toml:"supersedes"`
	Requires    []string `toml:"requires"`
	Conflicts   []string `toml:"conflicts"`
	Reboot      string   `toml:"reboot"`
	Restart     []string `toml:"restart"`
	Reload      []string `toml:"reload"`
	Stop        []string `toml:"stop"`
	ConfigFiles []string `toml:"config_files"`
	// Labels must be on the machine.
	Labels map[string]string `toml:"labels"`
	// Provides are names, or "name (= version)", that others may require.
	Provides []string `toml:"provides"`
	// Floor is the oldest version that may be installed from this patch on.
	Floor            string   `toml:"floor"`
	RequiresCommands []string `toml:"requires_commands"`
	// RequiresSpace is what must be free afterwards, by path.
	RequiresSpace map[string]config.Size `toml:"requires_space"`
	// Expires is a span ("90d") after the patch is made, or a time (RFC 3339).
	Expires string `toml:"expires"`
	Hooks   Hooks  `toml:"hooks"`
}

// Hooks are files of scripts.
type Hooks struct {
	Pre          string `toml:"pre"`
	Post         string `toml:"post"`
	Check        string `toml:"check"`
	PreRollback  string `toml:"pre_rollback"`
	PostRollback string `toml:"post_rollback"`
}

// DecodeMeta reads a patch.toml, called name in errors.
func DecodeMeta(name string, data []byte) (Meta, error) {
	var m Meta
	return m, config.Decode(name, data, &m)
}

// ReadMeta reads a patch.toml; the scripts it names are relative to its folder.
func ReadMeta(name string) (Meta, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return Meta{}, failure.As(failure.Usage, err)
	}
	m, err := DecodeMeta(name, data)
	for _, script := range []*string{&m.Hooks.Pre, &m.Hooks.Post, &m.Hooks.Check, &m.Hooks.PreRollback, &m.Hooks.PostRollback} {
		if *script != "" && !filepath.IsAbs(*script) {
			*script = filepath.Join(filepath.Dir(name), *script)
		}
	}
	return m, err
}

// Over is m where it says something, and base elsewhere; lists add up.
func (m Meta) Over(base Meta) Meta {
	for _, f := range []struct{ dst, src *string }{
		{&base.ID, &m.ID}, {&base.Product, &m.Product}, {&base.FromVersion, &m.FromVersion}, {&base.ToVersion, &m.ToVersion},
		{&base.Reboot, &m.Reboot}, {&base.Expires, &m.Expires}, {&base.Floor, &m.Floor}, {&base.Hooks.Pre, &m.Hooks.Pre}, {&base.Hooks.Post, &m.Hooks.Post},
		{&base.Hooks.Check, &m.Hooks.Check}, {&base.Hooks.PreRollback, &m.Hooks.PreRollback}, {&base.Hooks.PostRollback, &m.Hooks.PostRollback},
	} {
		if *f.src != "" {
			*f.dst = *f.src
		}
	}
	for _, f := range []struct{ dst, src *[]string }{
		{&base.Model, &m.Model}, {&base.Supersedes, &m.Supersedes}, {&base.Requires, &m.Requires}, {&base.Conflicts, &m.Conflicts},
		{&base.Restart, &m.Restart}, {&base.Reload, &m.Reload}, {&base.Stop, &m.Stop}, {&base.ConfigFiles, &m.ConfigFiles}, {&base.Provides, &m.Provides},
		{&base.RequiresCommands, &m.RequiresCommands},
	} {
		*f.dst = append(append([]string(nil), *f.dst...), *f.src...)
	}
	base.Labels = together(base.Labels, m.Labels)
	base.RequiresSpace = together(base.RequiresSpace, m.RequiresSpace)
	return base
}

// together is both maps in one, over having the last word.
func together[V any](base, over map[string]V) map[string]V {
	if len(base)+len(over) == 0 {
		return nil
	}
	all := maps.Clone(base)
	if all == nil {
		all = map[string]V{}
	}
	maps.Copy(all, over)
	return all
}

// fallbackProduct names what nobody gave a name.
const fallbackProduct = "tree"

// header makes what is known of a patch into its header; the trees' digests
// are filled in already.
func (m Meta) header(from *patch.Side, to patch.Side, created time.Time) (patch.Header, error) {
	h := patch.Header{
		ID: m.ID, Product: m.Product, Model: m.Model, Full: from == nil, From: from, To: to,
		Supersedes: m.Supersedes, Requires: strings.Join(m.Requires, ", "), Conflicts: strings.Join(m.Conflicts, ", "),
		Reboot: m.Reboot, Restart: m.Restart, Reload: m.Reload, Stop: m.Stop, Created: created.UTC().Truncate(time.Second),
		Labels: m.Labels, Provides: strings.Join(m.Provides, ", "), Floor: m.Floor, RequiresCommands: m.RequiresCommands,
	}
	for path, bytes := range m.RequiresSpace {
		path = strings.Trim(path, "/")
		if path == "" {
			path = "."
		}
		h.RequiresSpace = append(h.RequiresSpace, patch.Space{Path: path, Bytes: int64(bytes)})
	}
	h.RequiresSpace = patch.SortSpace(h.RequiresSpace)
	if h.Product == "" {
		h.Product = fallbackProduct
	}
	if h.Reboot == "" {
		h.Reboot = patch.RebootNone
	}
	h.ConfigFiles = fromTop(m.ConfigFiles)
	if h.ID == "" {
		h.ID = defaultID(&h)
	}
	var err error
	h.Expires, err = expiry(m.Expires, h.Created)
	return h, err
}

// fromTop are globs as a header has them, without what may stand in front.
func fromTop(globs []string) []string {
	var all []string
	for _, g := range globs {
		all = append(all, strings.TrimPrefix(strings.TrimPrefix(g, "./"), "/"))
	}
	return all
}

// defaultID is PRODUCT-FROM-TO, with what no id can hold replaced. A side
// without a version is called by the start of its digest.
func defaultID(h *patch.Header) string {
	from := "full"
	if h.From != nil {
		from = sideName(*h.From)
	}
	return strings.NewReplacer("~", "_", ":", "_", "/", "_").Replace(h.Product + "-" + from + "-" + sideName(h.To))
}

func sideName(s patch.Side) string {
	if s.Version != "" {
		return s.Version
	}
	return shortDigest(s.Tree)
}

func shortDigest(d digest.Digest) string { return d.Hex()[:12] }

// expiry is the end of a span after created, or a time; zero for "".
func expiry(s string, created time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		if !t.After(created) {
			return t, failure.Errorf(failure.Usage, "expires: %s is not after %s", s, created.Format(time.RFC3339))
		}
		return t.UTC().Truncate(time.Second), nil
	}
	d, err := span(s)
	if err != nil {
		return time.Time{}, failure.Errorf(failure.Usage, "expires: %w", err)
	}
	return created.Add(d).Truncate(time.Second), nil
}

// span reads what Go's durations allow, and whole days and weeks.
func span(s string) (time.Duration, error) {
	for suffix, unit := range map[string]time.Duration{"d": 24 * time.Hour, "w": 7 * 24 * time.Hour} {
		if digits, ok := strings.CutSuffix(s, suffix); ok {
			if n, err := strconv.ParseUint(digits, 10, 16); err == nil && n > 0 {
				return time.Duration(n) * unit, nil
			}
		}
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < time.Second {
		return 0, fmt.Errorf("bad span %q: want for example 90d, 12h or a time like 2030-01-31T00:00:00Z", s)
	}
	return d, nil
}

// hookMembers are the members that hold the hooks, and where each comes from.
func (m Meta) hookMembers() (patch.Hooks, map[string]string) {
	files := map[string]string{}
	member := func(name, file string) string {
		if file == "" {
			return ""
		}
		files["hooks/"+name] = file
		return "hooks/" + name
	}
	return patch.Hooks{
		Pre: member("pre", m.Hooks.Pre), Post: member("post", m.Hooks.Post), Check: member("check", m.Hooks.Check),
		PreRollback: member("pre-rollback", m.Hooks.PreRollback), PostRollback: member("post-rollback", m.Hooks.PostRollback),
	}, files
}
