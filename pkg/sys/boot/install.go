package boot

import (
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/strict"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

//go:embed files
var files embed.FS

// The ways for the hook to get to run.
const (
	MethodInitramfsTools = "initramfs-tools"
	MethodDracut         = "dracut"
	MethodInit           = "init"
)

const (
	copyName = "relkit"      // in <state>/boot
	initName = "relkit-init" // a symlink to it
)

// placed is a file that Install writes: where, out of files/what, with what mode.
type placed struct {
	name, source string
	mode         uint32
}

var placements = map[string][]placed{
	MethodInitramfsTools: {
		{"etc/initramfs-tools/scripts/local-bottom/relkit", "initramfs-local-bottom", 0o755},
		{"etc/initramfs-tools/hooks/relkit", "initramfs-hook", 0o755},
	},
	MethodDracut: {
		{"usr/lib/dracut/modules.d/90relkit/module-setup.sh", "dracut-module-setup.sh", 0o755},
		{"usr/lib/dracut/modules.d/90relkit/relkit-boot.sh", "dracut-relkit-boot.sh", 0o755},
	},
}

const grubSnippet = "etc/grub.d/42_relkit"

// Choices of InstallOptions that are made by looking.
const Auto = "auto"

// InstallOptions say how to set a machine up.
type InstallOptions struct {
	Method, Loader string // or Auto
	Folder         string // what the boot loader reads, below the root; "" to look
	Command        string // of exec, below the root
	// Output is where the programs that are run write to.
	Output io.Writer
}

// Install sets booting up, or brings it up to date: the copy of relkit, the hook,
// a new initramfs, and the boot loader's part. Each file appears whole; interrupted
// anywhere the machine boots as before, since the hook has nothing to do yet.
func (s *Setup) Install(o InstallOptions) (*Config, error) {
	c, err := s.detect(o)
	if err != nil {
		return nil, err
	}
	if st, err := s.State(); err == nil && (st.Chosen == Test || st.Chosen == Good) {
		return nil, failure.WithHint(failure.Errorf(failure.Refused, "a kernel is on trial: the boot loader must not change now"), "relkit patch-apply%s --confirm", s.o.Flags)
	}
	if s.loader, err = s.newLoader(*c); err != nil {
		return nil, err
	}
	if err := s.KeepCopy(); err != nil {
		return nil, err
	}
	if err := s.sameFileSystem(); err != nil {
		return nil, err
	}
	if err := s.installHook(c.Method, o.Output); err != nil {
		return nil, err
	}
	if err := s.installLoader(o.Output); err != nil {
		return nil, err
	}
	b, err := strict.Encode(c)
	if err != nil {
		return nil, err
	}
	if err := fsys.WriteFile(s.root, s.file("setup.json"), b, 0o644); err != nil {
		return nil, err
	}
	s.config = c
	return c, nil
}

// KeepCopy puts the relkit that runs where the boot finds it. It is called by
// whoever leaves a transaction for the next boot, too: the copy that wrote the
// journal is the one to read it.
func (s *Setup) KeepCopy() error {
	if err := fsys.MkdirAll(s.root, s.o.State+"/boot", 0o755); err != nil {
		return err
	}
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return fmt.Errorf("reading this program: %w", err)
	}
	return writeChanged(s.root, s.file(copyName), self, 0o755)
}

func (s *Setup) detect(o InstallOptions) (*Config, error) {
	c := &Config{Schema: SetupSchema, Method: o.Method, Loader: o.Loader, Folder: strings.Trim(o.Folder, "/"), Command: strings.Trim(o.Command, "/")}
	if c.Method == Auto || c.Method == "" {
		switch {
		case s.exists("usr/sbin/update-initramfs"):
			c.Method = MethodInitramfsTools
		case s.exists("usr/bin/dracut") || s.exists("usr/sbin/dracut"):
			c.Method = MethodDracut
		default:
			return nil, failure.WithHint(failure.Errorf(failure.Refused, "neither initramfs-tools nor dracut is installed"), "relkit boot --install%s --method init", s.o.Flags)
		}
	}
	if placements[c.Method] == nil && c.Method != MethodInit {
		return nil, failure.Errorf(failure.Usage, "reading method: got %q, want auto, initramfs-tools, dracut or init", c.Method)
	}
	if c.Loader == Auto || c.Loader == "" {
		c.Loader = s.detectLoader()
	}
	if c.Folder == "" {
		c.Folder = s.detectFolder(c.Loader)
	}
	if c.Loader != "none" && c.Folder == "" {
		return nil, failure.WithHint(failure.Errorf(failure.Refused, "the folder that %s reads was not found", c.Loader), "relkit boot --install%s --loader %s --folder DIR", s.o.Flags, c.Loader)
	}
	if (c.Loader == "exec") != (c.Command != "") {
		return nil, failure.Errorf(failure.Usage, "--loader exec and --command go together")
	}
	return c, nil
}

var (
	grubFolders = []string{"boot/grub", "boot/grub2"}
	espFolders  = []string{"boot/efi", "efi", "boot"}
)

func (s *Setup) detectLoader() string {
	switch {
	case s.firstWith(grubFolders, "grub.cfg") != "":
		return "grub"
	case s.firstWith(espFolders, "loader/loader.conf") != "", s.firstWith(espFolders, "EFI/systemd") != "":
		return "systemd-boot"
	case s.exists(uBootConfig):
		return "u-boot"
	}
	return "none"
}

