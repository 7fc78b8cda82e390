// Package machine is the written form of a machine's description: what a golden
// machine was, for whoever installs others like it. The page is
// relkit-machine(5).
//
// A field that could not be read is absent, and Unreadable says why; nothing is
// guessed. No serial number, UUID of the board or IP address is kept: a
// description is of a kind of machine.
package machine

import (
	"fmt"

	"github.com/relkit/relkit/pkg/format/strict"
)

// Schema names the document.
const Schema = "relkit.machine/v1"

// MaxSize bounds a description, in bytes.
const MaxSize = 16 << 20

// Machine is machine.json.
type Machine struct {
	Schema   string `json:"schema"`
	Hostname string `json:"hostname,omitempty"`
	// Arch is the machine's as uname(1) -m has it, such as x86_64.
	Arch string `json:"arch,omitempty"`
	// Firmware is "uefi" or "bios", of a running machine.
	Firmware     string        `json:"firmware,omitempty"`
	Kernel       *Kernel       `json:"kernel,omitempty"`
	Distribution *Distribution `json:"distribution,omitempty"`
	Hardware     *Hardware     `json:"hardware,omitempty"`
	// Disks are whole disks, sorted by name; loop devices and the like are none.
	Disks []Disk `json:"disks,omitempty"`
	// FileSystems is what is mounted from disks; Fstab is what fstab(5) says.
	FileSystems []FileSystem `json:"file_systems,omitempty"`
	Fstab       []FstabLine  `json:"fstab,omitempty"`
	Network     []Interface  `json:"network,omitempty"`
	// Unreadable says, for a person, what is missing here and why.
	Unreadable []string `json:"unreadable,omitempty"`
}

// Kernel is the one that runs and those installed under lib/modules.
type Kernel struct {
	Release     string   `json:"release,omitempty"`
	CommandLine string   `json:"command_line,omitempty"`
	Installed   []string `json:"installed,omitempty"`
}

// Distribution is what os-release(5) says.
type Distribution struct {
	ID        string `json:"id"`
	VersionID string `json:"version_id,omitempty"`
	Codename  string `json:"codename,omitempty"`
	Name      string `json:"name,omitempty"`
}

// Hardware is what the firmware says of the model (SMBIOS, or a device tree's
// model and compatible).
type Hardware struct {
	Vendor     string   `json:"vendor,omitempty"`
	Product    string   `json:"product,omitempty"`
	Version    string   `json:"version,omitempty"`
	Board      string   `json:"board,omitempty"`
	BIOS       string   `json:"bios,omitempty"`
	Compatible []string `json:"compatible,omitempty"`
	// MemoryBytes is what the kernel has to give (MemTotal).
	MemoryBytes int64 `json:"memory_bytes,omitempty"`
}

// Disk is a whole disk.
type Disk struct {
	Name      string `json:"name"` // "sda", "nvme0n1"
	SizeBytes int64  `json:"size_bytes"`
	// SectorBytes and PhysicalBytes are the logical and physical block sizes.
	SectorBytes   int64  `json:"sector_bytes,omitempty"`
	PhysicalBytes int64  `json:"physical_bytes,omitempty"`
	Model         string `json:"model,omitempty"`
	Rotational    bool   `json:"rotational,omitempty"`
	Removable     bool   `json:"removable,omitempty"`
	ReadOnly      bool   `json:"read_only,omitempty"`
	// Table is the kind of partition table, "gpt" or "dos".
	Table      string      `json:"table,omitempty"`
	Partitions []Partition `json:"partitions,omitempty"`
	// Content is what is on a disk that is not partitioned.
	Content *Content `json:"content,omitempty"`
	// Volume is set for a device made of others: device mapper, RAID.
	Volume *Volume `json:"volume,omitempty"`
}

// Partition is one of a disk's.
type Partition struct {
	Name       string `json:"name"`
	Number     int    `json:"number"`
	StartBytes int64  `json:"start_bytes"`
	SizeBytes  int64  `json:"size_bytes"`
	// Type and UUID are GPT's GUIDs, or 0x83 and the like with dos.
	Type    string   `json:"type,omitempty"`
	UUID    string   `json:"uuid,omitempty"`
	Label   string   `json:"label,omitempty"`
	Content *Content `json:"content,omitempty"`
}

// Content is what blkid(8) finds on a device.
type Content struct {
	Type  string `json:"type"` // "ext4", "swap", "crypto_LUKS", "LVM2_member"
	UUID  string `json:"uuid,omitempty"`
	Label string `json:"label,omitempty"`
}

// Volume says what a device is made of.
type Volume struct {
	// Kind is "raid" with its Level, or device mapper's: "lvm", "crypt", "mpath", "dm".
	Kind  string `json:"kind"`
	Level string `json:"level,omitempty"`
	// MappedName is its name under /dev/mapper.
	MappedName string   `json:"mapped_name,omitempty"`
	Members    []string `json:"members,omitempty"`
}

// FileSystem is one that is mounted. Paths are escaped as manifest.Escape does.
type FileSystem struct {
	Source     string `json:"source"`
	MountPoint string `json:"mount_point"`
	Type       string `json:"type"`
	Options    string `json:"options,omitempty"`
	SizeBytes  int64  `json:"size_bytes,omitempty"`
	FreeBytes  int64  `json:"free_bytes,omitempty"`
}

// FstabLine is a line of fstab(5), its fields as they stand there.
type FstabLine struct {
	Spec    string `json:"spec"`
	File    string `json:"file"`
	Type    string `json:"type"`
	Options string `json:"options"`
	Freq    int    `json:"freq"`
	Pass    int    `json:"pass"`
}

// Interface is a network interface of the machine's own.
type Interface struct {
	Name   string `json:"name"`
	MAC    string `json:"mac,omitempty"`
	Driver string `json:"driver,omitempty"`
	MTU    int    `json:"mtu,omitempty"`
	// Virtual is set where no device is behind it: a bridge, a bond, a tunnel.
	Virtual bool `json:"virtual,omitempty"`
}

// Encode writes the document; equal descriptions give equal bytes.
func (m *Machine) Encode() ([]byte, error) {
	b, err := strict.Encode(m)
	if err != nil {
		return nil, fmt.Errorf("writing machine description: %w", err)
	}
	if len(b) > MaxSize {
		return nil, fmt.Errorf("writing machine description: %d bytes, at most %d", len(b), MaxSize)
	}
	return b, nil
}

// Decode reads a document. Unknown fields are errors, with their offset.
func Decode(b []byte) (*Machine, error) {
	m := new(Machine)
	if err := strict.Decode(b, MaxSize, m); err != nil {
		return nil, fmt.Errorf("reading machine description: %w", err)
	}
	if m.Schema != Schema {
		return nil, fmt.Errorf("reading machine description: schema %q, want %q", m.Schema, Schema)
	}
	return m, nil
}
