package build

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/relkit/relkit/pkg/build/notify"
	"github.com/relkit/relkit/pkg/config"
	"github.com/relkit/relkit/pkg/format/record"
	"github.com/relkit/relkit/pkg/format/testresult"
	"github.com/relkit/relkit/pkg/sys/lock"
)

const (
	// notifyDir is what is still to be told.
	notifyDir = "notify"
	// toldFile, beside a builder's builds, is the number of the newest build that
	// [[notify]] has been asked about.
	toldFile = ".told"
	// maxRow bounds how far back the beginning of a row of failures is looked for.
	maxRow = 200
)

// newSpool is what a run tells through.
func (r *runner) newSpool() *notify.Spool {
	s := notify.Open(filepath.Join(r.p.state.dir, notifyDir), r.p.cfg.Notify,
		notify.Options{Dir: r.p.dir, LookupEnv: r.opt.LookupEnv, Env: environ(r.base())})
	s.Hold, s.HoldFor = r.holds, r.opt.hold
	return s
}

// deliverHeld delivers now and then what waits for others, which may hang; stop
// ends that.
func (r *runner) deliverHeld(ctx context.Context) (stop func()) {
	every := r.opt.hold
	if every == 0 {
		every = notify.MaxHold
	}
	ctx, cancel := context.WithCancel(ctx)
	var wait sync.WaitGroup
	wait.Go(func() {
		tick := time.NewTicker(every/10 + 1)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				r.deliver(ctx)
			}
		}
	})
	return func() { cancel(); wait.Wait() }
}

// mailLock is held while a run builds cells of a builder, whose mails wait for the
// last of them: also those that another run could deliver.
func (s state) mailLock(builder string) string {
	return filepath.Join(s.dir, locksDir, ".mails-"+builder) // no builder's name begins with a dot
}

// enter notes that a run is going to build cells.
func (r *runner) enter(cells []Cell) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.left, r.mails = map[string]int{}, map[string]*lock.Lock{}
	for i := range cells {
		r.left[cells[i].builder.Name]++
	}
	if !slices.ContainsFunc(r.p.cfg.Notify, func(n config.Notify) bool { return n.Mail != "" || n.Sendmail }) {
		return
	}
	for name, n := range r.left {
		if n < 2 || os.MkdirAll(filepath.Join(r.p.state.dir, locksDir), 0o755) != nil {
			continue
		}
		if l, err := lock.Try(r.p.state.mailLock(name)); err == nil { // or the run that has it delivers this one's too
			r.mails[name] = l
		}
	}
}

// leave notes that a cell has ended; what is to be told by mail of its builder is
// told when the last has.
func (r *runner) leave(ctx context.Context, c *Cell) {
	name := c.builder.Name
	r.mu.Lock()
	r.left[name]--
	last := r.left[name] == 0
	if l := r.mails[name]; last && l != nil {
		_ = l.Release()
		delete(r.mails, name)
	}
	r.mu.Unlock()
	if last {
		r.deliver(ctx)
	}
}

// holds tells whether this run or another is to build more cells of a builder.
func (r *runner) holds(builder string) bool {
	r.mu.Lock()
	mine := r.left[builder] > 0
	r.mu.Unlock()
	if mine {
		return true
	}
	held, err := lock.Held(r.p.state.mailLock(builder))
	return held && err == nil
}

// announce queues what is to be told of the builds of a builder that have ended:
// since it was called last, so that a run which was killed is told of by the next.
// The builder's lock is held. What goes wrong is no failure of the build.
func (r *runner) announce(name string) {
	if len(r.p.cfg.Notify) == 0 {
		return
	}
	if err := r.announceSince(name); err != nil {
		r.opt.Log.Error(fmt.Sprintf("%s: telling what became of it: %v", name, err))
	}
}

func (r *runner) announceSince(name string) error {
	s := r.p.state
	numbers, err := s.numbers(name)
	if err != nil || len(numbers) == 0 {
		return err
	}
	newest := numbers[len(numbers)-1]
	told := newest - 1 // without a note of it, [[notify]] is new, and what is past is past
	file := filepath.Join(s.builder(name), toldFile)
	data, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if n, err := strconv.Atoi(strings.TrimSpace(string(data))); err == nil {
		told = n
	}
	if told == newest {
		return nil
	}
	for i, n := range numbers {
		if n <= told {
			continue
		}
		b, err := s.load(name, n)
		switch {
		case errors.Is(err, fs.ErrNotExist) && n == newest:
			newest-- // it has no record yet: the next run puts that in order
			continue
		case err != nil:
			continue // another version of relkit wrote it
		case b.IsTry():
			continue // who asked for it has been told: by relkit itself
		}
		dropped, err := r.spool.Queue(notify.Judge(b, s.before(name, numbers[:i])), r.p.facts(b))
		r.noteOutcomes(dropped)
		if err != nil {
			return err
		}
	}
	// Last: what is killed before this queues the same again under the same names.
	return writeWhole(file, []byte(strconv.Itoa(newest)+"\n"))
}

