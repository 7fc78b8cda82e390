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
	"slices"

	"github.com/relkit/relkit/pkg/failure"
)

// binary is a relkit that can be copied to a worker.
type binary struct {
	machine string // what "uname -sm" says where it runs
	path    string
	size    int64
	digest  string // SHA-256, in hexadecimal
	// err tells why the file cannot be copied. It matters to nobody but workers of
	// its architecture.
	err error
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
	exe, err := os.Executable()
	if err != nil {
		return []binary{own}, nil // its folder is not known, and so nothing beside it
	}
	return append([]binary{own}, others(filepath.Dir(exe))...), nil
}

// others are the relkits for other architectures in a folder.
func others(dir string) (list []binary) {
	for arch := range machines {
		path := filepath.Join(dir, otherName(arch))
		if arch == runtime.GOARCH {
			continue
		}
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		b, err := measure(path, arch)
		if err == nil {
			err = sameBuild(path, arch)
		}
		if err != nil {
			b = binary{machine: machines[arch], err: err}
		}
		list = append(list, b)
	}
	return list
}

func otherName(arch string) string { return "relkit-linux-" + arch }

// lacking is the error of a machine for which none of the list can be used.
func lacking(list []binary, machine string) error {
	for arch, m := range machines {
		if m != machine {
			continue
		}
		path := otherName(arch)
		if exe, err := os.Executable(); err == nil {
			path = filepath.Join(filepath.Dir(exe), path)
		}
		err := fmt.Errorf("it is %q, and there is no %s", machine, path)
		if i := slices.IndexFunc(list, func(b binary) bool { return b.machine == machine }); i >= 0 {
			err = fmt.Errorf("it is %q: %w", machine, list[i].err)
		}
		return failure.WithHint(err, "GOOS=linux GOARCH=%s CGO_ENABLED=0 go build -o %s ./cmd/relkit  # where the running relkit was built", arch, quote(path))
	}
	return fmt.Errorf("it is %q, and relkit is not made for that", machine)
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

// sameBuild refuses a relkit of another revision: the two must understand each
// other. It refuses one of another architecture than its name says, too.
func sameBuild(path, arch string) error {
	own, err := buildinfo.ReadFile(running)
	if err != nil {
		return err
	}
	other, err := buildinfo.ReadFile(path)
	if err != nil {
		return err
	}
	if got := setting(other, "GOARCH"); got != arch {
		return fmt.Errorf("%s is a program for %q", path, got)
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
