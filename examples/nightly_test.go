package examples_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/relkit/relkit/pkg/relkittest"
)

// nightly is the crontab's line of the night, and its configuration in dir: what
// both say but for places, which are those of the test.
func nightly(t *testing.T, dir, mailServer string) (command string) {
	t.Helper()
	replace := func(text string, pairs ...string) string {
		for i := 0; i < len(pairs); i += 2 {
			if !strings.Contains(text, pairs[i]) {
				t.Fatalf("there is no %q in\n%s", pairs[i], text)
			}
		}
		return strings.NewReplacer(pairs...).Replace(text)
	}
	text := replace(read(t, "nightly/relkit.toml"), "/var/lib/relkit/fw", dir+"/state", "ssh://git@vcs.example.com/fw.git", dir+"/fw",
		`"smtp://mx.example.com"`+"\nfrom", `"smtp://`+mailServer+`"`+"\nfrom", "/var/log/relkit-builds", dir+"/builds")
	if err := os.WriteFile(dir+"/relkit.toml", []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(read(t, "cron/build-host")) {
		if _, rest, ok := strings.Cut(line, "30 2 * * *    build  "); ok {
			return replace(strings.TrimSpace(rest), "/srv/fw/relkit.toml", dir+"/relkit.toml")
		}
	}
	t.Fatal("the crontab has no nightly build")
	return ""
}

// TestNightly runs nights as cron does, with a mail server: the build breaks,
// stays broken, and is mended.
func TestNightly(t *testing.T) {
	relkittest.Need(t, "git", "make", "aiosmtpd")
	bin, dir, mails := buildRelkit(t), t.TempDir(), t.TempDir()
	address, stop, err := relkittest.MailServer(relkittest.MailOptions{Dir: mails})
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	line := nightly(t, dir, address)
	sh := func(command string) string { t.Helper(); return shell(t, dir, bin, command) }
	commit := func(check, author string) {
		t.Helper()
		text := "all:\n\t@echo compiled\ncheck:\n\t" + check + "\n"
		if err := os.MkdirAll(dir+"/fw", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(dir+"/fw/Makefile", []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		sh("cd fw && git init -q -b main && git add . && git -c user.name=x -c user.email=x@example.com commit -q -m change --author '" + author + "'")
	}
	night := func(wantMails int, says string) {
		t.Helper()
		if out := sh(line); !strings.Contains(out, says) || says == "" && out != "" {
			t.Errorf("cron mails %q, want %q", out, says)
		}
		if got, err := filepath.Glob(mails + "/*.txt"); err != nil || len(got) != wantMails {
			t.Errorf("%d mails, want %d; %v", len(got), wantMails, err)
		}
	}

	commit("true", "Ann <ann@example.com>")
	night(0, "")
	commit("@echo 'off by one'; false", "Eve <eve@example.com>")
	night(1, "")
	night(1, "")
	commit("@echo 'off by two'; false", "Bob <bob@elsewhere.org>")
	night(1, "")
	commit("true", "Ann <ann@example.com>")
	night(2, "")

	first, second := read(t, mails+"/1.txt"), read(t, mails+"/2.txt")
	for _, want := range []string{"X-Envelope-To: eve@example.com, team@example.com\n", "Subject: [fw] fw/2 fails: unit, exit status 2\n", "\n  off by one\n"} {
		if !strings.Contains(first, want) {
			t.Errorf("there is no %q in\n%s", want, first)
		}
	}
	for _, want := range []string{"X-Envelope-To: ann@example.com, eve@example.com, team@example.com\n", "Subject: [fw] fw/5 works again, after 3 failed builds\n"} {
		if !strings.Contains(second, want) {
			t.Errorf("there is no %q in\n%s", want, second)
		}
	}
	if got := read(t, dir+"/builds"); strings.Count(got, "\n") != 5 {
		t.Errorf("the file says:\n%s", got)
	}

	// With the server away, cron says what relkit could not, and of a repository
	// that is away what it always says.
	stop()
	commit("false", "Eve <eve@example.com>")
	night(2, "relkit: error: fw/6: not told: mail by smtp://"+address)
	sh("mv fw gone")
	night(2, "relkit build: ")
}
