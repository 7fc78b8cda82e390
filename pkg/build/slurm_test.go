package build

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/record"
	"github.com/relkit/relkit/pkg/relkittest"
)

// slurm runs one of Slurm's commands.
func slurm(t *testing.T, argv ...string) string {
	t.Helper()
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%q: %v: %s", argv, err, out)
	}
	return strings.TrimSpace(string(out))
}

// srunOf is the srun above a process of a job's: on this machine it is the child of
// this program whose job it is.
func srunOf(t *testing.T) int {
	t.Helper()
	for _, dir := range must(filepath.Glob("/proc/[0-9]*")) {
		stat, err := os.ReadFile(dir + "/stat")
		if err != nil {
			continue
		}
		text := string(stat)
		pid, _ := strconv.Atoi(filepath.Base(dir))
		if strings.Contains(text, "(srun)") && strings.Fields(text[strings.LastIndexByte(text, ')')+1:])[1] == strconv.Itoa(os.Getpid()) {
			return pid
		}
	}
	t.Fatal("no srun")
	return 0
}

// start begins a build in the background; its error comes on the channel.
func (b *bench) start(ctx context.Context, operands ...string) chan error {
	done := make(chan error, 1)
	b.built = nil
	go func() {
		prj, err := Open(b.path("relkit.toml"), "")
		var cells []Cell
		if err == nil {
			cells, err = prj.Plan(operands)
		}
		if err == nil {
			err = prj.Run(ctx, cells, b.opt)
		}
		done <- err
	}()
	return done
}

// onSlurm makes the bench's worker a node of a cluster of its own.
func onSlurm(b *bench) (*place, *relkittest.Slurm) {
	b.t.Helper()
	cluster := relkittest.StartSlurm(b.t)
	b.t.Setenv("SLURM_CONF", cluster.Config)
	p := &place{kind: "slurm", dir: b.t.TempDir()}
	b.write("relkit.toml", strings.Replace(b.read("relkit.toml"), "name = \"here\"\n", fmt.Sprintf("name = \"here\"\ndir = %q\nslurm = { constraint = \"el9\" }\n", p.dir), 1))
	return p, cluster
}

// resume puts a node back in order, once what it ran is gone from Slurm's books.
func resume(t *testing.T, node string) {
	t.Helper()
	for range 200 {
		if strings.HasPrefix(slurm(t, "sinfo", "--noheader", "--nodes="+node, "--format=%T"), "idle") {
			return
		}
		_ = exec.Command("scontrol", "update", "nodename="+node, "state=resume").Run() // refused while it completes
		time.Sleep(100 * time.Millisecond)
	}
	t.Errorf("node %s does not come back: %s", node, slurm(t, "sinfo", "--Node", "--long"))
}

// TestSlurmLost: however a job is lost, that is the infrastructure's trouble, in
// Slurm's words, and nothing of it is left, neither a process nor a job.
func TestSlurmLost(t *testing.T) {
	b := newBench(t, builder(family, "checkout = \"clean\"", ""), nil)
	p, _ := onSlurm(b)
	b.opt.heartbeat, b.opt.grace = testBeat, 300*time.Millisecond
	job := func() string { return slurm(t, "squeue", "--noheader", "--states=R", "--format=%i") }
	for _, c := range []struct {
		name, want string
		lose       func()
	}{
		{"scancel", "CANCELLED AT", func() { slurm(t, "scancel", job()) }},
		{"scancel at once", "the supervisor was lost", func() { slurm(t, "scancel", "--signal=KILL", job()) }},
		{"srun killed", "the supervisor was lost", func() { _ = syscall.Kill(srunOf(t), syscall.SIGKILL) }},
		{"node down", "NODE FAILURE", func() { slurm(t, "scontrol", "update", "nodename=w1", "state=down", "reason=test") }},
		{"time limit", "DUE TO TIME LIMIT", func() { slurm(t, "scontrol", "update", "jobid="+job(), "EndTime=now+2seconds") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, f := range must(filepath.Glob(p.dir + "/*/work/fw/fw/ready")) {
				_ = os.Remove(f)
			}
			done := b.start(t.Context())
			pids := members(t, p.dir)
			c.lose()
			err := <-done
			if err == nil || failure.Of(err) != failure.Failed || !strings.Contains(strings.ToUpper(err.Error()), strings.ToUpper(c.want)) {
				t.Errorf("%v", err)
			}
			if len(b.built) != 1 || b.built[0].Status != record.BuildError {
				t.Fatalf("%v, %+v", err, b.built)
			}
			noneLeft(t, pids, 4*testBeat+20*time.Second)
			resume(t, "w1")
			if left := slurm(t, "squeue", "--noheader", "--states=PD,R"); left != "" {
				t.Errorf("left in the queue: %s", left)
			}
		})
	}
}

