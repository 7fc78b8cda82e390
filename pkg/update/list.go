package update

import (
	"context"
	"errors"
	"io/fs"
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
	// Kept tells whether it can be taken back; KeptBytes is what that costs.
	Kept      bool  `json:"kept"`
	KeptBytes int64 `json:"kept_bytes"`
}

// ListTransactions lists what was done to a machine, oldest first.
func ListTransactions(_ context.Context, o Options) (list *List, err error) {
	o.DryRun, o.reading = true, true
	m, err := openMachine(o)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
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
	}
	return list, nil
}

func (m *machine) describe(t *state.Transaction) (Transaction, error) {
	begin := t.Find(journal.Begin)
	l := Transaction{
		ID: t.ID, Patch: begin.PatchID, Digest: begin.Patch, Status: t.Status(), Kept: t.Active(),
		Time: t.Records[len(t.Records)-1].Time,
	}
	if begin.From != nil {
		l.From = begin.From.Version
	}
	if begin.To != nil {
		l.To = begin.To.Version
	}
	if t.Status() == journal.Freed {
		l.Status = t.Records[len(t.Records)-2].Event
	}
	for _, top := range begin.Tops {
		path, err := manifest.Unescape(top.Path)
		if err != nil {
			return l, err
		}
		n, err := size(m.root, transaction.SlotDir(path, t.Slot()))
		if err != nil {
			return l, err
		}
		l.KeptBytes += n
	}
	return l, nil
}

// size adds up the files below a folder; 0 where there is none.
func size(f fsys.FS, name string) (int64, error) {
	info, err := f.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil || info.Kind != manifest.Dir {
		return info.Size, err
	}
	names, err := f.ReadDir(name)
	if err != nil {
		return 0, err
	}
	var sum int64
	for _, n := range names {
		s, err := size(f, name+"/"+n)
		if err != nil {
			return 0, err
		}
		sum += s
	}
	return sum, nil
}

// Prune gives up the rollback copies of all but the newest keep applied
// patches, oldest first, and returns the transactions it freed.
func Prune(_ context.Context, o Options, keep int) (freed []string, err error) {
	m, err := openMachine(o)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	if err := m.recoverFirst(); err != nil {
		return nil, err
	}
	all, err := m.target.State.Transactions()
	if err != nil {
		return nil, err
	}
	var active []*state.Transaction
	for _, t := range all {
		if t.Active() {
			active = append(active, t)
		}
	}
	defer o.hold()()
	for i := 0; i < len(active)-keep; i++ {
		if !o.DryRun {
			if err := transaction.Free(m.target, active[i]); err != nil {
				return freed, err
			}
		}
		freed = append(freed, active[i].ID)
	}
	return freed, nil
}
