// Package update applies patches to a machine and takes them back: it decides
// whether a patch may be applied (trust, product, version, model, dependencies),
// drives the transaction, runs the checks, and keeps the audit log.
package update

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/relkit/relkit/pkg/config"
	"github.com/relkit/relkit/pkg/engine/state"
	"github.com/relkit/relkit/pkg/engine/transaction"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/sys/boot"
	"github.com/relkit/relkit/pkg/sys/fsys"
	"github.com/relkit/relkit/pkg/sys/lock"
)

// DefaultState is where the state lies below the root of a target.
const DefaultState = "var/lib/relkit"

// Options say which machine is meant and how it is worked on.
type Options struct {
	// Root is the folder that holds the tree; State the state folder, "" for
	// DefaultState below Root.
	Root, State string
	// DryRun verifies everything and changes nothing.
	DryRun bool
	// Boot is how the machine boots; nil where relkit has no part in that.
	Boot *boot.Setup
	// Jobs is how many files are read at a time.
	Jobs int
	Now  func() time.Time
	// Built is when relkit was built, a time that has passed; zero where nobody knows.
	Built time.Time
	Log   *slog.Logger
	// Progress hears how far an apply is, in bytes; nil for nobody.
	Progress Progress
	// Hold is called before what must not be cut short, and what it returns after;
	// nil for nothing.
	Hold func() (release func())
	// Protected are paths, relative to the root, that no patch may touch, besides
	// relkit's own.
	Protected []string
	// KillAt has the process kill itself (SIGKILL) before that change to the
	// machine; 0 for never. It is how the crash tests reach a real process.
	KillAt int
	// Syslog is the socket of the system's log, Journald that of systemd-journald,
	// "" for the usual ones.
	Syslog, Journald string

	// reading says that nothing is changed or decided: no lock is taken.
	reading bool
}

// Progress hears how far a phase of an apply is, in bytes; total is 0 where
// nobody knows.
type Progress interface {
	Start(total int64, what string)
	Add(n int64)
	Done()
}

type silent struct{}

func (silent) Start(int64, string) {}
func (silent) Add(int64)           {}
func (silent) Done()               {}

func (o *Options) hold() (release func()) {
	if o.Hold == nil {
		return func() {}
	}
	return o.Hold()
}

// flags are the flags that name this machine, for hints.
func (o *Options) flags() string {
	text := ""
	if o.Root != "/" {
		text += " --root " + failure.Word(o.Root)
	}
	if o.State != "" {
		text += " --state " + failure.Word(o.State)
	}
	return text
}

// machine is a target, open and locked.
type machine struct {
	// takenBack counts the patches that the recovery before this run took back.
	takenBack int
	opt       Options
	target    transaction.Target
	// root is the tree itself, which target.Root counts the changes to.
	root  fsys.FS
	locks []*lock.Lock
	// inside is the state folder's path in the tree, "" where it lies elsewhere.
	inside string
	// protected are the paths that no patch may touch.
	protected []string
	open      []fsys.FS
	// conf is the machine.toml of the tree, the zero Machine where confErr says
	// why it cannot be read.
	conf    config.Machine
	confErr error
	// path is the PATH of hooks and of systemctl, "" for searchPath.
	path string
}

// openMachine opens and locks a machine. Nothing is made in it, except the
// state folder unless DryRun is set.
func openMachine(o Options) (m *machine, err error) {
	if o.Progress == nil {
		o.Progress = silent{}
	}
	m = &machine{opt: o}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.Close())
		}
	}()
	if o.Root, err = filepath.Abs(o.Root); err != nil {
		return m, err
	}
	m.opt.Root = o.Root
	if m.root, err = fsys.Open(o.Root); err != nil {
		return m, failure.As(failure.Usage, err)
	}
	m.open = append(m.open, m.root)
	if !o.reading {
		l, err := lock.Tree(o.Root)
		if err != nil {
			return m, err
		}
		m.locks = append(m.locks, l)
	}
	stateFS, err := m.openState()
	if err != nil {
		return m, err
	}
	meter := &fsys.Meter{KillAt: o.KillAt}
	m.target = transaction.Target{
		Root: fsys.Watch(m.root, meter), State: state.New(fsys.Watch(stateFS, meter)), Now: o.Now, Log: o.Log,
		Unprivileged: !fsys.Privileged(), Path: o.Root, Flags: m.opt.flags(),
	}
	m.target.Hooks = undoHooks{m}
	if m.conf, _, m.confErr = m.readMachine(); m.confErr != nil {
		m.conf = config.Machine{}
	}
	m.prepareAudit()
	return m, nil
}

func (m *machine) openState() (fsys.FS, error) {
	path, err := filepath.Abs(m.opt.statePath())
	if err != nil {
		return nil, err
	}
	if err := m.protect(path); err != nil {
		return nil, err
	}
	if err := m.rightState(path); err != nil {
		return nil, err
	}
	f, err := fsys.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		if f, err = m.makeState(path); err != nil || m.opt.DryRun {
			return f, err
		}
	}
	if err != nil {
		return nil, err
	}
	m.open = append(m.open, f)
	if m.opt.DryRun {
		return f, nil
	}
	l, err := lock.Try(filepath.Join(path, "lock"))
	if err != nil {
		return nil, err
	}
	m.locks = append(m.locks, l)
	return f, nil
}

// trustFiles are the files in a tree that say who may change it, and what it is.
var trustFiles = []string{"etc/relkit/allowed_signers", MachineFile}

