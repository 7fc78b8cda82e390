package build

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/relkit/relkit/pkg/format/record"
	"github.com/relkit/relkit/pkg/sys/lock"
)

// appendHistory adds a line, durably. A torn last line, left by a power cut, is
// closed first so that it spoils nothing but itself.
func (s state) appendHistory(e record.BuildEvent) error {
	line, err := e.Encode()
	if err != nil {
		return err
	}
	// Held for one write: two processes that both see a torn tail must not both close it.
	l, err := lock.Acquire(context.Background(), filepath.Join(s.dir, locksDir, historyLock), true)
	if err != nil {
		return fmt.Errorf("writing history: %w", err)
	}
	defer l.Release()
	f, err := os.OpenFile(filepath.Join(s.dir, historyFile), os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return fmt.Errorf("writing history: %w", err)
	}
	torn, err := tornTail(f)
	if err == nil {
		if torn {
			line = append([]byte("\n"), line...)
		}
		_, err = f.Write(line)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("writing history: %w", err)
	}
	return nil
}

// tornTail tells whether the last byte is no line end.
func tornTail(f *os.File) (bool, error) {
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return false, err
	}
	var last [1]byte
	_, err = f.ReadAt(last[:], info.Size()-1)
	return last[0] != '\n', err
}

// History lists the builds of a builder that have ended, oldest first: of a cell, of
// all cells of a matrix, of all builders where the name is "". Bad counts lines that
// cannot be read, such as one that a power cut tore.
func (p *Project) History(builder string) (events []record.BuildEvent, bad int, err error) {
	if events, bad, err = p.state.history(builder); len(events) > 0 || builder == "" || err != nil {
		return events, bad, err
	}
	for i := range p.cfg.Builders {
		if p.cfg.Builders[i].Name == builder || slices.Contains(p.cellsOf(p.cfg.Builders[i].Name), builder) {
			return nil, bad, nil // it was never built
		}
	}
	name, _, _ := strings.Cut(builder, "[")
	return nil, bad, p.unknown(builder, name)
}

// cellsOf lists the names of the cells of a matrix; none of what is none.
func (p *Project) cellsOf(builder string) (names []string) {
	for i := range p.cfg.Builders {
		if b := &p.cfg.Builders[i]; b.Name == builder && len(b.Matrix) > 0 {
			for _, c := range p.expand(i) {
				names = append(names, c.Name)
			}
		}
	}
	return names
}

func (s state) history(builder string) (events []record.BuildEvent, bad int, err error) {
	f, err := os.Open(filepath.Join(s.dir, historyFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("reading history: %w", err)
	}
	defer f.Close()
	type key struct {
		builder string
		number  int
	}
	seen := map[key]int{}
	r := bufio.NewReaderSize(f, record.MaxBuildHistory)
	for {
		line, err := r.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			bad++
			for errors.Is(err, bufio.ErrBufferFull) {
				_, err = r.ReadSlice('\n')
			}
			continue
		}
		if len(bytes.TrimSpace(line)) > 0 {
			e, derr := record.DecodeBuildEvent(line)
			k := key{e.Builder, e.Number}
			at, again := seen[k]
			switch {
			case derr != nil:
				bad++
			case builder != "" && e.Builder != builder && !strings.HasPrefix(e.Builder, builder+"["):
			case again: // finished twice: by a run that was killed and by the one after it
				events[at] = e
			default:
				seen[k] = len(events)
				events = append(events, e)
			}
		}
		if errors.Is(err, io.EOF) {
			return events, bad, nil
		}
		if err != nil {
			return nil, bad, fmt.Errorf("reading history: %w", err)
		}
	}
}
