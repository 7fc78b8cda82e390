package update

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/relkit/relkit/pkg/engine/state"
	"github.com/relkit/relkit/pkg/engine/transaction"
	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/sys/fsys"
	"github.com/relkit/relkit/pkg/sys/process"
)

func TestMain(m *testing.M) {
	process.Main(nil) // services and hooks run under a supervisor, which is this program
	os.Exit(m.Run())
}

// fakeSystemctl answers is-active from a file of states and logs every other call.
const fakeSystemctl = `#!/bin/sh
case $1 in
is-system-running) cat "$DIR/system" ;;
is-active) cat "$DIR/states"; exit 3 ;;
stop) echo "$@" >>"$DIR/log"; exit "$(cat "$DIR/stop-exit")" ;;
*) echo "$@" >>"$DIR/log" ;;
esac
`

// servicesRunner is a runner with that systemctl, on a machine in memory whose
// patch concerns services.
func servicesRunner(t *testing.T) (run *runner, j *state.Transaction, dir string) {
	t.Helper()
	dir = t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write("systemctl", fakeSystemctl)
	write("states", "active\ninactive\nactivating\n")
	write("stop-exit", "0")
	write("system", "degraded\n")
	m := fsys.NewMem()
	if err := fsys.MkdirAll(m.FS(), "run/systemd/system", 0o755); err != nil {
		t.Fatal(err)
	}
	a := newApplier(t)
	target := transaction.Target{Root: m.FS(), State: state.New(m.Sub("var/lib/relkit")), Now: a.opt.Now, Log: a.opt.Log}
	j, err := target.State.Begin(journal.Record{PatchID: "p", Services: &journal.Services{
		Stop: []string{"a.service", "b.service", "c.timer"}, Restart: []string{"web.service"}, Reload: []string{"nginx.service", "ssh.service"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return &runner{root: "/", target: target, env: []string{"PATH=" + dir + ":/usr/bin:/bin", "DIR=" + dir}}, j, dir
}

func calls(t *testing.T, dir string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "log"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

// What ran is stopped and started again; what did not run stays so.
func TestServices(t *testing.T) {
	run, j, dir := servicesRunner(t)
	ctx := context.Background()
	if err := run.stopServices(ctx, j); err != nil {
		t.Fatal(err)
	}
	if err := run.startServices(ctx, j); err != nil {
		t.Fatal(err)
	}
	want := `stop -- a.service c.timer
daemon-reload
start -- a.service c.timer
try-restart -- web.service
try-reload-or-restart -- nginx.service ssh.service`
	if got := calls(t, dir); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if n, result := j.HookRuns(hookStart); n != 1 || result != hookOK {
		t.Errorf("the journal has %d starts, %q", n, result)
	}
}

// A run that was cut off after it had stopped services: whoever comes next
// starts what the journal says was stopped.
func TestServicesStoppedByAnother(t *testing.T) {
	run, j, dir := servicesRunner(t)
	if err := os.WriteFile(filepath.Join(dir, "stop-exit"), []byte("1"), 0o644); err != nil {
		t.Fatal(err)
	}
	err := run.stopServices(context.Background(), j)
	if err == nil || !strings.Contains(err.Error(), "systemctl stop: exit status 1") {
		t.Fatalf("got %v", err)
	}
	all, err := run.target.State.Transactions()
	if err != nil {
		t.Fatal(err)
	}
	if err := run.startServices(context.Background(), all[0]); err != nil {
		t.Fatal(err)
	}
	if got := calls(t, dir); !strings.Contains(got, "start -- a.service c.timer") {
		t.Errorf("got\n%s", got)
	}
}

// One service that does not start keeps no other from being started.
func TestServicesThatFail(t *testing.T) {
	run, j, dir := servicesRunner(t)
	script := strings.Replace(fakeSystemctl, "*) echo", "start|daemon-reload) exit 1 ;;\n*) echo", 1)
	if err := os.WriteFile(filepath.Join(dir, "systemctl"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	if err := run.stopServices(ctx, j); err != nil {
		t.Fatal(err)
	}
	if err := run.startServices(ctx, j); err == nil || !strings.Contains(err.Error(), "systemctl start") {
		t.Errorf("got %v", err)
	}
	if got := calls(t, dir); !strings.Contains(got, "try-restart -- web.service") || !strings.Contains(got, "try-reload-or-restart -- nginx.service") {
		t.Errorf("got\n%s", got)
	}
}

// Who stops a unit after it was started again means it.
func TestServicesStoppedLater(t *testing.T) {
	run, j, dir := servicesRunner(t)
	ctx := context.Background()
	if err := errors.Join(run.stopServices(ctx, j), run.startServices(ctx, j)); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"states": "inactive\ninactive\nactive\n", "log": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(run.stopServices(ctx, j), run.startServices(ctx, j)); err != nil {
		t.Fatal(err)
	}
	if got := calls(t, dir); !strings.Contains(got, "\nstart -- c.timer\n") {
		t.Errorf("got\n%s", got)
	}
}

// Without systemd, early in its booting, or on a tree that does not run, nothing is called.
func TestServicesElsewhere(t *testing.T) {
	for _, change := range []func(*runner){
		func(r *runner) { r.root = "/mnt" },
		func(r *runner) { r.target.Root = fsys.NewMem().FS() },
		func(r *runner) {
			dir := strings.TrimPrefix(r.env[1], "DIR=")
			if err := os.WriteFile(filepath.Join(dir, "system"), []byte("initializing\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		},
	} {
		run, j, dir := servicesRunner(t)
		change(run)
		if err := run.stopServices(context.Background(), j); err != nil {
			t.Error(err)
		}
		if err := run.startServices(context.Background(), j); err != nil {
			t.Error(err)
		}
		if got := calls(t, dir); got != "" {
			t.Errorf("got\n%s", got)
		}
	}
}

func TestTail(t *testing.T) {
	var all strings.Builder
	end := &tail{also: &all}
	for range 1000 {
		if _, err := end.Write([]byte("ten bytes\n")); err != nil {
			t.Fatal(err)
		}
	}
	if got := end.String(); len(got) != maxTail || !strings.HasSuffix(got, "ten bytes\nten bytes\n") || all.Len() != 10000 {
		t.Errorf("kept %d bytes, passed on %d", len(got), all.Len())
	}
}
