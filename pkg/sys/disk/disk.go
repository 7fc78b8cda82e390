// Package disk reads what the kernel and udev know of this machine's disks,
// partitions and file systems, without opening a device.
package disk

import (
	"bytes"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/relkit/relkit/pkg/format/machine"
)

// sysfsSector is the unit of sizes in sysfs, whatever the disk's sectors are
// (Documentation/ABI/stable/sysfs-block).
const sysfsSector = 512

// Disks reads /sys/block and udev's database below root, a view of the whole
// file system. Devices without a medium or a disk behind them (loop, ram, zram,
// floppy, optical) are left out. Whatever cannot be read is absent.
func Disks(root fs.FS) ([]machine.Disk, error) {
	names, err := fs.ReadDir(root, "sys/block")
	if err != nil {
		return nil, err
	}
	var disks []machine.Disk
	for _, n := range names {
		if d, ok := readDisk(root, n.Name()); ok {
			disks = append(disks, d)
		}
	}
	slices.SortFunc(disks, func(a, b machine.Disk) int { return strings.Compare(a.Name, b.Name) })
	return disks, nil
}

func readDisk(root fs.FS, name string) (machine.Disk, bool) {
	dir := path.Join("sys/block", name)
	d := machine.Disk{Name: name, SizeBytes: number(root, dir+"/size") * sysfsSector}
	for _, prefix := range []string{"loop", "ram", "zram", "fd", "sr", "nbd"} {
		if strings.HasPrefix(name, prefix) {
			return d, false
		}
	}
	if d.SizeBytes == 0 {
		return d, false
	}
	d.SectorBytes = number(root, dir+"/queue/logical_block_size")
	d.PhysicalBytes = number(root, dir+"/queue/physical_block_size")
	d.Model = text(root, dir+"/device/model")
	d.Rotational = number(root, dir+"/queue/rotational") == 1
	d.Removable = number(root, dir+"/removable") == 1
	d.ReadOnly = number(root, dir+"/ro") == 1
	udev := udevOf(root, dir)
	d.Table = udev["ID_PART_TABLE_TYPE"]
	d.Content = contentOf(udev)
	d.Volume = volumeOf(root, dir, udev)
	d.Partitions = partitions(root, dir, name)
	return d, true
}

func partitions(root fs.FS, dir, disk string) []machine.Partition {
	names, err := fs.ReadDir(root, dir)
	if err != nil {
		return nil
	}
	var all []machine.Partition
	for _, n := range names {
		at := path.Join(dir, n.Name())
		num := number(root, at+"/partition")
		if num == 0 || !strings.HasPrefix(n.Name(), disk) {
			continue
		}
		udev := udevOf(root, at)
		all = append(all, machine.Partition{Name: n.Name(), Number: int(num),
			StartBytes: number(root, at+"/start") * sysfsSector, SizeBytes: number(root, at+"/size") * sysfsSector,
			Type: udev["ID_PART_ENTRY_TYPE"], UUID: udev["ID_PART_ENTRY_UUID"],
			Label: unhex(udev["ID_PART_ENTRY_NAME"]), Content: contentOf(udev)})
	}
	slices.SortFunc(all, func(a, b machine.Partition) int { return a.Number - b.Number })
	return all
}

func contentOf(udev map[string]string) *machine.Content {
	if udev["ID_FS_TYPE"] == "" {
		return nil
	}
	return &machine.Content{Type: udev["ID_FS_TYPE"], UUID: udev["ID_FS_UUID"], Label: unhex(udev["ID_FS_LABEL_ENC"])}
}

// volumeOf tells what a device is made of; nil for a disk in its own right.
func volumeOf(root fs.FS, dir string, udev map[string]string) *machine.Volume {
	v := &machine.Volume{}
	if members, err := fs.ReadDir(root, dir+"/slaves"); err == nil {
		for _, m := range members {
			v.Members = append(v.Members, m.Name())
		}
	}
	switch {
	case text(root, dir+"/md/level") != "":
		v.Kind, v.Level = "raid", text(root, dir+"/md/level")
	case text(root, dir+"/dm/name") != "":
		v.Kind, v.MappedName = "dm", text(root, dir+"/dm/name")
		// A UUID of device mapper begins with who made it: "LVM-…", "CRYPT-LUKS2-…".
		maker, _, _ := strings.Cut(text(root, dir+"/dm/uuid"), "-")
		switch maker {
		case "LVM", "CRYPT":
			v.Kind = strings.ToLower(maker)
		case "mpath":
			v.Kind = maker
		}
	default:
		return nil
	}
	return v
}

// udevOf reads a device's record in udev's database, the lines "E:KEY=VALUE" of
// run/udev/data/bMAJOR:MINOR; none where there is no udev.
func udevOf(root fs.FS, dir string) map[string]string {
	b, err := fs.ReadFile(root, "run/udev/data/b"+text(root, dir+"/dev"))
	if err != nil {
		return nil
	}
	props := map[string]string{}
	for line := range bytes.Lines(b) {
		key, value, ok := strings.Cut(strings.TrimSuffix(string(line), "\n"), "=")
		if key, is := strings.CutPrefix(key, "E:"); is && ok {
			props[key] = value
		}
	}
	return props
}

// unhex resolves udev's \xNN escapes.
func unhex(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if strings.HasPrefix(s[i:], `\x`) && len(s) >= i+4 {
			if n, err := strconv.ParseUint(s[i+2:i+4], 16, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return strings.ToValidUTF8(b.String(), "�")
}

// text is a file's content without the blanks around it; "" where it cannot be read.
func text(root fs.FS, name string) string {
	b, err := fs.ReadFile(root, name)
	if err != nil {
		return ""
	}
	return strings.ToValidUTF8(strings.TrimSpace(string(b)), "�")
}

// number is a file's number; 0 where it cannot be read.
func number(root fs.FS, name string) int64 {
	n, _ := strconv.ParseInt(text(root, name), 10, 64)
	return n
}
