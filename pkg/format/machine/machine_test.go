package machine

import (
	"bytes"
	"strings"
	"testing"
)

func full() *Machine {
	return &Machine{Schema: Schema, Hostname: "golden", Arch: "x86_64", Firmware: "uefi",
		Kernel:       &Kernel{Release: "6.1.0", CommandLine: "ro quiet", Installed: []string{"6.1.0"}},
		Distribution: &Distribution{ID: "debian", VersionID: "12", Codename: "bookworm", Name: "Debian GNU/Linux 12"},
		Hardware:     &Hardware{Vendor: "QEMU", Product: "Standard PC", Compatible: []string{"a,b"}, MemoryBytes: 1 << 30},
		Disks: []Disk{{Name: "sda", SizeBytes: 1 << 40, SectorBytes: 512, PhysicalBytes: 4096, Model: "<disk & co>", Rotational: true, Table: "gpt",
			Partitions: []Partition{{Name: "sda1", Number: 1, StartBytes: 1 << 20, SizeBytes: 1 << 30, Content: &Content{Type: "ext4", UUID: "u", Label: "l"}}}},
			{Name: "md0", SizeBytes: 1, Volume: &Volume{Kind: "raid", Level: "raid1", Members: []string{"sda2", "sdb2"}}}},
		FileSystems: []FileSystem{{Source: "/dev/sda1", MountPoint: `/mnt/a\040b`, Type: "ext4", Options: "rw", SizeBytes: 9, FreeBytes: 3}},
		Fstab:       []FstabLine{{Spec: "UUID=u", File: "/", Type: "ext4", Options: "defaults", Pass: 1}},
		Network:     []Interface{{Name: "eth0", MAC: "52:54:00:00:00:01", Driver: "virtio_net", MTU: 1500}},
		Unreadable:  []string{"the partition table: permission denied"}}
}

func TestRoundTrip(t *testing.T) {
	b, err := full().Encode()
	if err != nil {
		t.Fatal(err)
	}
	m, err := Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := m.Encode(); err != nil || !bytes.Equal(again, b) {
		t.Errorf("got %s, %v; want %s", again, err, b)
	}
}

func TestDecodeRefuses(t *testing.T) {
	for _, bad := range []string{
		``, `{}`, `{"schema":"relkit.machine/v2"}`, `{"schema":"relkit.machine/v1","serial":"x"}`,
		`{"schema":"relkit.machine/v1"} x`, `{"schema":"relkit.machine/v1","disks":[{"name":1}]}`,
	} {
		if _, err := Decode([]byte(bad)); err == nil || !strings.HasPrefix(err.Error(), "reading machine description: ") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	b, err := full().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, in []byte) {
		m, err := Decode(in)
		if err != nil {
			return
		}
		one, err := m.Encode()
		if err != nil {
			t.Fatal(err)
		}
		again, err := Decode(one)
		if err != nil {
			t.Fatalf("%s: %v", one, err)
		}
		if two, err := again.Encode(); err != nil || !bytes.Equal(one, two) {
			t.Errorf("%s\nread again is\n%s (%v)", one, two, err)
		}
	})
}
