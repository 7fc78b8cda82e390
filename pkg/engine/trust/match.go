package trust

import (
	"fmt"
	"slices"
	"strings"
)

// finding is a signature that does not count, the role it speaks for where
// that could be told, and why.
type finding struct {
	role string
	err  error
}

// missingRole says that nothing stands for a required role.
type missingRole struct {
	role string // the first of its choices
	text string
}

func (e *missingRole) Error() string { return e.text }

// match gives every requirement a key of its own: an augmenting-path matching
// (Kuhn's algorithm) of requirements to keys. what is the noun for messages.
func (p Policy) match(claims []claim, found []finding, what string) ([]Accepted, error) {
	require := p.require()
	for _, r := range require {
		if !slices.ContainsFunc(claims, func(c claim) bool { return c.meets(r) != "" }) {
			return nil, missing(r, claims, found, what)
		}
		if err := p.tooFew(r, claims, found, what); err != nil {
			return nil, err
		}
	}
	m := matching{require: require, claims: claims, holder: map[string]int{}, chosen: make([]int, len(require))}
	for i := range require {
		if !m.assign(i, map[string]bool{}) {
			return nil, fmt.Errorf("roles %s need %d different keys, and the %ss found are by %s",
				quoted(require), len(require), what, strings.Join(keysOf(claims), ", "))
		}
	}
	accepted := make([]Accepted, len(require))
	for i, r := range require {
		accepted[i] = claims[m.chosen[i]].Accepted
		accepted[i].Role = claims[m.chosen[i]].meets(r)
	}
	return accepted, nil
}

// tooFew says that a requirement takes more keys than speak for it.
func (p Policy) tooFew(requirement string, claims []claim, found []finding, what string) error {
	several := slices.DeleteFunc(p.require(), func(r string) bool { return r != requirement })
	speaking := slices.DeleteFunc(slices.Clone(claims), func(c claim) bool { return c.meets(requirement) == "" })
	keys := keysOf(speaking)
	if len(keys) >= len(several) {
		return nil
	}
	text := fmt.Sprintf("roles %s need %d different keys, and the %ss found are by %s", quoted(several), len(several), what, strings.Join(keys, ", "))
	role, _, _ := strings.Cut(requirement, "|")
	for _, f := range found {
		if f.role == role || f.role == "" {
			text += "; " + f.err.Error()
		}
	}
	return &missingRole{role, text}
}

type matching struct {
	require []string
	claims  []claim
	holder  map[string]int // key fingerprint → the requirement it meets
	chosen  []int          // requirement → the claim that meets it
}

// assign finds requirement i a key that is free, or whose holder can take another.
func (m *matching) assign(i int, tried map[string]bool) bool {
	for j, c := range m.claims {
		if c.meets(m.require[i]) == "" || tried[c.KeyFingerprint] {
			continue
		}
		tried[c.KeyFingerprint] = true
		if holder, held := m.holder[c.KeyFingerprint]; held && !m.assign(holder, tried) {
			continue
		}
		m.holder[c.KeyFingerprint] = i
		m.chosen[i] = j
		return true
	}
	return false
}

// meets is the role by which c meets a requirement ("qa", "status|release"); "" where it does not.
func (c claim) meets(requirement string) string {
	for choice := range strings.SplitSeq(requirement, "|") {
		if slices.Contains(c.roles, choice) {
			return choice
		}
	}
	return ""
}

// missing says what was found where a role was looked for: what speaks for
// that role first, and else everything.
func missing(requirement string, claims []claim, found []finding, what string) error {
	choices := strings.Split(requirement, "|")
	near := slices.DeleteFunc(slices.Clone(found), func(f finding) bool { return !slices.Contains(choices, f.role) })
	if len(near) == 0 {
		near = found
	}
	var notes []string
	for _, f := range near {
		notes = append(notes, f.err.Error())
	}
	if len(near) == 0 || len(claims) > 0 && near[0].role == "" {
		for _, c := range claims {
			notes = append(notes, fmt.Sprintf("key %s signed as %s", c.KeyFingerprint, quoted(c.roles)))
		}
	}
	if len(notes) == 0 {
		notes = []string{fmt.Sprintf("there is no %s at all", what)}
	}
	return &missingRole{choices[0], fmt.Sprintf("no %s as %s: %s", what, quoted(choices), strings.Join(notes, "; "))}
}

func keysOf(claims []claim) []string {
	var keys []string
	for _, c := range claims {
		keys = append(keys, c.KeyFingerprint)
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}
