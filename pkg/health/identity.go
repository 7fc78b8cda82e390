package health

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/relkit/relkit/pkg/format/identity"
	"github.com/relkit/relkit/pkg/format/record"
)

// collectIdentity says which machine this is. What the hardware does not tell
// (a virtual machine without DMI, a serial number only root may read) is null
// with the reason; only a machine without a machine id is a fault, since its
// reports cannot be told from others'.
func collectIdentity(_ context.Context, in *input) (*output, error) {
	sys := in.sys
	m := &record.HealthMachine{Architecture: ptr(sys.Architecture), MACs: []string{}}
	out := &output{machine: m}
	c := record.HealthCheck{Name: "identity", Status: record.HealthOK, Values: map[string]any{}}
	key, err := readKey(sys.Tree)
	if err != nil {
		c.Status, c.Summary = record.HealthUnknown, clean(err.Error())
		out.fault("identity", "machine.id", err)
	} else {
		m.ID, c.Summary = ptr(key.String()), "machine "+key.String()
	}
	out.checks = []record.HealthCheck{c}
	readDMI(sys.Kernel, m, out)
	out.text(&m.Kernel, sys.Kernel, "proc/sys/kernel/osrelease", "machine.kernel")
	if sys.Path == "/" {
		out.text(&m.Hostname, sys.Kernel, "proc/sys/kernel/hostname", "machine.hostname")
	} else {
		out.text(&m.Hostname, sys.Tree, "etc/hostname", "machine.hostname")
	}
	b, err := readLimited(sys.Tree, "etc/os-release", maxText)
	if errors.Is(err, fs.ErrNotExist) {
		b, err = readLimited(sys.Tree, "usr/lib/os-release", maxText)
	}
	if err != nil {
		out.fault("identity", "machine.os", err)
	} else if name := parseOSRelease(b); name != "" {
		m.OS = &name
	}
	nics, err := findNICs(sys.Kernel, &Checks{})
	if err != nil {
		out.fault("identity", "machine.macs", err)
	}
	for _, n := range nics {
		if n.mac != "" && !slices.Contains(m.MACs, n.mac) {
			m.MACs = append(m.MACs, n.mac)
		}
	}
	slices.Sort(m.MACs)
	return out, nil
}

// readID is the machine id, which stays here.
func readID(tree fs.FS) (identity.ID, error) {
	b, err := readLimited(tree, "etc/machine-id", maxText)
	if err != nil {
		return identity.ID{}, err
	}
	id, err := identity.Parse(b)
	if err != nil {
		return identity.ID{}, fmt.Errorf("reading etc/machine-id: %w", err)
	}
	return id, nil
}

// readKey is the machine key.
func readKey(tree fs.FS) (identity.ID, error) {
	id, err := readID(tree)
	if err != nil {
		return identity.ID{}, err
	}
	return id.AppSpecific(identity.App), nil
}

// readDMI takes what the firmware tells, from /sys/class/dmi/id.
func readDMI(kernel fs.FS, m *record.HealthMachine, out *output) {
	if _, err := fs.Stat(kernel, "sys/class/dmi/id"); err != nil {
		readDeviceTree(kernel, m, out)
		return
	}
	for _, f := range []struct {
		to          **string
		file, field string
	}{
		{&m.Serial, "product_serial", "serial"}, {&m.UUID, "product_uuid", "uuid"},
		{&m.Vendor, "sys_vendor", "vendor"}, {&m.Product, "product_name", "product"},
		{&m.BoardSerial, "board_serial", "board_serial"}, {&m.BIOSVendor, "bios_vendor", "bios_vendor"},
		{&m.BIOSVersion, "bios_version", "bios_version"}, {&m.BIOSDate, "bios_date", "bios_date"},
	} {
		out.text(f.to, kernel, "sys/class/dmi/id/"+f.file, "machine."+f.field)
	}
}

// readDeviceTree takes what machines without DMI tell, where they have a device
// tree: most of those with an ARM processor.
func readDeviceTree(kernel fs.FS, m *record.HealthMachine, out *output) {
	const base = "sys/firmware/devicetree/base"
	if _, err := fs.Stat(kernel, base); err != nil {
		out.fault("identity", "", errors.New("neither DMI nor a device tree is present"))
		return
	}
	out.text(&m.Product, kernel, base+"/model", "machine.product")
	out.text(&m.Serial, kernel, base+"/serial-number", "machine.serial")
}

// text fills in a value from a one-line file; an empty file leaves it null.
func (o *output) text(to **string, fsys fs.FS, name, field string) {
	s, err := readText(fsys, name)
	if err != nil {
		o.fault("identity", field, err)
		return
	}
	if s != "" {
		*to = &s
	}
}