// protect notes what no patch may touch: the state, by the path given and by
// where links lead, and what trust rests on.
func (m *machine) protect(path string) error {
	m.protected = append(slices.Clone(trustFiles), m.opt.Protected...)
	paths := []string{path}
	root := m.opt.Root
	if real, err := filepath.EvalSymlinks(path); err == nil {
		paths = append(paths, real)
	}
	roots := []string{root}
	if real, err := filepath.EvalSymlinks(root); err == nil {
		roots = append(roots, real)
	}
	for _, p := range paths {
		for _, r := range roots {
			rel, err := filepath.Rel(r, p)
			if err != nil || rel == ".." || strings.HasPrefix(rel, "../") {
				continue
			}
			if rel == "." {
				return failure.Errorf(failure.Usage, "the state folder %q is the root of the target itself", path)
			}
			m.protected = append(m.protected, rel)
			if p == path && r == root {
				m.inside = rel
			}
		}
	}
	return nil
}

// makeState makes the state folder; a dry run gets an empty one in memory.
func (m *machine) makeState(path string) (fsys.FS, error) {
	if m.opt.DryRun {
		return fsys.NewMem().FS(), nil
	}
	if m.inside == "" {
		return fsys.OpenMake(path)
	}
	if err := state.Ensure(m.root, m.inside); err != nil {
		return nil, err
	}
	return fsys.Open(path)
}

// end gives the machine back at the end of a run. That the recovery before it has
// changed the tree is told with what the run failed with.
func (m *machine) end(err *error) {
	*err = errors.Join(*err, m.Close())
	if m.takenBack > 0 && !m.opt.DryRun {
		*err = failure.Changed(*err)
	}
}

// Close publishes what the audit log has gained, and gives the machine back.
func (m *machine) Close() error {
	m.publishAudit()
	var errs []error
	for _, l := range m.locks {
		errs = append(errs, l.Release())
	}
	for _, f := range m.open {
		errs = append(errs, f.Close())
	}
	m.locks, m.open = nil, nil
	return errors.Join(errs...)
}

// Recovered is what a recovery did about one interrupted transaction.
type Recovered struct {
	Transaction string        `json:"transaction"`
	Found       journal.Event `json:"found"`
	Now         journal.Event `json:"now"`
}

// recover finishes or undoes what an interrupted run left.
func (m *machine) recover() ([]Recovered, error) {
	if m.confErr != nil {
		m.opt.Log.Warn("going on without what machine.toml says", "err", m.confErr)
	}
	done, err := transaction.Recover(m.target)
	err = m.refuse(err, journal.AuditLine{})
	var behind error
	if errors.As(err, new(*transaction.Unsettled)) {
		behind, err = err, nil
	}
	if err == nil {
		err = m.withdrawAllAgain()
	}
	if err == nil {
		err = m.undoPreRollbacks()
	}
	if err == nil {
		err = m.startStopped()
	}
	var out []Recovered
	for _, r := range done {
		if changesTree(r.Found) {
			m.takenBack++
		}
		out = append(out, Recovered{Transaction: r.ID, Found: r.Found, Now: r.Now})
		if r.Found != "" {
			m.opt.Log.Warn("an interrupted run was cleaned up"+becomes(r), "transaction", r.ID, "was", r.Found, "is", r.Now)
		}
	}
	return out, errors.Join(err, behind)
}

// allTheSame is err, nil where the recovery before has done all but tell of it: what
// brings a machine back, or makes room, goes on.
func (m *machine) allTheSame(err error) error {
	if !errors.As(err, new(*transaction.Unsettled)) {
		return err
	}
	m.opt.Log.Warn("going on", "err", err)
	return nil
}

// changesTree tells whether the recovery of a transaction found so takes back what
// was to be seen in the tree.
func changesTree(found journal.Event) bool {
	switch found {
	case journal.Committing, journal.Committed, journal.Undoing, journal.Rollback:
		return true
	}
	return false
}

// becomes says what the recovery of a transaction has made of the tree, for a message.
func becomes(r transaction.Recovered) string {
	switch b := r.Begin; {
	case !changesTree(r.Found) || b == nil:
		return ""
	case b.From == nil || b.To == nil || b.From.Version == "" || *b.From == *b.To:
		return fmt.Sprintf(": patch %s is taken back", b.PatchID)
	default:
		return fmt.Sprintf(": patch %s is taken back, %s %s is %s again", b.PatchID, b.To.Product, b.To.Version, b.From.Version)
	}
}

// interrupted are the transactions that a recovery would finish or undo.
func interrupted(all []*state.Transaction) (found []Recovered) {
	for _, t := range all {
		if !t.Closed() && !t.Pending() {
			found = append(found, Recovered{Transaction: t.ID, Found: t.Status(), Now: t.Status()})
		}
	}
	return found
}

// recoverFirst cleans up before anything else is decided. A dry run, which must
// not, says that the tree it looks at is not the one that a run would.
func (m *machine) recoverFirst() error {
	if m.opt.DryRun {
		all, err := m.target.State.Transactions()
		for _, t := range interrupted(all) {
			if changesTree(t.Found) {
				m.takenBack++
			}
			m.opt.Log.Warn("an interrupted run is there, which is cleaned up before anything else: what follows is of the tree as it is now",
				"transaction", t.Transaction, "is", t.Found)
		}
		return err
	}
	defer m.opt.hold()()
	_, err := m.recover()
	return err
}

// Recover opens a machine and finishes or undoes what an interrupted run left.
func Recover(_ context.Context, o Options) (done []Recovered, err error) {
	m, err := openMachine(o)
	if err != nil {
		return nil, err
	}
	defer m.end(&err)
	if o.DryRun {
		all, err := m.target.State.Transactions()
		return interrupted(all), err
	}
	defer o.hold()()
	return m.recover()
}
