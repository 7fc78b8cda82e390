package build

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/relkit/relkit/pkg/failure"
)

func TestMatrix(t *testing.T) {
	b := newBench(t, builder("echo {cc} {os} $RELKIT_AXIS_CC", "matrix = { os = [\"a\", \"b\"], cc = [\"gcc\", \"clang\"] }\nexclude = [{ os = \"b\", cc = \"clang\" }]\non = \"{cc}\"", ""), nil)
	if err := b.run(); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, r := range b.built {
		names = append(names, r.Builder)
		if want := r.Matrix["cc"] + " " + r.Matrix["os"] + " " + r.Matrix["cc"] + "\n"; b.log(r.Builder+"/1") != want {
			t.Errorf("%s: %q", r.Builder, b.log(r.Builder+"/1"))
		}
	}
	slices.Sort(names)
	if !slices.Equal(names, []string{"fw[cc=clang,os=a]", "fw[cc=gcc,os=a]", "fw[cc=gcc,os=b]"}) {
		t.Errorf("%q", names)
	}
	if err := b.run("fw[os=a,cc=gcc]"); err != nil || len(b.built) != 1 || b.built[0].Builder != "fw[cc=gcc,os=a]" || b.built[0].Number != 2 {
		t.Errorf("%v, %+v", err, b.built)
	}
	if err := b.run("fw[cc=gcc]"); err != nil || len(b.built) != 2 {
		t.Errorf("%v, %+v", err, b.built)
	}
	for op, want := range map[string]string{"fw[os=b,cc=clang]": "names no cell", "fw[os]": "bad operand", "gw": `unknown builder "gw"`} {
		if err := b.run(op); failure.Of(err) != failure.Usage || !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%s: %v", op, err)
		}
	}
}

func TestKeysThatAreNotSupportedAreRefused(t *testing.T) {
	b := newBench(t, "", nil)
	step := "[[builder.step]]\nname = \"a\"\nrun = [\"true\"]\n"
	one := "[[builder]]\nname = \"fw\"\n"
	for text, want := range map[string]string{
		"[[worker]]\nname = \"el9\"\nssh = \"a b\"\n" + one + "on = \"el9\"\n" + step:                       `:16:1: worker "el9": bad host "a b", want [USER@]HOST[:PORT]`,
		"[[worker]]\nname = \"el9\"\nslurm = {}\ndir = \"rel\"\n" + one + "on = \"el9\"\n" + step:           `:17:1: worker "el9": dir "rel" is not absolute`,
		"[[source]]\nname = \"s\"\nvcs = \"cvs\"\nurl = \"cvs://x\"\n" + one + "sources = [\"s\"]\n" + step: `:16:1: source "s": vcs "cvs" is not supported`,
	} {
		b.write("relkit.toml", head+text)
		err := b.run("fw")
		if failure.Of(err) != failure.Usage || !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%q:\n got %v\nwant %s", text, err, want)
		}
		p, err := Open(b.path("relkit.toml"), "")
		if err != nil {
			t.Fatal(err)
		}
		if unsupported, err := p.Check(); err != nil || len(unsupported) != 1 {
			t.Errorf("checking %q: %v, %v", text, unsupported, err)
		}
	}
	b.write("relkit.toml", head+one+step+"[[schedule]]\nname = \"nightly\"\ncron = \"@daily\"\n[[worker]]\nname = \"el9\"\nssh = \"x\"\n")
	b.must("fw") // neither the schedule nor the worker is needed
	b.must("nightly")
}

func TestUnknownSubstitutions(t *testing.T) {
	b := newBench(t, "", nil)
	for text, want := range map[string]string{
		builder("true", "", "env = { A = \"{nope}\" }"):                                              `unknown substitution "{nope}"`,
		builder("true", "", "tests = [\"junit:{nope}.xml\"]"):                                        `unknown substitution "{nope}"`,
		builder("true", "", "[builder.artifacts]\npaths = [\"{nope}\"]"):                             `unknown substitution "{nope}"`,
		"[[builder]]\nname = \"fw\"\n[[builder.step]]\nname = \"a\"\nrun = [\"echo\", \"{nope}\"]\n": `relkit.toml:18:16: unknown substitution`,
	} {
		b.write("relkit.toml", head+text)
		if err := b.run(); failure.Of(err) != failure.Usage || !strings.Contains(fmt.Sprint(err), want) || len(b.built) > 0 {
			t.Errorf("%q: %v", text, err)
		}
	}
	b.write("relkit.toml", head+builder("echo {k}", "", ""))
	b.opt.Set = map[string]string{"k": "a; rm -rf /"}
	if err := b.run(); err == nil || !strings.Contains(err.Error(), "what the shell would interpret") {
		t.Errorf("%v", err)
	}
	for _, bad := range []string{"slots", "a b", ""} {
		b.opt.Set = map[string]string{bad: "x"}
		if err := b.run(); failure.Of(err) != failure.Usage {
			t.Errorf("--set %q: %v", bad, err)
		}
	}
}

func TestPoll(t *testing.T) {
	b := newBench(t, builder("true", "", ""), nil)
	rev := b.git("rev-parse", "HEAD")
	poll := func() []Cell {
		p, err := Open(b.path("relkit.toml"), "")
		if err != nil {
			t.Fatal(err)
		}
		cells, err := p.Plan(nil)
		if err != nil {
			t.Fatal(err)
		}
		if cells, err = p.Poll(t.Context(), cells, b.opt); err != nil {
			t.Fatal(err)
		}
		return cells
	}
	b.opt.IfChanged = true
	if cells := poll(); len(cells) != 1 || cells[0].Revisions["fw"] != rev || cells[0].Slots != 4 {
		t.Errorf("%+v", cells)
	}
	if _, err := os.Stat(b.path("state")); err == nil {
		t.Error("a plan has made a state")
	}
	b.must()
	if cells := poll(); len(cells) != 0 {
		t.Errorf("%+v", cells)
	}
}
