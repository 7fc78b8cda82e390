package tree

import (
	"bufio"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// notKept tells whether a file system type holds nothing that belongs to the
// machine's own disks: it is the kernel's, in memory, another machine's, a
// medium's, or a second view of files that are on the disks anyway.
func notKept(fstype string) bool {
	switch fstype {
	case "autofs", "binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "debugfs", "devpts", "devtmpfs",
		"efivarfs", "fusectl", "hugetlbfs", "mqueue", "nsfs", "proc", "pstore", "ramfs", "rpc_pipefs",
		"securityfs", "selinuxfs", "sysfs", "tmpfs", "tracefs",
		"aufs", "iso9660", "overlay", "squashfs", "udf",
		"9p", "afs", "ceph", "cifs", "glusterfs", "lustre", "nfs", "nfs4", "smb3", "virtiofs":
		return true
	}
	return strings.HasPrefix(fstype, "fuse.")
}

// MountTypes reads the running kernel's mount table for Options.FSType. Where
// it cannot be read nothing is known.
func MountTypes() func(dev uint64) string {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return func(uint64) string { return "" }
	}
	defer f.Close()
	types := parseMountTypes(f)
	return func(dev uint64) string { return types[dev] }
}

// parseMountTypes reads proc(5)'s mountinfo: field 3 is MAJOR:MINOR, and the
// type follows the lone dash.
func parseMountTypes(r io.Reader) map[uint64]string {
	types := map[uint64]string{}
	for s := bufio.NewScanner(r); s.Scan(); {
		before, after, _ := strings.Cut(s.Text(), " - ")
		fields, kind := strings.Fields(before), strings.Fields(after)
		if len(fields) < 3 || len(kind) == 0 {
			continue
		}
		major, minor, _ := strings.Cut(fields[2], ":")
		ma, err1 := strconv.ParseUint(major, 10, 32)
		mi, err2 := strconv.ParseUint(minor, 10, 32)
		if err1 == nil && err2 == nil {
			types[unix.Mkdev(uint32(ma), uint32(mi))] = kind[0]
		}
	}
	return types
}
