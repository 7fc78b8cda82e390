package patchmake

import (
	"bytes"
	"fmt"
	"io"
	"regexp"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/glob"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/format/patch"
	"github.com/relkit/relkit/pkg/sys/fsys"
)

// maxPrivate bounds the files that are looked into for private keys, in bytes.
const maxPrivate = 1 << 20

// privateKey is the first line of a private key in PEM (RFC 7468) or OpenSSH's
// form, with what follows: a program that only knows the words does not match.
var privateKey = regexp.MustCompile(`(?m)^-----BEGIN ([A-Z0-9]+ )*PRIVATE KEY-----[ \t]*\r?\n[A-Za-z0-9+/=:, -]+\r?$`)

// machineIDs are the files that make one machine that machine (machine-id(5)).
var machineIDs = []string{"etc/machine-id", "var/lib/dbus/machine-id"}

// refusePrivate refuses a patch that would carry a private key or a machine's
// identity to other machines. allowed are globs of paths that may.
func refusePrivate(root fsys.FS, changes []patch.Change, allowed glob.Set) error {
	for i := range changes {
		e := changes[i].New
		if e == nil || e.Kind != manifest.File || e.Size == 0 || sameContent(changes[i].Old, e) || allowed.Covers(e.Path) {
			continue
		}
		what, err := private(root, e)
		if err != nil {
			return fmt.Errorf("looking into %q: %w", e.Path, err)
		}
		if what != "" {
			return failure.WithHint(failure.Errorf(failure.Refused, "%q holds %s, which must not travel in a patch", e.Path, what),
				"leave it out with \"never\" in a --product-file, or allow it with --insecure-include %s", manifest.Escape(e.Path))
		}
	}
	return nil
}

// private says what makes a file private; "" for nothing.
func private(root fsys.FS, e *manifest.Entry) (string, error) {
	isID := false
	for _, p := range machineIDs {
		isID = isID || e.Path == p
	}
	if e.Size > maxPrivate {
		return "", nil
	}
	b, err := readFile(root, e.Path, maxPrivate)
	switch {
	case err != nil:
		return "", err
	case isID && len(bytes.TrimSpace(b)) > 0 && string(bytes.TrimSpace(b)) != "uninitialized":
		return "a machine id", nil
	case bytes.IndexByte(b, 0) < 0 && privateKey.Match(b):
		return "a private key", nil
	}
	return "", nil
}

func readFile(root fsys.FS, path string, limit int64) ([]byte, error) {
	f, err := root.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, limit))
}
