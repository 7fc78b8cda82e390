package health

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/format/record"
	"github.com/relkit/relkit/pkg/relkittest"
)

// mountDead mounts a FUSE file system whose server never says a word: whatever
// touches it hangs, as with NFS when the server is gone.
func mountDead(t *testing.T) string {
	t.Helper()
	relkittest.NeedRoot(t)
	server, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		relkittest.Skip(t, "opening /dev/fuse: %v", err)
	}
	dir := t.TempDir()
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", server)
	if err := unix.Mount("dead:/export", dir, "fuse.dead", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		unix.Close(server)
		relkittest.Skip(t, "mounting: %v", err)
	}
	t.Cleanup(func() {
		// Closing ends the connection, and so the calls that hang.
		unix.Close(server)
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmounting %s: %v", dir, err)
		}
	})
	return dir
}

// TestDeadMount runs the whole report as a process of its own, with a real mount
// that hangs: it must come, and the process must end and let go of its output.
func TestDeadMount(t *testing.T) {
	if os.Getenv("RELKIT_HEALTH_CHILD") != "" {
		reportOnStdout(t)
		return
	}
	dead := mountDead(t)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestDeadMount$")
	cmd.Env = append(os.Environ(), "RELKIT_HEALTH_CHILD=1")
	began := time.Now()
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if took := time.Since(began); took > 2*statfsLimit {
		t.Errorf("took %v", took)
	}
	line, _, _ := bytes.Cut(out, []byte("\n"))
	h, err := record.DecodeHealth(line)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if c := check(t, h, "filesystem", manifest.Escape(dead)); c.Status != record.HealthUnknown || c.Summary != "no answer within 3s" {
		t.Errorf("the dead mount is %s: %s", c.Status, c.Summary)
	}
	for _, c := range h.Checks {
		if c.Object != manifest.Escape(dead) && c.Status == record.HealthUnknown {
			t.Errorf("%s is unknown as well: %s", c.Object, c.Summary)
		}
	}
}

// reportOnStdout is the child of TestDeadMount.
func reportOnStdout(t *testing.T) {
	sys, closer, err := Host("/", t.TempDir(), "1.0.0")
	if err != nil {
		t.Fatal(err)
	}
	defer closer.Close()
	h, err := Run(context.Background(), sys, Options{Only: []string{"filesystem"}})
	if err != nil {
		t.Fatal(err)
	}
	b, err := h.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stdout.Write(b); err != nil {
		t.Fatal(err)
	}
}
