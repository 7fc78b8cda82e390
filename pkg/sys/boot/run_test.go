package boot

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/relkittest"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// onDisk is a machine in a folder, with GRUB set up, a new kernel on trial and
// what runs there.
func onDisk(t *testing.T, running Choice, newTree bool) (string, *Setup) {
	t.Helper()
	dir := t.TempDir()
	f, err := fsys.Open(dir)
	check(t, err)
	t.Cleanup(func() { f.Close() })
	put(t, f, oldKernel.Image, "old kernel")
	put(t, f, oldKernel.Initrd, hooked("old"))
	put(t, f, staged.Image, "new kernel")
	put(t, f, staged.Initrd, hooked("new"))
	put(t, f, "boot/grub/grub.cfg", "linux /boot/vmlinuz-1 ro\ninitrd /boot/initrd.img-1\nsource $prefix/relkit.cfg\n")
	put(t, f, "var/lib/relkit/boot/setup.json", `{"schema":"`+SetupSchema+`","method":"initramfs-tools","loader":"grub","folder":"boot/grub"}`)
	check(t, (&grub{f, "boot/grub", nil, ""}).install())
	if running != Rest {
		s, err := Open(f, Options{Dir: dir, State: "var/lib/relkit", Cmdline: cmdline})
		check(t, err, s.Switch(staged, newKernel, 3))
		if running == Good {
			check(t, s.loader.Choose(Good, 0))
		}
	}
	if newTree {
		check(t, f.Rename(staged.Image, newKernel.Image, fsys.Replace), f.Rename(staged.Initrd, newKernel.Initrd, fsys.Replace),
			f.Unlink(oldKernel.Image), f.Unlink(oldKernel.Initrd))
	}
	line := cmdline
	if running != Rest {
		line += " relkit.boot=" + string(running)
	}
	s, err := Open(f, Options{Dir: dir, State: "var/lib/relkit", Cmdline: line})
	check(t, err)
	return dir, s
}

func TestRun(t *testing.T) {
	const awaits = `{"done":[{"now":"awaiting"}],"reboot":true}`
	for _, c := range []struct {
		name    string
		running Choice
		newTree bool
		idle    bool
		said    string // by patch-apply; "fail" and "hang" for that
		reboot  bool
		next    Choice
		err     string
	}{
		{"nothing to do", Rest, false, true, "", false, Rest, ""},
		{"committed without a new kernel", Rest, false, false, `{"done":[{"now":"awaiting"}],"reboot":false}`, false, Rest, ""},
		{"committed, and other modules", Rest, false, false, awaits, true, Rest, ""},
		{"committed under the new kernel", Test, true, false, awaits, false, Test, ""},
		{"could not be committed", Test, false, false, `{"done":[{"now":"aborted"}]}`, true, Good, ""},
		{"nothing was to be committed", Test, false, true, "", true, Good, ""},
		{"confirmed, then cut", Test, true, true, "", false, Keep, ""},
		{"fallen back and taken back", Good, false, false, `{"done":[{"now":"rolled-back"}],"reboot":true}`, false, Rest, ""},
		{"fallen back long ago", Good, false, true, "", false, Rest, ""},
		{"fallen back and not taken back", Good, true, false, `{"done":[]}`, false, Good, "not its own"},
		{"fails", Test, false, false, "fail", false, Test, "exit status 3"},
		{"hangs", Test, false, false, "hang", false, Test, "killed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, s := onDisk(t, c.running, c.newTree)
			script := fmt.Sprintf("echo \"$@\" >%s/args; echo '%s'\n", dir, c.said)
			switch c.said {
			case "fail":
				script = "exit 3"
			case "hang":
				script = "sleep 100 & wait"
			}
			o := RunOptions{Waits: !c.idle, Apply: []string{"/bin/sh", "-c", script, "sh"}, Timeout: 20 * time.Second, Stderr: os.Stderr}
			if c.said == "hang" {
				o.Timeout = 200 * time.Millisecond
			}
			reboot, err := s.Run(t.Context(), o)
			if reboot != c.reboot || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("reboot %v, %v", reboot, err)
			}
			if st, err := s.State(); err != nil || st.Chosen != c.next {
				t.Errorf("got %+v, %v, want %s next", st, err, c.next)
			}
			args, err := os.ReadFile(filepath.Join(dir, "args"))
			if c.said != "fail" && c.said != "hang" && (err == nil) == c.idle || err == nil && string(args) != "--entry "+string(c.running)+"\n" {
				t.Errorf("called with %q, %v", args, err)
			}
		})
	}
}

