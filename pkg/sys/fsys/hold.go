package fsys

import (
	"golang.org/x/sys/unix"
)

// Hold keeps a folder of f open, so that names in it are not resolved anew in
// every call until release is called. What is held is the folder that was at
// that name: one that is moved meanwhile is still the one that is worked in. So
// it is for folders that only relkit moves, as the slots, and for the few calls
// that are about one name. Hold and release are for one goroutine, while no
// other uses f. Where f can hold none open, nothing is held.
func Hold(f FS, name string) (release func(), err error) {
	if h, ok := f.(interface {
		hold(name string) (func(), error)
	}); ok {
		return h.hold(name)
	}
	return func() {}, nil
}

// held is a list of folders that are held open, the newest first. A list is
// never changed, so readers need no lock.
type held struct {
	name string
	fd   int
	next *held
}

// find is the descriptor of a held folder, -1 for none.
func (h *held) find(name string) int {
	for ; h != nil; h = h.next {
		if h.name == name {
			return h.fd
		}
	}
	return -1
}

// without is the list without the element of a descriptor.
func (h *held) without(fd int) *held {
	switch {
	case h == nil:
		return nil
	case h.fd == fd:
		return h.next
	}
	return &held{h.name, h.fd, h.next.without(fd)}
}

func (r *real) hold(name string) (func(), error) {
	if name == "." || r.held.Load().find(name) >= 0 {
		return func() {}, nil
	}
	fd, err := r.openPath(name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW)
	if err != nil {
		return nil, pathError("open", name, err)
	}
	r.held.Store(&held{name: name, fd: fd, next: r.held.Load()})
	return func() {
		r.held.Store(r.held.Load().without(fd))
		unix.Close(fd)
	}, nil
}

func (w *watch) hold(name string) (func(), error) { return Hold(w.inner, name) }