// before loads builds, newest first, down to the last that succeeded.
func (s state) before(name string, numbers []int) []*record.Build {
	var list []*record.Build
	for _, n := range slices.Backward(numbers[max(0, len(numbers)-maxRow):]) {
		b, err := s.load(name, n)
		if err != nil {
			continue
		}
		if b.IsTry() {
			continue
		}
		if list = append(list, b); b.Status == record.BuildSuccess {
			break
		}
	}
	return list
}

// facts are what a message says beside the record.
func (p *Project) facts(b *record.Build) *notify.Facts {
	f := &notify.Facts{Config: p.file, State: p.stateGiven, Folder: p.state.build(b.Builder, b.Number)}
	f.Host, _ = os.Hostname()
	f.Failing = failingTests(b, f.Folder)
	if step := notify.Step(b); step != nil && step.Log != "" {
		l := StepLog{path: filepath.Join(f.Folder, step.Log)}
		// A log that cannot be read is missed in the message, and no reason for none.
		_ = l.Lines(func(line LogLine) error {
			f.Log = append(append(f.Log, line.Text...), '\n')
			if len(f.Log) > 2*notify.MaxLog {
				f.Log = append(f.Log[:0], f.Log[len(f.Log)-notify.MaxLog:]...)
			}
			return nil
		})
		f.Log = f.Log[max(0, len(f.Log)-notify.MaxLog):]
	}
	return f
}

const (
	// maxFailing bounds the tests that a message tells of, maxFailingFile what is read
	// for them, in bytes: a record names the newly failing ones anyway.
	maxFailing     = 100
	maxFailingFile = 16 << 20
)

// failingTests are the tests that failed and are held against a build, with the
// first line of what each says.
func failingTests(b *record.Build, folder string) (list []notify.Failing) {
	if b.Tests == nil || b.Tests.Failed+b.Tests.Errored <= b.Tests.Excused {
		return nil
	}
	file := filepath.Join(folder, testsFile)
	if info, err := os.Stat(file); err != nil || info.Size() > maxFailingFile {
		return nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	results, err := record.DecodeBuildTests(data)
	if err != nil {
		return nil
	}
	for _, t := range results.Tests {
		if s := testresult.Status(t.Status); !s.Bad() || t.Flaky || len(list) == maxFailing {
			continue
		}
		why, _, _ := strings.Cut(strings.TrimSpace(t.Message), "\n")
		if why == "" {
			why, _, _ = strings.Cut(strings.TrimSpace(t.Detail), "\n")
		}
		list = append(list, notify.Failing{ID: t.ID, Why: why})
	}
	return list
}

// deliver tells what waits, this run's and what earlier ones could not.
func (r *runner) deliver(ctx context.Context) {
	if len(r.p.cfg.Notify) == 0 {
		return
	}
	done, err := r.spool.Deliver(ctx)
	if err != nil {
		r.opt.Log.Error(err.Error())
	}
	r.noteOutcomes(done)
}

// noteOutcomes puts into log and history what could not be told. It is an error
// to the log, which --quiet lets through: under cron nobody else would say it.
func (r *runner) noteOutcomes(done []notify.Outcome) {
	for _, o := range done {
		name := fmt.Sprintf("%s/%d", o.Builder, o.Number)
		switch {
		case o.Err == nil:
			r.opt.Log.Info(fmt.Sprintf("%s: told: %s", name, o.Label))
		case o.GivenUp:
			r.opt.Log.Error(fmt.Sprintf("%s: not told: %s: %v; given up", name, o.Label, o.Err))
		default:
			r.opt.Log.Error(fmt.Sprintf("%s: not told: %s: %v; a later run tries again", name, o.Label, o.Err))
		}
		if err := r.p.state.noteUntold(o); err != nil {
			r.opt.Log.Error(fmt.Sprintf("%s: %v", name, err))
		}
	}
}

// noteUntold adds another line of history for the build, which replaces that
// before, where what could not be told has changed.
func (s state) noteUntold(o notify.Outcome) error {
	if o.Err == nil && !o.Again {
		return nil
	}
	events, _, err := s.history(o.Builder)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(events, func(e record.BuildEvent) bool { return e.Builder == o.Builder && e.Number == o.Number })
	if i < 0 {
		return nil
	}
	e := events[i]
	untold := slices.DeleteFunc(slices.Clone(e.Untold), func(l string) bool { return strings.HasPrefix(l, o.Was+": ") })
	if o.Err != nil {
		untold = append(untold, o.Label+": "+o.Text())
	}
	if slices.Equal(untold, e.Untold) {
		return nil
	}
	e.Untold = untold
	return s.appendHistory(e)
}
