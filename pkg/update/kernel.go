package update

import (
	"errors"
	"slices"

	"github.com/relkit/relkit/pkg/engine/state"
	"github.com/relkit/relkit/pkg/engine/transaction"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/sys/boot"
)

// coming is the kernel that the tree will have once what waits in t is done, and
// where its files lie now; ok is false where t changes neither the kernel nor the
// initrd that the tree boots.
func (m *machine) coming(t *state.Transaction) (staged, names boot.Kernel, ok bool, err error) {
	slots, gone, err := transaction.Waiting(m.target, t, boot.IsKernelFile)
	if err != nil || len(slots) == 0 || m.opt.Boot == nil {
		return staged, names, false, err
	}
	all, err := m.opt.Boot.Installed()
	if err != nil {
		return staged, names, false, err
	}
	all = slices.DeleteFunc(all, func(n string) bool { return slices.Contains(gone, n) || slots[n] != "" })
	for path := range slots {
		all = append(all, path)
	}
	names, found := boot.ChooseKernel(all)
	if !found || slots[names.Image] == "" && slots[names.Initrd] == "" {
		return staged, names, false, nil
	}
	at := func(path string) string {
		if slot := slots[path]; slot != "" {
			return slot
		}
		return path
	}
	return boot.Kernel{Image: at(names.Image), Initrd: at(names.Initrd)}, names, true, nil
}

// switchKernel has the boot loader try the kernel that comes with t, and keeps
// the copy of relkit that is to do what waits. It is called before the record
// that has the next boot do so: cut between the two, the new kernel boots once,
// finds nothing to do and a tree that is not its own, and goes back (boot.Run).
func (m *machine) switchKernel(t *state.Transaction) error {
	b := m.opt.Boot
	if b == nil {
		return nil
	}
	if err := b.KeepCopy(); err != nil {
		return err
	}
	staged, names, ok, err := m.coming(t)
	if err != nil || !ok {
		return err
	}
	return b.Switch(staged, names, boot.DefaultTries)
}

// leave makes a record that leaves t for the next boot, with its kernel on trial;
// where that cannot be written, no kernel is.
func (m *machine) leave(t *state.Transaction, r journal.Record) error {
	if err := m.switchKernel(t); err != nil {
		return err
	}
	if err := transaction.Note(m.target, t, r); err != nil {
		if m.opt.Boot != nil {
			err = errors.Join(err, m.opt.Boot.Cancel())
		}
		return err
	}
	return nil
}

// unswitched tells whether t must not be done under the kernel that runs: it
// brings one of its own, which is not the one that runs. The error says so;
// giveUp, that it never will be.
func (m *machine) unswitched(t *state.Transaction, entry boot.Choice) (giveUp bool, err error) {
	_, names, ok, err := m.coming(t)
	if err != nil || !ok {
		return false, err
	}
	switch entry {
	case boot.Test:
		return false, nil
	case boot.Good:
		return true, failure.Errorf(failure.Refused, "the boot loader fell back: kernel %q did not come up", "/"+names.Image)
	}
	return false, failure.Errorf(failure.Refused, "it waits for kernel %q, and another one runs", "/"+names.Image)
}
