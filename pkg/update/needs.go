package update

import (
	"fmt"
	"io/fs"
	"strings"

	"github.com/relkit/relkit/pkg/engine/transaction"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/format/patch"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// admitNeeds holds the labels and programs that the patch asks for against the machine.
func (a *applier) admitNeeds(h *patch.Header) error {
	if len(h.Labels) > 0 {
		c, _, err := a.readMachine()
		if err != nil {
			return err
		}
		for name, want := range h.Labels {
			if got, ok := c.Labels[name]; !ok || got != want {
				return failure.Errorf(failure.Refused, "patch %s is for machines labelled %s=%s, and /%s says %s", h.ID, name, want, MachineFile, labelText(name, got, ok))
			}
		}
	}
	var missing []string
	for _, name := range h.RequiresCommands {
		found, err := a.command(name)
		if err != nil {
			return fmt.Errorf("looking for the program %q: %w", name, err)
		}
		if !found {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return failure.Errorf(failure.Refused, "patch %s requires %s, and %s has no such program", h.ID, strings.Join(missing, ", "), searchPath)
	}
	return nil
}

func labelText(name, value string, there bool) string {
	if !there {
		return "nothing of " + name
	}
	return name + "=" + value
}

// command tells whether a program is in the search path of hooks, in the tree.
func (a *applier) command(name string) (bool, error) {
	for dir := range strings.SplitSeq(searchPath, ":") {
		info, err := follow(a.target.Root, strings.TrimPrefix(dir, "/")+"/"+name)
		switch {
		case fsys.IsUnreachable(err):
		case err != nil:
			return false, err
		case info.Kind == manifest.File && info.Mode&0o111 != 0:
			return true, nil
		}
	}
	return false, nil
}

// maxLinks bounds the symlinks on one way, as the kernel does (path_resolution(7)).
const maxLinks = 40

// follow is stat(2) as a process sees it whose root the tree is.
func follow(root lookup, path string) (info fsys.Info, err error) {
	done, rest := ".", strings.Split(path, "/")
	for links := 0; ; {
		if len(rest) == 0 {
			return root.Lstat(done)
		}
		part := rest[0]
		rest = rest[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			done = manifest.Parent(done)
			continue
		}
		next := part
		if done != "." {
			next = done + "/" + part
		}
		if info, err = root.Lstat(next); err != nil {
			return info, err
		}
		if info.Kind != manifest.Symlink {
			done = next
			continue
		}
		if links++; links > maxLinks {
			return info, fs.ErrNotExist
		}
		to, err := root.Readlink(next)
		if err != nil {
			return info, err
		}
		if strings.HasPrefix(to, "/") {
			done = "."
		}
		rest = append(strings.Split(to, "/"), rest...)
	}
}

// admitSpace refuses a patch that would leave less room than it says must be
// left, all that it replaces being kept.
func (a *applier) admitSpace(h *patch.Header, s *transaction.Survey) error {
	for _, want := range h.RequiresSpace {
		free, err := s.FreeAfter(want.Path)
		if err != nil {
			return fmt.Errorf("looking at the free space of %q: %w", want.Path, err)
		}
		if free < want.Bytes {
			return failure.WithHint(failure.Errorf(failure.Refused, "patch %s wants %d bytes free in /%s once it is applied, and there would be %d",
				h.ID, want.Bytes, strings.TrimPrefix(want.Path, "."), free), "relkit patch-rollback%s --prune  # gives up rollback copies", a.opt.flags())
		}
	}
	return nil
}
