package process

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// confineArg is the hidden first argument that makes this program put bounds
// around itself and become another: MEMORY NETWORK PROGRAM ARGV….
const confineArg = "__confine"

// MemoryBound is what Job.MaxMemory was held with.
type MemoryBound string

// The bounds. A control group's is that of all processes together; where the
// supervisor has none that it may use, each process' address space is bounded.
const (
	BoundByCgroup       MemoryBound = "cgroup"
	BoundByAddressSpace MemoryBound = "address-space"
)

// confined is how a job is started that has bounds.
func (t *task) confined(path string, attr *syscall.SysProcAttr) (string, []string, error) {
	if t.spec.MaxMemory <= 0 && !t.spec.NoNetwork {
		return path, t.spec.Argv, nil
	}
	if t.spec.Root != "" {
		return "", nil, errors.New("bounds in another root")
	}
	memory := t.spec.MaxMemory
	if t.bound != BoundByAddressSpace {
		memory = 0
	}
	if t.spec.NoNetwork {
		attr.Cloneflags |= syscall.CLONE_NEWNET
		if uid, gid := os.Geteuid(), os.Getegid(); uid != 0 {
			// Another than root makes a user namespace, in which it is itself, with the
			// one right that setting up the loopback takes.
			attr.Cloneflags |= syscall.CLONE_NEWUSER
			attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}}
			attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: gid, HostID: gid, Size: 1}}
			attr.AmbientCaps = []uintptr{unix.CAP_NET_ADMIN}
		}
	}
	argv := []string{os.Args[0], confineArg, strconv.FormatInt(memory, 10), strconv.FormatBool(t.spec.NoNetwork), path}
	return "/proc/self/exe", append(argv, t.spec.Argv...), nil
}

// confine puts the bounds around this process and executes the program; it
// returns only where that fails.
func confine(args []string) error {
	if len(args) < 4 {
		return errors.New("too few arguments")
	}
	runtime.LockOSThread()
	memory, err := strconv.ParseUint(args[0], 10, 63)
	if err != nil {
		return err
	}
	if args[1] == "true" {
		if err := loopbackUp(); err != nil {
			return fmt.Errorf("setting up the loopback: %w", err)
		}
		if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil && !errors.Is(err, unix.EINVAL) {
			return err
		}
	}
	if memory > 0 { // the last thing: this program, too, is held to it
		if err := unix.Setrlimit(unix.RLIMIT_AS, &unix.Rlimit{Cur: memory, Max: memory}); err != nil {
			return fmt.Errorf("bounding the memory: %w", err)
		}
	}
	return fmt.Errorf("running %q: %w", args[2], syscall.Exec(args[2], args[3:], os.Environ()))
}

// loopbackUp makes 127.0.0.1 work in a network namespace that is new.
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo)
}
