package boot

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/initrd"
	"github.com/relkit/relkit/pkg/format/manifest"
)

// Ready tells whether a transaction may be left for the next boot: nil, or a
// refusal that says what is missing, with the command that mends it.
func (s *Setup) Ready() error {
	if s.config == nil {
		return s.hint(failure.Errorf(failure.Refused, "relkit has no hook in this machine's boot"))
	}
	info, err := s.root.Lstat(s.file(copyName))
	if err != nil || info.Kind != manifest.File || info.Mode&0o100 == 0 {
		return s.hint(failure.Errorf(failure.Refused, "the copy of relkit that the boot runs, /%s, is missing", s.file(copyName)))
	}
	if err := s.sameFileSystem(); err != nil {
		return err
	}
	if s.config.Method == MethodInit {
		return s.initReady()
	}
	all, err := s.Installed()
	if err != nil {
		return err
	}
	found := false
	for _, name := range all {
		if _, is := kernelVersion(name, initrdPrefixes, plainInitrds); !is {
			continue
		}
		found = true
		if err := s.hasHook(name); err != nil {
			return s.hint(err)
		}
	}
	if !found {
		return failure.Errorf(failure.Refused, "no initrd in /boot: the hook has nothing to run in")
	}
	return nil
}

// sameFileSystem: the initramfs mounts the root, and finds the journal there or not at all.
func (s *Setup) sameFileSystem() error {
	root, err := s.root.Lstat(".")
	if err != nil {
		return err
	}
	state, err := s.root.Lstat(s.o.State)
	if err == nil && state.Dev != root.Dev {
		err = failure.Errorf(failure.Refused, "/%s is not on the root file system, where alone a boot hook finds it", s.o.State)
	}
	return err
}

func (s *Setup) initReady() error {
	for word := range strings.FieldsSeq(s.o.Cmdline) {
		if v, ok := strings.CutPrefix(word, "init="); ok && path.Base(v) == initName {
			return nil
		}
	}
	return failure.WithHint(failure.Errorf(failure.Refused, "the kernel was not booted with init=/%s", s.file(initName)),
		"add init=/%s to the kernel's command line in the boot loader, and reboot", s.file(initName))
}

func (s *Setup) hint(err error) error {
	return failure.WithHint(err, "relkit boot --install%s", s.o.Flags)
}

// The names by which an initramfs is known to have the hook.
const (
	initramfsToolsName = "scripts/local-bottom/relkit"
	dracutName         = "relkit-boot.sh"
)

// hasHook holds that an initrd, named below the root, has relkit's hook.
func (s *Setup) hasHook(name string) error {
	f, err := s.root.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return failure.Errorf(failure.Refused, "the kernel's initrd /%s is missing", name)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	found := false
	err = initrd.List(f, func(entry string) bool {
		found = strings.TrimPrefix(entry, "./") == initramfsToolsName || strings.HasSuffix(entry, dracutName)
		return !found
	})
	if err != nil {
		return fmt.Errorf("/%s: %w", name, err)
	}
	if !found {
		return failure.Errorf(failure.Refused, "the initrd /%s does not have relkit's hook", name)
	}
	return nil
}
