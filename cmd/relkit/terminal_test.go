package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/relkit/relkit/pkg/failure"
)

func TestHelpAndVersion(t *testing.T) {
	for _, args := range [][]string{{"--help"}, {"-h"}, {"help"}, {"help", "help"}, {"help", "--help"}} {
		out, errs, status := runSample(t, nil, args...)
		if status != 0 || errs != "" || !strings.HasPrefix(out, "relkit takes a Linux appliance") || !strings.Contains(out, "\nOther:\n  echo   print what") {
			t.Errorf("%q: status %d, stderr %q, stdout %q", args, status, errs, out)
		}
		if strings.Contains(out, "Build:") {
			t.Errorf("%q: a group without commands is listed:\n%s", args, out)
		}
	}
	for _, args := range [][]string{{"help", "echo"}, {"echo", "--help"}, {"echo", "a", "-h"}, {"echo", "-nh", "--limit-rate", "-h"}} {
		out, errs, status := runSample(t, nil, args...)
		if status != 0 || errs != "" || !strings.HasPrefix(out, "relkit echo: print what it was given\n\nusage: relkit echo OLD NEW… [FLAG…]\n\nEcho is made for tests.\n") {
			t.Errorf("%q: status %d, stderr %q, stdout %q", args, status, errs, out)
		}
		for _, want := range []string{
			"\n  -o, --output FILE             write to FILE\n", "\n      --config FILE             read the configuration from FILE (default: relkit.toml)\n",
			"\ncommon flags:\n", "\n      --progress auto|never|json  show progress: auto|never|json (default: auto)\n", "\n  -n, --dry-run                 say",
		} {
			if !strings.Contains(out, want) {
				t.Errorf("%q: no %q in\n%s", args, want, out)
			}
		}
		if strings.Contains(out, "secret") {
			t.Errorf("%q: a hidden flag is listed", args)
		}
	}
	if out, _, _ := runSample(t, nil, "echo", "--", "-h"); out != "-h\n" {
		t.Errorf("after -- a flag is an operand, got %q", out)
	}
	out, errs, status := runSample(t, nil, "--version")
	if status != 0 || errs != "" || !strings.HasPrefix(out, "relkit ") || !strings.Contains(out, "linux/") {
		t.Errorf("--version: status %d, stderr %q, stdout %q", status, errs, out)
	}
}

