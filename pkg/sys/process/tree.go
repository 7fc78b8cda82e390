package process

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// proc is one process as /proc/PID/stat shows it (proc_pid_stat(5)). Its start
// time tells it from a later process of the same number.
type proc struct {
	pid, ppid int
	state     byte
	start     uint64 // clock ticks since boot
}

// readProc reads one process; ok is false when it is gone.
func readProc(pid int) (p proc, ok bool) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return proc{}, false
	}
	// The second field is the command in parentheses and may itself hold any byte.
	i := bytes.LastIndexByte(b, ')')
	if i < 0 {
		return proc{}, false
	}
	f := strings.Fields(string(b[i+1:]))
	if len(f) < 20 {
		return proc{}, false
	}
	ppid, err1 := strconv.Atoi(f[1])
	start, err2 := strconv.ParseUint(f[19], 10, 64)
	if err1 != nil || err2 != nil {
		return proc{}, false
	}
	return proc{pid: pid, ppid: ppid, state: f[0][0], start: start}, true
}

// processes lists all processes that can be seen.
func processes() ([]int, error) {
	d, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// descendants lists the processes below root, zombies included, parents first.
func descendants(root int) ([]proc, error) {
	pids, err := processes()
	if err != nil {
		return nil, fmt.Errorf("listing processes: %w", err)
	}
	children := make(map[int][]proc)
	for _, pid := range pids {
		if p, ok := readProc(pid); ok {
			children[p.ppid] = append(children[p.ppid], p)
		}
	}
	var found []proc
	for queue := children[root]; len(queue) > 0; queue = queue[1:] {
		found = append(found, queue[0])
		queue = append(queue, children[queue[0].pid]...)
	}
	return found, nil
}

// signal sends sig to p and to no other process that has got its number since.
func (p proc) signal(sig syscall.Signal) error {
	fd, err := unix.PidfdOpen(p.pid, 0)
	if errors.Is(err, unix.ENOSYS) { // before Linux 5.3
		return unix.Kill(p.pid, sig)
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if now, ok := readProc(p.pid); !ok || now.start != p.start {
		return unix.ESRCH
	}
	return unix.PidfdSendSignal(fd, sig, nil, 0)
}

// living are the processes of ps that are not zombies.
func living(ps []proc) []proc {
	var alive []proc
	for _, p := range ps {
		if p.state != 'Z' && p.state != 'X' {
			alive = append(alive, p)
		}
	}
	return alive
}

// minCookie is how long a cookie is at least: a shorter one may be in another's.
const minCookie = 16

// Sweep kills every process that carries a supervisor's cookie in its
// environment, that supervisor included, and tells how many there were. It is
// for what a supervisor left that was itself killed with SIGKILL. A process that
// dropped its environment is known by the supervisor's control group, and where it
// had none, by its journal: one that was started less than journalTime before is not.
func Sweep(cookie string) (int, error) {
	if len(cookie) < minCookie {
		return 0, fmt.Errorf("sweeping processes: bad cookie %q", cookie)
	}
	killed := 0
	defer killCgroup(cookie)
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		found, err := left(cookie)
		if err != nil {
			return killed, err
		}
		if len(found) == 0 {
			_ = os.Remove(journalFile(cookie))
			return killed, nil
		}
		if time.Now().After(end) {
			return killed, fmt.Errorf("sweeping processes: %d of them survive SIGKILL, the first is %d", len(found), found[0].pid)
		}
		for _, p := range found {
			if p.signal(syscall.SIGKILL) == nil {
				killed++
			}
		}
	}
}

func carrying(entry []byte) ([]proc, error) {
	pids, err := processes()
	if err != nil {
		return nil, fmt.Errorf("sweeping processes: %w", err)
	}
	var found []proc
	self := os.Getpid()
	for _, pid := range pids {
		p, ok := readProc(pid)
		if !ok || pid == self || p.state == 'Z' || p.state == 'X' {
			continue
		}
		env, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
		if err != nil {
			continue // another user's, or gone
		}
		for _, kv := range bytes.Split(env, []byte{0}) {
			if bytes.Equal(kv, entry) {
				found = append(found, p)
				break
			}
		}
	}
	return found, nil
}
