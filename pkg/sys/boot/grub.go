package boot

import (
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/bootenv"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// grub is GRUB 2. Beside its grub.cfg lie
//
//	relkit.cfg           what grub.cfg sources at its end: counts, and chooses
//	relkit/grubenv       the word and the tries, an environment block of relkit's own
//	relkit/SLOT.cfg      the entry of a slot
//	relkit/SLOT/         its kernel and initrd
//
// GRUB's save_env writes to the blocks that the file lies in, behind the file
// system's back, which GRUB can do on ext2/3/4, xfs and vfat on a plain
// partition. Elsewhere save_env fails, relkit.cfg then boots "good", and the new
// kernel is given up without having been tried.
//
// relkit writes those blocks in place too. The block is 1024 bytes, two sectors,
// of which bootenv.GRUB.Own lets only the first change: so a cut during the
// write, by relkit or by GRUB, leaves the old word or the new.
type grub struct {
	root    fsys.FS
	dir     string // of grub.cfg, below the root
	refresh func() error
	flags   string // of the machine, for hints
}

//go:embed files/relkit.cfg
var grubConfig string

const (
	varBoot  = "relkit_boot"
	varTries = "relkit_tries"
)

func (g *grub) Folder() string { return g.dir + "/relkit" }
func (g *grub) env() string    { return g.Folder() + "/grubenv" }

func (g *grub) State() (Choice, int, error) {
	env, err := g.read()
	if errors.Is(err, fs.ErrNotExist) {
		return Rest, 0, nil
	}
	if err != nil {
		return "", 0, err
	}
	word, _ := env.Get(varBoot)
	if !Choice(word).valid() {
		return "", 0, fmt.Errorf("reading %s: %s is %q", g.env(), varBoot, word)
	}
	text, _ := env.Get(varTries)
	tries, err := strconv.Atoi(text)
	if err != nil || tries < 0 || tries > maxTries {
		return "", 0, fmt.Errorf("reading %s: %s is %q", g.env(), varTries, text)
	}
	return Choice(word), tries, nil
}

func (g *grub) read() (*bootenv.GRUB, error) {
	b, err := fsys.ReadFile(g.root, g.env(), bootenv.GRUBSize)
	if err != nil {
		return nil, err
	}
	env, err := bootenv.ParseGRUB(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", g.env(), err)
	}
	return env, nil
}

// install makes the environment block, at rest, where there is none that can be read.
func (g *grub) install() error {
	if err := fsys.MkdirAll(g.root, g.Folder(), 0o755); err != nil {
		return err
	}
	if env, err := g.read(); err != nil || !env.Owned(varBoot, varTries) {
		b, err := encodeGRUB(bootenv.NewGRUB(), Rest, 0)
		if err != nil {
			return err
		}
		if err := fsys.WriteFile(g.root, g.env(), b, 0o644); err != nil {
			return err
		}
	}
	if err := writeChanged(g.root, g.dir+"/relkit.cfg", []byte(grubConfig), 0o644); err != nil {
		return err
	}
	return g.root.SettleFS(g.dir)
}

func encodeGRUB(env *bootenv.GRUB, c Choice, tries int) ([]byte, error) {
	if err := env.Own(bootenv.Var{Name: varBoot, Value: string(c)}, bootenv.Var{Name: varTries, Value: strconv.Itoa(tries)}); err != nil {
		return nil, err
	}
	return env.Encode()
}

func (g *grub) Choose(c Choice, tries int) error {
	env, err := g.read()
	if err == nil && !env.Owned(varBoot, varTries) {
		err = fmt.Errorf("%s: something else has written to it", g.env())
	}
	if err != nil {
		return failure.WithHint(err, "relkit boot --install%s", g.flags)
	}
	b, err := encodeGRUB(env, c, tries)
	if err != nil {
		return err
	}
	w, err := g.root.Overwrite(g.env())
	if err != nil {
		return err
	}
	_, err = w.Write(b[:bootenv.SectorSize])
	if err == nil {
		err = w.Sync()
	}
	return errors.Join(err, w.Close())
}

func (g *grub) Describe(slot Choice, args string) error {
	for word := range strings.FieldsSeq(args) {
		if strings.ContainsAny(word, "'\\") {
			return failure.Errorf(failure.Refused, "the kernel's argument %q cannot be written for GRUB", word)
		}
	}
	words := strings.Fields(args)
	for i := range words {
		words[i] = "'" + words[i] + "'"
	}
	dir := "$prefix/relkit/" + string(slot)
	text := "linux " + dir + "/" + slotImage + " " + strings.Join(words, " ") + "\ninitrd " + dir + "/" + slotInitrd + "\n"
	return fsys.WriteFile(g.root, g.Folder()+"/"+string(slot)+".cfg", []byte(text), 0o644)
}

// Covers reads grub.cfg: a menu that names both files boots them.
func (g *grub) Covers(k Kernel) (bool, error) {
	b, err := fsys.ReadFile(g.root, g.dir+"/grub.cfg", maxMenu)
	if err != nil {
		return false, err
	}
	return names(b, k.Image) && names(b, k.Initrd), nil
}

// maxMenu bounds grub.cfg, in bytes.
const maxMenu = 16 << 20

// names tells whether a menu names a file as a whole word at the end of a path.
func names(menu []byte, file string) bool {
	base := "/" + path.Base(file)
	for word := range strings.FieldsSeq(string(menu)) {
		if strings.HasSuffix(word, base) {
			return true
		}
	}
	return false
}

func (g *grub) Refresh() error { return g.refresh() }

// sources tells whether grub.cfg gets to relkit.cfg.
func (g *grub) sources() (bool, error) {
	b, err := fsys.ReadFile(g.root, g.dir+"/grub.cfg", maxMenu)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return strings.Contains(string(b), "/relkit.cfg"), err
}

// writeChanged writes a file unless it is as it should be.
func writeChanged(f fsys.FS, name string, content []byte, mode uint32) error {
	if old, err := fsys.ReadFile(f, name, int64(len(content))); err == nil && string(old) == string(content) {
		return nil
	}
	return fsys.WriteFile(f, name, content, mode)
}
