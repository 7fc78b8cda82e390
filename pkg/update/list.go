package update

import (
	"context"
	"time"

	"github.com/relkit/relkit/pkg/engine/state"
	"github.com/relkit/relkit/pkg/engine/transaction"
	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// ListSchema is the schema of List.
const ListSchema = "relkit.transactions/v1"

// List is relkit.transactions/v1: what was done to a machine, and what can be taken back.
type List struct {
	Schema       string          `json:"schema"`
	Installed    journal.Version `json:"installed"`
	Transactions []Transaction   `json:"transactions"`
	// KeptBytes and KeptInodes are what all rollback copies take together.
	KeptBytes  int64 `json:"kept_bytes"`
	KeptInodes int64 `json:"kept_inodes"`
}

// Transaction is one transaction as List shows it.
type Transaction struct {
	ID     string        `json:"transaction"`
	Patch  string        `json:"patch"`
	Digest digest.Digest `json:"digest"`
	From   string        `json:"from"`
	To     string        `json:"to"`
	Status journal.Event `json:"status"`
	Time   time.Time     `json:"time"`
	// Kept tells whether it can be taken back. KeptBytes and KeptInodes are what
	// its slots take on the disks: as allocated, not as long.
	Kept bool `json:"kept"`
	// Again tells whether it was taken back and can be applied again as it is kept.
	Again      bool  `json:"again,omitempty"`
	KeptBytes  int64 `json:"kept_bytes"`
	KeptInodes int64 `json:"kept_inodes"`
}

// ListTransactions lists what was done to a machine, oldest first.
func ListTransactions(_ context.Context, o Options) (list *List, err error) {
	o.DryRun, o.reading = true, true
	m, err := openMachine(o)
	if err != nil {
		return nil, err
	}
	defer m.end(&err)
	list = &List{Schema: ListSchema, Transactions: []Transaction{}}
	if list.Installed, err = m.target.State.Version(); err != nil {
		return nil, err
	}
	all, err := m.target.State.Transactions()
	if err != nil {
		return nil, err
	}
	for _, t := range all {
		if t.Status() == "" {
			continue
		}
		l, err := m.describe(t)
		if err != nil {
			return nil, err
		}
		list.Transactions = append(list.Transactions, l)
		list.KeptBytes += l.KeptBytes
		list.KeptInodes += l.KeptInodes
	}
	return list, nil
}

func (m *machine) describe(t *state.Transaction) (Transaction, error) {
	begin := t.Find(journal.Begin)
	l := Transaction{
		ID: t.ID, Patch: begin.PatchID, Digest: begin.Patch, Status: outcome(t), Again: t.TakenBack(),
		Kept: t.Active() || awaits(t) || t.Status() == journal.Withdrawn,
		Time: t.Records[len(t.Records)-1].Time,
	}
	if begin.From != nil {
		l.From = begin.From.Version
	}
	if begin.To != nil {
		l.To = begin.To.Version
	}
	c, err := m.cost(t)
	l.KeptBytes, l.KeptInodes = c.bytes, c.inodes
	return l, err
}

// outcome is the last event that is of interest: not that of removing what was kept.
func outcome(t *state.Transaction) journal.Event {
	for i := len(t.Records) - 1; i > 0; i-- {
		switch e := t.Records[i].Event; e {
		case journal.Freeing, journal.Freed, journal.Hook:
		default:
			return e
		}
	}
	return journal.Begin
}

// cost is what files take on a disk.
type cost struct{ bytes, inodes int64 }

// cost is what the slots of a transaction take.
func (m *machine) cost(t *state.Transaction) (cost, error) {
	c := costing{fs: m.root, seen: map[[2]uint64]bool{}}
	for _, top := range t.Records[0].Tops {
		path, err := manifest.Unescape(top.Path)
		if err == nil {
			err = c.add(transaction.SlotDir(path, t.Slot()))
		}
		if err != nil {
			return c.cost, err
		}
	}
	return c.cost, nil
}

// costing adds up what inodes take, each once, whatever its names.
type costing struct {
	fs   fsys.FS
	seen map[[2]uint64]bool // by device and number
	cost
}

// add adds name and all below it; nothing where there is none.
func (c *costing) add(name string) error {
	info, err := c.fs.Lstat(name)
	if fsys.IsAbsent(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if key := [2]uint64{info.Dev, info.Ino}; !c.seen[key] {
		c.seen[key] = true
		c.bytes += info.Allocated
		c.inodes++
	}
	if info.Kind != manifest.Dir {
		return nil
	}
	names, err := c.fs.ReadDir(name)
	if err != nil {
		return err
	}
	for _, n := range names {
		if err := c.add(name + "/" + n); err != nil {
			return err
		}
	}
	return nil
}