// TestRunReadOnly: a root that is read-only is writable while something is done,
// and read-only again after it.
func TestRunReadOnly(t *testing.T) {
	image := relkittest.MakeImage(t, "ext4", 16)
	dir, _ := relkittest.MountImage(t, "ext4", image)
	check(t, os.MkdirAll(filepath.Join(dir, "var/lib/relkit/boot"), 0o755))
	mount := func(how string) {
		if out, err := exec.Command("mount", "-o", "remount,"+how, dir).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	mount("ro")
	f, err := fsys.Open(dir)
	check(t, err)
	s, err := Open(f, Options{Dir: dir, State: "var/lib/relkit"})
	check(t, err)
	run := func(waits bool, script string) error {
		_, err := s.Run(t.Context(), RunOptions{Waits: waits, Apply: []string{"/bin/sh", "-c", script, "sh"}, Stderr: os.Stderr})
		return err
	}
	check(t, run(true, "touch "+dir+"/done; echo '{}'"), run(false, "touch "+dir+"/never"))
	if _, err := os.Stat(filepath.Join(dir, "done")); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "never")); err == nil {
		t.Error("done without need")
	}
	if err := os.WriteFile(filepath.Join(dir, "x"), nil, 0o644); err == nil {
		t.Error("it stays writable")
	}
	check(t, f.Close())
}

// TestInstall sets up a tree whose tools are scripts of BusyBox, and takes it away.
func TestInstall(t *testing.T) {
	relkittest.NeedRoot(t)
	relkittest.Need(t, "busybox")
	dir := t.TempDir()
	script := `
cd "$1" && mkdir -p bin usr/sbin etc/grub.d boot/grub etc/initramfs-tools && cp "$(command -v busybox)" bin/busybox && ln -s busybox bin/sh
cat >usr/sbin/update-initramfs <<'E'
#!/bin/sh
echo "$@" >>/calls
cd /etc/initramfs-tools && /bin/busybox find scripts hooks | /bin/busybox cpio -o -H newc >/boot/initrd.img-1
E
cat >usr/sbin/grub-mkconfig <<'E'
#!/bin/sh
echo grub "$@" >>/calls
for part in /etc/grub.d/*; do /bin/sh "$part"; done >"$2"
E
chmod 755 usr/sbin/*; : >etc/grub.d/40_custom; : >boot/grub/grub.cfg; : >boot/vmlinuz-1; : >boot/initrd.img-1; ln -s busybox bin/cat
`
	if out, err := exec.Command("sh", "-c", script, "sh", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	f, err := fsys.Open(dir)
	check(t, err)
	defer f.Close()
	s, err := Open(f, Options{Dir: dir, State: "var/lib/relkit", Flags: " --root " + dir})
	check(t, err)
	if err := s.Ready(); failure.Hint(err) != "relkit boot --install --root "+dir {
		t.Errorf("before: %v, hint %q", err, failure.Hint(err))
	}
	for range 2 { // the second brings it up to date
		c, err := s.Install(InstallOptions{Output: os.Stderr})
		check(t, err)
		if c.Method != MethodInitramfsTools || c.Loader != "grub" || c.Folder != "boot/grub" {
			t.Errorf("got %+v", c)
		}
		s, err = Open(f, Options{Dir: dir, State: "var/lib/relkit"})
		check(t, err, s.Ready())
	}
	calls := content(t, f, "calls")
	if calls != "-u -k all\ngrub -o /boot/grub/grub.cfg\n-u -k all\n" {
		t.Errorf("got %q", calls)
	}
	hook := content(t, f, "etc/initramfs-tools/scripts/local-bottom/relkit")
	if !strings.Contains(hook, "${rootmnt?}/var/lib/relkit/boot/relkit") || strings.Contains(hook, "@") {
		t.Errorf("got %s", hook)
	}
	if got := content(t, f, "boot/grub/grub.cfg"); !strings.Contains(got, "source $prefix/relkit.cfg") {
		t.Errorf("got %q", got)
	}
	check(t, s.Uninstall(os.Stderr))
	for _, name := range []string{"etc/grub.d/42_relkit", "etc/initramfs-tools/scripts/local-bottom/relkit", "var/lib/relkit/boot"} {
		if s.exists(name) {
			t.Errorf("%s stays", name)
		}
	}
	if got := content(t, f, "boot/grub/grub.cfg"); strings.Contains(got, "relkit") {
		t.Errorf("got %q", got)
	}
	s, err = Open(f, Options{Dir: dir, State: "var/lib/relkit", Cmdline: "init=/var/lib/relkit/boot/relkit-init"})
	check(t, err)
	_, err = s.Install(InstallOptions{Method: MethodInit, Loader: "none"})
	check(t, err, s.Ready())
	if target, err := f.Readlink("var/lib/relkit/boot/relkit-init"); err != nil || target != "relkit" {
		t.Errorf("got %q, %v", target, err)
	}
	for _, o := range []InstallOptions{{Method: "x"}, {Loader: "x", Folder: "boot"}, {Loader: "exec"}} {
		if _, err := s.Install(o); failure.Of(err) != failure.Usage {
			t.Errorf("%+v: %v", o, err)
		}
	}
}
