package fsys

import (
	"fmt"
	"math/rand/v2"
	"slices"
)

// Keep says which of the changes not yet on the disk outlive a power cut.
type Keep uint8

const (
	// KeepNone loses all of them.
	KeepNone Keep = iota
	// KeepAll loses none.
	KeepAll
	// KeepPrefix keeps a random number of the oldest; a write at the edge is torn.
	KeepPrefix
	// KeepSubset keeps a random choice, closed under what needs what; a write may
	// be whole, lost, torn, or as zeros.
	KeepSubset
)

// Policy is what a power cut does; equal policies do equal things.
type Policy struct {
	Keep Keep
	Seed uint64
}

// String names the policy so that a failing test can be repeated.
func (p Policy) String() string {
	switch p.Keep {
	case KeepNone:
		return "none"
	case KeepAll:
		return "all"
	case KeepPrefix:
		return fmt.Sprintf("prefix(%d)", p.Seed)
	case KeepSubset:
		return fmt.Sprintf("subset(%d)", p.Seed)
	}
	return "?"
}

// Pending is the number of changes that are not on the disk.
func (m *Mem) Pending() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for _, v := range m.volumes {
		for _, o := range v.log {
			if !o.durable {
				n++
			}
		}
	}
	return n
}

// Crash is the machine that comes up after a power cut now. The machine itself
// goes on unharmed, so one run can be crashed in many ways. With KeepAll, Crash
// is a copy.
func (m *Mem) Crash(p Policy) *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := &Mem{mounts: map[mountPoint]*mounted{}, clock: m.clock, noExchange: m.noExchange, noLink: m.noLink, likeXFS: m.likeXFS}
	c.clock.Sec++
	random := rand.New(rand.NewPCG(p.Seed, 0x72656c6b6974))
	heir := map[*volume]*volume{}
	for _, v := range m.volumes {
		w := v.crash(p.Keep, random)
		heir[v] = w
		c.volumes = append(c.volumes, w)
	}
	for at, mnt := range m.mounts {
		if heir[at.on].now.nodes[at.dir] != nil && heir[mnt.vol].now.nodes[mnt.root] != nil {
			c.mounts[mountPoint{heir[at.on], at.dir}] = &mounted{vol: heir[mnt.vol], root: mnt.root, id: mnt.id}
		}
	}
	return c
}

func (v *volume) crash(keep Keep, random *rand.Rand) *volume {
	disk := v.disk.clone()
	for _, o := range choose(v.log, keep, random) {
		disk.apply(o)
	}
	disk.sweep()
	w := &volume{dev: v.dev, disk: disk, now: disk.clone(), nextID: v.nextID, free: slices.Clone(v.free), limited: v.limited, limit: v.limit, ro: v.bootRO, bootRO: v.bootRO, fat: v.fat, overlay: v.overlay}
	if w.fat {
		w.renumber()
	}
	w.forget()
	return w
}

// choose is what of log survives, in order.
func choose(log []*op, keep Keep, random *rand.Rand) []*op {
	edge := 0
	switch keep {
	case KeepAll:
		return log
	case KeepPrefix:
		edge = random.IntN(len(log) + 1)
	}
	var kept []*op
	lost := map[*op]bool{}
	for i, o := range log {
		survivor := o
		switch {
		case o.durable:
		case slices.ContainsFunc(o.needs, func(n *op) bool { return lost[n] }):
			survivor = nil
		case keep == KeepSubset:
			survivor = fate(o, random)
		case i == edge && keep == KeepPrefix:
			survivor = torn(o, random)
		case i >= edge:
			survivor = nil
		}
		if survivor == nil {
			lost[o] = true
			continue
		}
		kept = append(kept, survivor)
	}
	return kept
}

// fate is what becomes of one operation: itself, nil or, for a write, less.
func fate(o *op, random *rand.Rand) *op {
	switch random.IntN(8) {
	case 0, 1, 2:
		return nil
	case 3:
		return torn(o, random)
	case 4:
		return zeroed(o)
	}
	return o
}

// sector is what a disk writes as a whole, in bytes.
const sector = 512

// torn is the beginning of a write; any other operation is lost.
func torn(o *op, random *rand.Rand) *op {
	if len(o.write) == 0 {
		return nil
	}
	t := *o
	n := random.IntN(len(o.write) + 1)
	if o.over {
		n = max(0, n-int((o.off+int64(n))%sector))
	}
	t.write = o.write[:n]
	return &t
}

// zeroed is a write whose length is on the disk and whose bytes are not.
func zeroed(o *op) *op {
	if len(o.write) == 0 || o.over {
		return o
	}
	z := *o
	z.write = make([]byte, len(o.write))
	return &z
}
