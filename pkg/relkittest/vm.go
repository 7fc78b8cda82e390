package relkittest

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// VM is a virtual machine to be started: a Debian kernel and an initrd of
// BusyBox and a script, in QEMU without KVM, so that it runs anywhere.
type VM struct {
	// Init is a script for BusyBox's sh, run as root with /proc, /sys, /dev and
	// /tmp mounted. When it ends the machine switches itself off.
	Init string
	// Files are put into the initrd: path in the guest to a file or folder of the
	// host, with its modes. Programs must be static.
	Files map[string]string
	// Disks are raw images, /dev/vda and on in the guest. What the guest has
	// written survives Kill: QEMU's cache is the host's page cache.
	Disks []string
	// WriteLog is a file in which QEMU records each write and flush of the first
	// disk, for Replay.
	WriteLog string
	// Modules are loaded before Init, with what they depend on and what Disks need.
	Modules []string
	// Kernel is DebianKernel by default.
	Kernel Kernel
	// Memory in MiB; 512 by default.
	Memory int
	// Append goes to the kernel's command line, Args to QEMU's.
	Append string
	Args   []string
	// Once has QEMU end when the machine reboots, for BootDisk.
	Once bool

	fromDisk bool // BootDisk
}

// Machine is a virtual machine that has been started.
type Machine struct {
	t       testing.TB
	cmd     *exec.Cmd
	stdin   io.WriteCloser
	out     string // raw image the guest writes its tar to
	done    chan struct{}
	waitErr error

	mu      sync.Mutex
	console bytes.Buffer
	seen    int // of console, by WaitFor
	grown   chan struct{}
}

// The disk that StartVM adds as the last one, for CopyOut: sparse.
const outSize = 1 << 30

// endMark begins the line that tells how Init ended.
const endMark = "relkit-vm: init ended with status "

// prologue is what runs before Init. Output of the kernel below warnings is
// kept off the console, which is slow and where markers must stay in one piece.
const prologue = `#!/bin/sh
export PATH=/bin HOME=/tmp TERM=dumb
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
dmesg -n 4
while read -r module; do insmod "$module" || echo "relkit-vm: no $module"; done </etc/modules
out() { tar -cf "$RELKIT_OUT" "$@" && sync; }
`

// StartVM boots c and returns at once; the machine is killed when the test ends.
// The test is skipped where QEMU, BusyBox or the kernel is missing.
//
// In Init, `out PATH…` hands files to CopyOut.
func StartVM(t testing.TB, c VM) *Machine {
	t.Helper()
	Need(t, "qemu-system-x86_64", "busybox")
	if c.Kernel == (Kernel{}) && !c.fromDisk {
		c.Kernel = DebianKernel(t)
	}
	dir := t.TempDir()
	m := &Machine{t: t, out: filepath.Join(dir, "out.raw"), done: make(chan struct{}), grown: make(chan struct{})}
	if err := makeSparse(m.out, outSize); err != nil {
		t.Fatal(err)
	}
	if c.WriteLog != "" {
		if err := makeSparse(c.WriteLog, 0); err != nil {
			t.Fatal(err)
		}
	}
	initrd := filepath.Join(dir, "initrd")
	if !c.fromDisk {
		if err := c.writeInitrd(initrd); err != nil {
			t.Fatal(err)
		}
	}
	m.cmd = exec.Command("qemu-system-x86_64", c.args(initrd, m.out)...)
	stdin, err := m.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	m.stdin = stdin
	m.cmd.Stdout, m.cmd.Stderr = (*console)(m), (*console)(m)
	if err := m.start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		m.stop()
		if t.Failed() {
			t.Logf("console:\n%s", m.Console())
		}
	})
	return m
}

// start runs QEMU so that it dies with the test, however that ends: Pdeathsig is
// about the thread that forked, which is therefore kept.
func (m *Machine) start() error {
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := m.cmd.Start()
		started <- err
		if err == nil {
			m.waitErr = m.cmd.Wait()
		}
		close(m.done)
	}()
	return <-started
}

// args is QEMU's command line. panic=-1 and -no-reboot turn a dead init into the
// end of QEMU; tb-size bounds the translated code, which else takes a gigabyte.
func (c *VM) args(initrd, out string) []string {
	memory := c.Memory
	if memory == 0 {
		memory = 512
	}
	args := []string{
		"-accel", "tcg,tb-size=256", "-cpu", "max", "-m", fmt.Sprint(memory), "-smp", "1", "-nodefaults", "-display", "none",
		"-serial", "stdio",
	}
	if !c.fromDisk {
		args = append(args, "-kernel", c.Kernel.Image, "-initrd", initrd, "-append", strings.TrimSpace("console=ttyS0 quiet panic=-1 "+c.Append))
	}
	if !c.fromDisk || c.Once {
		args = append(args, "-no-reboot")
	}
	for i, image := range append(append([]string{}, c.Disks...), out) {
		node := fmt.Sprintf("driver=raw,node-name=disk%d,file.driver=file,file.cache.no-flush=on,file.filename=%s", i, escape(image))
		if i == 0 && c.WriteLog != "" {
			node = fmt.Sprintf("driver=blklogwrites,node-name=disk0,file.driver=file,file.cache.no-flush=on,file.filename=%s,log.driver=file,log.filename=%s",
				escape(image), escape(c.WriteLog))
		}
		args = append(args, "-blockdev", node, "-device", fmt.Sprintf("virtio-blk-pci,drive=disk%d", i))
	}
	return append(args, c.Args...)
}

