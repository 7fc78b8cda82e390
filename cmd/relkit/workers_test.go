package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/relkit/relkit/pkg/relkittest"
)

// TestWorkersScript runs testdata/workers/*.txtar: relkit as it is built, and not this
// test's program, as a user has it build elsewhere. $HOST is a machine to log in to by
// ssh(1); Slurm has a partition "build".
func TestWorkersScript(t *testing.T) {
	relkittest.Need(t, "git", "make")
	relkittest.NeedRoot(t)
	bin := filepath.Dir(buildTool(t))
	for _, kind := range []string{"openssh", "slurm"} {
		t.Run(kind, func(t *testing.T) {
			env := map[string]string{"GIT_CONFIG_NOSYSTEM": "1"}
			path := bin
			if kind == "slurm" {
				env["SLURM_CONF"] = relkittest.StartSlurm(t).Config
			} else {
				sshd := relkittest.StartSSHD(t)
				env["HOST"], env["SSH_AUTH_SOCK"] = sshd.Host(), ""
				path += ":" + sshd.ClientPath(t)
			}
			testscript.Run(t, testscript.Params{
				Files:               []string{filepath.Join("testdata/workers", kind+".txtar")},
				RequireExplicitExec: true,
				Setup: func(e *testscript.Env) error {
					e.Setenv("HOME", e.WorkDir)
					e.Setenv("PATH", path+":"+os.Getenv("PATH"))
					for k, v := range env {
						e.Setenv(k, v)
					}
					return os.WriteFile(filepath.Join(e.WorkDir, ".gitconfig"), []byte(gitConfig), 0o644)
				},
				Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": cmdExits},
			})
		})
	}
}
