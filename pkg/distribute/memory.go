package distribute

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/relkit/relkit/pkg/engine/state"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/channel"
	"github.com/relkit/relkit/pkg/format/journal"
	"github.com/relkit/relkit/pkg/sys/fsys"
	"github.com/relkit/relkit/pkg/sys/lock"
)

// channelsDir is the folder under the state that holds a channel.Seen each.
const channelsDir = "channels"

// readVersion is what is installed; the zero Version where nothing says so.
func readVersion(dir string) (journal.Version, error) {
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return journal.Version{}, nil
	}
	f, err := fsys.Open(dir)
	if err != nil {
		return journal.Version{}, err
	}
	v, err := state.New(f).Version()
	return v, errors.Join(err, f.Close())
}

// knowsChannel tells whether a channel of the name has been seen, of any product.
func knowsChannel(state, name string) bool {
	// Where the folder cannot be read, nothing was ever written there.
	entries, _ := os.ReadDir(filepath.Join(state, channelsDir))
	return slices.ContainsFunc(entries, func(e os.DirEntry) bool { return strings.HasSuffix(e.Name(), "@"+name+".json") })
}

// memory is what the machine remembers of one channel.
type memory struct {
	state, product, channel string
	dry                     bool
}

func (m memory) dir() string  { return filepath.Join(m.state, channelsDir) }
func (m memory) path() string { return filepath.Join(m.dir(), channel.SeenName(m.product, m.channel)) }

// lock keeps a second fetch of the channel out; in cron that one just ends.
func (m memory) lock() (unlock func(), err error) {
	if m.dry {
		return func() {}, nil
	}
	if err := os.MkdirAll(m.dir(), 0o755); err != nil {
		return nil, err
	}
	l, err := lock.Try(m.path() + ".lock")
	if err != nil {
		return nil, err
	}
	return func() { _ = l.Release() }, nil
}

// load reads it; nil where the channel has not been seen. A file that cannot be
// read is an error: without it an old channel would pass for new.
func (m memory) load() (*channel.Seen, error) {
	f, err := os.Open(m.path())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, channel.MaxSeen+1))
	if err != nil {
		return nil, err
	}
	seen, err := channel.ParseSeen(b)
	if err == nil && (seen.Product != m.product || seen.Channel != m.channel) {
		err = fmt.Errorf("it is about %s of %s", seen.Channel, seen.Product)
	}
	if err != nil {
		return nil, failure.WithHint(fmt.Errorf("reading %q: %w", m.path(), err), "rm %s  # makes this machine forget what it has seen of the channel", failure.Word(m.path()))
	}
	return seen, nil
}

// save writes what is new, whole and durably.
func (m memory) save(old, next *channel.Seen) error {
	if m.dry || old != nil && *old == *next {
		return nil
	}
	b, err := next.Encode()
	if err != nil {
		return err
	}
	out, err := fsys.NewAtomic(m.path(), 0o644)
	if err != nil {
		return err
	}
	defer out.Abort()
	if _, err := out.Write(b); err != nil {
		return err
	}
	return out.Commit()
}

// noteForced has the audit log say that the rollout's share was ignored.
func noteForced(o FetchOptions, f *Fetched) error {
	l, err := lock.Try(filepath.Join(o.State, "lock"))
	if err != nil {
		return err
	}
	defer func() { _ = l.Release() }()
	dir, err := fsys.OpenMake(o.State)
	if err != nil {
		return err
	}
	line := journal.AuditLine{Time: o.now().UTC(), Event: "fetched", Insecure: []string{"force"}, Reason: "from " + f.Source,
		From: &journal.Version{Product: f.Product, Version: f.Installed}, To: &journal.Version{Product: f.Product, Version: f.Target}}
	return errors.Join(state.New(dir).Note(line), dir.Close())
}