// escape is a file name inside one of QEMU's option lists.
func escape(file string) string { return strings.ReplaceAll(file, ",", ",,") }

func (c *VM) writeInitrd(file string) error {
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return err
	}
	applets, err := exec.Command(busybox, "--list").Output()
	if err != nil {
		return fmt.Errorf("listing BusyBox's applets: %w", err)
	}
	modules, err := c.Kernel.load(append([]string{"virtio_pci", "virtio_blk"}, c.Modules...))
	if err != nil {
		return err
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	w := newCPIO(f)
	for _, dir := range []string{"bin", "dev", "etc", "mnt", "proc", "sys", "tmp", "modules"} {
		w.dir(dir)
	}
	w.char("dev/console", 0600, 5, 1)
	w.host("bin/busybox", busybox)
	for applet := range strings.FieldsSeq(string(applets)) {
		if applet != "busybox" {
			w.symlink("bin/"+applet, "busybox")
		}
	}
	var list strings.Builder
	for _, module := range modules {
		name := "/modules/" + filepath.Base(module)
		w.host(inArchive(name), module)
		fmt.Fprintln(&list, name)
	}
	w.file("etc/modules", 0644, []byte(list.String()))
	w.file("script", 0755, []byte(fmt.Sprintf("%sRELKIT_OUT=/dev/vd%c\n%s\n", prologue, 'a'+len(c.Disks), c.Init)))
	w.file("init", 0755, []byte("#!/bin/sh\nsh /script\necho \""+endMark+"$?\"\npoweroff -f\n"))
	for _, guest := range sortedKeys(c.Files) {
		w.host(inArchive(guest), c.Files[guest])
	}
	if err := w.close(); err != nil {
		return err
	}
	return f.Close()
}

// console collects what QEMU and the guest say.
type console Machine

func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.console.Write(p)
	close(c.grown)
	c.grown = make(chan struct{})
	return len(p), nil
}

// Console is all that has come over the serial line, and from QEMU itself.
func (m *Machine) Console() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.console.String()
}

// Send types a line on the serial console.
func (m *Machine) Send(line string) {
	m.t.Helper()
	if _, err := io.WriteString(m.stdin, line+"\n"); err != nil {
		m.t.Fatalf("writing to the console: %v", err)
	}
}

// find looks for a marker behind the last one that was found.
func (m *Machine) find(marker string) (bool, <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if i := bytes.Index(m.console.Bytes()[m.seen:], []byte(marker)); i >= 0 {
		m.seen += i + len(marker)
		return true, nil
	}
	return false, m.grown
}

// WaitFor waits until the guest has said marker, after the marker that the last
// WaitFor found; the test fails where it does not come.
func (m *Machine) WaitFor(marker string, timeout time.Duration) {
	m.t.Helper()
	deadline := time.After(timeout)
	for {
		found, grown := m.find(marker)
		if found {
			return
		}
		select {
		case <-grown:
		case <-m.done:
			if found, _ := m.find(marker); !found {
				m.t.Fatalf("the machine ended (%v) without saying %q", m.waitErr, marker)
			}
			return
		case <-deadline:
			m.t.Fatalf("the machine did not say %q in %v", marker, timeout)
		}
	}
}

// Kill cuts the power: what the guest has in memory is gone, what it has
// written to its disks is there.
func (m *Machine) Kill() {
	m.stop()
}

func (m *Machine) stop() {
	m.cmd.Process.Kill()
	<-m.done
}

// Wait waits for the machine to switch itself off; the test fails where Init
// ended with another status than 0, or the time is up.
func (m *Machine) Wait(timeout time.Duration) {
	m.t.Helper()
	m.WaitFor(endMark+"0", timeout)
	select {
	case <-m.done:
	case <-time.After(timeout):
		m.t.Fatalf("the machine did not switch itself off in %v", timeout)
	}
	if m.waitErr != nil {
		m.t.Fatalf("qemu: %v", m.waitErr)
	}
}

// WaitOff waits for the machine to switch itself off, however Init ended.
func (m *Machine) WaitOff(timeout time.Duration) {
	m.t.Helper()
	select {
	case <-m.done:
	case <-time.After(timeout):
		m.t.Fatalf("the machine did not switch itself off in %v", timeout)
	}
}

// CopyOut unpacks what the guest's last `out` wrote into a new folder and returns it.
func (m *Machine) CopyOut() string {
	m.t.Helper()
	select {
	case <-m.done:
	default:
		m.t.Fatal("CopyOut of a machine that runs")
	}
	f, err := os.Open(m.out)
	if err != nil {
		m.t.Fatal(err)
	}
	defer f.Close()
	dir := m.t.TempDir()
	if err := untar(f, dir); err != nil {
		m.t.Fatalf("reading what the machine put out: %v", err)
	}
	return dir
}

// untar unpacks files and folders; anything else is left out.
func untar(r io.Reader, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	for in := tar.NewReader(r); ; {
		h, err := in.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(path.Clean("/"+h.Name), "/")
		switch h.Typeflag {
		case tar.TypeDir:
			err = root.MkdirAll(name, 0755)
		case tar.TypeReg:
			if err = root.MkdirAll(path.Dir(name), 0755); err == nil {
				err = copyTo(root, name, in)
			}
		}
		if err != nil {
			return err
		}
	}
}

func copyTo(root *os.Root, name string, r io.Reader) error {
	f, err := root.Create(name)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Close())
}

func makeSparse(file string, size int64) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(size), f.Close())
}
