package boot

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/strict"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// Choice is the word that says which entry boots.
type Choice string

// The choices: see the package's comment.
const (
	Rest Choice = "rest"
	Test Choice = "test"
	Good Choice = "good"
	Keep Choice = "keep"
)

func (c Choice) valid() bool { return c == Rest || c == Test || c == Good || c == Keep }

// State is what the boot loader is set to, and what it did last.
type State struct {
	// Chosen is what boots next; Left are the tries that are left, of Test.
	Chosen Choice
	Left   int
	// Running is the entry that the running kernel was booted by: Rest for one
	// that is not relkit's.
	Running Choice
}

// OnTrial tells that the new kernel runs and has not been confirmed.
func (s State) OnTrial() bool { return s.Running == Test && s.Chosen != Keep && s.Chosen != Rest }

// FellBack tells that the old kernel runs because the new one was given up.
func (s State) FellBack() bool { return s.Running == Good }

// Loader is a boot loader with relkit's two entries.
type Loader interface {
	// Folder is where it finds them: a folder below the root.
	Folder() string
	// State is what is chosen, and the tries left.
	State() (Choice, int, error)
	// Describe writes the entry for what lies in Folder()/SLOT, with the kernel's
	// arguments. Nothing chooses it yet.
	Describe(slot Choice, args string) error
	// Choose is the decisive write, durable when it returns.
	Choose(c Choice, tries int) error
	// Covers tells whether, at rest, it boots this kernel, of these names below
	// the root, by itself.
	Covers(k Kernel) (bool, error)
	// Refresh has its menu made anew, where the distribution has a program for it.
	Refresh() error
}

// SetupSchema is the schema of <state>/boot/setup.json.
const SetupSchema = "relkit.boot-setup/v1"

// Config is how booting was set up on a machine.
type Config struct {
	Schema string `json:"schema"`
	// Method is how the hook gets to run: initramfs-tools, dracut or init.
	Method string `json:"method"`
	// Loader is grub, systemd-boot, u-boot, exec or none.
	Loader string `json:"loader"`
	// Folder is what the boot loader reads, below the root: of GRUB the folder of
	// grub.cfg, of systemd-boot the ESP, of U-Boot the folder of its files.
	Folder string `json:"folder,omitempty"`
	// Command is the program of exec.
	Command string `json:"command,omitempty"`
}

// Options say about which machine a Setup is.
type Options struct {
	// Dir is the root's path on this machine, State relkit's state below it.
	Dir, State string
	// Cmdline is the kernel's command line if that machine is the one that runs,
	// else ""; BootID names the boot that it runs since.
	Cmdline string
	BootID  string
	// Flags are those that name this machine, for hints, with a blank in front of each.
	Flags string
	Log   *slog.Logger
}

// Setup is how a machine boots with relkit.
type Setup struct {
	root   fsys.FS
	o      Options
	config *Config // nil where it is not set up
	loader Loader  // nil where there is none
}

// Cmdline is the running kernel's command line. RELKIT_CMDLINE stands in for it
// where a machine's disk is looked at from elsewhere.
func Cmdline() string {
	if s, ok := os.LookupEnv("RELKIT_CMDLINE"); ok {
		return s
	}
	b, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// BootID names the boot that the kernel runs since, random(4); "" where it is not known.
func BootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// Open reads how the machine whose root is given was set up.
func Open(root fsys.FS, o Options) (*Setup, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Setup{root: root, o: o}
	b, err := fsys.ReadFile(root, s.file("setup.json"), maxSetup)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return nil, err
	}
	c := &Config{}
	if err := strict.Decode(b, maxSetup, c); err != nil {
		return nil, fmt.Errorf("reading %s: %w", s.file("setup.json"), err)
	}
	if c.Schema != SetupSchema {
		return nil, fmt.Errorf("reading %s: got schema %q, want %q", s.file("setup.json"), c.Schema, SetupSchema)
	}
	s.config = c
	s.loader, err = s.newLoader(*c)
	return s, err
}

const maxSetup = 64 << 10

// file is a file of relkit's boot folder, below the root.
func (s *Setup) file(name string) string { return s.o.State + "/boot/" + name }

func (s *Setup) newLoader(c Config) (Loader, error) {
	switch c.Loader {
	case "grub":
		return &grub{s.root, c.Folder, s.refreshGRUB, s.o.Flags}, nil
	case "systemd-boot":
		return &systemdBoot{s.root, c.Folder}, nil
	case "u-boot":
		return newUBoot(s.root, c.Folder)
	case "exec":
		return &program{s.o.Dir, c.Folder, c.Command}, nil
	case "none":
		return nil, nil
	}
	return nil, failure.Errorf(failure.Usage, "reading boot loader: got %q, want grub, systemd-boot, u-boot, exec or none", c.Loader)
}

// State is how the boot loader stands; all at rest where there is none.
func (s *Setup) State() (State, error) {
	st := State{Chosen: Rest, Running: Rest}
	for word := range strings.FieldsSeq(s.o.Cmdline) {
		if c, ok := strings.CutPrefix(word, cmdlineWord); ok && Choice(c).valid() {
			st.Running = Choice(c)
		}
	}
	if s.loader == nil {
		return st, nil
	}
	var err error
	st.Chosen, st.Left, err = s.loader.State()
	return st, err
}

// cmdlineWord begins the word by which a kernel's arguments tell its entry.
const cmdlineWord = "relkit.boot="
