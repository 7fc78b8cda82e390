package config

import (
	"strings"
	"testing"
)

func TestRedact(t *testing.T) {
	for in, want := range map[string]string{
		"https://u:secret@h/x":             "https://xxxxx@h/x",
		"http://user:100%hunter2@h:8080/x": "http://xxxxx@h:8080/x", // url.Parse refuses it
		"http://ghp_token@h/x.git":         "http://xxxxx@h/x.git",
		"http://h/a.tar?token=abc&x=y#k=v": "http://h/a.tar?token=xxxxx&x=xxxxx",
		"http://h/a.tar?abc":               "http://h/a.tar?xxxxx",
		"http://h/a#key":                   "http://h/a#xxxxx",
		"http://u:a@b@h/x":                 "http://xxxxx@h/x",
		"http://u:pa/ss@h/x":               "http://xxxxx@h/x",
		"http://u:pa?ss@h/x":               "http://xxxxx@h/x",
		"http://u:pa#ss@h/x":               "http://xxxxx@h/x",
		`http://u:pa"ss@h/x`:               "http://xxxxx@h/x",
		"HTTP://u:p@h":                     "HTTP://xxxxx@h",
		"svn+ssh://thor@h/x":               "svn+ssh://thor@h/x",
		"ssh://git@h/x":                    "ssh://git@h/x",
		"ssh://git:secret@h/x":             "ssh://xxxxx@h/x",
		"http://h/svn/trunk@HEAD":          "http://h/svn/trunk@HEAD",
		"http://h:80/svn/trunk@HEAD":       "http://h:80/svn/trunk@HEAD",
		"http://[::1]:80/svn/trunk@1":      "http://[::1]:80/svn/trunk@1",
		"git@h:x":                          "git@h:x",
		"/srv/x":                           "/srv/x",
		"svn: E170013: Unable to connect to a repository at URL 'http://user:hunter2@h:1/svn'; E000111": "svn: E170013: Unable to connect to a repository at URL 'http://xxxxx@h:1/svn'; E000111",
		`repository "http://u:p@h/x?a=b" has no branch, see "https://h/?q=z".`:                          `repository "http://xxxxx@h/x?a=xxxxx" has no branch, see "https://h/?q=xxxxx".`,
		"two: http://a:b@c http://d:e@f":         "two: http://xxxxx@c http://xxxxx@f",
		"cannot access 'http://h': no, mail a@b": "cannot access 'http://h': no, mail a@b",
	} {
		if got := Redact(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		} else if again := Redact(got); again != got {
			t.Errorf("%q: the second time %q", got, again)
		}
	}
}

func TestSecrets(t *testing.T) {
	for in, want := range map[string]string{
		"http://user:100%25hunter@h/x": "user:100%25hunter user:100%hunter 100%25hunter 100%hunter", "http://ghp_token@h/?a=b&sig=12345#k=67890": "ghp_token ghp_token ghp_token ghp_token 12345 12345 67890 67890",
		"ssh://builder@h/x": "", "builder@h:x": "", "/srv/x?abcdef": "", "http://u:x@h/": "",
	} {
		if got := strings.Join(Secrets(in), " "); got != want {
			t.Errorf("%q: %q", in, got)
		}
	}
	if got := Hide("no 'tok%20en' in http://u:p@h/", []string{"tok%20en"}); got != "no 'xxxxx' in http://xxxxx@h/" {
		t.Error(got)
	}
}
