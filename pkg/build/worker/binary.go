package worker

import (
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// binary is a relkit that can be copied to a worker.
type binary struct {
	machine string // what "uname -sm" says where it runs
	path    string
	size    int64
	digest  string // SHA-256, in hexadecimal
}

// machines are the architectures that relkit is built for, by their Go names.
var machines = map[string]string{"amd64": "Linux x86_64", "arm64": "Linux aarch64", "riscv64": "Linux riscv64", "ppc64le": "Linux ppc64le", "s390x": "Linux s390x"}

// running is the running program, even when its file has been replaced meanwhile.
const running = "/proc/self/exe"

// binaries are the running program and those for other architectures that lie
// beside it, as "make build-all" names them: relkit-linux-arm64.
func binaries() ([]binary, error) {
	own, err := measure(running, runtime.GOARCH)
	if err != nil {
		return nil, fmt.Errorf("reading the running program: %w", err)
	}
	list := []binary{own}
	exe, err := os.Executable()
	if err != nil {
		return list, nil // its folder is not known, and so nothing beside it
	}
	for arch := range machines {
		path := filepath.Join(filepath.Dir(exe), "relkit-linux-"+arch)
		if arch == runtime.GOARCH {
			continue
		}
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		b, err := measure(path, arch)
		if err == nil {
			err = sameBuild(path)
		}
		if err != nil {
			return nil, fmt.Errorf("reading the relkit for %s: %w", machines[arch], err)
		}
		list = append(list, b)
	}
	return list, nil
}

func measure(path, arch string) (binary, error) {
	f, err := os.Open(path)
	if err != nil {
		return binary{}, err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, f)
	if err != nil {
		return binary{}, err
	}
	return binary{machine: machines[arch], path: path, size: n, digest: hex.EncodeToString(h.Sum(nil))}, nil
}

// sameBuild refuses a relkit of another revision: the two must understand each other.
func sameBuild(path string) error {
	own, err := buildinfo.ReadFile(running)
	if err != nil {
		return err
	}
	other, err := buildinfo.ReadFile(path)
	if err != nil {
		return err
	}
	for _, key := range []string{"vcs.revision", "vcs.modified"} {
		if a, b := setting(own, key), setting(other, key); a != b {
			return fmt.Errorf("%s was not built with this relkit: %s is %q, want %q", path, key, b, a)
		}
	}
	return nil
}

func setting(info *buildinfo.BuildInfo, key string) string {
	for _, s := range info.Settings {
		if s.Key == key {
			return s.Value
		}
	}
	return ""
}