// TestSlurmNodeGoes: a node that takes no more jobs, or whose daemon dies, finishes
// the one that it has; another build waits, and a wait that is ended leaves no job.
func TestSlurmNodeGoes(t *testing.T) {
	b := newBench(t, builder(`echo begun >../begun; while [ ! -e ../go ]; do sleep 0.05; done; rm ../go ../begun`, "", ""), nil)
	p, cluster := onSlurm(b)
	running := func() (chan error, string) {
		t.Helper()
		done := b.start(t.Context())
		for range 600 {
			if at := must(filepath.Glob(p.dir + "/*/work/fw/begun")); len(at) == 1 {
				return done, filepath.Dir(at[0])
			}
			time.Sleep(50 * time.Millisecond)
		}
		t.Fatal("the step does not start")
		return nil, ""
	}
	ends := func(done chan error, dir string) {
		t.Helper()
		if err := os.WriteFile(dir+"/go", nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil || b.built[0].Status != record.BuildSuccess {
			t.Fatalf("%v, %+v", err, b.built)
		}
	}
	done, dir := running()
	slurm(t, "scontrol", "update", "nodename=w1", "state=drain", "reason=test")
	ends(done, dir)
	ctx, cancel := context.WithCancel(t.Context())
	done = b.start(ctx)
	for range 200 {
		if slurm(t, "squeue", "--noheader", "--states=PD", "--format=%i") != "" {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if got := slurm(t, "squeue", "--noheader", "--states=PD", "--format=%i"); got == "" {
		t.Error("nothing waits for the drained node")
	}
	name := slurm(t, "squeue", "--noheader", "--states=PD", "--format=%60j")
	time.Sleep(queueTime + time.Second)
	cancel()
	if err := <-done; err != context.Canceled || len(b.built) != 0 {
		t.Errorf("%v, %+v", err, b.built)
	}
	if said := b.notes.String(); !strings.Contains(said, "fw: waiting for worker here: squeue --name="+name) {
		t.Errorf("nobody was told: %s", said)
	}
	resume(t, "w1")
	if left := slurm(t, "squeue", "--noheader", "--states=PD,R"); left != "" {
		t.Errorf("left in the queue: %s", left)
	}
	done, dir = running()
	cluster.KillNode("w1")
	ends(done, dir)
}

// TestSlurmTwoNodes: both nodes of a cluster are used, by what the builder asks for
// and freely, where one is taken.
func TestSlurmTwoNodes(t *testing.T) {
	// The step's parent is the supervisor, which has Slurm's variables.
	node := `tr '\000' '\n' </proc/$PPID/environ | sed -n 's/^SLURMD_NODENAME=//p'`
	b := newBench(t, builder(node, "on = \"{os}\"\nmatrix = { os = [\"el9\", \"debian12\"] }", ""), nil)
	cluster := relkittest.StartSlurm(t)
	t.Setenv("SLURM_CONF", cluster.Config)
	first, _, _ := strings.Cut(b.read("relkit.toml"), "[[worker]]")
	_, builders, _ := strings.Cut(b.read("relkit.toml"), "[[builder]]")
	workers := ""
	for _, os := range []string{"el9", "debian12"} {
		workers += fmt.Sprintf("[[worker]]\nname = %q\ndir = %q\nslurm = { partition = \"build\", constraint = %[1]q }\nslots = 4\n", os, t.TempDir())
	}
	b.write("relkit.toml", first+workers+"[[builder]]"+builders)
	if err := b.run(); err != nil || len(b.built) != 2 {
		t.Fatalf("%v, %+v", err, b.built)
	}
	for os, want := range map[string]string{"el9": "w1\n", "debian12": "w2\n"} {
		if got := b.log("fw[os=" + os + "]/last"); got != want {
			t.Errorf("%s was built on %q, want %q", os, got, want)
		}
	}
	// Two builds that each take all processors of a node, and wait for each other.
	meet := node + `; touch "$RELKIT_BUILDER"; cd ..; until [ -e ../fw/fw/fw ] && [ -e ../gw/fw/gw ]; do sleep 0.05; done`
	gw := strings.Replace(builder(meet, "", ""), `name = "fw"`, `name = "gw"`, 1)
	b.write("relkit.toml", first+fmt.Sprintf("[[worker]]\nname = \"farm\"\ndir = %q\nslurm = {}\nslots = 8\n", t.TempDir())+builder(meet, "", "")+gw)
	if err := b.run(); err != nil || len(b.built) != 2 {
		t.Fatalf("%v, %+v", err, b.built)
	}
	if both := b.log("fw/last") + b.log("gw/last"); both != "w1\nw2\n" && both != "w2\nw1\n" {
		t.Errorf("built on %q", both)
	}
}
