package notify

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	// threadsDir, in a spool, has a file for each row of failures whose first was
	// told together with others: what that mail's ID is.
	threadsDir = "threads"
	// maxThread is how long such a file is kept: a row of failures may be long.
	maxThread = 400 * 24 * time.Hour
	// maxRoots bounds the mails that one refers to.
	maxRoots = 20
	maxID    = 200 // bytes
)

// roots are the IDs of the mails that told of what entries began with.
func (s *Spool) roots(self string, list []*entry) (roots []string) {
	for _, e := range list {
		if e.Thread == "" || e.Thread == e.Notice.ID || len(roots) == maxRoots {
			continue
		}
		root := e.Thread
		if data, err := os.ReadFile(filepath.Join(s.dir, threadsDir, filepath.Base(root))); err == nil && len(data) <= maxID {
			root = strings.TrimSpace(string(data))
		}
		if root != self && !slices.Contains(roots, root) {
			roots = append(roots, root)
		}
	}
	return roots
}

// noteRoots notes which mail told of the beginnings of rows of failures, where that
// is not a mail of their own.
func (s *Spool) noteRoots(mail string, list []*entry) error {
	if len(list) < 2 {
		return nil
	}
	dir := filepath.Join(s.dir, threadsDir)
	for _, e := range list {
		if e.Thread != e.Notice.ID {
			continue
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("noting a thread: %w", err)
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(e.Thread)), []byte(mail+"\n"), 0o644); err != nil {
			return fmt.Errorf("noting a thread: %w", err)
		}
	}
	files, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, f := range files {
		if info, ierr := f.Info(); ierr == nil && s.now().Sub(info.ModTime()) > maxThread {
			err = errors.Join(err, os.Remove(filepath.Join(dir, f.Name())))
		}
	}
	return err
}
