package fsys

import (
	"io"
	"strings"
	"testing"
)

// TestOverwrite: what is written lies over the beginning, and nothing else moves.
func TestOverwrite(t *testing.T) {
	each(t, func(t *testing.T, f FS) {
		must(t, WriteFile(f, "env", []byte(strings.Repeat("a", 1024)), 0600))
		before, err := f.Lstat("env")
		must(t, err, overwrite(f, "env", strings.Repeat("b", 512)))
		after, err := f.Lstat("env")
		must(t, err)
		if got := get(t, f, "env"); got != strings.Repeat("b", 512)+strings.Repeat("a", 512) || !after.SameInode(before) {
			t.Errorf("got %q, inode %d, was %d", got, after.Ino, before.Ino)
		}
	})
}

func overwrite(f FS, name, data string) error {
	w, err := f.Overwrite(name)
	if err != nil {
		return err
	}
	defer w.Close()
	if _, err := io.WriteString(w, data); err != nil {
		return err
	}
	return w.Sync()
}

// TestOverwriteCrash: a power cut leaves each sector old or new.
func TestOverwriteCrash(t *testing.T) {
	m := NewMem()
	must(t, WriteFile(m.FS(), "env", []byte(strings.Repeat("a", 1024)), 0600))
	w, err := m.FS().Overwrite("env")
	must(t, err, second(io.WriteString(w, strings.Repeat("b", 1024))))
	seen := map[string]bool{}
	for seed := range uint64(100) {
		for _, keep := range []Keep{KeepNone, KeepAll, KeepPrefix, KeepSubset} {
			got := get(t, m.Crash(Policy{keep, seed}).FS(), "env")
			for half := 0; half < len(got); half += 512 {
				if s := got[half : half+512]; strings.Trim(s, s[:1]) != "" {
					t.Fatalf("a torn sector: %q", s)
				}
			}
			seen[got[:1]+got[1023:]] = true
		}
	}
	if !seen["aa"] || !seen["bb"] || !seen["ba"] {
		t.Errorf("seen only %v", seen)
	}
	must(t, w.Sync())
	if got := get(t, m.Crash(Policy{KeepNone, 0}).FS(), "env"); got[:1] != "b" {
		t.Error("lost what was synced")
	}
}
