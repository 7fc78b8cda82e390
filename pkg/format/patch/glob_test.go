package patch

import "testing"

func TestMatchAny(t *testing.T) {
	globs := []string{"etc/*.conf", "/opt/app/data", "srv/**/x"}
	for name, want := range map[string]bool{
		"etc/a.conf": true, "etc/a.cfg": false, "opt/app/data": true, "opt/app/data/deep/f": true, "opt/app/database": false, "srv/a/b/x/y": true, "srv/a": false, ".": false,
	} {
		if got := MatchAny(globs, name); got != want {
			t.Errorf("%q: %v", name, got)
		}
	}
	if MatchAny(nil, "a") || MatchAny([]string{"[a"}, "a") {
		t.Error("no pattern, or a bad one, matches")
	}
}
