package config

import (
	"cmp"
	"slices"

	"github.com/relkit/relkit/pkg/format/glob"
	"github.com/relkit/relkit/pkg/format/signature"
)

// Policy is the formal process that a patch must have gone through: one for all
// patches, and rules that ask for more.
type Policy struct {
	Demand
	Rules []PolicyRule `toml:"rule"`
}

// PolicyRule asks for more of the patches for a product, on machines of a
// channel; both are globs, and "" is any.
type PolicyRule struct {
	Product string `toml:"product"`
	Channel string `toml:"channel"`
	Demand
}

// Demand is which roles must have signed, and what a role's word takes.
type Demand struct {
	Require []string              `toml:"require"`
	Roles   map[string]RoleDemand `toml:"role"`
}

// RoleDemand is what a role's word takes wherever the role is asked for.
type RoleDemand struct {
	// Threshold is how many keys must have signed as the role; 0 stands for 1.
	Threshold int `toml:"threshold"`
	// Evidence wants each of those sign-offs to name what it rests on.
	Evidence bool `toml:"evidence"`
}

// maxThreshold bounds how many keys a role may be made to take.
const maxThreshold = 64

// check adds what is wrong with a policy, each at its place.
func (p *Policy) check(at *checker) {
	at.checkDemand(&p.Demand, placeOf([]any{"policy"}), "policy")
	for i, r := range p.Rules {
		place := placeOf([]any{"policy", "rule", i})
		at.checkDemand(&r.Demand, place, "policy.rule")
		for key, pattern := range map[string]string{"product": r.Product, "channel": r.Channel} {
			if _, err := glob.Parse(cmp.Or(pattern, "*")); err != nil {
				at.add(place.key(key), "policy.rule."+key+": "+err.Error())
			}
		}
	}
}

func (c *checker) checkDemand(d *Demand, at place, name string) {
	for i, role := range d.Require {
		if err := signature.ValidRole(role); err != nil {
			c.add(at.key("require").index(i), name+".require: "+err.Error())
		}
	}
	for role, r := range d.Roles {
		if err := signature.ValidRole(role); err != nil {
			c.add(at.key("role").key(role), name+".role: "+err.Error())
		}
		if r.Threshold < 0 || r.Threshold > maxThreshold {
			c.add(at.key("role").key(role).key("threshold"), name+".role."+role+".threshold: want 1 to 64")
		}
	}
}

// For is what a patch for a product needs on a machine that follows a channel:
// the policy and every rule that is about both, together. One that is not known,
// "", might be any: a rule about it counts.
func (p *Policy) For(product, channel string) Demand {
	all := Demand{Roles: map[string]RoleDemand{}}
	all.add(p.Demand)
	for _, r := range p.Rules {
		if covers(r.Product, product) && covers(r.Channel, channel) {
			all.add(r.Demand)
		}
	}
	return all
}

// add asks for what more asks for as well: nothing is ever asked for less.
func (d *Demand) add(more Demand) {
	for _, role := range more.Require {
		if !slices.Contains(d.Require, role) {
			d.Require = append(d.Require, role)
		}
	}
	for role, r := range more.Roles {
		have := d.Roles[role]
		d.Roles[role] = RoleDemand{Threshold: max(have.Threshold, r.Threshold), Evidence: have.Evidence || r.Evidence}
	}
}

func covers(pattern, name string) bool {
	if pattern == "" || name == "" {
		return true
	}
	p, err := glob.Parse(pattern)
	return err == nil && p.Match(name)
}
