package identity

import "github.com/relkit/relkit/pkg/format/glob"

// Emptied are the files that make a machine that one machine and that must be
// there, empty, for it to become another (machine-id(5)).
func Emptied() glob.Set { return mustParse("etc/machine-id", "var/lib/dbus/machine-id") }

// Dropped are those that a machine makes anew where they are missing: host keys,
// leases, seeds and secrets, and what ties names of interfaces to addresses.
func Dropped() glob.Set {
	return mustParse(
		"etc/ssh/ssh_host_*_key", "etc/ssh/ssh_host_*_key.pub", "etc/ssh/ssh_host_*_key-cert.pub", "etc/dropbear/dropbear_*_host_key",
		"var/lib/dhcp/*", "var/lib/dhclient/*", "var/lib/dhcpcd/*", "var/lib/NetworkManager/*.lease",
		"var/lib/NetworkManager/secret_key", "var/lib/NetworkManager/timestamps", "var/lib/systemd/network/*",
		"var/lib/systemd/random-seed", "var/lib/systemd/credential.secret", "var/lib/urandom/random-seed", "var/lib/seedrng/*",
		"etc/udev/rules.d/70-persistent-*.rules", "etc/iscsi/initiatorname.iscsi", "etc/nvme/hostid", "etc/nvme/hostnqn", "etc/hostid",
	)
}

func mustParse(patterns ...string) glob.Set {
	s, err := glob.ParseSet(patterns)
	if err != nil {
		panic(err)
	}
	return s
}
