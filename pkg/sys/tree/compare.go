package tree

import (
	"bytes"
	"iter"
	"strings"

	"github.com/relkit/relkit/pkg/format/manifest"
)

// Difference is one name that two trees do not have alike.
type Difference struct {
	Path string
	// Old and New are the entries; nil where the tree has no such name.
	Old, New *manifest.Entry
	// Fields names what differs where both have it: type mode uid gid time
	// size content target device hardlink xattr:NAME.
	Fields []string
}

// String is a line for a person: "+ path", "- path", or "M path (mode, content)".
func (d Difference) String() string {
	path := manifest.Escape(d.Path)
	switch {
	case d.Old == nil:
		return "+ " + path
	case d.New == nil:
		return "- " + path
	}
	return "M " + path + " (" + strings.Join(d.Fields, ", ") + ")"
}

// Compare tells how the tree b differs from the tree a, in canonical order.
// Hard links differ where names that are one inode in one tree are not in the other.
func Compare(a, b Entries) iter.Seq2[Difference, error] {
	return func(yield func(Difference, error) bool) {
		nextA, stopA := iter.Pull2(a)
		defer stopA()
		nextB, stopB := iter.Pull2(b)
		defer stopB()
		links := linkMap{toB: map[int]int{}, toA: map[int]int{}}
		oldE, err, okA := nextA()
		newE, errB, okB := nextB()
		for okA || okB {
			if err != nil || errB != nil {
				yield(Difference{}, cmpErr(err, errB))
				return
			}
			d, stepA, stepB := links.step(oldE, newE, okA, okB)
			if (d.Old == nil || d.New == nil || len(d.Fields) > 0) && !yield(d, nil) {
				return
			}
			if stepA {
				oldE, err, okA = nextA()
			}
			if stepB {
				newE, errB, okB = nextB()
			}
		}
	}
}

func cmpErr(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// linkMap pairs the hard-link groups of two trees: their ordinals alone say
// nothing, since a group more in one tree shifts all that follow.
type linkMap struct{ toB, toA map[int]int }

// step compares the next names of both trees and tells which to go on from.
func (l linkMap) step(a, b *manifest.Entry, okA, okB bool) (d Difference, stepA, stepB bool) {
	order := 0
	if okA && okB {
		order = manifest.Compare(a.Path, b.Path)
	}
	switch {
	case !okB || order < 0:
		return Difference{Path: a.Path, Old: a}, true, false
	case !okA || order > 0:
		return Difference{Path: b.Path, New: b}, false, true
	}
	fields := Fields(a, b)
	if !l.same(a.Link, b.Link) {
		fields = append(fields, "hardlink")
	}
	return Difference{Path: a.Path, Old: a, New: b, Fields: fields}, true, true
}

func (l linkMap) same(a, b int) bool {
	if a == 0 || b == 0 {
		return a == b
	}
	wantB, seenA := l.toB[a]
	wantA, seenB := l.toA[b]
	if !seenA && !seenB {
		l.toB[a], l.toA[b] = b, a
		return true
	}
	return seenA && seenB && wantB == b && wantA == a
}

// Fields names what two entries of one path differ in, hard links aside.
func Fields(a, b *manifest.Entry) []string {
	var f []string
	add := func(differs bool, name string) {
		if differs {
			f = append(f, name)
		}
	}
	add(a.Kind != b.Kind, "type")
	add(a.Mode != b.Mode, "mode")
	add(a.UID != b.UID, "uid")
	add(a.GID != b.GID, "gid")
	add(a.ModTime != b.ModTime, "time")
	add(a.Size != b.Size, "size")
	add(a.Digest != b.Digest, "content")
	add(a.Target != b.Target, "target")
	add(a.Major != b.Major || a.Minor != b.Minor, "device")
	return append(f, xattrFields(a.Xattrs, b.Xattrs)...)
}

// xattrFields merges two lists that are sorted by name.
func xattrFields(a, b []manifest.Xattr) []string {
	var f []string
	for len(a) > 0 || len(b) > 0 {
		switch {
		case len(b) == 0 || len(a) > 0 && a[0].Name < b[0].Name:
			f = append(f, "xattr:"+a[0].Name)
			a = a[1:]
		case len(a) == 0 || b[0].Name < a[0].Name:
			f = append(f, "xattr:"+b[0].Name)
			b = b[1:]
		default:
			if !bytes.Equal(a[0].Value, b[0].Value) {
				f = append(f, "xattr:"+a[0].Name)
			}
			a, b = a[1:], b[1:]
		}
	}
	return f
}
