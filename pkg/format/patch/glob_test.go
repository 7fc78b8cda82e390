package patch

import "testing"

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		glob, path string
		want       bool
	}{
		{"etc/app.conf", "etc/app.conf", true},
		{"/etc/app.conf", "etc/app.conf", true},
		{"./etc/app.conf", "etc/app.conf", true},
		{"etc/app.conf", "etc/app.conf.d", false},
		{"etc/*.conf", "etc/app.conf", true},
		{"etc/*.conf", "etc/app/x.conf", false},
		{"etc/**/*.conf", "etc/app/x.conf", true},
		{"etc/**/*.conf", "etc/x.conf", true},
		{"**/*.conf", "x.conf", true},
		{"**/*.conf", "a/b/c/x.conf", true},
		{"**/*.conf", "a/b/c/x.cfg", false},
		{"etc", "etc/app.conf", true},
		{"etc/", "etc/app.conf", true},
		{"etc/ssh", "etc/sshd", false},
		{"var/log/**", "var/log", false},
		{"var/log/**", "var/log/a/b", true},
		{"etc/app-?.[ch]", "etc/app-1.c", true},
		{"etc/app-?.[ch]", "etc/app-1.d", false},
		{"*", ".hidden", true},
		{"a/**/b", "a/b/c", true},
		{"a/**/b", "a", false},
		{"/", "anything", true},
		{"etc/.conf", "etc/.conf", true},
		{".relkit", ".relkit/x", true},
	} {
		if got := Match(c.glob, c.path); got != c.want {
			t.Errorf("Match(%q, %q) = %v", c.glob, c.path, got)
		}
	}
}
