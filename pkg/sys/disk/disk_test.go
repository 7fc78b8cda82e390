package disk

import (
	"errors"
	"os"
	"reflect"
	"testing"
	"testing/fstest"

	"github.com/relkit/relkit/pkg/format/machine"
	"github.com/relkit/relkit/pkg/relkittest"
)

func files(m map[string]string) fstest.MapFS {
	out := fstest.MapFS{}
	for name, content := range m {
		out[name] = &fstest.MapFile{Data: []byte(content)}
	}
	return out
}

func TestDisks(t *testing.T) {
	root := files(map[string]string{
		"sys/block/nvme0n1/size":                      "2000\n",
		"sys/block/nvme0n1/dev":                       "259:0\n",
		"sys/block/nvme0n1/queue/logical_block_size":  "4096\n",
		"sys/block/nvme0n1/queue/physical_block_size": "4096\n",
		"sys/block/nvme0n1/device/model":              "Fast SSD   \n",
		"sys/block/nvme0n1/nvme0n1p10/partition":      "10\n",
		"sys/block/nvme0n1/nvme0n1p10/start":          "1000\n",
		"sys/block/nvme0n1/nvme0n1p10/size":           "500\n",
		"sys/block/nvme0n1/nvme0n1p10/dev":            "259:10\n",
		"sys/block/nvme0n1/nvme0n1p2/partition":       "2\n",
		"sys/block/nvme0n1/nvme0n1p2/start":           "8\n",
		"sys/block/nvme0n1/nvme0n1p2/size":            "100\n",
		"run/udev/data/b259:0":                        "S:disk/by-id/x\nE:ID_PART_TABLE_TYPE=gpt\n",
		"run/udev/data/b259:10":                       "E:ID_FS_TYPE=ext4\nE:ID_FS_UUID=1-2\nE:ID_FS_LABEL_ENC=a\\x20b\nE:ID_PART_ENTRY_NAME=root\\x20fs\nE:ID_PART_ENTRY_TYPE=0fc6\nE:ID_PART_ENTRY_UUID=pu\n",
		"sys/block/dm-0/size":                         "10\n",
		"sys/block/dm-0/dm/name":                      "vg-root\n",
		"sys/block/dm-0/dm/uuid":                      "LVM-abc\n",
		"sys/block/dm-0/slaves/nvme0n1p2/x":           "",
		"sys/block/md1/size":                          "20\n",
		"sys/block/md1/md/level":                      "raid1\n",
		"sys/block/md1/queue/rotational":              "1\n",
		"sys/block/loop0/size":                        "100\n",
		"sys/block/sdz/size":                          "0\n",
	})
	got, err := Disks(root)
	if err != nil {
		t.Fatal(err)
	}
	want := []machine.Disk{
		{Name: "dm-0", SizeBytes: 5120, Volume: &machine.Volume{Kind: "lvm", MappedName: "vg-root", Members: []string{"nvme0n1p2"}}},
		{Name: "md1", SizeBytes: 10240, Rotational: true, Volume: &machine.Volume{Kind: "raid", Level: "raid1"}},
		{Name: "nvme0n1", SizeBytes: 1024000, SectorBytes: 4096, PhysicalBytes: 4096, Model: "Fast SSD", Table: "gpt", Partitions: []machine.Partition{
			{Name: "nvme0n1p2", Number: 2, StartBytes: 4096, SizeBytes: 51200},
			{Name: "nvme0n1p10", Number: 10, StartBytes: 512000, SizeBytes: 256000, Type: "0fc6", UUID: "pu", Label: "root fs",
				Content: &machine.Content{Type: "ext4", UUID: "1-2", Label: "a b"}},
		}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if _, err := Disks(files(nil)); err == nil {
		t.Error("no /sys, and no error")
	}
}

// TestDisksHere reads the machine that runs the test, whatever it is.
func TestDisksHere(t *testing.T) {
	disks, err := Disks(os.DirFS("/"))
	if err != nil {
		relkittest.Skip(t, "no /sys here: %v", err)
	}
	for _, d := range disks {
		if d.SizeBytes <= 0 || d.Name == "" {
			t.Errorf("a disk without size or name: %+v", d)
		}
	}
}

func TestMounts(t *testing.T) {
	root := files(map[string]string{"proc/self/mounts": `proc /proc proc rw 0 0
/dev/sda1 / ext4 rw,noatime 0 0
/dev/sdb1 /mnt/a\040b xfs ro 0 0
/dev/sdc1 /srv ext4 rw 0 0
tmpfs /srv tmpfs rw 0 0
bad
`})
	space := func(path string) (int64, int64, error) {
		if path == "/mnt/a b" {
			return 0, 0, errors.New("gone")
		}
		return 100, 40, nil
	}
	got, err := Mounts(root, space)
	if err != nil {
		t.Fatal(err)
	}
	want := []machine.FileSystem{
		{Source: "/dev/sda1", MountPoint: "/", Type: "ext4", Options: "rw,noatime", SizeBytes: 100, FreeBytes: 40},
		{Source: "/dev/sdb1", MountPoint: `/mnt/a\040b`, Type: "xfs", Options: "ro"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if size, free, err := Space("/"); err != nil || size <= 0 || free > size {
		t.Errorf("the room at /: %d, %d, %v", size, free, err)
	}
}

func TestFstab(t *testing.T) {
	root := files(map[string]string{"etc/fstab": "# comment\n\nUUID=1 / ext4 errors=remount-ro 0 1\nLABEL=s none swap\n/dev/x /a\\040b xfs noauto 0\n"})
	got, err := Fstab(root)
	want := []machine.FstabLine{
		{Spec: "UUID=1", File: "/", Type: "ext4", Options: "errors=remount-ro", Pass: 1},
		{Spec: "LABEL=s", File: "none", Type: "swap", Options: "defaults"},
		{Spec: "/dev/x", File: `/a\040b`, Type: "xfs", Options: "noauto"},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
}
