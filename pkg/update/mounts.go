package update

import "strings"

// allowMounts reads from machine.toml which read-only mounts may be made writable
// for as long as a transaction works on them.
func (m *machine) allowMounts() error {
	c, _, err := m.readMachine()
	if err != nil {
		return err
	}
	m.target.Remount = nil
	for _, path := range c.Mounts.Remount {
		if path = strings.Trim(path, "/"); path == "" {
			path = "."
		}
		m.target.Remount = append(m.target.Remount, path)
	}
	return nil
}
