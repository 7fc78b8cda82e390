package config

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/relkit/relkit/pkg/failure"
)

// wholeModel has every key there is.
const wholeModel = `
[project]
name = "r3000"
state = "/var/lib/relkit"
version = "4.2.{count}"
keep = { builds = 50, days = 180, failed = 10, pinned = true }
[[source]]
name = "fw"
vcs = "git"
url = "ssh://git@vcs/fw.git"
branch = "main"
stable = "2m"
important = ["src/**", "Makefile"]
ignore = ["doc/**"]
[[source]]
name = "sdk"
vcs = "file"
url = "/srv/sdk/*.tar.zst"
[[worker]]
name = "local"
slots = 2
tags = ["debian12", "x86_64"]
[[worker]]
name = "el9"
ssh = "build@el9"
slots = 4
tags = ["el9", "x86_64"]
dir = "/srv/relkit"
up = ["virsh", "start", "el9"]
down = ["virsh", "shutdown", "el9"]
[[worker]]
name = "arm"
openssh = "arm-board"
[[worker]]
name = "farm"
slurm = { partition = "build", constraint = "el9", account = "fw" }
slots = 32
tags = ["slurm:features"]
[[lock]]
name = "jtag"
slots = 1
[[builder]]
name = "lib"
sources = ["sdk"]
  [[builder.step]]
  name = "all"
  sh = "true"
[[builder]]
name = "fw"
sources = ["fw", "sdk"]
needs = ["lib"]
locks = ["jtag"]
matrix = { os = ["debian12", "el9"], cc = ["gcc", "clang"] }
exclude = [{ os = "el9", cc = "clang" }]
on = "{os} & !farm"
checkout = "incremental"
limits = { time = "1h", idle = "10m", mem = "4G", log = "200M" }
network = false
cache = "ccache"
env = { CFLAGS = "-O2" }
  [[builder.step]]
  name = "compile"
  run = ["make", "-j{slots}", "CC={cc}"]
  env = { V = "1" }
  retry = { times = 2, exit = [75], match = "Connection reset" }
  [[builder.step]]
  name = "unit"
  sh = "make check"
  tests = ["junit:**/TEST-*.xml", "tap:-", "gotest:-"]
  on_fail = "continue"
  flaky = "warn"
  [builder.artifacts]
  paths = ["out/*.img", "out/*.rpm"]
  sbom = ["cyclonedx", "spdx"]
  provenance = true
  key = "/etc/relkit/build.key"
  [builder.repro]
  vary = ["time", "path", "locale", "umask", "fileorder", "hostname", "worker"]
[[schedule]]
name = "nightly"
cron = "30 2 * * *"
builders = ["*"]
clean = true
only_if_changed = true
repro = true
[[schedule]]
name = "commit"
on = "change"
sources = ["fw"]
builders = ["fw"]
[[schedule]]
name = "after"
on = "success"
of = ["lib"]
[[notify]]
mail = "smtp://mx"
from = "relkit@x"
to = ["blame", "team@x"]
when = ["change", "failing"]
attach = "tail"
builders = ["fw"]
[[notify]]
webhook = "https://chat/x"
when = ["always", "recovery"]
[[notify]]
command = ["logger", "-t", "relkit"]
[[notify]]
sendmail = true
to = ["blame"]
domains = ["example.com"]
[[notify]]
mail = "smtps://relkit@mx:465"
secret = "file:/etc/relkit/mx"
to = ["Team <team@x>"]
when = ["error"]
attach = "none"
[[notify]]
file = "/var/log/builds"
`

func TestRelkitWholeModel(t *testing.T) {
	r, err := DecodeRelkit("relkit.toml", []byte(wholeModel))
	if err != nil {
		t.Fatal(err)
	}
	b := r.Builders[1]
	if b.Limits != (Limits{Time: time.Hour, Idle: 10 * time.Minute, Mem: 4 << 30, Log: 200 << 20}) {
		t.Errorf("limits %+v", b.Limits)
	}
	if b.Network == nil || *b.Network || b.Steps[0].Run[1] != "-j{slots}" || b.Matrix["cc"][1] != "clang" || b.Artifacts.Paths[1] != "out/*.rpm" {
		t.Errorf("builder %+v", b)
	}
	err = r.ErrorAt([]any{"builder", 1, "step", 0, "retry"}, "no %s", "retry")
	if err.Error() != "relkit.toml:65:3: no retry" || failure.Of(err) != failure.Usage {
		t.Errorf("ErrorAt: %v", err)
	}
}

