package main

import "github.com/urfave/cli/v2"

// commands lists the commands, sorted by name. A command stands here, and so
// in `relkit --help`, only when it works.
func commands(e *env) []*cli.Command {
	return []*cli.Command{
		auditCommand(e),
		bootCommand(e),
		buildCommand(e),
		completionCommand(e),
		distributeCommand(e),
		fetchCommand(e),
		getimageCommand(e),
		healthcheckCommand(e),
		inspectCommand(e),
		patchApplyCommand(e),
		patchMakeCommand(e),
		patchRollbackCommand(e),
		prepareclientCommand(e),
		serveCommand(e),
		signCommand(e),
		trustCommand(e),
	}
}

// The groups of `relkit --help`, in the order of the chain.
const (
	groupBuild      = "Build"
	groupImage      = "Image and install"
	groupPatch      = "Patch"
	groupDistribute = "Distribute"
	groupHealth     = "Health"
	groupOther      = "Other"
)

var groups = []string{groupBuild, groupImage, groupPatch, groupDistribute, groupHealth, groupOther}
