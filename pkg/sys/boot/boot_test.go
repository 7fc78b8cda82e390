package boot

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/bootenv"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// cpio is an initramfs, uncompressed, of empty files with these names.
func cpio(names ...string) []byte {
	var b bytes.Buffer
	for i, name := range append(names, "TRAILER!!!") {
		fmt.Fprintf(&b, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\x00",
			i+1, 0o100755, 0, 0, 1, 0, 0, 0, 0, 0, 0, len(name)+1, 0, name)
		b.Write(make([]byte, -b.Len()&3))
	}
	return b.Bytes()
}

func check(t testing.TB, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func put(t testing.TB, f fsys.FS, name, content string) {
	t.Helper()
	check(t, fsys.MkdirAll(f, filepath.Dir(name), 0o755), fsys.WriteFile(f, name, []byte(content), 0o644))
}

func content(t testing.TB, f fsys.FS, name string) string {
	t.Helper()
	b, err := fsys.ReadFile(f, name, 1<<20)
	check(t, err)
	return string(b)
}

var (
	oldKernel = Kernel{"boot/vmlinuz-1", "boot/initrd.img-1"}
	newKernel = Kernel{"boot/vmlinuz-2", "boot/initrd.img-2"}
	staged    = Kernel{".relkit/1/7", ".relkit/1/8"}
)

const cmdline = "BOOT_IMAGE=/boot/vmlinuz-1 root=/dev/sda1 ro quiet"

// hooked is an initrd with relkit's hook, that differs by a word.
func hooked(word string) string { return string(cpio("init", word, initramfsToolsName)) }

// machineOf is a machine with a kernel, another one staged, and a loader.
func machineOf(t testing.TB, c Config) *fsys.Mem {
	t.Helper()
	m := fsys.NewMem()
	f := m.FS()
	put(t, f, oldKernel.Image, "old kernel")
	put(t, f, oldKernel.Initrd, hooked("old"))
	put(t, f, staged.Image, "new kernel")
	put(t, f, staged.Initrd, hooked("new"))
	put(t, f, "boot/grub/grub.cfg", "linux /boot/vmlinuz-1 ro\ninitrd /boot/initrd.img-1\nsource $prefix/relkit.cfg\n")
	put(t, f, "var/lib/relkit/boot/relkit", "")
	put(t, f, "esp/loader/loader.conf", "timeout 0\n")
	put(t, f, "esp/loader/entries/debian.conf", "linux /vmlinuz-1\ninitrd /initrd.img-1\n")
	put(t, f, uBootConfig, "/boot/uboot.env 0 0x200\n/boot/uboot.env 0x200 0x200\n")
	env := &bootenv.UBoot{}
	env.Set("bootcmd", "run distro_bootcmd")
	one, err := env.Encode(0x200, true)
	check(t, err)
	put(t, f, "boot/uboot.env", string(one)+strings.Repeat("\xff", 0x200))
	s := open(t, m, cmdline)
	c.Schema = SetupSchema
	loader, err := s.newLoader(c)
	check(t, err)
	switch l := loader.(type) {
	case *grub:
		check(t, l.install())
	case *systemdBoot:
		check(t, l.install())
	}
	put(t, f, "var/lib/relkit/boot/setup.json",
		fmt.Sprintf(`{"schema":%q,"method":"initramfs-tools","loader":%q,"folder":%q}`, SetupSchema, c.Loader, c.Folder))
	check(t, f.SyncFS("."))
	return m
}

func open(t testing.TB, m *fsys.Mem, cmdline string) *Setup {
	t.Helper()
	return openFS(t, m.FS(), cmdline)
}

func openFS(t testing.TB, f fsys.FS, cmdline string) *Setup {
	t.Helper()
	s, err := Open(f, Options{Dir: "/", State: "var/lib/relkit", Cmdline: cmdline, BootID: "1"})
	check(t, err)
	return s
}

var loaders = []Config{{Loader: "grub", Folder: "boot/grub"}, {Loader: "systemd-boot", Folder: "esp"}, {Loader: "u-boot", Folder: "boot"}}

// bootsAs is what a machine that crashed and boots again runs: what its boot
// loader is set to, with a try counted down.
func bootsAs(t testing.TB, m *fsys.Mem, where string) Choice {
	t.Helper()
	s := open(t, m, cmdline)
	st, err := s.State()
	if err != nil {
		t.Fatalf("%s: %v", where, err)
	}
	if st.Chosen == Rest {
		return Rest
	}
	slot := st.Chosen
	if slot == Keep {
		slot = Test
	}
	want := map[Choice][2]string{Test: {"new kernel", hooked("new")}, Good: {"old kernel", hooked("old")}}
	for _, slot := range []Choice{slot, Good} {
		if st.Chosen == Keep && slot == Good {
			continue
		}
		k := s.slot(slot)
		f := m.FS()
		for i, name := range []string{k.Image, k.Initrd} {
			if got, err := fsys.ReadFile(f, name, 1<<20); err != nil || string(got) != want[slot][i] {
				t.Fatalf("%s: the boot loader is set to %s, and %s is %q, %v", where, st.Chosen, name, got, err)
			}
		}
	}
	return st.Chosen
}

// TestSwitch: rest, then test with its tries, then rest or keep, or back to good
// and rest, by each boot loader.
func TestSwitch(t *testing.T) {
	for _, c := range loaders {
		t.Run(c.Loader, func(t *testing.T) {
			m := machineOf(t, c)
			s := open(t, m, cmdline)
			check(t, s.Switch(staged, newKernel, 3))
			st, err := s.State()
			check(t, err)
			if st != (State{Chosen: Test, Left: 3, Running: Rest}) {
				t.Fatalf("got %+v", st)
			}
			if err := s.Switch(staged, newKernel, 3); failure.Of(err) != failure.Refused {
				t.Errorf("a second trial: %v", err)
			}
			if bootsAs(t, m, "after the switch") != Test {
				t.Error("the new kernel is not chosen")
			}
			confirm := open(t, m.Crash(fsys.Policy{}), cmdline+" relkit.boot=test")
			if st, err := confirm.State(); err != nil || !st.OnTrial() || st.FellBack() {
				t.Errorf("got %+v, %v", st, err)
			}
			check(t, confirm.Extend(), confirm.Settle(false))
			if st, err := confirm.State(); err != nil || st.Chosen != Keep {
				t.Errorf("confirmed, and its own menu does not have it: got %+v, %v", st, err)
			}
			back := open(t, m.Crash(fsys.Policy{}), cmdline+" relkit.boot=good")
			if st, err := back.State(); err != nil || !st.FellBack() || st.OnTrial() {
				t.Errorf("got %+v, %v", st, err)
			}
			check(t, back.Settle(false))
			want := Rest
			if c.Loader == "u-boot" {
				want = Keep // it has no menu that could have the kernel
			}
			if st, err := back.State(); err != nil || st.Chosen != want {
				t.Errorf("fallen back and settled: got %+v, %v", st, err)
			}
			check(t, s.GiveUp())
			if st, err := s.State(); err != nil || st.Chosen != Good {
				t.Errorf("given up: got %+v, %v", st, err)
			}
		})
	}
}

// TestSwitchAgain: from keep, where the slot that boots is the one to be filled.
func TestSwitchAgain(t *testing.T) {
	for _, c := range loaders {
		t.Run(c.Loader, func(t *testing.T) {
			m := machineOf(t, c)
			s := open(t, m, cmdline)
			check(t, s.Switch(staged, newKernel, 3))
			s = open(t, m, cmdline+" relkit.boot=test")
			check(t, s.Settle(false))
			third := Kernel{".relkit/2/1", ".relkit/2/2"}
			put(t, m.FS(), third.Image, "third kernel")
			put(t, m.FS(), third.Initrd, hooked("third"))
			check(t, s.Switch(third, Kernel{"boot/vmlinuz-3", "boot/initrd.img-3"}, 2))
			st, err := s.State()
			check(t, err)
			f := m.FS()
			if st.Chosen != Test || st.Left != 2 || content(t, f, s.slot(Test).Image) != "third kernel" || content(t, f, s.slot(Good).Image) != "new kernel" {
				t.Errorf("got %+v, test %q, good %q", st, content(t, f, s.slot(Test).Image), content(t, f, s.slot(Good).Image))
			}
		})
	}
}

// TestSwitchCrash cuts the power at every step of a switch, of a confirmation and
// of a fallback: what the boot loader then chooses is whole.
func TestSwitchCrash(t *testing.T) {
	for _, c := range loaders {
		if c.Loader == "systemd-boot" {
			continue // its ESP is vfat, which Mem is not: see TestSystemdBootOrder
		}
		t.Run(c.Loader, func(t *testing.T) {
			points := 0
			cut := func(what string, m *fsys.Mem, cmdline string, run func(*Setup) error, may ...Choice) {
				t.Helper()
				for k := 1; ; k++ {
					machine := m.Crash(fsys.Policy{Keep: fsys.KeepAll})
					meter := &fsys.Meter{CrashAt: k}
					err := run(openFS(t, fsys.Watch(machine.FS(), meter), cmdline))
					if !meter.Crashed() {
						check(t, err)
						break
					}
					for _, keep := range []fsys.Keep{fsys.KeepNone, fsys.KeepAll, fsys.KeepPrefix, fsys.KeepSubset} {
						for seed := range uint64(4) {
							p := fsys.Policy{Keep: keep, Seed: seed}
							where := fmt.Sprintf("%s, step %d, %v", what, k, p)
							if got := bootsAs(t, machine.Crash(p), where); !slices.Contains(may, got) {
								t.Fatalf("%s: boots %s, want one of %v", where, got, may)
							}
							points++
						}
					}
				}
			}
			m := machineOf(t, c)
			cut("switch", m, cmdline, func(s *Setup) error { return s.Switch(staged, newKernel, 3) }, Rest, Test)
			check(t, open(t, m, cmdline).Switch(staged, newKernel, 3))
			check(t, m.FS().SyncFS("."))
			cut("confirm", m, cmdline+" relkit.boot=test", func(s *Setup) error { return s.Settle(false) }, Test, Keep)
			cut("extend", m, cmdline+" relkit.boot=test", func(s *Setup) error { return s.Extend() }, Test)
			cut("give up", m, cmdline+" relkit.boot=test", func(s *Setup) error { return s.GiveUp() }, Test, Good)
			check(t, open(t, m, cmdline+" relkit.boot=test").GiveUp())
			check(t, m.FS().SyncFS("."))
			if c.Loader == "grub" {
				cut("fallen back", m, cmdline+" relkit.boot=good", func(s *Setup) error { return s.Settle(false) }, Good, Rest)
			}
			if points < 100 {
				t.Errorf("only %d points", points)
			}
			t.Logf("%d points", points)
		})
	}
}

// TestSystemdBootOrder: the new name is there before the old one goes.
func TestSystemdBootOrder(t *testing.T) {
	m := machineOf(t, Config{Loader: "systemd-boot", Folder: "esp"})
	meter := &fsys.Meter{Record: true}
	s := openFS(t, fsys.Watch(m.FS(), meter), cmdline)
	check(t, s.Switch(staged, newKernel, 3))
	f := m.FS()
	check(t, f.Rename("esp/loader/entries/relkit-test+3.conf", "esp/loader/entries/relkit-test+2-1.conf", fsys.NoReplace)) // the boot loader counts
	if st, err := s.State(); err != nil || st.Left != 2 {
		t.Errorf("got %+v, %v", st, err)
	}
	check(t, s.loader.Choose(Test, 3))
	trace := meter.Trace()
	made := slices.Index(trace, "rename esp/loader/entries/relkit-test+3.conf")
	gone := slices.Index(trace, "unlink esp/loader/entries/relkit-test+2-1.conf")
	if made < 0 || gone < made {
		t.Errorf("got %q", trace)
	}
	check(t, f.Rename("esp/loader/entries/relkit-test+3.conf", "esp/loader/entries/relkit-test+0-3.conf", fsys.NoReplace))
	if st, err := s.State(); err != nil || st.Chosen != Good {
		t.Errorf("no tries left: got %+v, %v", st, err)
	}
	text := content(t, f, "esp/loader/entries/relkit-test+0-3.conf")
	for _, want := range []string{"sort-key !relkit\n", "linux /relkit/test/vmlinuz\n", "initrd /relkit/test/initrd\n", "options root=/dev/sda1 ro quiet panic=30 relkit.boot=test\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in %q", want, text)
		}
	}
	put(t, f, "esp/loader/loader.conf", "default debian.conf\n")
	if err := (&systemdBoot{f, "esp"}).install(); failure.Of(err) != failure.Refused {
		t.Errorf("a fixed default: %v", err)
	}
}

