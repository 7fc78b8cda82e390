package image

import (
	"bytes"
	"io"

	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/glob"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/sys/tree"
)

// emptied are the files that make a machine that one machine and that must be
// there, empty, for it to become another (machine-id(5)).
var emptied = mustParse("etc/machine-id", "var/lib/dbus/machine-id")

// dropped are those that a machine makes anew where they are missing: host keys,
// leases, seeds and secrets, and what ties names of interfaces to addresses.
var dropped = mustParse(
	"etc/ssh/ssh_host_*_key", "etc/ssh/ssh_host_*_key.pub", "etc/ssh/ssh_host_*_key-cert.pub", "etc/dropbear/dropbear_*_host_key",
	"var/lib/dhcp/*", "var/lib/dhclient/*", "var/lib/dhcpcd/*", "var/lib/NetworkManager/*.lease",
	"var/lib/NetworkManager/secret_key", "var/lib/NetworkManager/timestamps", "var/lib/systemd/network/*",
	"var/lib/systemd/random-seed", "var/lib/systemd/credential.secret", "var/lib/urandom/random-seed", "var/lib/seedrng/*",
	"etc/udev/rules.d/70-persistent-*.rules", "etc/iscsi/initiatorname.iscsi", "etc/nvme/hostid", "etc/nvme/hostnqn", "etc/hostid",
)

func mustParse(patterns ...string) glob.Set {
	s, err := glob.ParseSet(patterns)
	if err != nil {
		panic(err)
	}
	return s
}

// identity takes the machine's identity out of what is restored, where that was
// asked for. Folders stay.
func (g *get) identity(items tree.Items) tree.Items {
	if !g.opts.ResetIdentity {
		return items
	}
	return func(yield func(*tree.Item, error) bool) {
		for it, err := range items {
			if err == nil && it.Kind != manifest.Dir {
				switch {
				case dropped.Match(it.Path):
					g.rec.Reset = append(g.rec.Reset, manifest.Escape(it.Path))
					continue
				case emptied.Match(it.Path) && it.Kind != manifest.Symlink:
					g.rec.Reset = append(g.rec.Reset, manifest.Escape(it.Path))
					it = empty(it)
				}
			}
			if !yield(it, err) {
				return
			}
		}
	}
}

// empty is the item without its content, a file of its own.
func empty(it *tree.Item) *tree.Item {
	e := *it.Entry
	e.Kind, e.Size, e.Digest, e.Link = manifest.File, 0, digest.Of(nil), 0
	return &tree.Item{Entry: &e, Content: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(nil)), nil }}
}