func TestRelkitOfTheContract(t *testing.T) {
	// The block of keys that relkit.toml(5) promises, as a user copies it.
	data, err := os.ReadFile("testdata/contract.toml")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := DecodeRelkit("relkit.toml", data); err != nil {
		t.Error(err)
	}
}

// small is the least that is a build; mistakes are appended or replaced in it.
const small = `[project]
name = "fw"
[[source]]
name = "fw"
vcs = "git"
url = "/srv/fw.git"
[[worker]]
name = "w"
tags = ["el9"]
[[builder]]
name = "fw"
sources = ["fw"]
[[builder.step]]
name = "all"
run = ["make"]
`

func TestRelkitMistakes(t *testing.T) {
	if _, err := DecodeRelkit("f", []byte(small)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ old, new, want string }{
		{"run =", "rum =", `f:15:1: unknown key "rum" in builder.step, did you mean "run"?`},
		{`sources = ["fw"]`, `sources = ["fx"]`, `f:12:12: unknown source "fx"`},
		{`sources = ["fw"]`, `on = "el8"`, `f:12:1: builder.on: unknown worker tag "el8"`},
		{`sources = ["fw"]`, `on = "el9 &"`, `f:12:1: builder.on: bad tag expression "el9 &": a tag is missing before ""`},
		{`sources = ["fw"]`, "matrix = { os = [\"el9\", \"el8\"] }\non = \"{os}\"", `f:13:1: builder.on: unknown worker tag "el8"`},
		{`sources = ["fw"]`, `matrix = { slots = ["1"] }`, `f:12:12: builder.matrix: axis "slots" has the name`},
		{`sources = ["fw"]`, `matrix = { cc = ["a", "a"] }`, `value "a" stands twice`},
		{`sources = ["fw"]`, `exclude = [{ cc = "tcc" }]`, `f:12:14: builder.exclude: cc=tcc is not in the matrix`},
		{`sources = ["fw"]`, `needs = ["fw"]`, `builder.needs: a circle: fw needs fw`},
		{`sources = ["fw"]`, `limits = { idle = "10 minutes" }`, `f:12:12: builder.limits.idle: bad span of time "10 minutes"`},
		{`sources = ["fw"]`, `limits = { mem = "4 gigs" }`, `builder.limits.mem: bad size "4 gigs"`},
		{`sources = ["fw"]`, `checkout = "fresh"`, `builder.checkout: got "fresh", want one of incremental`},
		{`sources = ["fw"]`, `env = { "A B" = "x" }`, `bad variable "A B"`},
		{`vcs = "git"`, `vcs = "gti"`, `f:5:1: source.vcs: got "gti", want one of git`},
		{`url = "/srv/fw.git"`, `url = "--upload-pack=x"`, `source.url: bad URL`},
		{`name = "all"`, `name = "a/b"`, `bad name "a/b" for a step`},
		{`run = ["make"]`, ``, `step "all" has neither run nor sh`},
		{`run = ["make"]`, "run = [\"make\"]\nsh = \"make\"", `step "all": run and sh exclude each other`},
		{`run = ["make"]`, "run = [\"make\"]\ntests = [\"xunit:*\"]", `f:16:10: builder.step.tests: got "xunit:*"`},
		{`run = ["make"]`, "run = [\"make\"]\ntests = [\"junit:-\"]", `f:16:10: builder.step.tests: "junit:-": standard output is read for tap and gotest alone`},
		{`run = ["make"]`, "run = [\"make\"]\ntests = [\"junit:../x\"]", `it has a part ".."`},
		{`run = ["make"]`, "run = [\"make\"]\n[builder.artifacts]\npaths = [\"x\"]\n[builder.repro]\nvary = [\"times\"]", `f:19:9: builder.repro.vary: got "times", want one of time, path`},
		{`run = ["make"]`, "run = [\"make\"]\n[builder.artifacts]\npaths = [\"x\"]\n[builder.repro]\nvary = [\"path\", \"path\"]", `f:19:17: builder.repro.vary: "path" stands twice`},
		{`run = ["make"]`, "run = [\"make\"]\n[builder.repro]\nvary = [\"path\"]", `f:16:1: builder.repro: builder "fw" keeps no artifacts to compare`},
		{`run = ["make"]`, "run = [\"make\"]\n[builder.artifacts]\npaths = [\"/etc/*\"]", `want one that is relative`},
		{`run = ["make"]`, "run = [\"make\"]\n[builder.artifacts]\npaths = [\"x\"]\nkey = \"k\"", `f:18:1: builder.artifacts.key: there is nothing to sign`},
		{`run = ["make"]`, "run = [\"make\"]\n[builder.artifacts]\npaths = [\"x\"]\nprovenance = true", `f:18:1: builder.artifacts.provenance: artifacts.key, the SSH key`},
		{`run = ["make"]`, "run = [\"make\"]\n[builder.artifacts]\nprovenance = true\nkey = \"k\"", `f:17:1: builder.artifacts.provenance: builder "fw" keeps no artifacts`},
		{`run = ["make"]`, "run = [\"make\"]\n[builder.artifacts]\npaths = [\"x\"]\nsbom = [\"spdx\", \"spdx\"]", `f:18:17: builder.artifacts.sbom: "spdx" stands twice`},
		{`run = ["make"]`, "run = [\"make\"]\n[builder.artifacts]\nsbom = [\"spdx\"]", `f:17:1: builder.artifacts.sbom: builder "fw" keeps no artifacts`},
		{"[project]\nname = \"fw\"", "[project]", `f:1:1: project.name is missing`},
	} {
		text := strings.Replace(small, c.old, c.new, 1)
		if text == small {
			t.Fatalf("%q is not there", c.old)
		}
		_, err := DecodeRelkit("f", []byte(text))
		if err == nil || !strings.Contains(err.Error(), c.want) || failure.Of(err) != failure.Usage {
			t.Errorf("%q: got %v, want %s", c.new, err, c.want)
		}
	}
	for _, c := range []struct{ more, want string }{
		{"[[schedule]]\nname = \"n\"\ncron = \"30 2 * *\"", `got 4 fields, want 5`},
		{"[[schedule]]\nname = \"n\"\ncron = \"30 24 * * *\"", `f:18:1: schedule.cron: bad cron line "30 24 * * *": hour "24": want 0 to 23`},
		{"[[schedule]]\nname = \"n\"\ncron = \"@daily\"\nbuilders = [\"fx\"]", `unknown builder "fx"`},
		{"[[schedule]]\nname = \"fw\"\ncron = \"@daily\"", `schedule "fw" has the name of a builder`},
		{"[[schedule]]\nname = \"n\"", `neither cron nor on`},
		{"[[schedule]]\nname = \"n\"\ncron = \"0 0 30 2 *\"", `f:18:1: schedule.cron: bad cron line "0 0 30 2 *": there is no such day, it never fires`},
		{"[[schedule]]\nname = \"n\"\non = \"success\"", `of is missing`},
		{"[[schedule]]\nname = \"n\"\ncron = \"@daily\"\nof = [\"fw\"]", `of goes with on`},
		{"[[schedule]]\nname = \"n\"\non = \"always\"\nof = [\"fw\"]\nbuilders = [\"fw\"]", `f:19:1: schedule.of: a circle: fw, then fw`},
		{"[[notify]]\nto = [\"x\"]", `got 0 of mail`},
		{"[[notify]]\nmail = \"smtp://x\"\nwhen = [\"sometimes\"]", `notify.when: got "sometimes"`},
		{"[[notify]]\nmail = \"smtp://x\"", `notify.to is missing`},
		{"[[notify]]\nmail = \"http://x\"\nto = [\"a@x\"]", `f:17:1: notify.mail: want smtp://`},
		{"[[notify]]\nmail = \"smtp://u:hunter2@x\"\nto = [\"a@x\"]", `f:17:1: notify.mail: a password does not stand here`},
		{"[[notify]]\nmail = \"smtp://u@x\"\nto = [\"a@x\"]", `a user without a secret`},
		{"[[notify]]\nmail = \"smtp://x\"\nto = [\"a@x\"]\nsecret = \"env:A\"", `it is for a webhook, or for mail with a user`},
		{"[[notify]]\nmail = \"smtp://u@x\"\nto = [\"a@x\"]\nsecret = \"hunter2\"", `f:19:1: notify.secret: want file:PATH or env:NAME`},
		{"[[notify]]\nsendmail = true\nto = [\"a b\"]", `bad address "a b"`},
		{"[[notify]]\nsendmail = true\nto = [\"a@x\"]\nfrom = \"a\\nb\"", `notify.from: bad address "a\nb"`},
		{"[[notify]]\nsendmail = true\nto = [\"a@x\"]\ndomains = [\"x\"]", `to has no "blame"`},
		{"[[notify]]\nsendmail = true\nto = [\"blame\"]\ndomains = [\"*@x\"]", `bad domain "*@x"`},
		{"[[notify]]\nfile = \"x\"\nto = [\"a@x\"]", `notify.to: it is for mail and sendmail`},
		{"[[notify]]\nwebhook = \"ftp://x\"", `notify.webhook: want a URL`},
		{"[[notify]]\nwebhook = \"http://x\"\nsecret = \"env:A\"", `notify.secret: for https alone`},
		{"[[notify]]\nirc = \"ircs://x/y\"", `unknown key`},
		{"[[builder]]\nname = \"fw\"\n[[builder.step]]\nname = \"x\"\nsh = \"x\"", `f:17:1: second builder of the name "fw"`},
		{"[[builder]]\nname = \"b\"", `f:16:1: builder "b" has no step`},
		{"[[worker]]\nname = \"x\"\nssh = \"a\"\nopenssh = \"b\"", `exclude each other`},
	} {
		_, err := DecodeRelkit("f", []byte(small+c.more))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: got %v, want %s", c.more, err, c.want)
		}
	}
}

