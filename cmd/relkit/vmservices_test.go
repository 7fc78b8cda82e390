//go:build vm

package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/relkit/relkit/pkg/relkittest"
)

// servicesRun is what the guest does: a real systemd, a service whose start says
// which version it finds, patches that restart it, stop it, and fail their check.
const servicesRun = `
relkit=/var/lib/relkit/boot/relkit
cat >/etc/systemd/system/app.service <<'UNIT'
[Service]
ExecStartPre=/bin/sh -c 'cat /opt/app/version >>/run/app-started'
ExecStart=/bin/sleep 100000
ExecStopPost=/bin/sh -c 'echo stopped >>/run/app-started'
UNIT
systemctl daemon-reload
systemctl start app
say() { echo "relkit-guest: $1 $(systemctl is-active app) $(tr '\n' ' ' </run/app-started)version $(cat /opt/app/version)"; : >/run/app-started; }
say started
$relkit patch-apply -q --insecure-unsigned restart.rkp && say restarted
$relkit patch-apply -q --insecure-unsigned stop.rkp && say stopped-meanwhile
$relkit patch-apply -q --insecure-unsigned --check false bad.rkp || say failed
$relkit patch-rollback -q && say back
systemctl stop app
: >/run/app-started
$relkit patch-rollback -q && say left-alone
sync
poweroff -f
`

// TestVMServices: units are restarted, stopped and started around a change by a
// real systemd, on the way back as well; one that did not run is left alone.
func TestVMServices(t *testing.T) {
	tool := buildTool(t)
	guest := relkittest.DebianGuest(t)
	dir := t.TempDir()
	write := func(root, version string) {
		file := filepath.Join(root, "opt/app/version")
		when := time.Unix(1767225600, 0) // mke2fs -d copies times to the second
		err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(version), 0o644), os.Chtimes(file, when, when))
		if err != nil {
			t.Fatal(err)
		}
	}
	tree := func(version string) string {
		root := filepath.Join(dir, version)
		write(root, version)
		return root
	}
	root := guestTree(t, tool, guest.Old, "grub")
	write(root, "1")
	disk := guest.MakeDisk(t, root, guestMiB)
	files := map[string]string{}
	for i, p := range []struct{ name, flags string }{{"restart", "--restart app.service"}, {"stop", "--stop app.service"}, {"bad", "--stop app.service"}} {
		from, to := string(rune('1'+i)), string(rune('2'+i))
		out := filepath.Join(dir, p.name+".rkp")
		args := append([]string{"patch-make", tree(from), tree(to), "--product", "app", "--from-version", from, "--to-version", to, "--scratch", dir, "-o", out},
			strings.Fields(p.flags)...)
		if got, err := exec.Command(tool, args...).CombinedOutput(); err != nil {
			t.Fatalf("patch-make %v: %v\n%s", args, err, got)
		}
		files[p.name+".rkp"] = out
	}
	m := relkittest.BootDisk(t, relkittest.VM{Disks: []string{disk}}, servicesRun, files)
	m.WaitFor("relkit-guest: started", guestTime)
	m.WaitOff(guestTime)
	for _, want := range []string{
		"started active 1version 1",
		"restarted active stopped 2version 2",
		"stopped-meanwhile active stopped 3version 3",
		"failed active stopped 4stopped 3version 3",
		"back active stopped 2version 2",
		"left-alone inactive version 1",
	} {
		if !strings.Contains(m.Console(), "relkit-guest: "+want) {
			t.Errorf("want %q; console:\n%s", want, m.Console())
			break
		}
	}
}
