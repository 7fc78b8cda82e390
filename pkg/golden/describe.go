package golden

import (
	"debug/elf"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/machine"
	"github.com/relkit/relkit/pkg/sys/disk"
)

// Describe describes the running machine (root "/"), or what a tree tells of
// the machine it is for. What cannot be read is left out and named.
func Describe(root string) (*machine.Machine, error) {
	running := path.Clean(root) == "/"
	files := os.DirFS("/")
	if !running {
		// Nothing of this host may get into the description of another tree.
		top, err := os.OpenRoot(root)
		if err != nil {
			return nil, failure.As(failure.Usage, fmt.Errorf("opening the root: %w", err))
		}
		defer top.Close()
		files = top.FS()
	}
	d := describer{fs: files, m: &machine.Machine{Schema: machine.Schema}}
	d.tree()
	if running {
		d.running()
	}
	return d.m, nil
}

type describer struct {
	fs fs.FS
	m  *machine.Machine
}

// missing notes what could not be read.
func (d *describer) missing(what string, err error) {
	d.m.Unreadable = append(d.m.Unreadable, fmt.Sprintf("%s: %v", what, err))
}

// text is a file's content without the blanks around it; "" where there is none.
func (d *describer) text(name string) string {
	b, err := fs.ReadFile(d.fs, name)
	if err != nil {
		return ""
	}
	return clean(string(b))
}

func clean(s string) string { return strings.ToValidUTF8(strings.Trim(s, " \t\r\n\x00"), "�") }

// tree reads what any root file system has.
func (d *describer) tree() {
	d.m.Hostname = d.text("etc/hostname")
	d.distribution()
	for _, name := range []string{"bin/sh", "usr/bin/sh", "sbin/init", "usr/lib/systemd/systemd", "bin/busybox"} {
		if arch := elfArch(d.fs, name); arch != "" {
			d.m.Arch = arch
			break
		}
	}
	if kernels := d.kernels(); len(kernels) > 0 {
		d.m.Kernel = &machine.Kernel{Installed: kernels}
	}
	fstab, err := disk.Fstab(d.fs)
	if err != nil {
		d.missing("the file system table", err)
	}
	d.m.Fstab = fstab
}

func (d *describer) distribution() {
	b, err := fs.ReadFile(d.fs, "etc/os-release")
	if err != nil {
		b, err = fs.ReadFile(d.fs, "usr/lib/os-release")
	}
	if err != nil {
		d.missing("the distribution", err)
		return
	}
	v := osRelease(string(b))
	id := v["ID"]
	if id == "" {
		id = "linux" // the default of os-release(5)
	}
	d.m.Distribution = &machine.Distribution{ID: id, VersionID: v["VERSION_ID"], Codename: v["VERSION_CODENAME"], Name: v["PRETTY_NAME"]}
}

