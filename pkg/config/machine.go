package config

import (
	"path/filepath"
	"strings"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/version"
)

// Machine is machine.toml, relkit-machine.toml(5): what machine this is, and
// what its owner wants of relkit. Every reader of the file decodes all of it: a
// key is unknown to all or to none.
type Machine struct {
	// Compatible are the models that this machine is, the most specific first.
	Compatible []string `toml:"compatible"`
	// Labels are what patches and channels may ask for: {ring = "beta"}.
	Labels map[string]string `toml:"labels"`
	// Provides are names, or "name (= version)", that patches may require as they
	// require other patches: a boot loader, a board's revision.
	Provides []string `toml:"provides"`
	// Channel is the channel that this machine follows; "" where nothing says.
	Channel   string    `toml:"channel"`
	Policy    Policy    `toml:"policy"`
	Retention Retention `toml:"retention"`
	Audit     Audit     `toml:"audit"`
	Mounts    Mounts    `toml:"mounts"`
}

// Mounts is how the machine's file systems may be treated.
type Mounts struct {
	// Remount are mount points that are mounted read-only and may be made writable
	// for as long as a patch is applied or taken back.
	Remount []string `toml:"remount"`
}

// Retention is how many rollback copies stay after a successful apply.
type Retention struct {
	// Keep is the number of applied patches that can be taken back; nil for DefaultKeep.
	Keep *int `toml:"keep"`
	// KeepSize bounds what their copies take, in bytes; 0 for no bound.
	KeepSize Size `toml:"keep_size"`
}

// DefaultKeep is Retention.Keep where the file does not say.
const DefaultKeep = 3

// Count is how many applied patches can be taken back.
func (r *Retention) Count() int {
	if r.Keep == nil {
		return DefaultKeep
	}
	return *r.Keep
}

// Audit is where the audit log goes and how large it becomes.
type Audit struct {
	// MaxSize is the size in bytes from which on the log is closed and continued
	// in a new file; 0 for the default.
	MaxSize Size `toml:"max_size"`
	// KeepFiles is how many closed files are kept; 0 for the default.
	KeepFiles int `toml:"keep_files"`
	// HostKey is an SSH private key file, below the root, that signs the log's head.
	HostKey string `toml:"host_key"`
	// Syslog has every line sent to the system's log.
	Syslog bool `toml:"syslog"`
	// Journald has every line sent to systemd-journald, as an entry of fields.
	Journald bool `toml:"journald"`
}

// minAuditSize keeps a log from being rotated at every line.
const minAuditSize = 64 << 10

// DecodeMachine reads machine.toml; name is what errors call it.
func DecodeMachine(name string, data []byte) (Machine, error) {
	var m Machine
	if err := Decode(name, data, &m); err != nil {
		return Machine{}, err
	}
	at := checker{places: findPlaces(data)}
	if m.Policy.check(&at); len(at.mistakes) > 0 {
		return Machine{}, at.error(name, data)
	}
	return m, m.check(name)
}

func (m *Machine) check(name string) error {
	for i, path := range m.Mounts.Remount {
		if !strings.HasPrefix(path, "/") || filepath.Clean(path) != path {
			return failure.Errorf(failure.Usage, "%s: mounts.remount[%d]: got %q, want a clean path from the root on", name, i, path)
		}
	}
	if _, err := version.ParseProvides(strings.Join(m.Provides, ", ")); err != nil {
		return failure.Errorf(failure.Usage, "%s: provides: %w", name, err)
	}
	switch {
	case m.Retention.Count() < 0:
		return failure.Errorf(failure.Usage, "%s: retention.keep: got %d, want 0 or more", name, m.Retention.Count())
	case m.Audit.KeepFiles < 0:
		return failure.Errorf(failure.Usage, "%s: audit.keep_files: got %d, want 1 or more", name, m.Audit.KeepFiles)
	case m.Audit.MaxSize != 0 && m.Audit.MaxSize < minAuditSize:
		return failure.Errorf(failure.Usage, "%s: audit.max_size: got %d, want %d or more", name, m.Audit.MaxSize, minAuditSize)
	case m.Audit.HostKey != "" && !strings.HasPrefix(m.Audit.HostKey, "/"):
		return failure.Errorf(failure.Usage, "%s: audit.host_key: got %q, want a path from the root on", name, m.Audit.HostKey)
	}
	return nil
}
