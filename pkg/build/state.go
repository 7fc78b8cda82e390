package build

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/relkit/relkit/pkg/format/record"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// The names in a state folder, and in the folder of a build.
const (
	buildsDir    = "builds"
	locksDir     = "locks"
	workDir      = "work"
	digestsDir   = "digests" // of the files that sources are made of
	historyFile  = "history.jsonl"
	historyLock  = ".history.lock" // no builder's name begins with a dot
	recordFile   = "build.json"
	testsFile    = "tests.json"
	sumsFile     = "SHA256SUMS"
	logDir       = "log"
	artifactsDir = "artifacts"
	// runningFile is there from the beginning of a build until its line of
	// history is written: what the next run has to put in order.
	runningFile = ".running.json"
	lastLink    = "last"
	goodLink    = "last-good"
)

// state is a state folder.
type state struct{ dir string }

// running is runningFile.
type running struct {
	Started time.Time `json:"started"`
	Reason  string    `json:"reason"`
	// Cookie finds what the build's supervisor may have left.
	Cookie string `json:"cookie"`
	// Again is that of the second build, where a build is made twice.
	Again string `json:"again,omitempty"`
	PID   int    `json:"pid"`
	// Owed is what was settled with it, to be owed again where it is cut off.
	Owed    []owed        `json:"owed,omitempty"`
	Partial *record.Build `json:"partial"`
}

func (s state) builder(name string) string { return filepath.Join(s.dir, buildsDir, name) }

func (s state) build(name string, n int) string {
	return filepath.Join(s.builder(name), numberName(n))
}

func numberName(n int) string { return fmt.Sprintf("%06d", n) }

// workFolder is a builder's folder for its work trees, below one of the folders of
// a project on a worker: workDir, tryDir. A cell's name holds what makes and shells take for their own; "+" and
// "-" are harmless, and as no name of a builder holds a "+", no two cells share a folder.
func workFolder(dir, below, name string) string {
	name = strings.NewReplacer("[", "+", ",", "+", "=", "-", "]", "").Replace(name)
	return path.Join(dir, below, name)
}

// prepare makes the folders that a builder needs.
func (s state) prepare(name string) error {
	for _, dir := range []string{s.builder(name), filepath.Join(s.dir, locksDir)} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("preparing the state: %w", err)
		}
	}
	if filepath.Base(s.dir) != defaultState {
		return nil
	}
	// It stands beside relkit.toml, often in a repository.
	ignore := filepath.Join(s.dir, ".gitignore")
	if _, err := os.Lstat(ignore); errors.Is(err, fs.ErrNotExist) {
		return writeWhole(ignore, []byte("*\n"))
	}
	return nil
}

func (s state) lockFile(name string) string { return filepath.Join(s.dir, locksDir, name+".lock") }

