package update

import (
	"bytes"
	"fmt"
	"io/fs"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/format/patch"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// admitScripts refuses hooks that the kernel would not run: it would say no more than
// that there is no such file, once the tree is half new. Each is held against the
// tree that it sees, the old one or the new one.
func (a *applier) admitScripts(h *patch.Header, l *inspected) error {
	after := l.after(a.target.Root)
	for _, hook := range []struct {
		name, member string
		sees         lookup
	}{
		{hookPre, h.Hooks.Pre, a.target.Root}, {hookPost, h.Hooks.Post, after}, {hookCheck, h.Hooks.Check, after},
		{hookPreRollback, h.Hooks.PreRollback, after}, {hookPostRollback, h.Hooks.PostRollback, a.target.Root},
	} {
		if hook.member == "" || bytes.HasPrefix(l.hooks[hook.member], []byte("\x7fELF")) {
			continue
		}
		interpreter := interpreterOf(l.hooks[hook.member])
		if interpreter == "" {
			return failure.Errorf(failure.Refused, "the %s hook of patch %s is no program, and no script whose first line says what runs it (#!/bin/sh)", hook.name, h.ID)
		}
		info, err := follow(hook.sees, interpreter)
		switch {
		case err != nil && !fsys.IsUnreachable(err):
			return fmt.Errorf("looking for %q: %w", interpreter, err)
		case err != nil || info.Kind != manifest.File || info.Mode&0o111 == 0:
			return failure.Errorf(failure.Refused, "the %s hook of patch %s is run by %q, and no such program is in %q then", hook.name, h.ID, interpreter, a.opt.Root)
		}
	}
	return nil
}

// interpreterOf is the program that a script names in its first line (execve(2)), ""
// for none. A line feed alone ends the line: a carriage return is one of the name.
func interpreterOf(script []byte) string {
	line, _, _ := bytes.Cut(script, []byte("\n"))
	name, found := bytes.CutPrefix(line, []byte("#!"))
	name, _, _ = bytes.Cut(bytes.Trim(bytes.ReplaceAll(name, []byte("\t"), []byte(" ")), " "), []byte(" "))
	if !found {
		return ""
	}
	return string(name)
}

// lookup is a tree as far as names lead somewhere in it.
type lookup interface {
	Lstat(path string) (fsys.Info, error)
	Readlink(path string) (string, error)
}

// newTree is a tree as a patch will leave it.
type newTree struct {
	lookup
	changes map[string]*manifest.Entry // nil for what is removed
}

// after is the tree as the patch leaves it.
func (l *inspected) after(tree lookup) lookup {
	changes := map[string]*manifest.Entry{}
	for _, path := range l.survey.Removed() {
		changes[path] = nil
	}
	for _, c := range l.entries.Changes {
		if c.New != nil {
			changes[c.New.Path] = c.New
		} else if c.Old.Kind != manifest.Dir { // a folder stays where it holds something else
			changes[c.Old.Path] = nil
		}
	}
	return newTree{tree, changes}
}

func (t newTree) Lstat(path string) (fsys.Info, error) {
	switch e, changed := t.changes[path]; {
	case !changed:
		return t.lookup.Lstat(path)
	case e == nil:
		return fsys.Info{}, fs.ErrNotExist
	default:
		return fsys.Info{Kind: e.Kind, Mode: e.Mode, UID: e.UID, GID: e.GID, Size: e.Size}, nil
	}
}

func (t newTree) Readlink(path string) (string, error) {
	if e := t.changes[path]; e != nil {
		return e.Target, nil
	}
	return t.lookup.Readlink(path)
}
