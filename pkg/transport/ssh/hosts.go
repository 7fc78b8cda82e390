package ssh

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/skeema/knownhosts"
	"golang.org/x/crypto/ssh"
	xknownhosts "golang.org/x/crypto/ssh/knownhosts"

	"github.com/relkit/relkit/pkg/failure"
)

// systemKnownHosts is what the machine's administrator knows.
const systemKnownHosts = "/etc/ssh/ssh_known_hosts"

// knownHosts are the hosts whose keys are known, sshd(8), SSH_KNOWN_HOSTS FILE FORMAT.
type knownHosts struct {
	db   *knownhosts.HostKeyDB
	file string // the user's
}

func openKnownHosts(home string) (*knownHosts, error) {
	k := &knownHosts{}
	var files []string
	if home != "" {
		k.file = filepath.Join(home, ".ssh", "known_hosts")
		files = append(files, k.file, k.file+"2")
	}
	var there []string
	for _, f := range append(files, systemKnownHosts) {
		if info, err := os.Stat(f); err == nil && info.Mode().IsRegular() {
			there = append(there, f)
		}
	}
	var err error
	if k.db, err = knownhosts.NewDB(there...); err != nil {
		return nil, fmt.Errorf("reading the known hosts: %w", err)
	}
	return k, nil
}

// algorithms are those of the keys that are known of a host, so that it shows
// one of these; nil where none is.
func (k *knownHosts) algorithms(t Target) []string { return k.db.HostKeyAlgorithms(t.Address()) }

// check refuses a host that is not known, and one whose key is another.
func (k *knownHosts) check(t Target, host string, remote net.Addr, key ssh.PublicKey) error {
	err := k.db.HostKeyCallback()(host, remote, key)
	var revoked *xknownhosts.RevokedError
	print := ssh.FingerprintSHA256(key)
	switch {
	case err == nil:
		return nil
	case knownhosts.IsHostKeyChanged(err):
		name := knownhosts.Normalize(t.Address())
		return failure.WithHint(fmt.Errorf("its key is now %s %s, which is not the known one: it is another machine, or one that was installed anew", key.Type(), print),
			"ssh-keygen -R %s  # where that is expected", failure.Word(name))
	case knownhosts.IsHostUnknown(err):
		return failure.WithHint(fmt.Errorf("its key %s %s is not known", key.Type(), print), "%s", k.scan(t))
	case errors.As(err, &revoked):
		return fmt.Errorf("its key %s is revoked by %s:%d", print, revoked.Revoked.Filename, revoked.Revoked.Line)
	}
	return err
}

func isThere(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// scan is the command that makes a host known.
func (k *knownHosts) scan(t Target) string {
	file := k.file
	if file == "" {
		file = systemKnownHosts
	}
	port := ""
	if t.Port != defaultPort {
		port = fmt.Sprintf("-p %d ", t.Port)
	}
	mkdir := ""
	if dir := filepath.Dir(file); !isThere(dir) {
		mkdir = "mkdir -p -m 700 " + failure.Word(dir) + " && "
	}
	return fmt.Sprintf("%sssh-keyscan %s%s >>%s  # then compare ssh-keygen -lf %[4]s with what its administrator says", mkdir, port, failure.Word(t.Host), failure.Word(file))
}