// numbers lists a builder's builds, ascending; none where it never built.
func (s state) numbers(name string) ([]int, error) {
	entries, err := os.ReadDir(s.builder(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var out []int
	for _, e := range entries {
		if n, err := strconv.Atoi(e.Name()); err == nil && n > 0 && e.IsDir() && e.Name() == numberName(n) {
			out = append(out, n)
		}
	}
	slices.Sort(out) // by name, 1000000 stands before 999999
	return out, err
}

// reserve takes the next number: making the folder is what decides.
func (s state) reserve(name string) (int, error) {
	numbers, err := s.numbers(name)
	if err != nil {
		return 0, fmt.Errorf("taking a build number: %w", err)
	}
	n := 1
	if len(numbers) > 0 {
		n = numbers[len(numbers)-1] + 1
	}
	for ; ; n++ {
		err := os.Mkdir(s.build(name, n), 0o755)
		if !errors.Is(err, fs.ErrExist) {
			return n, err
		}
	}
}

// load reads a build's record.
func (s state) load(name string, n int) (*record.Build, error) {
	data, err := os.ReadFile(filepath.Join(s.build(name, n), recordFile))
	if err != nil {
		return nil, err
	}
	b, err := record.DecodeBuild(data)
	if err != nil {
		return nil, fmt.Errorf("%s/%d: %w", name, n, err)
	}
	return b, nil
}

// previous is the newest build before number n that came to an answer: success
// or failed; nil where there is none. Try builds answer another question.
func (s state) previous(name string, n int) (*record.Build, error) {
	numbers, err := s.numbers(name)
	if err != nil {
		return nil, err
	}
	for i := len(numbers) - 1; i >= 0; i-- {
		if n > 0 && numbers[i] >= n {
			continue
		}
		b, err := s.load(name, numbers[i])
		if err != nil {
			continue // not there, or of another version of relkit: no answer to compare with
		}
		if !b.IsTry() && (b.Status == record.BuildSuccess || b.Status == record.BuildFailed) {
			return b, nil
		}
	}
	return nil, nil
}

// link makes builds/NAME/LINK lead to build n.
func (s state) link(name, link string, n int) error {
	temp := filepath.Join(s.builder(name), "."+link+".new")
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Symlink(numberName(n), temp); err != nil {
		return err
	}
	return os.Rename(temp, filepath.Join(s.builder(name), link))
}

// start writes runningFile.
func (s state) start(name string, n int, r running) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return writeWhole(filepath.Join(s.build(name, n), runningFile), append(b, '\n'))
}

// finish makes a build's record durable, writes its line of history and moves
// the links. Each part can be repeated, so that a run which was killed in
// between is finished by the next.
func (s state) finish(b *record.Build) error {
	dir := s.build(b.Builder, b.Number)
	data, err := b.Encode()
	if err != nil {
		return err
	}
	if err := syncTree(dir); err != nil {
		return fmt.Errorf("writing %s/%d: %w", b.Builder, b.Number, err)
	}
	if err := writeWhole(filepath.Join(dir, recordFile), data); err != nil {
		return fmt.Errorf("writing %s/%d: %w", b.Builder, b.Number, err)
	}
	if err := s.appendHistory(b.Event()); err != nil {
		return err
	}
	return s.settle(b)
}

// settle moves the links, though not to a try build, and ends the build.
func (s state) settle(b *record.Build) error {
	if b.IsTry() {
		return os.Remove(filepath.Join(s.build(b.Builder, b.Number), runningFile))
	}
	if err := s.link(b.Builder, lastLink, b.Number); err != nil {
		return err
	}
	if b.Status == record.BuildSuccess {
		if err := s.link(b.Builder, goodLink, b.Number); err != nil {
			return err
		}
	}
	return os.Remove(filepath.Join(s.build(b.Builder, b.Number), runningFile))
}

// syncEach is up to how many files and folders are made durable one by one.
const syncEach = 16

// syncTree makes a folder and all in it durable. Where that is little it leaves
// what else the file system has to write alone, of which the steps may just have
// made gigabytes.
func syncTree(dir string) error {
	paths, few := toSync(dir)
	for _, path := range paths {
		few = few && syncPath(path, (*os.File).Sync) == nil
	}
	if few {
		return nil
	}
	// Also where one of them may not be opened, as an artifact that nobody may read.
	return syncPath(dir, func(f *os.File) error { return unix.Syncfs(int(f.Fd())) })
}

// toSync lists what is to be made durable for a folder to be, what is in a folder
// before it; few is false where that is more than syncEach, or not known.
func toSync(dir string) (paths []string, few bool) {
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && (d.IsDir() || d.Type().IsRegular()) { // a symlink is its folder's
			if len(paths) == syncEach {
				return errors.ErrUnsupported
			}
			paths = append(paths, path)
		}
		return err
	})
	if err != nil {
		return nil, false
	}
	slices.Reverse(paths)
	return paths, true
}

func syncPath(path string, sync func(*os.File) error) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return sync(f)
}

func writeWhole(path string, data []byte) error {
	a, err := fsys.NewAtomic(path, 0o644)
	if err != nil {
		return err
	}
	if _, err := a.Write(data); err != nil {
		return errors.Join(err, a.Abort())
	}
	return a.Commit()
}