func (s *Setup) detectFolder(loader string) string {
	switch loader {
	case "grub":
		return s.firstWith(grubFolders, "grub.cfg")
	case "systemd-boot":
		return s.firstWith(espFolders, "loader")
	case "u-boot", "exec":
		return "boot"
	}
	return ""
}

func (s *Setup) firstWith(folders []string, name string) string {
	for _, f := range folders {
		if s.exists(f + "/" + name) {
			return f
		}
	}
	return ""
}

func (s *Setup) exists(name string) bool {
	_, err := s.root.Lstat(name)
	return err == nil
}

func (s *Setup) installHook(method string, out io.Writer) error {
	if method == MethodInit {
		if target, err := s.root.Readlink(s.file(initName)); err == nil && target == copyName {
			return nil
		}
		if err := s.root.Symlink(copyName, s.file(initName)); err != nil {
			return err
		}
		return s.root.SyncDir(path.Dir(s.file(initName)))
	}
	for _, p := range placements[method] {
		text, err := s.text(p.source)
		if err != nil {
			return err
		}
		if err := fsys.MkdirAll(s.root, path.Dir(p.name), 0o755); err != nil {
			return err
		}
		if err := writeChanged(s.root, p.name, text, p.mode); err != nil {
			return err
		}
	}
	return s.buildInitramfs(method, out)
}

// text is an embedded file with the state's path put in, as a shell reads it.
func (s *Setup) text(source string) ([]byte, error) {
	b, err := files.ReadFile("files/" + source)
	if err != nil {
		return nil, err
	}
	return []byte(strings.ReplaceAll(string(b), "@STATE@", failure.Word("/"+s.o.State))), nil
}

func (s *Setup) buildInitramfs(method string, out io.Writer) error {
	if method == MethodDracut {
		return s.tool(out, "dracut", "--force", "--regenerate-all")
	}
	return s.tool(out, "update-initramfs", "-u", "-k", "all")
}

func (s *Setup) installLoader(out io.Writer) error {
	switch l := s.loader.(type) {
	case *grub:
		return s.installGRUB(l, out)
	case *systemdBoot:
		return l.install()
	case nil:
		return nil
	default:
		_, _, err := l.State()
		return err
	}
}

// installGRUB has grub.cfg source relkit.cfg, through the folder that the
// distribution makes grub.cfg of.
func (s *Setup) installGRUB(l *grub, out io.Writer) error {
	if err := l.install(); err != nil {
		return err
	}
	if s.exists("etc/grub.d") {
		text, err := s.text("grub.d-42_relkit")
		if err != nil {
			return err
		}
		if err := writeChanged(s.root, grubSnippet, text, 0o755); err != nil {
			return err
		}
	}
	if ok, err := l.sources(); err != nil || ok {
		return err
	}
	if s.exists("etc/grub.d") {
		if err := s.refreshTo(out); err != nil {
			return err
		}
	}
	ok, err := l.sources()
	if err == nil && !ok {
		err = failure.WithHint(failure.Errorf(failure.Refused, "/%s/grub.cfg does not source relkit.cfg", l.dir),
			"echo 'source $prefix/relkit.cfg' >>%s", failure.Word(path.Join("/", s.o.Dir, l.dir, "grub.cfg")))
	}
	return err
}

func (s *Setup) refreshGRUB() error { return s.refreshTo(io.Discard) }

// refreshTo runs what makes grub.cfg, if it is there.
func (s *Setup) refreshTo(out io.Writer) error {
	l, ok := s.loader.(*grub)
	if !ok || !s.exists("etc/grub.d") {
		return nil
	}
	for _, name := range []string{"grub-mkconfig", "grub2-mkconfig"} {
		if s.exists("usr/sbin/"+name) || s.exists("usr/bin/"+name) {
			return s.tool(out, name, "-o", "/"+l.dir+"/grub.cfg")
		}
	}
	return nil
}

// Uninstall takes away what Install wrote, and makes the initramfs anew.
func (s *Setup) Uninstall(out io.Writer) error {
	if s.config == nil {
		return nil
	}
	if st, err := s.State(); err != nil || st.Chosen != Rest {
		return errors.Join(err, failure.WithHint(failure.Errorf(failure.Refused, "the boot loader boots relkit's entry (%s)", st.Chosen), "relkit patch-apply%s --confirm", s.o.Flags))
	}
	var gone []string
	for _, p := range placements[s.config.Method] {
		gone = append(gone, p.name)
	}
	gone = append(gone, s.file(initName), grubSnippet)
	for _, name := range gone {
		if err := s.root.Unlink(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if s.config.Method == MethodDracut {
		if err := fsys.RemoveAll(s.root, "usr/lib/dracut/modules.d/90relkit"); err != nil {
			return err
		}
	}
	if s.config.Method != MethodInit {
		if err := s.buildInitramfs(s.config.Method, out); err != nil {
			return err
		}
	}
	if l, ok := s.loader.(*grub); ok {
		if err := s.refreshTo(out); err != nil {
			return err
		}
		// relkit.cfg stays: a grub.cfg written by hand may source it; at rest it does nothing.
		_ = l
	}
	return fsys.RemoveAll(s.root, s.o.State+"/boot")
}
