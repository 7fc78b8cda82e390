package relkittest

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Slurm is a cluster of two nodes, w1 with the feature el9 and w2 with debian12,
// which are both this machine; its partition is called build.
type Slurm struct {
	// Config is what SLURM_CONF says.
	Config string

	nodes map[string]func() // kill the daemon of a node
}

// KillNode kills the daemon of a node, not what it runs.
func (s *Slurm) KillNode(name string) { s.nodes[name]() }

// StartSlurm starts a cluster, which ends with the test.
func StartSlurm(t testing.TB) *Slurm {
	t.Helper()
	Need(t, "munged", "slurmctld", "slurmd", "srun", "sinfo")
	NeedRoot(t)
	dir, err := os.MkdirTemp("", "slurm") // the path of a socket must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	for _, d := range []string{"state", "spool-w1", "spool-w2"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	key := make([]byte, 128)
	rand.Read(key)
	if err := os.WriteFile(filepath.Join(dir, "key"), key, 0o600); err != nil {
		t.Fatal(err)
	}
	s := &Slurm{Config: filepath.Join(dir, "slurm.conf"), nodes: map[string]func(){}}
	if err := os.WriteFile(s.Config, []byte(slurmConfig(t, dir)), 0o644); err != nil {
		t.Fatal(err)
	}
	in := func(name string) string { return filepath.Join(dir, name) }
	daemon(t, nil, "munged", "--foreground", "--force", "--key-file="+in("key"), "--socket="+in("munge"), "--pid-file="+in("munge.pid"), "--log-file="+in("munge.log"), "--seed-file="+in("munge.seed"))
	awaitThat(t, "munged", func() bool { _, err := os.Stat(in("munge")); return err == nil })
	env := append(os.Environ(), "SLURM_CONF="+s.Config)
	daemon(t, env, "slurmctld", "-D", "-f", s.Config)
	for _, node := range []string{"w1", "w2"} {
		s.nodes[node] = daemon(t, env, "slurmd", "-D", "-N", node, "-f", s.Config)
	}
	awaitThat(t, "the cluster", func() bool {
		cmd := exec.Command("sinfo", "--noheader", "--format=%n %T", "--Node")
		cmd.Env = env
		out, err := cmd.Output()
		return err == nil && strings.Count(string(out), "idle") == 2
	})
	return s
}

func slurmConfig(t testing.TB, dir string) string {
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	text := `ClusterName=relkit
SlurmctldHost=@HOST@(127.0.0.1)
SlurmctldPort=@PORT@
AuthType=auth/munge
AuthInfo=socket=@DIR@/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation=@DIR@/state
SlurmdSpoolDir=@DIR@/spool-%n
SlurmctldPidFile=@DIR@/slurmctld.pid
SlurmdPidFile=@DIR@/slurmd-%n.pid
SlurmctldLogFile=@DIR@/slurmctld.log
SlurmdLogFile=@DIR@/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SwitchType=switch/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
ReturnToService=2
KillWait=5
SlurmdParameters=config_overrides
`
	for i, feature := range []string{"el9", "debian12"} {
		text += fmt.Sprintf("NodeName=w%d NodeHostname=@HOST@ NodeAddr=127.0.0.1 Port=%d CPUs=4 Features=%s State=UNKNOWN\n", i+1, freePort(t), feature)
	}
	text += "PartitionName=build Nodes=w1,w2 Default=YES MaxTime=INFINITE State=UP\n"
	return strings.NewReplacer("@HOST@", host, "@PORT@", fmt.Sprint(freePort(t)), "@DIR@", dir).Replace(text)
}

// daemon runs a server until the test ends, or it is killed.
func daemon(t testing.TB, env []string, argv ...string) (kill func()) {
	t.Helper()
	var log bytes.Buffer
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env, cmd.Stderr = env, &log
	cmd.WaitDelay = time.Second // a job that it started may hold the stream
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		kill := time.AfterFunc(5*time.Second, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
		kill.Stop()
		if t.Failed() {
			text := log.Bytes()
			t.Logf("%s: %s", argv[0], text[max(0, len(text)-4<<10):])
		}
	})
	return func() { _ = cmd.Process.Kill() }
}

func awaitThat(t testing.TB, what string, ready func() bool) {
	t.Helper()
	for end := time.Now().Add(40 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if ready() {
			return
		}
	}
	t.Fatalf("%s does not come up", what)
}