// osRelease reads os-release(5): shell assignments, quoted or not.
func osRelease(text string) map[string]string {
	values := map[string]string{}
	for line := range strings.Lines(text) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if !ok || strings.HasPrefix(key, "#") {
			continue
		}
		if n := len(value); n >= 2 && (value[0] == '"' || value[0] == '\'') && value[n-1] == value[0] {
			quote := value[0]
			value = value[1 : n-1]
			if quote == '"' {
				value = strings.NewReplacer(`\"`, `"`, `\\`, `\`, `\$`, `$`, "\\`", "`").Replace(value)
			}
		}
		values[key] = clean(value)
	}
	return values
}

// kernels are the releases that have modules.
func (d *describer) kernels() []string {
	var all []string
	for _, dir := range []string{"lib/modules", "usr/lib/modules"} {
		names, err := fs.ReadDir(d.fs, dir)
		if err != nil {
			continue
		}
		for _, n := range names {
			if n.IsDir() && !slices.Contains(all, n.Name()) {
				all = append(all, clean(n.Name()))
			}
		}
	}
	slices.Sort(all)
	return all
}

// elfArch names a program's processor as uname(1) -m does; "" for no ELF file.
func elfArch(files fs.FS, name string) string {
	f, err := files.Open(name)
	if err != nil {
		return ""
	}
	defer f.Close()
	header := make([]byte, 20)
	if _, err := f.Read(header); err != nil || string(header[:4]) != elf.ELFMAG {
		return ""
	}
	low, high := header[18], header[19]
	if elf.Data(header[elf.EI_DATA]) == elf.ELFDATA2MSB {
		low, high = high, low
	}
	switch elf.Machine(uint16(high)<<8 | uint16(low)) {
	case elf.EM_X86_64:
		return "x86_64"
	case elf.EM_386:
		return "i686"
	case elf.EM_AARCH64:
		return "aarch64"
	case elf.EM_ARM:
		return "arm"
	case elf.EM_RISCV:
		return "riscv64"
	case elf.EM_PPC64:
		return "ppc64le"
	case elf.EM_S390:
		return "s390x"
	}
	return ""
}

// running reads what the kernel tells of the machine it runs on.
func (d *describer) running() {
	m := d.m
	if m.Kernel == nil {
		m.Kernel = &machine.Kernel{}
	}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		d.missing("the kernel", err)
	} else {
		m.Arch, m.Kernel.Release, m.Hostname = unix.ByteSliceToString(u.Machine[:]), unix.ByteSliceToString(u.Release[:]), unix.ByteSliceToString(u.Nodename[:])
	}
	m.Kernel.CommandLine = d.text("proc/cmdline")
	m.Firmware = "bios"
	if _, err := fs.Stat(d.fs, "sys/firmware/efi"); err == nil {
		m.Firmware = "uefi"
	}
	d.hardware()
	var err error
	if m.Disks, err = disk.Disks(d.fs); err != nil {
		d.missing("the disks", err)
	}
	if m.FileSystems, err = disk.Mounts(d.fs, disk.Space); err != nil {
		d.missing("the file systems", err)
	}
	d.network()
}

// hardware reads the model: SMBIOS by sysfs, or the device tree.
func (d *describer) hardware() {
	const dmi, dt = "sys/class/dmi/id/", "proc/device-tree/"
	h := &machine.Hardware{Vendor: d.text(dmi + "sys_vendor"), Product: d.text(dmi + "product_name"), Version: d.text(dmi + "product_version"),
		Board: d.text(dmi + "board_name"), BIOS: d.text(dmi + "bios_version")}
	if h.Product == "" {
		h.Product = d.text(dt + "model")
	}
	if b, err := fs.ReadFile(d.fs, dt+"compatible"); err == nil {
		for s := range strings.SplitSeq(strings.Trim(string(b), "\x00"), "\x00") {
			h.Compatible = append(h.Compatible, clean(s))
		}
	}
	if h.Product == "" {
		d.missing("the hardware's model", fs.ErrNotExist)
	}
	for line := range strings.Lines(d.text("proc/meminfo")) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "MemTotal:" {
			kib, _ := strconv.ParseInt(f[1], 10, 64)
			h.MemoryBytes = kib << 10
		}
	}
	d.m.Hardware = h
}

func (d *describer) network() {
	const dir = "sys/class/net"
	names, err := fs.ReadDir(d.fs, dir)
	if err != nil {
		d.missing("the network interfaces", err)
		return
	}
	for _, n := range names {
		at := path.Join(dir, n.Name())
		// ARPHRD_LOOPBACK (linux/if_arp.h)
		if t := d.text(at + "/type"); t == "" || t == "772" {
			continue
		}
		i := machine.Interface{Name: n.Name(), MAC: d.text(at + "/address")}
		i.MTU, _ = strconv.Atoi(d.text(at + "/mtu"))
		if _, err := fs.Stat(d.fs, at+"/device"); err != nil {
			i.Virtual = true
		}
		if link, err := fs.ReadLink(d.fs, at+"/device/driver"); err == nil {
			i.Driver = path.Base(link)
		}
		d.m.Network = append(d.m.Network, i)
	}
}