// TestGRUBWrites: the environment block keeps its inode, and only its first
// sector is ever written to.
func TestGRUBWrites(t *testing.T) {
	m := machineOf(t, loaders[0])
	f := m.FS()
	before, err := f.Lstat("boot/grub/relkit/grubenv")
	check(t, err)
	old := content(t, f, "boot/grub/relkit/grubenv")
	s := open(t, m, cmdline)
	check(t, s.Switch(staged, newKernel, 3))
	after, err := f.Lstat("boot/grub/relkit/grubenv")
	check(t, err)
	now := content(t, f, "boot/grub/relkit/grubenv")
	if !after.SameInode(before) || old[512:] != now[512:] || old[:512] == now[:512] || len(now) != 1024 {
		t.Errorf("got %q, inode %d, was %d", now, after.Ino, before.Ino)
	}
	if got := content(t, f, "boot/grub/relkit/test.cfg"); got != "linux $prefix/relkit/test/vmlinuz 'root=/dev/sda1' 'ro' 'quiet' 'panic=30' 'relkit.boot=test'\ninitrd $prefix/relkit/test/initrd\n" {
		t.Errorf("got %q", got)
	}
	put(t, f, "boot/grub/relkit/grubenv", string(content(t, f, "boot/grub/relkit/grubenv")[:1000]))
	if _, err := s.State(); err == nil {
		t.Error("a short block, and no error")
	}
	if err := s.loader.Choose(Rest, 0); failure.Hint(err) == "" {
		t.Errorf("a short block: %v", err)
	}
}

