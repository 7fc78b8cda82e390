package relkittest

import (
	"os/exec"
	"syscall"
	"testing"
)

// inTree is what the first process of a machine of its own does: it mounts the
// tree, read-only but for what a machine writes to, and becomes its sshd. All
// mounts are in its namespace, and all processes end with it.
//
// $1 is the tree, $2 the machine's name, $3 the folder of configuration and keys,
// $4 an emulator or nothing.
const inTree = `
root=/mnt
mount --make-rprivate /
if [ -n "$4" ]; then
	mount -t tmpfs tmpfs /media
	cp "$4" /media/emulator
fi
mount --rbind "$1" $root
mount -o remount,bind,ro $root
mount --rbind /dev $root/dev
mount -t proc proc $root/proc
for d in tmp root run; do mount -t tmpfs tmpfs $root/$d; done
mkdir $root/run/sshd $root/run/relkit
cp -R "$3"/. $root/run/relkit
hostname "$2"
if [ -n "$4" ]; then
	mkdir /media/formats
	mount -t binfmt_misc binfmt_misc /media/formats
	# The 20 first bytes of an ELF file: 64 bits, little-endian, a program or a
	# library, for aarch64. F opens the emulator now, from outside of the tree.
	printf '%s' ':aarch64:M::\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00:\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:/media/emulator:OCF' >/media/formats/register
fi
exec chroot $root /usr/sbin/sshd -D -e -f /run/relkit/config
`

// StartSSHDIn starts the server of a tree (Tree) as a machine of its own name, with
// processes, mounts and a writable /root, /run and /tmp that go with the test.
// Where emulator is not "", programs for aarch64 run by it, in this machine only: a
// user namespace has formats of programs of its own (Linux 6.7).
func StartSSHDIn(t testing.TB, tree, name, emulator string) *SSHD {
	t.Helper()
	return startSSHD(t, func(s *SSHD, t testing.TB) {
		s.configure(t, "/run/relkit")
		cmd := exec.Command("sh", "-euc", inTree, "sh", tree, name, s.dir, emulator)
		attr := &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWUTS}
		if emulator != "" {
			attr.Cloneflags |= syscall.CLONE_NEWUSER
			ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 1 << 16}}
			attr.UidMappings, attr.GidMappings, attr.GidMappingsEnableSetgroups = ids, ids, true
		}
		cmd.SysProcAttr = attr
		s.start(t, cmd)
	})
}
