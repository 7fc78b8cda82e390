package signature

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"golang.org/x/crypto/ssh"
)

// Certificates are OpenSSH's (PROTOCOL.certkeys): an authority's word, for a
// while, that a key signs as some principals.

// checkCertificate tells whether a certificate is its authority's: the key that
// it names did sign it. Whether that authority counts is not asked.
func checkCertificate(c *ssh.Certificate) error {
	if c.CertType != ssh.UserCert && c.CertType != ssh.HostCert {
		return fmt.Errorf("certificate of type %d: want a user's or a host's", c.CertType)
	}
	if err := CheckKey(c.Key); err != nil {
		return fmt.Errorf("certificate: %w", err)
	}
	if err := CheckKey(c.SignatureKey); err != nil {
		return fmt.Errorf("certificate's authority: %w", err)
	}
	if err := checkFormat(c.SignatureKey, c.Signature); err != nil {
		return fmt.Errorf("certificate: %w", err)
	}
	// What is signed is everything before the signature, which is the last
	// field: a string, here an empty one of four bytes.
	body := *c
	body.Signature = nil
	signed := body.Marshal()
	if err := c.SignatureKey.Verify(signed[:len(signed)-4], c.Signature); err != nil {
		return fmt.Errorf("certificate is not signed by the authority it names: %w", err)
	}
	return nil
}

// checkUse tells whether a certificate is one for signing documents at all. A
// critical option narrows what it is for (a command, an address); none is about
// documents, and so none is met.
func checkUse(c *ssh.Certificate) error {
	switch {
	case c.CertType != ssh.UserCert:
		return errors.New("its certificate is not a user's")
	case len(c.ValidPrincipals) == 0:
		return errors.New("its certificate names no principals")
	case len(c.CriticalOptions) > 0:
		return fmt.Errorf("its certificate has the critical option %q, which is not met here", slices.Sorted(maps.Keys(c.CriticalOptions))[0])
	}
	return nil
}

// checkValidity tells whether a certificate was valid when it signed. One that
// has expired since still counts; one that is not valid yet does not.
func checkValidity(c *ssh.Certificate, signed, now time.Time) error {
	switch {
	case before(signed, c.ValidAfter) || before(now, c.ValidAfter):
		return fmt.Errorf("its certificate is valid only from %s", certTime(c.ValidAfter))
	case !before(signed, c.ValidBefore):
		return fmt.Errorf("its certificate was valid only until %s, and it signed on %s", certTime(c.ValidBefore), signed.UTC().Format(time.RFC3339))
	}
	return nil
}

// before tells whether t lies before a certificate's time, which is in seconds
// since 1970 and reaches further than any time.Time.
func before(t time.Time, seconds uint64) bool { return t.Unix() < 0 || uint64(t.Unix()) < seconds }

func certTime(seconds uint64) string {
	const last = 253402300799 // 9999-12-31T23:59:59Z
	if seconds > last {
		return "ever"
	}
	return time.Unix(int64(seconds), 0).UTC().Format(time.RFC3339)
}