// usageCases are what is refused before anything is tried. Each is also where
// cli/v2 by itself prints to standard output, prints its help, takes a flag for
// an operand, or ends with another status.
var usageCases = []struct {
	args []string
	want string // the whole of standard error
}{
	{nil, "relkit: no command given\nrelkit: hint: relkit --help\n"},
	{[]string{"ehco"}, "relkit: unknown command \"ehco\"\nrelkit: hint: did you mean relkit echo?\n"},
	{[]string{"frobnicate"}, "relkit: unknown command \"frobnicate\"\nrelkit: hint: relkit --help\n"},
	{[]string{"help", "frobnicate"}, "relkit: unknown command \"frobnicate\"\nrelkit: hint: relkit --help\n"},
	{[]string{"help", "echo", "fail"}, "relkit: help takes one command, got \"fail\" too\n"},
	{[]string{"h"}, "relkit: unknown command \"h\"\nrelkit: hint: relkit --help\n"},
	{[]string{"-q", "echo"}, "relkit: unknown flag \"-q\" before the command\nrelkit: hint: flags stand after the command: relkit COMMAND -q\n"},
	{[]string{"echo"}, "relkit echo: missing operand: OLD\nrelkit: hint: relkit echo --help\n"},
	{[]string{"echo", "a", "b", "c", "d"}, "relkit echo: unexpected operand \"d\"\nrelkit: hint: relkit echo --help\n"},
	{[]string{"echo", "-", "-"}, "relkit echo: only one operand may be \"-\"\n"},
	{[]string{"echo", "a", "--dry-rum"}, "relkit echo: unknown flag \"--dry-rum\"\nrelkit: hint: did you mean --dry-run?\n"},
	{[]string{"echo", "a", "--zzz=1"}, "relkit echo: unknown flag \"--zzz\"\nrelkit: hint: relkit echo --help\n"},
	{[]string{"echo", "a", "-z"}, "relkit echo: unknown flag \"-z\"\nrelkit: hint: relkit echo --help\n"},
	{[]string{"echo", "a", "--o", "x"}, "relkit echo: unknown flag \"--o\"\nrelkit: hint: relkit echo --help\n"},
	{[]string{"echo", "a", "-dry-run"}, "relkit echo: unknown flag \"-dry-run\"\nrelkit: hint: long flags have two dashes: --dry-run\n"},
	{[]string{"echo", "a", "--output"}, "relkit echo: flag --output needs a value\nrelkit: hint: relkit echo --help\n"},
	{[]string{"echo", "a", "-no"}, "relkit echo: flag -o needs a value\nrelkit: hint: relkit echo --help\n"},
	{[]string{"echo", "a", "-o", "--dry-run"}, "relkit echo: flag -o needs a value, got the flag \"--dry-run\"\nrelkit: hint: if --dry-run is the value, write -o=--dry-run\n"},
	{[]string{"echo", "a", "--jobs", "many"}, "relkit echo: reading --jobs: bad value \"many\"\nrelkit: hint: relkit echo --help\n"},
	{[]string{"echo", "a", "--jobs", "0"}, "relkit echo: reading --jobs: got 0, want 1 or more\n"},
	{[]string{"echo", "a", "--dry-run=maybe"}, "relkit echo: reading --dry-run: bad value \"maybe\"\nrelkit: hint: relkit echo --help\n"},
	{[]string{"echo", "a", "--progress", "loud"}, "relkit echo: reading --progress: got \"loud\", want auto, never or json\n"},
	{[]string{"echo", "a", "-q", "--verbose"}, "relkit echo: --quiet and --verbose exclude each other\n"},
	{[]string{"fail", "plain"}, "relkit fail: missing flag --to\nrelkit: hint: relkit fail --help\n"},
}

func TestUsageErrors(t *testing.T) {
	for _, c := range usageCases {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			out, errs, status := runSample(t, nil, c.args...)
			if out != "" || status != int(failure.Usage) {
				t.Errorf("status %d, want 2; stdout %q, want nothing", status, out)
			}
			want := c.want
			if !strings.Contains(want, "hint:") && strings.HasPrefix(errs, want) {
				want = errs // a hint after a message that says enough is welcome, not demanded
			}
			if errs != want {
				t.Errorf("stderr\n%s\nwant\n%s", errs, c.want)
			}
		})
	}
}

func TestFlagsStandAnywhere(t *testing.T) {
	for _, c := range []struct{ args, operands, flags string }{
		{"a b --dry-run", "a b", "dry-run=true"},
		{"--dry-run a b", "a b", "dry-run=true"},
		{"a --dry-run b -o out", "a b", "dry-run=true output=out"},
		{"a -nqo out", "a", "dry-run=true output=out quiet=true"},
		{"a -oout -j4", "a", "jobs=4 output=out"},
		{"a -o=out -j=4", "a", "jobs=4 output=out"},
		{"a --output=out=put", "a", "output=out=put"},
		{"a --output=", "a", "output="},
		{"a -o -", "a", "output=-"},
		{"- -n", "-", "dry-run=true"},
		{"a -- --dry-run -o", "a --dry-run -o", ""},
		{"a --dry-run=false", "a", "dry-run=false"},
		{"a -n --dry-run", "a", "dry-run=true"},
		{"a -o one --output two", "a", "output=two"},
		{"a --jobs -- b", "", ""}, // "--" is taken as the value, which is no number
		// What cli/v2 would swallow as commands or take for flags:
		{"help", "help", ""}, {"h", "h", ""}, {"a help", "a help", ""}, {"json", "json", ""}, {"output", "output", ""},
		{"a --as x,y --as z", "a", "as=x,y|z"},
	} {
		t.Run(c.args, func(t *testing.T) {
			out, errs, status := runSample(t, nil, append([]string{"echo", "--json"}, strings.Fields(c.args)...)...)
			if c.operands == "" {
				if status != 2 {
					t.Errorf("status %d, want 2", status)
				}
				return
			}
			var got echoResult
			if err := json.Unmarshal([]byte(out), &got); err != nil || status != 0 {
				t.Fatalf("status %d, %v, stderr %s", status, err, errs)
			}
			if s := strings.Join(got.Operands, " "); s != c.operands {
				t.Errorf("operands %q, want %q", s, c.operands)
			}
			want := map[string]string{"as": ""}
			for _, f := range strings.Fields(c.flags) {
				k, v, _ := strings.Cut(f, "=")
				want[k] = v
			}
			for _, alias := range []string{"o", "n", "j", "q", "h"} {
				delete(got.Flags, alias)
			}
			if fmt.Sprint(got.Flags) != fmt.Sprint(want) {
				t.Errorf("flags %v, want %v", got.Flags, want)
			}
		})
	}
}