func TestRefusals(t *testing.T) {
	m := machineOf(t, loaders[0])
	f := m.FS()
	s := open(t, m, cmdline)
	put(t, f, "bare", string(cpio("init")))
	for name, run := range map[string]func() error{
		"no hook":  func() error { return s.Switch(Kernel{staged.Image, "bare"}, newKernel, 3) },
		"no file":  func() error { return s.Switch(Kernel{staged.Image, "none"}, newKernel, 3) },
		"no setup": func() error { return (&Setup{root: f, o: s.o}).Ready() },
		"no loader": func() error {
			return (&Setup{root: f, o: s.o, config: s.config}).Switch(staged, newKernel, 3)
		},
	} {
		if err := run(); failure.Of(err) != failure.Refused {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := s.Switch(staged, newKernel, 10); failure.Of(err) != failure.Usage {
		t.Errorf("ten tries: %v", err)
	}
	if err := s.Ready(); failure.Of(err) != failure.Refused { // the copy is not executable
		t.Errorf("got %v", err)
	}
	check(t, f.Chmod("var/lib/relkit/boot/relkit", 0o755), s.Ready())
	put(t, f, "boot/initrd.img-1", string(cpio("init")))
	if err := s.Ready(); failure.Of(err) != failure.Refused || failure.Hint(err) != "relkit boot --install" {
		t.Errorf("an initrd without the hook: %v, hint %q", err, failure.Hint(err))
	}
}

func TestChooseKernel(t *testing.T) {
	for _, c := range []struct {
		names []string
		want  Kernel
	}{
		{[]string{"boot/vmlinuz-6.1.0-9", "boot/initrd.img-6.1.0-9", "boot/vmlinuz-6.1.0-10", "boot/initrd.img-6.1.0-10"}, Kernel{"boot/vmlinuz-6.1.0-10", "boot/initrd.img-6.1.0-10"}},
		{[]string{"boot/vmlinuz-6.1.0-9", "boot/initrd.img-6.1.0-9", "boot/vmlinuz-6.1.0-10"}, Kernel{"boot/vmlinuz-6.1.0-9", "boot/initrd.img-6.1.0-9"}},
		{[]string{"boot/vmlinuz-5.14.el9.x86_64", "boot/initramfs-5.14.el9.x86_64.img", "boot/initramfs-5.14.el9.x86_64kdump.img", "boot/vmlinuz-0-rescue-1"}, Kernel{"boot/vmlinuz-5.14.el9.x86_64", "boot/initramfs-5.14.el9.x86_64.img"}},
		{[]string{"boot/vmlinuz", "boot/initrd.img"}, Kernel{"boot/vmlinuz", "boot/initrd.img"}},
		{[]string{"boot/config-1", "usr/vmlinuz-1"}, Kernel{}},
	} {
		if got, ok := ChooseKernel(c.names); got != c.want || ok != (c.want != Kernel{}) {
			t.Errorf("%v: got %v", c.names, got)
		}
	}
	if IsKernelFile("boot/config-1") || IsKernelFile("boot/grub/vmlinuz-1") || !IsKernelFile("boot/initrd.img-1") {
		t.Error("IsKernelFile")
	}
}

// TestExec: the words that are passed to the machine's own program.
func TestExec(t *testing.T) {
	dir := t.TempDir()
	script := `#!/bin/sh
cd "$RELKIT_ROOT" || exit 1
case $1 in
state) cat word ;;
choose) shift; echo "$*" >word ;;
describe) echo "$*" >"$RELKIT_FOLDER/$2" ;;
covers) [ "$2" = /boot/vmlinuz-1 ] ;;
esac
`
	check(t, os.WriteFile(filepath.Join(dir, "loader"), []byte(script), 0o755), os.MkdirAll(filepath.Join(dir, "boot/relkit"), 0o755))
	p := &program{dir, "boot", "loader"}
	if _, _, err := p.State(); err == nil {
		t.Error("it fails, and no error")
	}
	check(t, p.Choose(Test, 2), p.Describe(Test, "ro quiet"))
	if c, left, err := p.State(); c != Test || left != 2 || err != nil {
		t.Errorf("got %v, %d, %v", c, left, err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "boot/relkit/test")); string(b) != "describe test ro quiet\n" {
		t.Errorf("got %q, %v", b, err)
	}
	for image, want := range map[string]bool{"boot/vmlinuz-1": true, "boot/vmlinuz-2": false} {
		if got, err := p.Covers(Kernel{Image: image}); got != want || err != nil {
			t.Errorf("%s: got %v, %v", image, got, err)
		}
	}
	check(t, os.WriteFile(filepath.Join(dir, "word"), []byte("perhaps\n"), 0o644))
	if _, _, err := p.State(); err == nil {
		t.Error("an unknown word, and no error")
	}
}
