package glob

import (
	"path"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		pattern string
		yes, no []string
	}{
		{"etc/passwd", []string{"etc/passwd"}, []string{"etc", "etc/passwd-", "x/etc/passwd", "etc/passwd/x"}},
		{"/etc/", []string{"etc"}, []string{"etc/x", "."}},
		{"*", []string{"a", ".a"}, []string{"a/b", "."}},
		{"**", []string{"a", "a/b/c", ".a"}, []string{"."}},
		{"var/log/**", []string{"var/log/a", "var/log/a/b"}, []string{"var/log", "var/logs/a"}},
		{"**/*.pyc", []string{"a.pyc", "x/y/b.pyc", ".pyc"}, []string{"a.py", "a.pyc/x"}},
		{"a/**/b", []string{"a/b", "a/x/b", "a/x/y/b", "a/b/b"}, []string{"a", "b", "a/b/c", "x/a/b"}},
		{"**/x/**/y", []string{"x/y", "a/x/b/x/y", "x/x/y/y"}, []string{"y/x", "x/y/z"}},
		{"a/**/**/b", []string{"a/b", "a/x/y/b"}, []string{"a/c"}},
		{"ssh_host_*_key", []string{"ssh_host_rsa_key", "ssh_host__key", "ssh_host_a_key_key"}, []string{"ssh_host_key", "ssh_host_rsa_key.pub"}},
		{"a**b", []string{"ab", "axxb"}, []string{"a/b"}},
		{"?", []string{"a", "é", "\xff"}, []string{"", "ab", "éa"}},
		{"[a-c]x", []string{"ax", "cx"}, []string{"dx", "x", "-x"}},
		{"[!a-c]x", []string{"dx", "éx"}, []string{"ax"}},
		{"[]a]", []string{"]", "a"}, []string{"b"}},
		{"[a-]", []string{"a", "-"}, []string{"b"}},
		{`[\]]\*`, []string{"]*"}, []string{"]x", `]\*`}},
		{"\xff", []string{"\xff"}, []string{"\xfe", "�"}},
	} {
		p, err := Parse(c.pattern)
		if err != nil {
			t.Error(err)
			continue
		}
		for _, s := range c.yes {
			if !p.Match(s) {
				t.Errorf("%q does not match %q", c.pattern, s)
			}
		}
		for _, s := range c.no {
			if p.Match(s) {
				t.Errorf("%q matches %q", c.pattern, s)
			}
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, bad := range []string{"", "/", "a//b", "../a", "a/./b", "[a", "[]", "[!]", `a\`, `[\]`} {
		if _, err := Parse(bad); err == nil {
			t.Errorf("%q is a pattern", bad)
		}
	}
}

func TestSet(t *testing.T) {
	s, err := ParseSet([]string{"var/log", "**/*.tmp"})
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string][2]bool{
		"var/log": {true, true}, "var/log/a/b": {false, true}, "var/logs": {false, false}, "x/a.tmp": {true, true}, "x/a.tmp/y": {false, true},
	} {
		if got := [2]bool{s.Match(path), s.Covers(path)}; got != want {
			t.Errorf("%q: match and cover %v, want %v", path, got, want)
		}
	}
	if _, err := ParseSet([]string{"a", "[b"}); err == nil {
		t.Error("a bad pattern in a set is accepted")
	}
}

// FuzzMatch holds single components against path.Match, and long patterns to a
// time that does not grow with every star.
func FuzzMatch(f *testing.F) {
	f.Add("a*b?[c-d]", "axxbyc")
	f.Add(strings.Repeat("*a", 40)+"b", strings.Repeat("a", 80))
	f.Add(strings.Repeat("**/a/", 40)+"b", strings.Repeat("a/", 80)+"c")
	f.Fuzz(func(t *testing.T, pattern, name string) {
		p, err := Parse(pattern)
		if err != nil || name == "" {
			return
		}
		got := p.Match(name)
		if strings.ContainsAny(pattern+name, "/![]") || strings.Contains(pattern, "**") || name == "." || !utf8.ValidString(pattern+name) {
			return
		}
		if want, err := path.Match(pattern, name); err == nil && got != want {
			t.Errorf("Match(%q, %q) = %v, path.Match says %v", pattern, name, got, want)
		}
	})
}
