package boot

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/bootenv"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// systemdBoot is systemd-boot. Its entries are files of the ESP, and it counts by
// their names (systemd's Automatic Boot Assessment): relkit-test+3.conf is renamed
// before each boot, and with none left sorts behind all others. Both of relkit's
// have the sort key "!relkit", before any that a distribution gives; hence the one
// choice is which of the two exist:
//
//	test  relkit-test+N.conf and relkit-good.conf
//	good  relkit-good.conf, or relkit-test+0-N.conf beside it
//	keep  relkit-test.conf
//	rest  neither
//
// The decisive write is a rename or an unlink in the ESP. vfat has no journal; the
// driver writes the new name before it takes the old one away, and a folder entry
// lies in one sector unless it crosses a sector's end.
type systemdBoot struct {
	root fsys.FS
	esp  string // below the root
}

const (
	entryTest = "relkit-test"
	entryGood = "relkit-good"
)

func (l *systemdBoot) Folder() string  { return l.esp + "/relkit" }
func (l *systemdBoot) entries() string { return l.esp + "/loader/entries" }

// files are the entry files of a name, with their counters.
func (l *systemdBoot) files(name string) ([]bootenv.EntryName, error) {
	all, err := l.root.ReadDir(l.entries())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var found []bootenv.EntryName
	for _, file := range all {
		if e, err := bootenv.ParseEntryName(file); err == nil && e.Name == name {
			found = append(found, e)
		}
	}
	return found, err
}

func (l *systemdBoot) State() (Choice, int, error) {
	test, err := l.files(entryTest)
	if err != nil {
		return "", 0, err
	}
	good, err := l.files(entryGood)
	if err != nil {
		return "", 0, err
	}
	left := 0
	for _, e := range test {
		if !e.Counted {
			return Keep, 0, nil
		}
		left = max(left, e.Left)
	}
	switch {
	case left > 0:
		return Test, left, nil
	case len(good) > 0:
		return Good, 0, nil
	}
	return Rest, 0, nil
}

// install holds that no entry is chosen by name, which would pass relkit's by.
func (l *systemdBoot) install() error {
	b, err := fsys.ReadFile(l.root, l.esp+"/loader/loader.conf", maxSetup)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	s, err := bootenv.ParseSettings(b)
	if err != nil {
		return fmt.Errorf("%s/loader/loader.conf: %w", l.esp, err)
	}
	if v, ok := s.Get("default"); ok {
		return failure.WithHint(failure.Errorf(failure.Refused, "/%s/loader/loader.conf says \"default %s\", which would pass a kernel on trial by", l.esp, v),
			"sed -i '/^default/d' %s", failure.Word("/"+l.esp+"/loader/loader.conf"))
	}
	return fsys.MkdirAll(l.root, l.entries(), 0o755)
}

// spec is the file of an entry while nothing chooses it.
func (l *systemdBoot) spec(slot Choice) string {
	return l.Folder() + "/" + string(slot) + "/entry"
}

func (l *systemdBoot) Describe(slot Choice, args string) error {
	title, version := "The kernel relkit is trying", "2"
	if slot == Good {
		title, version = "The kernel from before the update", "1"
	}
	dir := "/relkit/" + string(slot) + "/"
	entry := bootenv.Settings{
		{Name: "title", Value: title}, {Name: "sort-key", Value: "!relkit"}, {Name: "version", Value: version},
		{Name: "linux", Value: dir + slotImage}, {Name: "initrd", Value: dir + slotInitrd}, {Name: "options", Value: args},
	}
	if strings.ContainsAny(args, "\n") {
		return failure.Errorf(failure.Refused, "the kernel's arguments are more than a line")
	}
	return fsys.WriteFile(l.root, l.spec(slot), entry.Encode(), 0o644)
}

func (l *systemdBoot) Choose(c Choice, tries int) error {
	var err error
	switch c {
	case Test:
		if err = l.put(Good, bootenv.EntryName{Name: entryGood}); err == nil {
			err = l.put(Test, bootenv.EntryName{Name: entryTest, Counted: true, Left: tries})
		}
	case Good:
		if err = l.put(Good, bootenv.EntryName{Name: entryGood}); err == nil {
			err = l.drop(entryTest)
		}
	case Keep:
		if err = l.put(Test, bootenv.EntryName{Name: entryTest}); err == nil {
			err = l.drop(entryGood)
		}
	case Rest:
		if err = l.drop(entryTest); err == nil {
			err = l.drop(entryGood)
		}
	}
	if err != nil {
		return err
	}
	return l.root.SettleFS(l.entries())
}

// put makes a slot's entry the only one of its name.
func (l *systemdBoot) put(slot Choice, e bootenv.EntryName) error {
	text, err := fsys.ReadFile(l.root, l.spec(slot), maxSetup)
	if err != nil {
		return err
	}
	if err := fsys.WriteFile(l.root, l.entries()+"/"+e.File(), text, 0o644); err != nil {
		return err
	}
	return l.dropBut(e.Name, e)
}

func (l *systemdBoot) drop(name string) error { return l.dropBut(name, bootenv.EntryName{}) }

func (l *systemdBoot) dropBut(name string, keep bootenv.EntryName) error {
	all, err := l.files(name)
	if err != nil {
		return err
	}
	for _, e := range all {
		if e == keep {
			continue
		}
		if err := l.root.Unlink(l.entries() + "/" + e.File()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return l.root.SyncDir(l.entries())
}

// Covers: systemd-boot's entries are made by the distribution when it installs a
// kernel, which a patch does not do.
func (l *systemdBoot) Covers(k Kernel) (bool, error) {
	all, err := l.root.ReadDir(l.entries())
	if err != nil {
		return false, err
	}
	for _, file := range all {
		if strings.HasPrefix(file, "relkit-") {
			continue
		}
		b, err := fsys.ReadFile(l.root, l.entries()+"/"+file, maxSetup)
		if err != nil {
			return false, err
		}
		if names(b, k.Image) && names(b, k.Initrd) {
			return true, nil
		}
	}
	return false, nil
}

func (l *systemdBoot) Refresh() error { return nil }
