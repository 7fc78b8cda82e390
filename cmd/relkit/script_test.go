package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestScript runs testdata/script/*.txtar: the tool as a user types it, in an
// empty folder ($WORK, also $HOME); $EXAMPLES is examples/. Besides what testscript knows:
//
//	exits N COMMAND ARG…   run it and want exactly the exit status N
//	[missing:TOOL] skip    skip without the tool ("root": without being root);
//	                       an error where RELKIT_TEST_DISALLOW_SKIP is set
func TestScript(t *testing.T) {
	examples, err := filepath.Abs("../../examples")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("HOME", e.WorkDir)
			e.Setenv("TZ", "UTC")
			e.Setenv("EXAMPLES", examples)
			e.Defer(func() { unmountBelow(e.WorkDir) })
			return nil
		},
		Condition: missing,
		Cmds:      map[string]func(*testscript.TestScript, bool, []string){"exits": cmdExits},
	})
}

// unmountBelow takes down what a script that failed has left mounted, or swapped to.
func unmountBelow(dir string) {
	table, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return
	}
	lines := strings.Split(string(table), "\n")
	for _, line := range slices.Backward(lines) {
		if f := strings.Fields(line); len(f) > 1 && strings.HasPrefix(f[1], dir+"/") {
			_ = exec.Command("swapoff", filepath.Join(f[1], "swap")).Run()
			_ = exec.Command("umount", "-l", f[1]).Run()
		}
	}
}

func missing(condition string) (bool, error) {
	tool, ok := strings.CutPrefix(condition, "missing:")
	if !ok {
		return false, fmt.Errorf("unknown condition %q", condition)
	}
	_, err := exec.LookPath(tool)
	if tool == "root" {
		err = nil
		if os.Geteuid() != 0 {
			err = errors.New("not root")
		}
	}
	if err != nil && os.Getenv("RELKIT_TEST_DISALLOW_SKIP") != "" {
		return false, fmt.Errorf("must not skip: %w", err)
	}
	return err != nil, nil
}

func cmdExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits status command [args...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	err = ts.Exec(args[1], args[2:]...)
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		got = exit.ExitCode()
	case err != nil:
		ts.Fatalf("running %s: %v", args[1], err)
	}
	if got != want {
		ts.Fatalf("exit status %d, want %d", got, want)
	}
}
