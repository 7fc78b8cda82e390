package config

import (
	"strings"
	"testing"

	"github.com/relkit/relkit/pkg/failure"
)

const policyExample = `
compatible = ["x2"]
channel = "stable"

[policy]
require = ["release"]
role.qa.threshold = 2

[[policy.rule]]
product = "fw*"
channel = "stable"
require = ["release", "qa"]
  [policy.rule.role.qa]
  evidence = true

[[policy.rule]]
product = "acme/os"
require = ["safety"]
role.qa.threshold = 3
`

// TestPolicyFor: rules add to the policy, and what is not known might be any.
func TestPolicyFor(t *testing.T) {
	m, err := DecodeMachine("machine.toml", []byte(policyExample))
	if err != nil {
		t.Fatal(err)
	}
	two, three := RoleDemand{Threshold: 2}, RoleDemand{Threshold: 3}
	twoProved, threeProved := RoleDemand{2, true}, RoleDemand{3, true}
	for _, c := range []struct {
		product, channel string
		require          string
		qa               RoleDemand
	}{
		{"other", "stable", "release", two},
		{"fw", "stable", "release qa", twoProved},
		{"fw-x", "stable", "release qa", twoProved},
		{"fw", "beta", "release", two},
		{"fw", "", "release qa", twoProved},
		{"acme/os", "beta", "release safety", three},
		{"", "", "release qa safety", threeProved},
	} {
		d := m.Policy.For(c.product, c.channel)
		if got := strings.Join(d.Require, " "); got != c.require || d.Roles["qa"] != c.qa {
			t.Errorf("For(%q, %q) = %q, %+v, want %q, %+v", c.product, c.channel, got, d.Roles["qa"], c.require, c.qa)
		}
	}
	var none Policy
	if d := none.For("fw", "stable"); len(d.Require) != 0 || len(d.Roles) != 0 {
		t.Errorf("no policy asks for %+v", d)
	}
}

func TestPolicyRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"[policy]\nrequire = [\"a b\"]":                           `m:2:12: policy.require: role`,
		"[policy]\nrequire = \"qa\"":                              `m:2:1: policy.require: got a string, want an array`,
		"[policy.role.qa]\nthreshold = 65":                        `m:2:1: policy.role.qa.threshold: want 1 to 64`,
		"[policy.role.qa]\nthreshold = -1":                        `want 1 to 64`,
		"[policy.role.\"q/a\"]\nevidence = true":                  `m:1:1: policy.role: role "q/a"`,
		"[policy.role.qa]\nevidence = 1":                          `policy.role.qa.evidence: got the integer 1`,
		"[policy]\nrequired = []":                                 `m:2:1: unknown key "required" in policy, did you mean "require"?`,
		"[[policy.rule]]\nproduct = \"[\"":                        `m:2:1: policy.rule.product: bad pattern`,
		"[[policy.rule]]\n[[policy.rule]]\nchannel = \"a//\\\\\"": `m:3:1: policy.rule.channel: bad pattern`,
		"[policies]": `unknown key "policies"`,
	} {
		_, err := DecodeMachine("m", []byte(text))
		if err == nil || failure.Of(err) != failure.Usage || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}
