package boot

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/relkit/relkit/pkg/format/manifest"
)

// RunOptions are for Run.
type RunOptions struct {
	// Waits tells whether any transaction has something to be done.
	Waits bool
	// Places are the folders, below the root, of the file systems it is about.
	Places []string
	// Apply is the command that does it: `relkit patch-apply --boot --json` and the
	// machine. The entry that runs is put behind it.
	Apply []string
	// Timeout bounds it; 0 for ten minutes. Killed, it leaves what a power cut leaves.
	Timeout time.Duration
	// Stderr is where it reports.
	Stderr io.Writer
}

const runTimeout = 10 * time.Minute

// applied is what Run needs of relkit.boot/v1.
type applied struct {
	Done []struct {
		Now string `json:"now"`
	} `json:"done"`
	Reboot bool `json:"reboot"`
}

// Run is what a boot does before anything of the root file system runs. It makes
// the root writable only where something is to be done, and leaves it as it was.
// reboot asks for a reboot at once: what was loaded to boot is not what the tree
// holds now.
func (s *Setup) Run(ctx context.Context, o RunOptions) (reboot bool, err error) {
	st, err := s.State()
	if err != nil {
		// The journal matters more than what the boot loader thinks.
		s.o.Log.Warn("reading how the boot loader stands", "err", err)
		st.Chosen = Rest
	}
	if !o.Waits && (st.Chosen == Rest || st.Chosen == Keep) && st.Running != Good {
		return false, nil
	}
	restore, err := s.writable()
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, restore()) }()
	undo, err := s.mount(o.Places)
	defer func() { err = errors.Join(err, undo()) }()
	if err != nil {
		return false, err
	}
	a := &applied{}
	if o.Waits {
		if a, err = o.apply(ctx, st); err != nil {
			return false, err
		}
	}
	return s.afterwards(st, a)
}

// apply runs the command and reads its result.
func (o *RunOptions) apply(ctx context.Context, st State) (*applied, error) {
	limit := o.Timeout
	if limit == 0 {
		limit = runTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	args := append(o.Apply[1:len(o.Apply):len(o.Apply)], "--entry", string(st.Running))
	cmd := exec.CommandContext(ctx, o.Apply[0], args...)
	cmd.Stderr = o.Stderr
	cmd.WaitDelay = time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	out, err := cmd.Output()
	a := &applied{}
	if len(out) > 0 {
		err = errors.Join(err, json.Unmarshal(out, a))
	}
	if err != nil {
		return a, fmt.Errorf("running %s: %w", filepath.Base(o.Apply[0]), err)
	}
	return a, nil
}

// afterwards brings the boot loader into line with the tree. It asks the tree
// itself which kernel belongs to it, so that a cut anywhere before ends here.
func (s *Setup) afterwards(st State, a *applied) (reboot bool, err error) {
	if s.loader == nil || st.Running == Rest || st.Chosen == Keep && st.Running != Good {
		return a.Reboot, nil
	}
	belongs, err := s.belongs(st.Running)
	if err != nil {
		return false, err
	}
	if st.Running == Good {
		if !belongs {
			return false, errors.New("the boot loader fell back to the old kernel, and the tree is not its own")
		}
		return false, s.Settle(false)
	}
	if !belongs { // the tree was taken back, or never became new
		return true, s.loader.Choose(Good, 0)
	}
	for _, d := range a.Done {
		if d.Now == "awaiting" || d.Now == "booted" {
			return false, nil // still on trial
		}
	}
	return false, s.Settle(false)
}

// belongs tells whether the tree has the kernel of a slot where it belongs.
func (s *Setup) belongs(slot Choice) (bool, error) {
	k, err := s.names(slot)
	if err != nil {
		return false, err
	}
	copied := s.slot(slot)
	for in, tree := range map[string]string{copied.Image: k.Image, copied.Initrd: k.Initrd} {
		if same, err := s.sameContent(in, tree); err != nil || !same {
			return false, err
		}
	}
	return true, nil
}

func (s *Setup) sameContent(a, b string) (bool, error) {
	info, err := s.root.Lstat(b)
	if errors.Is(err, unix.ENOENT) || err == nil && info.Kind != manifest.File {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	f, err := s.root.Open(a)
	if err != nil {
		return false, err
	}
	defer f.Close()
	g, err := s.root.Open(b)
	if err != nil {
		return false, err
	}
	defer g.Close()
	const block = 1 << 18
	p, q := make([]byte, block), make([]byte, block)
	for {
		n, err := io.ReadFull(f, p)
		m, err2 := io.ReadFull(g, q)
		if !bytes.Equal(p[:n], q[:m]) {
			return false, nil
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return true, nil
		}
		if err := errors.Join(err, err2); err != nil {
			return false, err
		}
	}
}

// writable makes the root writable if it is not, and returns what undoes that.
func (s *Setup) writable() (restore func() error, err error) {
	nothing := func() error { return nil }
	var st unix.Statfs_t
	if err := unix.Statfs(s.o.Dir, &st); err != nil {
		return nothing, err
	}
	if st.Flags&unix.ST_RDONLY == 0 {
		return nothing, nil
	}
	flags := uintptr(unix.MS_REMOUNT)
	for bit, flag := range map[int64]uintptr{
		unix.ST_NOSUID: unix.MS_NOSUID, unix.ST_NODEV: unix.MS_NODEV, unix.ST_NOEXEC: unix.MS_NOEXEC, unix.ST_NOATIME: unix.MS_NOATIME,
		unix.ST_NODIRATIME: unix.MS_NODIRATIME, unix.ST_RELATIME: unix.MS_RELATIME,
	} {
		if int64(st.Flags)&bit != 0 {
			flags |= flag
		}
	}
	if err := unix.Mount("", s.o.Dir, "", flags, ""); err != nil {
		return nothing, fmt.Errorf("making %s writable: %w", s.o.Dir, err)
	}
	return func() error {
		if err := unix.Mount("", s.o.Dir, "", flags|unix.MS_RDONLY, ""); err != nil {
			return fmt.Errorf("making %s read-only again: %w", s.o.Dir, err)
		}
		return nil
	}, nil
}

// RebootNow reboots without asking anything, with all data on its disks.
func RebootNow() error {
	unix.Sync()
	return unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
}

// IsInit tells whether this process is the kernel's init, by the name that
// Install gives it, and not, say, the first process of a container.
func IsInit() bool { return os.Getpid() == 1 && filepath.Base(os.Args[0]) == initName }

// Init is relkit as init=: it runs `relkit boot --run` as a child, so that nothing
// that goes wrong there can stop this process, and becomes the real init. It
// returns only where there is none.
func Init() error {
	if _, err := os.Stat("/proc/self"); err != nil {
		if err := unix.Mount("proc", "/proc", "proc", 0, ""); err == nil {
			defer func() { _ = unix.Unmount("/proc", unix.MNT_DETACH) }()
		}
	}
	self, err := filepath.EvalSymlinks(os.Args[0])
	if err == nil {
		state := filepath.Dir(filepath.Dir(self))
		cmd := exec.Command(self, "boot", "--run", "--root", "/", "--state", state)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		err = cmd.Run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "relkit: boot:", err)
	}
	for _, init := range []string{"/sbin/init", "/usr/lib/systemd/systemd", "/etc/init", "/bin/init", "/bin/sh"} {
		args := append([]string{init}, os.Args[1:]...)
		err = unix.Exec(init, args, os.Environ())
	}
	return err
}
