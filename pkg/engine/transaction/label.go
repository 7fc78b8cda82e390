package transaction

import (
	"slices"

	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// labels finds the security label (SELinux) of what has none yet. A policy says what
// a new path is to be labelled, and is not asked: what is there already was labelled
// by it. So a new file gets the label of the first of its kind beside it, and where
// there is none that of its folder, which is what the kernel does. Left to the kernel,
// everything would have the label of the slot folder that it is made in.
type labels struct {
	root fsys.FS
	of   map[labelled][]byte
}

// labelled is a kind of things in a folder.
type labelled struct {
	folder string
	kind   manifest.Kind
}

// maxBeside bounds how many names of a folder are asked for their label.
const maxBeside = 64

// find is the label for a new thing of a kind in a folder; nil where there are no labels.
func (l *labels) find(folder string, kind manifest.Kind) ([]byte, error) {
	key := labelled{folder, kind}
	if v, ok := l.of[key]; ok {
		return v, nil
	}
	v, err := l.search(folder, kind)
	if err == nil {
		l.of[key] = v
	}
	return v, err
}

func (l *labels) search(folder string, kind manifest.Kind) ([]byte, error) {
	info, there, err := present(l.root, folder)
	if err != nil {
		return nil, err
	}
	if !there || info.Kind != manifest.Dir {
		// Made in this transaction: a folder like those where it will be, and what is
		// in it as the kernel would have it.
		return l.find(manifest.Parent(folder), manifest.Dir)
	}
	own, err := l.label(folder)
	if err != nil || own == nil {
		return nil, err
	}
	names, err := l.root.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	for _, name := range names[:min(len(names), maxBeside)] {
		path := join(folder, name)
		info, there, err := present(l.root, path)
		if err != nil {
			return nil, err
		}
		if !there || info.Kind != kind || name == SlotsDir {
			continue
		}
		if v, err := l.label(path); err != nil || v != nil {
			return v, err
		}
	}
	return own, nil
}

func (l *labels) label(path string) ([]byte, error) {
	attrs, err := l.root.Xattrs(path)
	if i := slices.IndexFunc(attrs, isLabel); i >= 0 {
		return attrs[i].Value, err
	}
	return nil, err
}

// label gives a staged inode the security label of what it replaces, or of its kind
// beside it, where the patch does not name one.
func (st *stager) label(name string, step *journal.Step) error {
	if slices.ContainsFunc(step.New.Xattrs, isLabel) {
		return nil
	}
	var value []byte
	if step.Old != nil && (step.Old.Kind == manifest.Dir) == (step.New.Kind == manifest.Dir) {
		if i := slices.IndexFunc(step.Old.Xattrs, isLabel); i >= 0 {
			value = step.Old.Xattrs[i].Value
		}
	}
	if value == nil {
		var err error
		if value, err = st.labels.find(manifest.Parent(step.New.Path), step.New.Kind); err != nil || value == nil {
			return err
		}
	}
	return st.x.Root.SetXattr(name, labelXattr, value)
}
