package main

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"
)

// runTool runs the whole tool in this process, with environ as its environment.
func runTool(t *testing.T, stdin string, environ map[string]string, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	var out, errs bytes.Buffer
	e := testEnv(stdin, environ, &out, &errs)
	status = run(context.Background(), e, append([]string{"relkit"}, args...))
	return out.String(), errs.String(), status
}

func testEnv(stdin string, environ map[string]string, out, errs *bytes.Buffer) *env {
	return &env{
		Stdin: strings.NewReader(stdin), Stdout: out, Stderr: errs,
		LookupEnv:  func(k string) (string, bool) { v, ok := environ[k]; return v, ok },
		Now:        func() time.Time { return time.Date(2026, 3, 4, 5, 6, 7, 8, time.UTC) },
		IsTerminal: func(any) bool { return false },
		Exit:       func(int) {},
	}
}

func TestHelpAndVersion(t *testing.T) {
	for _, args := range [][]string{{"--help"}, {"-h"}, {"help"}, {"help", "help"}} {
		out, errs, status := runTool(t, "", nil, args...)
		if status != 0 || errs != "" || !strings.HasPrefix(out, "relkit takes a Linux appliance") {
			t.Errorf("%q: status %d, stderr %q, stdout %q", args, status, errs, out)
		}
	}
	out, errs, status := runTool(t, "", nil, "--version")
	if status != 0 || errs != "" || !strings.HasPrefix(out, "relkit ") || !strings.Contains(out, "linux/") {
		t.Errorf("--version: status %d, stderr %q, stdout %q", status, errs, out)
	}
}