func TestCron(t *testing.T) {
	for _, good := range []string{"30 2 * * *", "*/5 0-6,22 1,15 jan-MAR mon", "0 0 * * 7", "@weekly", "0-59/7 * * * *"} {
		if _, err := ParseCron(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{"", "* * * *", "60 * * * *", "* * 0 * *", "* * * 13 *", "* * * * 8", "*/0 * * * *", "5-2 * * * *", "a * * * *", "@often", "1, * * * *"} {
		if _, err := ParseCron(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestTags(t *testing.T) {
	has := func(w string) bool { return w == "el9" || w == "x86_64" }
	for text, want := range map[string]bool{
		"": true, "el9": true, "el8": false, "!el8": true, "el9 x86_64": true, "el9, el8": false, "el8 | el9": true,
		"!(el8 | el9)": false, "el9 & (arm | x86_64)": true, "!!el9": true,
	} {
		e, err := ParseTags(text)
		if err != nil || e.Match(has) != want {
			t.Errorf("%q: %v, %v", text, e.Match(has), err)
		}
	}
	for _, bad := range []string{"|", "a |", "(a", "a )", "!", "& a", strings.Repeat("(", 1000) + "a"} {
		if _, err := ParseTags(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestSize(t *testing.T) {
	for text, want := range map[string]int64{"0": 0, "12": 12, "1K": 1024, "200M": 200 << 20, "4GiB": 4 << 30, "2TB": 2 << 40} {
		if got, err := ParseSize(text); err != nil || got != want {
			t.Errorf("%q: %d, %v", text, got, err)
		}
	}
	for _, bad := range []string{"5i", "5iB", "5BB", "5MM", "5Mi", "iB", "B", "+5", "9999999999T", "", "M", "-1", "1.5G", "1X", "1iM", "99999999999G", "1 M"} {
		if _, err := ParseSize(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func FuzzDecodeRelkit(f *testing.F) {
	f.Add(wholeModel)
	f.Add(small)
	f.Fuzz(func(t *testing.T, text string) {
		r, err := DecodeRelkit("f", []byte(text))
		if (r == nil) == (err == nil) {
			t.Errorf("%v, %v", r, err)
		}
		if err != nil && failure.Of(err) != failure.Usage {
			t.Errorf("kind of %v", err)
		}
	})
}
