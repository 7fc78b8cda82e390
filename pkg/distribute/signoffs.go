package distribute

import (
	"bytes"
	"fmt"
	"log/slog"
	"slices"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/patch"
	"github.com/relkit/relkit/pkg/format/signature"
)

// words are what the sign-offs in a patch say, by role: the newest of each. A
// sign-off counts when it is about this patch and its signature is one, by
// whatever key: who may sign is for the machines to say.
func words(p *patch.Reader) map[string]signature.Signoff {
	all := map[string]signature.Signoff{}
	for _, doc := range p.Signoffs() {
		if _, err := signature.Verify(bytes.NewReader(doc.Doc), doc.Sig, signature.NamespaceSignoff); err != nil {
			continue
		}
		s, err := signature.ParseSignoff(doc.Doc)
		if err != nil || s.Patch != p.ID() {
			continue
		}
		if old, ok := all[s.Role]; !ok || !s.Time.Before(old.Time) {
			all[s.Role] = *s
		}
	}
	return all
}

// unfit tells why machines should not be offered a patch: nobody signed it off,
// or a role's newest word on it is not "pass". It is nil for what is no patch.
func (a *file) unfit() error {
	if a.header == nil {
		return nil
	}
	if len(a.words) == 0 {
		return failure.WithHint(failure.Errorf(failure.Refused, "%q is signed off by nobody, so no machine would take it", a.name),
			"relkit sign %s --as release --key KEYFILE", failure.Word(a.name))
	}
	var roles []string
	for role, s := range a.words {
		if s.Verdict != signature.VerdictPass {
			roles = append(roles, role)
		}
	}
	if len(roles) == 0 {
		return nil
	}
	role := slices.Min(roles)
	return failure.WithHint(failure.Errorf(failure.Refused, "%q: the verdict of role %q is %q, and no newer one says otherwise", a.name, role, a.words[role].Verdict),
		"relkit sign %s --as %s --key KEYFILE", failure.Word(a.name), role)
}

// warnUnfit says of files that are only copied what would keep them out of a channel.
func warnUnfit(log *slog.Logger, files []*file) {
	for _, f := range files {
		if err := f.unfit(); err != nil {
			log.Warn(fmt.Sprint(err))
		}
	}
}
