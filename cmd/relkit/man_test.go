package main

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"github.com/relkit/relkit/pkg/relkittest"
)

const manDir = "../../man"

// TestPagesAndFlagsAgree holds each command's page and its flags equal in both
// directions. The flags that every command has may be left to relkit(1).
func TestPagesAndFlagsAgree(t *testing.T) {
	list := commands(testEnv("", nil, nil, nil))
	for _, cmd := range list {
		page, ok := pageOf(cmd.Name)
		if !ok {
			t.Errorf("man/relkit-%s.1 is missing", cmd.Name)
			continue
		}
		text := readPage(t, page)
		own, common := flagNames(cmd.Flags), flagNames(commonFlags())
		for _, complaint := range compareFlags(own, common, itFlags(text)) {
			t.Errorf("%s: %s", page, complaint)
		}
		for _, want := range []string{".Sh NAME", ".Nm relkit-" + cmd.Name, ".Sh SYNOPSIS", ".Sh DESCRIPTION", ".Sh EXIT STATUS", ".Xr relkit 1", ".Sh EXAMPLES", ".Sh SEE ALSO"} {
			if !strings.Contains(text, "\n"+want) {
				t.Errorf("%s: no %q", page, want)
			}
		}
	}
	for _, page := range pages(t) {
		name, ok := strings.CutPrefix(page, "relkit-")
		section := filepath.Ext(page)
		if name = strings.TrimSuffix(name, section); ok && section != ".5" && find(list, name) == nil {
			t.Errorf("%s: there is no such command", page)
		}
	}
}

// TestMainPage holds relkit(1) to the flags that every command has, the flags
// that several share, and the commands there are.
func TestMainPage(t *testing.T) {
	text := readPage(t, "relkit.1")
	want := flagNames(append(commonFlags(), configFlag(""), rootFlag(""), storeFlag(""), stateFlag(""), dryRunFlag(), jobsFlag(), outputFlag("")))
	want["version"] = true
	for _, complaint := range compareFlags(want, nil, itFlags(text)) {
		t.Errorf("relkit.1: %s", complaint)
	}
	for _, cmd := range commands(testEnv("", nil, nil, nil)) {
		entry := regexp.MustCompile(`(?m)^\.It Xr relkit-` + cmd.Name + ` [18]\n` + regexp.QuoteMeta(cmd.Usage) + `$`)
		if !entry.MatchString(text) {
			t.Errorf("relkit.1 does not list the command:\n.It Xr relkit-%s 1\n%s", cmd.Name, cmd.Usage)
		}
	}
	for _, m := range regexp.MustCompile(`(?m)^\.It Xr relkit-(\S+) [18]$`).FindAllStringSubmatch(text, -1) {
		if find(commands(testEnv("", nil, nil, nil)), m[1]) == nil {
			t.Errorf("relkit.1 lists %s, which is no command", m[1])
		}
	}
}

// TestPagesAreClean: mandoc has nothing to say, and references lead somewhere.
func TestPagesAreClean(t *testing.T) {
	relkittest.Need(t, "mandoc")
	for _, page := range pages(t) {
		out, err := exec.Command("../../scripts/lint-man.sh", filepath.Join(manDir, page)).CombinedOutput()
		if err != nil || len(out) > 0 {
			t.Errorf("%s: %v\n%s", page, err, out)
		}
		for _, m := range regexp.MustCompile(`Xr (relkit\S*) (\d)`).FindAllStringSubmatch(readPage(t, page), -1) {
			if _, err := os.Stat(filepath.Join(manDir, m[1]+"."+m[2])); err != nil {
				t.Errorf("%s refers to %s(%s), which is not there", page, m[1], m[2])
			}
		}
	}
}

// TestSeeAlso: what of relkit's pages a page refers to, its SEE ALSO lists.
// relkit(1) lists the commands above that.
func TestSeeAlso(t *testing.T) {
	references := regexp.MustCompile(`Xr (relkit\S*) (\d)`)
	for _, page := range pages(t) {
		body, also, _ := strings.Cut(readPage(t, page), "\n.Sh SEE ALSO\n")
		if page == "relkit.1" {
			continue
		}
		for _, m := range references.FindAllStringSubmatch(body, -1) {
			if m[1]+"."+m[2] != page && !regexp.MustCompile(`(?m)^\.`+m[0]+`\b`).MatchString(also) {
				t.Errorf("%s: %s(%s) is not under SEE ALSO", page, m[1], m[2])
			}
		}
	}
}

func TestCompareFlags(t *testing.T) {
	text := ".It Fl o , Fl -output Ar FILE\n.It Fl -dry-run , n\n.It Fl -as Ns = Ns Ar ROLE\n.It Fl -gone\nuse\n.Fl -other\n"
	got := compareFlags(map[string]bool{"output": true, "o": true, "as": true, "new": true}, map[string]bool{"n": true, "dry-run": true}, itFlags(text))
	want := []string{"the flag --new is not documented", "documents --gone, which the command does not have"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// flagNames are all names of flags, short ones too; hidden flags are nobody's.
func flagNames(flags []cli.Flag) map[string]bool {
	names := map[string]bool{}
	for _, f := range flags {
		if v, ok := f.(cli.VisibleFlag); ok && !v.IsVisible() {
			continue
		}
		for _, n := range f.Names() {
			names[n] = true
		}
	}
	return names
}

var mdocMacro = regexp.MustCompile(`^[A-Z][a-z]$`)

// itFlags are the flags that an mdoc(7) page documents in list items:
// ".It Fl o , Fl -output Ar FILE" gives o and output.
func itFlags(page string) map[string]bool {
	names := map[string]bool{}
	for _, line := range strings.Split(page, "\n") {
		rest, ok := strings.CutPrefix(line, ".It Fl ")
		if !ok {
			continue
		}
		flag := true
		for _, word := range strings.Fields(rest) {
			switch {
			case mdocMacro.MatchString(word):
				flag = word == "Fl"
			case flag && !strings.ContainsAny(word[:1], ",|=()[]"):
				names[strings.TrimPrefix(word, "-")] = true
			}
		}
	}
	return names
}

// compareFlags tells where a page and a command differ; optional flags may be
// documented and need not be.
func compareFlags(own, optional, documented map[string]bool) (complaints []string) {
	dash := func(n string) string {
		if len(n) == 1 {
			return "-" + n
		}
		return "--" + n
	}
	for _, n := range slices.Sorted(maps.Keys(own)) {
		if !documented[n] {
			complaints = append(complaints, fmt.Sprintf("the flag %s is not documented", dash(n)))
		}
	}
	for _, n := range slices.Sorted(maps.Keys(documented)) {
		if !own[n] && !optional[n] {
			complaints = append(complaints, fmt.Sprintf("documents %s, which the command does not have", dash(n)))
		}
	}
	return complaints
}

func pageOf(command string) (string, bool) {
	for _, section := range []string{".1", ".8"} {
		if _, err := os.Stat(filepath.Join(manDir, "relkit-"+command+section)); err == nil {
			return "relkit-" + command + section, true
		}
	}
	return "", false
}

func pages(t *testing.T) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(manDir, "*.[1-9]"))
	if err != nil || len(names) == 0 {
		t.Fatalf("no manual pages: %v", err)
	}
	for i := range names {
		names[i] = filepath.Base(names[i])
	}
	return names
}

func readPage(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(manDir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
