package health

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/relkit/relkit/pkg/format/identity"
	"github.com/relkit/relkit/pkg/format/record"
)

// Classes are what --redact can hide.
var classes = []string{"serial", "hostname", "mac", "ip"}

func checkClasses(names []string) error {
	for _, n := range names {
		if !slices.Contains(classes, n) {
			return fmt.Errorf("unknown class %q, want one of %s", n, strings.Join(classes, ", "))
		}
	}
	return nil
}

// redact replaces the values of the classes by keyed hashes: serial is serial
// numbers and the UUID; hostname the host's name and that of servers it mounts
// from; mac hardware addresses, in interface names too; ip addresses of servers.
//
// id is the machine id, which the key is made of; the zero ID makes all values
// of a class look alike.
func redact(h *record.Health, id identity.ID, hide []string) {
	for _, class := range classes {
		if slices.Contains(hide, class) {
			h.Redacted = append(h.Redacted, class)
		}
	}
	r := redactor{id: id, hide: hide}
	for _, s := range []*string{h.Machine.Serial, h.Machine.UUID, h.Machine.BoardSerial} {
		r.value("serial", s)
	}
	r.value("hostname", h.Machine.Hostname)
	for i := range h.Checks {
		c := &h.Checks[i]
		if mac, ok := c.Values["mac"].(string); ok {
			r.mac(c, mac)
		}
		if source, ok := c.Values["source"].(string); ok {
			c.Values["source"] = r.source(source)
		}
	}
	for i := range h.Machine.MACs {
		r.value("mac", &h.Machine.MACs[i])
	}
}

type redactor struct {
	id   identity.ID
	hide []string
}

// value hides a value that is there.
func (r *redactor) value(class string, s *string) {
	if s != nil && slices.Contains(r.hide, class) {
		*s = r.id.Redact(class, *s)
	}
}

// mac hides the address of an interface, and in its name, which systemd makes of
// the address where there is nothing better (enx0123456789ab).
func (r *redactor) mac(c *record.HealthCheck, mac string) {
	if !slices.Contains(r.hide, "mac") {
		return
	}
	hidden := r.id.Redact("mac", mac)
	c.Values["mac"] = hidden
	if digits := strings.ReplaceAll(mac, ":", ""); digits != "" {
		c.Object = strings.ReplaceAll(c.Object, digits, strings.TrimPrefix(hidden, "redacted:"))
	}
}

// source hides the server in what a network file system is mounted from:
// server:/path and //server/path. IPv6 addresses stand in brackets.
func (r *redactor) source(s string) string {
	server, rest, ok := strings.Cut(s, ":/")
	before, sep := "", ":/"
	if smb, isSMB := strings.CutPrefix(s, "//"); isSMB {
		server, rest, ok = strings.Cut(smb, "/")
		before, sep = "//", "/"
	}
	if !ok || server == "" || strings.HasPrefix(server, "/") {
		return s
	}
	class := "hostname"
	if _, err := netip.ParseAddr(unbracket(server)); err == nil {
		class = "ip"
	}
	r.value(class, &server)
	return before + server + sep + rest
}

// unbracket is an address without the brackets, which vis(3) has escaped.
func unbracket(s string) string {
	for _, open := range []string{"[", `\133`} {
		if inner, ok := strings.CutPrefix(s, open); ok {
			return strings.TrimSuffix(inner, "]")
		}
	}
	return s
}
