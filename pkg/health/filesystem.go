package health

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/format/record"
)

const (
	// maxMountinfo bounds what is read of mountinfo, in bytes: about 60,000 mounts.
	maxMountinfo = 16 << 20
	maxFstab     = 1 << 20
	// statfsLimit is how long one file system may take to answer, statfsAtOnce
	// how many are asked at a time: a server that is gone takes its file systems
	// with it, not the others.
	statfsLimit  = 3 * time.Second
	statfsAtOnce = 16
)

// pseudo are the types that hold no data of anyone's, keep it in memory, or are
// full by nature. A mount point named in the configuration is looked at whatever
// its type is.
var pseudo = map[string]bool{
	"autofs": true, "binfmt_misc": true, "bpf": true, "cgroup": true, "cgroup2": true, "configfs": true,
	"cramfs": true, "debugfs": true, "devpts": true, "devtmpfs": true, "efivarfs": true, "erofs": true,
	"fuse.gvfsd-fuse": true, "fuse.lxcfs": true, "fuse.portal": true, "fuse.snapfuse": true, "fusectl": true,
	"hugetlbfs": true, "iso9660": true, "mqueue": true, "nsfs": true, "proc": true, "pstore": true,
	"ramfs": true, "resctrl": true, "rpc_pipefs": true, "securityfs": true, "selinuxfs": true,
	"smackfs": true, "squashfs": true, "sysfs": true, "tmpfs": true, "tracefs": true, "udf": true,
}

// collectFilesystems measures every mounted file system.
func collectFilesystems(ctx context.Context, in *input) (*output, error) {
	b, err := readLimited(in.sys.Kernel, "proc/self/mountinfo", maxMountinfo)
	if err != nil {
		return nil, err
	}
	mounts, err := parseMountinfo(b)
	if err != nil {
		return nil, fmt.Errorf("reading proc/self/mountinfo: %w", err)
	}
	out := new(output)
	fstab := map[string]fstabEntry{}
	b, err = readLimited(in.sys.Tree, "etc/fstab", maxFstab)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		out.fault("filesystem", "readonly_expected", err)
	}
	for _, e := range parseFstab(b) {
		fstab[path.Join(in.sys.Path, e.point)] = e
	}
	out.checks = checkMounts(ctx, in, chooseMounts(mounts, in.rules, fstab), fstab)
	for _, point := range missing(in.rules, mounts) {
		out.checks = append(out.checks, record.HealthCheck{
			Name: "filesystem", Object: manifest.Escape(point), Status: record.HealthCrit,
			Summary: "not mounted", Values: map[string]any{},
		})
	}
	slices.SortFunc(out.checks, func(a, b record.HealthCheck) int { return strings.Compare(a.Object, b.Object) })
	return out, nil
}

// chooseMounts picks the mounts to measure: what is visible, each file system
// once (at the place fstab gives it, else where its top is seen, else at the
// shortest path), and every place that the configuration names.
func chooseMounts(mounts []mount, rules *Checks, fstab map[string]fstabEntry) []mount {
	visible := map[string]int{}
	for i, m := range mounts {
		visible[m.point] = i
	}
	type device struct{ major, minor uint32 }
	best := map[device]mount{}
	var chosen []mount
	for i, m := range mounts {
		if _, named := rules.Filesystem[m.point]; visible[m.point] != i || *rules.filesystem(m.point).Disable {
			continue
		} else if named {
			chosen = append(chosen, m)
			continue
		}
		if pseudo[m.fstype] || m.fstype == "overlay" && m.point != "/" {
			continue
		}
		d := device{m.major, m.minor}
		if old, ok := best[d]; !ok || rankMount(&m, fstab).before(rankMount(&old, fstab)) {
			best[d] = m
		}
	}
	for d, m := range best {
		if !slices.ContainsFunc(chosen, func(c mount) bool { return device{c.major, c.minor} == d }) {
			chosen = append(chosen, m)
		}
	}
	slices.SortFunc(chosen, func(a, b mount) int { return strings.Compare(a.point, b.point) })
	return chosen
}

// mountRank orders the places where one file system is seen.
type mountRank struct {
	listed, top bool
	point       string
}

func rankMount(m *mount, fstab map[string]fstabEntry) mountRank {
	_, listed := fstab[m.point]
	return mountRank{listed, m.root == "/", m.point}
}

