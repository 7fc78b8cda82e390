// Package ssh runs a program on another machine over SSH, with the keys and the
// known hosts of the user. It reads no ssh_config(5) and knows no proxies: that is
// what the ssh program is for.
package ssh

import (
	"fmt"
	"net"
	"regexp"
	"strconv"
	"strings"
)

// Target is where to connect to.
type Target struct {
	// User is "" for the one of the caller.
	User, Host string
	Port       int
}

const defaultPort = 22

var (
	userPattern = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.@\\+-]*\$?$`)
	hostPattern = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*$`)
)

// ParseTarget reads "[USER@]HOST[:PORT]"; an IPv6 address with a port stands in brackets.
func ParseTarget(text string) (Target, error) {
	t := Target{Port: defaultPort}
	bad := func() (Target, error) {
		return Target{}, fmt.Errorf("bad host %q, want [USER@]HOST[:PORT]", text)
	}
	rest := text
	if i := strings.LastIndexByte(text, '@'); i >= 0 {
		t.User, rest = text[:i], text[i+1:]
		if !userPattern.MatchString(t.User) {
			return bad()
		}
	}
	port := ""
	switch {
	case strings.HasPrefix(rest, "["):
		end := strings.IndexByte(rest, ']')
		if end < 0 {
			return bad()
		}
		t.Host, port = rest[1:end], rest[end+1:]
		if port != "" && port[0] != ':' || net.ParseIP(t.Host) == nil {
			return bad()
		}
		if port = strings.TrimPrefix(port, ":"); port == "" && rest[end+1:] != "" {
			return bad()
		}
	case strings.Count(rest, ":") > 1:
		t.Host = rest
		if net.ParseIP(t.Host) == nil {
			return bad()
		}
	default:
		var given bool
		t.Host, port, given = strings.Cut(rest, ":")
		if given && port == "" || !hostPattern.MatchString(t.Host) {
			return bad()
		}
	}
	if port != "" {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return bad()
		}
		t.Port = int(n)
	}
	return t, nil
}

// Address is the target for net.Dial.
func (t Target) Address() string { return net.JoinHostPort(t.Host, strconv.Itoa(t.Port)) }

func (t Target) String() string {
	text := t.Host
	if t.Port != defaultPort {
		text = t.Address()
	}
	if t.User != "" {
		text = t.User + "@" + text
	}
	return text
}
