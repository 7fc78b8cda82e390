package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/relkit/relkit/pkg/relkittest"
)

// lifeSetup is what the life of a patch in relkit(7) begins with: two images, the
// keys, a signed trust document, and a machine m that runs the first image.
// systemctl only says that all is well: the machine is a folder.
const lifeSetup = `
for k in root release qa; do
	ssh-keygen -q -t ed25519 -N '' -f ${k}_key
	echo "$k $(cut -d' ' -f1,2 ${k}_key.pub)" >>signers
done
relkit trust -q -o trust-1.json --product fw --allowed-signers signers
relkit sign -q trust-1.json --key root_key --as root
mkdir -p tree/etc/fw tree/usr/sbin tree/var/lib bin
echo 'deny all' >tree/etc/fw/fwd.conf
echo one >tree/usr/sbin/fwd
relkit getimage -q --store store tree fw:4.1
cp -a tree m
echo two >tree/usr/sbin/fwd
relkit getimage -q --store store tree fw:4.2
mkdir -p m/etc/relkit m/var/lib/relkit
echo '{"schema":"relkit.version/v1","product":"fw","version":"4.1"}' >m/var/lib/relkit/version.json
echo 'policy.require = ["release", "qa"]' >m/etc/relkit/machine.toml
echo 0123456789abcdef0123456789abcdef >machine-id
echo '<testsuite/>' >junit.xml
printf '#!/bin/sh\n' >bin/systemctl
chmod +x bin/systemctl
`

// lifeSection is the part of relkit(7) on the life of a patch.
func lifeSection(t *testing.T) string {
	t.Helper()
	_, text, ok := strings.Cut(readPage(t, "relkit.7"), "\n.Ss The life of a patch on an appliance\n")
	text, _, end := strings.Cut(text, "\n.Sh ")
	if !ok || !end {
		t.Fatal("relkit(7) has no life of a patch")
	}
	return text
}

// TestLifeOfAPatch runs what relkit(7) shows, in its order, on a machine that is a
// folder: what only the running system has is replaced, and a boot is its hook.
func TestLifeOfAPatch(t *testing.T) {
	relkittest.Need(t, "ssh-keygen")
	dir := t.TempDir()
	shell := func(env []string, script string) {
		t.Helper()
		cmd := exec.Command("sh", "-euc", script)
		cmd.Dir = dir
		cmd.Env = append(append(os.Environ(), "PATH="+dir+"/bin:"+os.Getenv("PATH"), "TZ=UTC"), env...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s\n%v\n%s", script, err, out)
		}
	}
	shell(nil, lifeSetup)
	machine := []string{"RELKIT_ROOT=m", "RELKIT_STATE=" + dir + "/m/var/lib/relkit", "RELKIT_FETCH_MACHINE_ID=machine-id",
		"RELKIT_CMDLINE=init=/var/lib/relkit/boot/relkit-init"}
	runs := func(want string) {
		t.Helper()
		if b, err := os.ReadFile(filepath.Join(dir, "m/usr/sbin/fwd")); err != nil || string(b) != want+"\n" {
			t.Fatalf("the machine runs %q, %v; want %s", b, err, want)
		}
	}
	inFolder := strings.NewReplacer(
		"boot --install", "boot --install --method init --loader none",
		"1%,10%@24h,100%@72h", "100%",
		"dir:/srv/www", "dir:www", "oci://updates.example.com/fw:stable", "dir:www#fw:stable", "/var/cache/relkit", "cache",
		"systemctl is-active fw.service", `grep -q two \$RELKIT_ROOT/usr/sbin/fwd`,
		"--stage", "--stage --at-boot", "Sun 02:00-04:00", "00:00-24:00", " --reboot", "",
		"patch-rollback fw-", "patch-rollback --at-boot fw-")
	const boot = "relkit boot --run"
	seen := 0
	for _, line := range exampleLines(lifeSection(t)) {
		if !strings.HasPrefix(line, "$ ") && !strings.HasPrefix(line, "# ") {
			continue
		}
		env := machine
		if line[0] == '$' {
			env = nil
		}
		shell(env, inFolder.Replace(line[2:]))
		seen++
		switch {
		case strings.Contains(line, "--stage"):
			runs("one")
		case strings.Contains(line, "--reboot"):
			runs("one")
			shell(env, boot)
			runs("two")
		case strings.Contains(line, "--confirm"):
			runs("two")
		case strings.Contains(line, "patch-rollback fw-"):
			runs("two")
			shell(env, boot)
			runs("one")
		}
	}
	if seen < 15 {
		t.Errorf("only %d commands", seen)
	}
}

// TestLifeCrontab: the lines of crontab(5) in relkit(7) are those to be copied.
func TestLifeCrontab(t *testing.T) {
	b, err := os.ReadFile("../../examples/cron/appliance")
	if err != nil {
		t.Fatal(err)
	}
	lines := 0
	for _, line := range exampleLines(lifeSection(t)) {
		if !strings.Contains(line, " root ") {
			continue
		}
		lines++
		if !strings.Contains(string(b), "\n"+line+"\n") {
			t.Errorf("examples/cron/appliance has no line %q", line)
		}
	}
	if lines < 3 {
		t.Errorf("%d lines in relkit(7)", lines)
	}
}