func (a mountRank) before(b mountRank) bool {
	if a.listed != b.listed {
		return a.listed
	}
	if a.top != b.top {
		return a.top
	}
	if len(a.point) != len(b.point) {
		return len(a.point) < len(b.point)
	}
	return a.point < b.point
}

// missing lists the mount points that must be there and are not.
func missing(rules *Checks, mounts []mount) []string {
	var points []string
	for point := range rules.Filesystem {
		if strings.Contains(point, "*") || !*rules.filesystem(point).Required || *rules.filesystem(point).Disable {
			continue
		}
		if !slices.ContainsFunc(mounts, func(m mount) bool { return m.point == point }) {
			points = append(points, point)
		}
	}
	return points
}

// checkMounts asks the file systems, some at a time, those of this machine first.
func checkMounts(ctx context.Context, in *input, mounts []mount, fstab map[string]fstabEntry) []record.HealthCheck {
	mounts = slices.Clone(mounts)
	slices.SortStableFunc(mounts, func(a, b mount) int {
		switch {
		case a.remote() == b.remote():
			return 0
		case b.remote():
			return -1
		}
		return 1
	})
	checks := make([]record.HealthCheck, len(mounts))
	judge := func(i int, s Space, err error) {
		m := &mounts[i]
		var entry *fstabEntry
		if e, ok := fstab[m.point]; ok {
			entry = &e
		}
		checks[i] = judgeMount(m, entry, in.rules.filesystem(m.point), s, err)
	}
	var wait sync.WaitGroup
	free := make(chan struct{}, statfsAtOnce)
	for i := range mounts {
		select {
		case free <- struct{}{}:
		case <-ctx.Done():
		}
		// Both may have come true; one that is past its time is not to start more.
		if ctx.Err() != nil {
			judge(i, Space{}, errors.New("not asked in time: other file systems did not answer"))
			continue
		}
		wait.Go(func() {
			s, err := within(ctx, statfsLimit, func(context.Context) (Space, error) { return in.sys.Statfs(mounts[i].point) })
			<-free
			judge(i, s, err)
		})
	}
	wait.Wait()
	return checks
}

// judgeMount is the check of one file system; err is why it could not be measured.
func judgeMount(m *mount, entry *fstabEntry, rule FilesystemRule, s Space, err error) record.HealthCheck {
	c := record.HealthCheck{
		Name: "filesystem", Object: manifest.Escape(m.point), Status: record.HealthOK,
		Warn: atLeast(*rule.Warn), Crit: atLeast(*rule.Crit),
		Values: map[string]any{
			"type": clean(m.fstype), "source": manifest.Escape(m.source), "readonly": m.readOnly(), "readonly_expected": nil,
			"size_bytes": nil, "used_bytes": nil, "available_bytes": nil, "used_ratio": nil,
			"inodes": nil, "inodes_used": nil, "inodes_used_ratio": nil,
		},
	}
	j := judgement{check: &c}
	if err != nil {
		status := record.HealthUnknown
		if *rule.Required {
			status = record.HealthCrit
		}
		j.found(status, clean(err.Error()))
	} else {
		j.space(rule, s)
	}
	if entry != nil {
		c.Values["readonly_expected"] = entry.readOnly()
	}
	switch {
	case m.shutDown():
		j.found(record.HealthCrit, "shut itself down after an error")
	case entry != nil && m.readOnly() && !entry.readOnly():
		j.found(record.HealthCrit, "mounted read-only, fstab says read-write")
	}
	j.end()
	return c
}

// space judges how full a file system is and fills in the values.
func (j *judgement) space(rule FilesystemRule, s Space) {
	v := j.check.Values
	used := s.Used()
	v["size_bytes"], v["used_bytes"], v["available_bytes"] = s.Size, s.Size-min(s.Free, s.Size), s.Available
	v["used_ratio"] = round(used)
	j.say("%s used of %s", percent(used), bytesText(s.Size))
	if status := over(used, *rule.Warn, *rule.Crit); status != record.HealthOK {
		j.found(status, fmt.Sprintf("%s used, %s left", percent(used), bytesText(s.Available)))
	}
	inodes, ok := s.InodesUsed()
	if !ok {
		return
	}
	v["inodes"], v["inodes_used"] = s.Inodes, s.Inodes-min(s.InodesFree, s.Inodes)
	v["inodes_used_ratio"] = round(inodes)
	if status := over(inodes, *rule.InodesWarn, *rule.InodesCrit); status != record.HealthOK {
		j.found(status, fmt.Sprintf("%s of the inodes used", percent(inodes)))
	}
}