func TestCommaListIsSplitByTheCommand(t *testing.T) {
	got := commaList([]string{"qa, release", "", "ops,"})
	if strings.Join(got, "|") != "qa|release|ops" {
		t.Errorf("got %q", got)
	}
}

func TestEnvironment(t *testing.T) {
	for _, c := range []struct {
		environ map[string]string
		args    string
		want    string
	}{
		{map[string]string{"RELKIT_DRY_RUN": "1", "RELKIT_CONFIG": "f", "RELKIT_JOBS": "3", "RELKIT_OUTPUT": "o"}, "a", "as= config=f dry-run=true jobs=3 output=o"},
		{map[string]string{"RELKIT_OUTPUT": "o"}, "a -o p", "as= output=p"},
		{map[string]string{"RELKIT_OUTPUT": ""}, "a", "as="},
		{map[string]string{"RELKIT_ECHO_LIMIT_RATE": "5M", "RELKIT_LIMIT_RATE": "6M"}, "a", "as= limit-rate=5M"},
		{map[string]string{"RELKIT_ECHO_AS": "x,y\nz\n"}, "a", "as=x,y|z"},
		{map[string]string{"RELKIT_ECHO_AS": "x"}, "a --as y", "as=y"},
		{map[string]string{"RELKIT_FORCE": "1", "RELKIT_ECHO_FORCE": "1", "RELKIT_ECHO_INSECURE_UNSIGNED": "1", "RELKIT_ECHO_ON_MODIFIED": "keep", "RELKIT_INSECURE_UNSIGNED": "1"}, "a", "as="},
		{map[string]string{"RELKIT_HELP": "1", "RELKIT_ECHO_HELP": "1", "RELKIT_CRASH_AT": "3"}, "a", "as="},
	} {
		out, errs, status := runSample(t, c.environ, append([]string{"echo", "--json"}, strings.Fields(c.args)...)...)
		var got echoResult
		if err := json.Unmarshal([]byte(out), &got); err != nil || status != 0 {
			t.Fatalf("%v: status %d, %v, stderr %s", c.environ, status, err, errs)
		}
		for _, alias := range []string{"o", "n", "j", "q", "h"} {
			delete(got.Flags, alias)
		}
		if s := strings.TrimSuffix(strings.TrimPrefix(fmt.Sprint(got.Flags), "map["), "]"); strings.ReplaceAll(s, ":", "=") != c.want {
			t.Errorf("%v: got %s, want %s", c.environ, s, c.want)
		}
	}
	_, errs, status := runSample(t, map[string]string{"RELKIT_JOBS": "many"}, "echo", "a")
	if status != 2 || !strings.HasPrefix(errs, "relkit echo: reading RELKIT_JOBS: bad value \"many\"\n") {
		t.Errorf("status %d, stderr %q, want the variable named", status, errs)
	}
	out, _, _ := runSample(t, map[string]string{"RELKIT_JSON": "1"}, "echo", "a")
	if !strings.HasPrefix(out, "{") {
		t.Errorf("RELKIT_JSON=1 gives %q", out)
	}
	_, errs, _ = runSample(t, map[string]string{"RELKIT_JSON": "1"}, "ehco")
	wantErrorDocument(t, errs, `unknown command "ehco"`, 2, "unchanged")
}
