package relkittest

import (
	"debug/elf"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// Kernel is a Linux kernel with its modules.
type Kernel struct {
	Image   string // bzImage
	Modules string // lib/modules/RELEASE
}

// CacheDir is where scripts/install-test-deps.sh puts what is too large for the
// repository: $RELKIT_TEST_CACHE, else ~/.cache/relkit-test.
func CacheDir(t testing.TB) string {
	t.Helper()
	if dir := os.Getenv("RELKIT_TEST_CACHE"); dir != "" {
		return dir
	}
	home, err := os.UserHomeDir()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(home, ".cache", "relkit-test")
}

// DebianKernel is the kernel of Debian's linux-image-cloud-amd64, which has
// ext4, NVMe and the serial console built in and virtio, xfs and btrfs as
// modules. The test is skipped where it has not been fetched.
func DebianKernel(t testing.TB) Kernel {
	t.Helper()
	if runtime.GOARCH != "amd64" {
		Skip(t, "the kernel for virtual machines is fetched on amd64 only")
	}
	image := filepath.Join(CacheDir(t), "kernel", "vmlinuz")
	modules, _ := filepath.Glob(filepath.Join(CacheDir(t), "kernel", "lib", "modules", "*"))
	if _, err := os.Stat(image); err != nil || len(modules) != 1 {
		Skip(t, "no kernel at %s (scripts/install-test-deps.sh fetches one)", image)
	}
	return Kernel{Image: image, Modules: modules[0]}
}

// load is the module files that insmod is to be given, in order, so that the
// named modules and all they depend on are in the kernel.
func (k Kernel) load(names []string) ([]string, error) {
	if len(names) == 0 {
		return nil, nil
	}
	files, err := k.index()
	if err != nil {
		return nil, err
	}
	builtin, err := os.ReadFile(filepath.Join(k.Modules, "modules.builtin"))
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(builtin)) {
		files[moduleName(strings.TrimSpace(line))] = ""
	}
	var order []string
	seen := map[string]bool{}
	var add func(name string) error
	add = func(name string) error {
		if seen[name] {
			return nil
		}
		seen[name] = true
		file, known := files[name]
		if !known {
			return fmt.Errorf("no module %q in %s", name, k.Modules)
		}
		if file == "" {
			return nil
		}
		needs, err := moduleNeeds(file)
		if err != nil {
			return err
		}
		for _, need := range needs {
			if err := add(need); err != nil {
				return err
			}
		}
		order = append(order, file)
		return nil
	}
	for _, name := range names {
		if err := add(name); err != nil {
			return nil, err
		}
	}
	return order, nil
}

// index is module name to file.
func (k Kernel) index() (map[string]string, error) {
	files := map[string]string{}
	err := filepath.WalkDir(k.Modules, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && strings.HasSuffix(p, ".ko") {
			files[moduleName(p)] = p
		}
		return err
	})
	return files, err
}

// moduleName is a module's name in the kernel, where - and _ are one.
func moduleName(file string) string {
	return strings.ReplaceAll(strings.TrimSuffix(filepath.Base(file), ".ko"), "-", "_")
}

// moduleNeeds reads what depmod(8) reads: depends= in the .modinfo section.
func moduleNeeds(file string) ([]string, error) {
	f, err := elf.Open(file)
	if err != nil {
		return nil, fmt.Errorf("reading module %s: %w", file, err)
	}
	defer f.Close()
	section := f.Section(".modinfo")
	if section == nil {
		return nil, fmt.Errorf("reading module %s: no .modinfo section", file)
	}
	info, err := section.Data()
	if err != nil {
		return nil, fmt.Errorf("reading module %s: %w", file, err)
	}
	var needs []string
	for field := range strings.SplitSeq(string(info), "\x00") {
		key, value, _ := strings.Cut(field, "=")
		if key != "depends" {
			continue
		}
		for name := range strings.SplitSeq(value, ",") {
			if name = strings.ReplaceAll(name, "-", "_"); name != "" && !slices.Contains(needs, name) {
				needs = append(needs, name)
			}
		}
	}
	return needs, nil
}
