package boot

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/bootenv"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// uBoot is U-Boot with its boot count limit (CONFIG_BOOTCOUNT_LIMIT,
// CONFIG_BOOTCOUNT_ENV) and a redundant environment. The board's boot command reads
// ${relkit_boot}; relkit-boot(1) has the lines for it. U-Boot counts bootcount up
// while upgrade_available is 1, and runs altbootcmd when it passes bootlimit.
//
// The environment is written as U-Boot writes it: the copy that does not count,
// whole, with the next flag; a cut leaves its CRC wrong and the other copy valid.
// A single copy could be torn, and is refused.
type uBoot struct {
	root   fsys.FS
	dir    string
	places []bootenv.UBootPlace
}

const uBootConfig = "etc/fw_env.config"

func newUBoot(root fsys.FS, dir string) (*uBoot, error) {
	b, err := fsys.ReadFile(root, uBootConfig, maxSetup)
	if err != nil {
		return nil, err
	}
	places, err := bootenv.ParseUBootConfig(b)
	if err != nil {
		return nil, err
	}
	if len(places) != 2 || places[0].Size != places[1].Size {
		return nil, failure.Errorf(failure.Refused, "/%s: a power cut could tear an environment of one copy: want two of one size", uBootConfig)
	}
	for _, p := range places {
		if strings.HasPrefix(p.File, "/dev/mtd") || strings.HasPrefix(p.File, "/dev/ubi") {
			return nil, failure.WithHint(failure.Errorf(failure.Refused, "/%s: %s is raw flash, which relkit does not write", uBootConfig, p.File),
				"relkit boot --install --loader exec --command SCRIPT, with a SCRIPT that calls fw_setenv")
		}
	}
	return &uBoot{root, dir, places}, nil
}

func (l *uBoot) Folder() string { return l.dir + "/relkit" }

// load is the copy that counts, and its number.
func (l *uBoot) load() (*bootenv.UBoot, int, error) {
	var copies [2]*bootenv.UBoot
	var errs [2]error
	for i, p := range l.places {
		copies[i], errs[i] = l.loadCopy(p)
	}
	switch {
	case copies[0] == nil && copies[1] == nil:
		return nil, 0, errors.Join(errs[:]...)
	case copies[1] == nil:
		return copies[0], 0, nil
	case copies[0] == nil:
		return copies[1], 1, nil
	}
	n := max(0, bootenv.NewerUBoot(copies[0].Flag, copies[1].Flag))
	return copies[n], n, nil
}

func (l *uBoot) loadCopy(p bootenv.UBootPlace) (*bootenv.UBoot, error) {
	b, err := readAt(l.root, p.File, p.Offset, p.Size)
	if err != nil {
		return nil, err
	}
	e, err := bootenv.ParseUBoot(b, true)
	if err != nil {
		return nil, fmt.Errorf("%s at %#x: %w", p.File, p.Offset, err)
	}
	return e, nil
}

func (l *uBoot) State() (Choice, int, error) {
	e, _, err := l.load()
	if err != nil {
		return "", 0, err
	}
	word, _ := e.Get(varBoot)
	if word == "" {
		return Rest, 0, nil
	}
	c := Choice(word)
	if !c.valid() {
		return "", 0, fmt.Errorf("reading U-Boot environment: %s is %q", varBoot, word)
	}
	if c != Test {
		return c, 0, nil
	}
	count, limit := number(e, "bootcount"), number(e, "bootlimit")
	if count >= limit {
		return Good, 0, nil // what altbootcmd is about to say
	}
	return Test, limit - count, nil
}

func number(e *bootenv.UBoot, name string) int {
	text, _ := e.Get(name)
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0
	}
	return n
}

// Describe writes what a boot script may import with `env import -t`.
func (l *uBoot) Describe(slot Choice, args string) error {
	return fsys.WriteFile(l.root, l.Folder()+"/"+string(slot)+".env", []byte("bootargs="+args+"\n"), 0o644)
}

func (l *uBoot) Choose(c Choice, tries int) error {
	e, n, err := l.load()
	if err != nil {
		return err
	}
	e.Set(varBoot, string(c))
	e.Set("bootcount", "0")
	if c == Test {
		e.Set("upgrade_available", "1")
		e.Set("bootlimit", strconv.Itoa(tries))
	} else {
		e.Set("upgrade_available", "0")
	}
	e.Flag++
	other := l.places[1-n]
	b, err := e.Encode(other.Size, true)
	if err != nil {
		return err
	}
	return writeAt(l.root, other.File, other.Offset, b)
}

func (l *uBoot) Covers(Kernel) (bool, error) { return false, nil }
func (l *uBoot) Refresh() error              { return nil }
