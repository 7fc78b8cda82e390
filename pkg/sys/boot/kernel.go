package boot

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/format/strict"
	"github.com/relkit/relkit/pkg/format/version"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// Kernel is a kernel and the initrd that goes with it: names below the root.
type Kernel struct {
	Image  string `json:"image"`
	Initrd string `json:"initrd"`
}

// How kernels and initrds are called, before their version.
var (
	imagePrefixes  = []string{"vmlinuz-", "vmlinux-", "Image-", "zImage-", "bzImage-", "kernel-"}
	initrdPrefixes = []string{"initrd.img-", "initramfs-", "initrd-"}
	plainImages    = []string{"vmlinuz", "Image", "zImage", "bzImage"}
	plainInitrds   = []string{"initrd.img", "initramfs.img", "initrd"}
)

// kernelVersion is the version in a name of kind image or initrd; plain ones have "".
func kernelVersion(name string, prefixes, plain []string) (v string, ok bool) {
	base := path.Base(name)
	for _, p := range prefixes {
		if v, ok := strings.CutPrefix(base, p); ok && v != "" {
			v = strings.TrimSuffix(v, ".img")
			return v, !strings.Contains(v, "kdump") && !strings.Contains(v, "rescue") && !strings.HasSuffix(v, ".old")
		}
	}
	return "", slices.Contains(plain, base)
}

// IsKernelFile tells whether a path below the root is a kernel's or initrd's
// that the machine may boot.
func IsKernelFile(name string) bool {
	if path.Dir(name) != "boot" {
		return false
	}
	_, image := kernelVersion(name, imagePrefixes, plainImages)
	_, initrd := kernelVersion(name, initrdPrefixes, plainInitrds)
	return image || initrd
}

// ChooseKernel is the kernel that a tree boots: of those in names (its paths
// below boot) the one of the highest version that has an initrd. ok is false
// where there is none.
func ChooseKernel(names []string) (k Kernel, ok bool) {
	initrds := map[string]string{}
	for _, n := range names {
		if v, is := kernelVersion(n, initrdPrefixes, plainInitrds); is && path.Dir(n) == "boot" {
			initrds[v] = n
		}
	}
	best := ""
	for _, n := range names {
		v, is := kernelVersion(n, imagePrefixes, plainImages)
		if !is || path.Dir(n) != "boot" || initrds[v] == "" {
			continue
		}
		if !ok || version.Compare(v, best) > 0 {
			k, best, ok = Kernel{Image: n, Initrd: initrds[v]}, v, true
		}
	}
	return k, ok
}

// Installed are the files below boot that are kernels' and initrds'.
func (s *Setup) Installed() ([]string, error) {
	names, err := s.root.ReadDir("boot")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var all []string
	for _, n := range names {
		if info, err := s.root.Lstat("boot/" + n); err == nil && info.Kind == manifest.File && IsKernelFile("boot/"+n) {
			all = append(all, "boot/"+n)
		}
	}
	return all, err
}

// running is the kernel that runs: the one that the slot of relkit's entry was
// made of, else the one that the boot loader names in BOOT_IMAGE=, else the one
// that the machine would choose, but not the new one.
func (s *Setup) running(but Kernel) (Kernel, error) {
	st, err := s.State()
	if err != nil {
		return Kernel{}, err
	}
	if st.Running != Rest {
		dir := s.loader.Folder() + "/" + string(st.Running)
		return Kernel{Image: dir + "/" + slotImage, Initrd: dir + "/" + slotInitrd}, nil
	}
	all, err := s.Installed()
	if err != nil {
		return Kernel{}, err
	}
	all = slices.DeleteFunc(all, func(n string) bool { return n == but.Image || n == but.Initrd })
	for word := range strings.FieldsSeq(s.o.Cmdline) {
		image, ok := strings.CutPrefix(word, "BOOT_IMAGE=")
		if !ok {
			continue
		}
		v, _ := kernelVersion(image, imagePrefixes, plainImages)
		var same []string
		for _, n := range all {
			iv, isImage := kernelVersion(n, imagePrefixes, plainImages)
			dv, isInitrd := kernelVersion(n, initrdPrefixes, plainInitrds)
			if isImage && iv == v && path.Base(n) == path.Base(image) || isInitrd && dv == v {
				same = append(same, n)
			}
		}
		if k, ok := ChooseKernel(same); ok {
			return k, nil
		}
	}
	k, ok := ChooseKernel(all)
	if !ok {
		return Kernel{}, failure.Errorf(failure.Refused, "no kernel with an initrd in /boot: there is nothing to fall back to")
	}
	return k, nil
}

// The files of a slot.
const (
	slotImage  = "vmlinuz"
	slotInitrd = "initrd"
	slotNames  = "names.json"
)

// fill copies a kernel into a slot that nothing chooses, and writes its entry.
// names are what the tree calls the files.
func (s *Setup) fill(slot Choice, k, names Kernel) error {
	dir := s.loader.Folder() + "/" + string(slot)
	if err := fsys.MkdirAll(s.root, dir, 0o755); err != nil {
		return err
	}
	for to, from := range map[string]string{slotImage: k.Image, slotInitrd: k.Initrd} {
		if err := copyFile(s.root, from, dir+"/"+to); err != nil {
			return fmt.Errorf("copying %s: %w", from, err)
		}
	}
	b, err := strict.Encode(names)
	if err != nil {
		return err
	}
	if err := fsys.WriteFile(s.root, dir+"/"+slotNames, b, 0o644); err != nil {
		return err
	}
	return s.loader.Describe(slot, s.args(slot))
}

// names is what the tree calls the kernel in a slot.
func (s *Setup) names(slot Choice) (Kernel, error) {
	name := s.loader.Folder() + "/" + string(slot) + "/" + slotNames
	b, err := fsys.ReadFile(s.root, name, maxSetup)
	if err != nil {
		return Kernel{}, err
	}
	var k Kernel
	if err := strict.Decode(b, maxSetup, &k); err != nil {
		return Kernel{}, fmt.Errorf("reading %s: %w", name, err)
	}
	return k, nil
}

// args are the kernel's arguments for an entry: those of the running kernel,
// with the entry's name. A kernel that panics must boot again by itself.
func (s *Setup) args(slot Choice) string {
	var words []string
	panics := false
	for word := range strings.FieldsSeq(s.o.Cmdline) {
		if strings.HasPrefix(word, "BOOT_IMAGE=") || strings.HasPrefix(word, "initrd=") || strings.HasPrefix(word, cmdlineWord) {
			continue
		}
		panics = panics || strings.HasPrefix(word, "panic=")
		words = append(words, word)
	}
	if !panics {
		words = append(words, "panic=30")
	}
	return strings.Join(append(words, cmdlineWord+string(slot)), " ")
}

// copyFile copies a file durably under a temporary name first; SettleFS is left
// to the caller.
func copyFile(f fsys.FS, from, to string) (err error) {
	r, err := f.Open(from)
	if err != nil {
		return err
	}
	defer r.Close()
	temp := to + ".new"
	if err := f.Unlink(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	w, err := f.Create(temp, 0o600)
	if err != nil {
		return err
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{w}, r, make([]byte, 1<<20))
	if err == nil {
		err = w.Sync()
	}
	if err = errors.Join(err, w.Close()); err == nil {
		err = f.Rename(temp, to, fsys.Replace)
	}
	if err != nil {
		// Best effort: what stays is removed by the next copy.
		_ = f.Unlink(temp)
		return err
	}
	return f.SyncDir(manifest.Parent(to))
}
