package main

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/relkit/relkit/pkg/config"
)

// TestExamplesInPagesParse takes every relkit command line shown in a manual
// page apart as the tool would: commands and flags exist, values are given.
func TestExamplesInPagesParse(t *testing.T) {
	list := commands(testEnv("", nil, nil, nil))
	seen := 0
	for _, page := range pages(t) {
		for _, line := range exampleLines(readPage(t, page)) {
			for _, args := range relkitCalls(line) {
				seen++
				if complaint := checkCall(args); complaint != "" {
					t.Errorf("%s: %q: %s", page, line, complaint)
				}
			}
		}
	}
	if seen < len(list) {
		t.Errorf("found %d examples for %d commands", seen, len(list))
	}
}

// TestReadmeParses does the same with what the README's sessions type.
func TestReadmeParses(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, session := range strings.Split(string(readme), "\n```console\n")[1:] {
		session, _, _ = strings.Cut(session, "\n```\n")
		for _, line := range strings.Split(session, "\n") {
			for _, args := range relkitCalls(line) {
				if len(args) == 0 {
					continue // a folder of that name
				}
				seen++
				if complaint := checkCall(args); complaint != "" {
					t.Errorf("%q: %s", line, complaint)
				}
			}
		}
	}
	if seen < 18 {
		t.Errorf("only %d calls", seen)
	}
}

// checkCall says what is wrong with a call of relkit; "" if nothing.
func checkCall(args []string) string {
	if len(args) == 0 {
		return "no command"
	}
	if strings.HasPrefix(args[0], "-") || args[0] == "help" || args[0] == "COMMAND" {
		return ""
	}
	cmd := find(commands(testEnv("", nil, nil, nil)), args[0])
	if cmd == nil {
		return "there is no command " + args[0]
	}
	finishCommand(nil, cmd)
	if _, err := parseArgs(cmd, args[1:], func(string) (string, bool) { return "", false }); err != nil {
		return err.Error()
	}
	return ""
}

// exampleLines are the lines of a page's literal displays and one-line
// displays, continued lines joined.
func exampleLines(page string) []string {
	page = strings.NewReplacer("\\e\n", " ", `\(dq`, `"`, `\e`, `\`, `\(aq`, "'", `\&`, "").Replace(page)
	var out []string
	inside := false
	for _, line := range strings.Split(page, "\n") {
		switch {
		case strings.HasPrefix(line, ".Bd "):
			inside = true
		case strings.HasPrefix(line, ".Ed"):
			inside = false
		case inside:
			out = append(out, line)
		case strings.HasPrefix(line, ".Dl "):
			out = append(out, line[len(".Dl "):])
		}
	}
	return out
}

var (
	shellWord = regexp.MustCompile(`\$\(|&&|\|\||2>&1|[|;<>()]|'[^']*'|(?:[^\s'"|;<>()&]|"[^"]*")+|&`)
	// saysRelkit matches what relkit prints, as against what is typed.
	saysRelkit = regexp.MustCompile(`^\s*relkit( [a-z-]+)?: `)
	separator  = regexp.MustCompile(`^(\$\(|&&|\|\||2>&1|[|;<>()&])$`)
)

// relkitCalls are the arguments of each call of relkit in a line of shell.
func relkitCalls(line string) (calls [][]string) {
	if before, _, ok := strings.Cut(line, " # "); ok && !strings.HasPrefix(line, "#") {
		line = before
	}
	if saysRelkit.MatchString(line) {
		return nil // what relkit says, not what is typed
	}
	collecting := false
	for _, word := range shellWord.FindAllString(line, -1) {
		switch {
		case separator.MatchString(word):
			collecting = false
		case collecting:
			calls[len(calls)-1] = append(calls[len(calls)-1], strings.Trim(strings.ReplaceAll(word, `"`, ""), "'"))
		case word == "relkit":
			collecting = true
			calls = append(calls, nil)
		}
	}
	return calls
}

func TestRelkitCalls(t *testing.T) {
	for line, want := range map[string]string{
		"$ relkit build fw": "build fw",
		"# relkit fetch oci://x/fw:stable | xargs relkit patch-apply -q": "fetch oci://x/fw:stable;patch-apply -q",
		"ssh golden relkit prepareclient -o - | relkit getimage - fw:1":  "prepareclient -o -;getimage - fw:1",
		`if relkit report --gate "failed<1%" -; then # why`:              "report --gate failed<1% -",
		"relkit build: step 3 failed":                                    "",
		"relkit: hint: relkit build":                                     "",
		"a=$(relkit build 'x y' --print dir) && ls":                      "build x y --print dir",
	} {
		var got []string
		for _, c := range relkitCalls(line) {
			got = append(got, strings.Join(c, " "))
		}
		if s := strings.Join(got, ";"); s != want {
			t.Errorf("%q: got %q, want %q", line, s, want)
		}
	}
}

// TestWalkThroughConfiguration reads the relkit.toml of relkit(7).
func TestWalkThroughConfiguration(t *testing.T) {
	lines := exampleLines(readPage(t, "relkit.7"))
	first := slices.Index(lines, "[project]")
	last := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, "$ relkit build") })
	if first < 0 || last < first {
		t.Fatalf("no configuration in %q", lines)
	}
	r, err := config.DecodeRelkit("relkit.toml", []byte(strings.Join(lines[first:last], "\n")))
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Builders) != 1 || len(r.Builders[0].Steps) != 2 {
		t.Errorf("got %+v", r)
	}
}

// TestMachineFileExample reads the machine.toml of relkit-machine.toml(5), and
// nothing but it.
func TestMachineFileExample(t *testing.T) {
	text := strings.Join(exampleLines(readPage(t, "relkit-machine.toml.5")), "\n")
	file, err := config.DecodeMachine("machine.toml", []byte(text))
	if err != nil || len(file.Compatible) != 3 {
		t.Errorf("%q: %v, %v", text, file.Compatible, err)
	}
}

// TestDemoShowsEveryCommand: a command that the demo leaves out is one that a
// newcomer does not meet.
func TestDemoShowsEveryCommand(t *testing.T) {
	demo, err := os.ReadFile("../../examples/demo.sh")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range commands(testEnv("", nil, nil, nil)) {
		if c.Name == "completion" {
			continue // for the file that a shell reads at its start
		}
		if !regexp.MustCompile(`(?m)^(try|refused|printf)\b.*\brelkit ` + c.Name + ` `).Match(demo) {
			t.Errorf("the demo does not show relkit %s", c.Name)
		}
	}
}
