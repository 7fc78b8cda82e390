// Package boot is relkit's part in booting a machine: the hook that runs before
// anything of the root file system does, and the boot loader entries with which
// a new kernel is tried, and given up when it does not come up.
//
// # The hook
//
// The initramfs mounts the root file system and, before it starts init there,
// runs <state>/boot/relkit, a copy of relkit on the root file system, made by
// whoever wrote the journal: `relkit boot --run --root /root`. Where nothing is to
// be done that ends at once. Else it makes the root writable, mounts what else the
// waiting transaction is about, and runs `relkit patch-apply --boot`. Whatever
// goes wrong there, the machine goes on booting. A machine without an initramfs
// has the copy as init= (Init), which goes on with the real init.
//
// # Trying a kernel
//
// The boot loader has two entries of relkit's own, in a folder that the boot
// loader reads (GRUB: boot/grub/relkit): "good", a copy of the kernel and initrd
// that run now, and "test", a copy of the new ones, taken from the staged files.
// One word in one disk sector says which entry boots:
//
//	rest  the boot loader does what it would without relkit
//	test  the new kernel, as long as tries are left; the boot loader itself counts
//	      them down before it boots, and chooses good when none is left
//	good  the kernel from before
//	keep  the new kernel for good: for a boot loader that would not find it by itself
//
// The files of the tree are still the old ones when the new kernel boots for the
// first time: the hook in its initrd commits them. So a kernel that does not get
// as far as its initramfs has changed nothing, and the copies are there whatever
// the patch does to /boot: no file of the tree has to survive its own update.
//
// The order, and what a power cut leaves after each step:
//
//  1. The new files are staged, the transaction is "ready". Old tree, old kernel.
//  2. Switch copies both kernels and writes both entries, then settles the file
//     system: journals are emptied, because a boot loader replays none. Nothing
//     chooses the entries yet. Old tree, old kernel.
//  3. Switch writes the word: "test" and the number of tries, in place, in the
//     first 512 bytes of a file whose blocks do not move, and fsyncs it. A disk
//     writes a sector or does not, so the word is "rest" or "test" and never
//     anything else: this is the decisive write. (For systemd-boot it is a rename
//     in the ESP, for U-Boot the other copy of a redundant environment.)
//     Only then the journal says "armed". Cut between the two, the new kernel boots,
//     finds nothing to commit and a tree that is not its own, and goes back (Run).
//  4. The boot loader counts down in that same sector, then boots "test". A cut
//     costs a try at most. When tries run out, it boots "good".
//  5. The hook commits under the new kernel. Cut there, the next boot is step 4
//     again; the transaction is recovered and committed again, or, tries having
//     run out, recovered under the old kernel and given up: State.FellBack.
//  6. The machine confirms: Settle gives back all tries, has the boot loader's
//     own menu made anew where the distribution makes it, and writes "rest", or
//     "keep" where that menu would not boot this kernel. The journal's record
//     stands between: Extend, record, Settle. Cut after the record, the word is
//     still "test" with tries: the new kernel boots, and its hook calls Settle.
//  7. Or it fell back: the hook rolls the tree back under the old kernel, and then
//     Settle writes "rest". Cut between, the word is still "good": the same again.
//
// Given up between 3 and 4, Cancel has the kernel that runs boot as before Switch:
// "rest" where the boot loader had booted it by itself, else by way of "good", which
// has its copy, what Settle finds right under it.
//
// Kernels whose files keep their names are tried in the same way. Changes that
// touch neither kernel nor initrd need no entry: the initramfs that ran the hook
// once runs it again, and counts the boots itself.
package boot
