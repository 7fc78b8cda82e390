package inspect

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/relkit/relkit/pkg/engine/trust"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/signature"
	"github.com/relkit/relkit/pkg/format/trustdoc"
)

// Signature is one of the signatures beside a trust document.
type Signature struct {
	Key string `json:"key,omitempty"`
	// Problem says why it is none over this document; "" where it is one.
	Problem string `json:"problem,omitempty"`
}

// trust looks at the signatures of a trust document, and verifies them as those
// of the one after Options.Trust or, without one, by the policy's root keys.
func (res *Result) trust(b []byte, o Options) error {
	sigs, err := readSignature(res.File + trust.SigSuffix)
	if err != nil && !o.Verify {
		return nil
	}
	if err != nil {
		return failure.WithHint(err, "relkit sign %s --as root --key KEYFILE", failure.Word(res.File))
	}
	d, err := trust.NewDocument(res.File, b, sigs)
	if err != nil {
		return err
	}
	all, err := signature.Split(sigs)
	if err != nil {
		return failure.As(failure.Untrusted, err)
	}
	for _, s := range all {
		key, err := signature.Verify(bytes.NewReader(b), s, signature.NamespaceTrust)
		if err != nil {
			res.Signatures = append(res.Signatures, Signature{Problem: err.Error()})
			continue
		}
		res.Signatures = append(res.Signatures, Signature{Key: signature.Fingerprint(key)})
	}
	if !o.Verify {
		return nil
	}
	clock := trust.Clock{Shown: o.Now}
	if o.Trust == nil {
		p := o.Policy
		p.Require, p.Thresholds = []string{trustdoc.RoleRoot}, map[string]int{trustdoc.RoleRoot: d.Thresholds[trustdoc.RoleRoot]}
		if _, err := trust.CheckDocument(p, signature.NamespaceTrust, b, d.Signatures(), o.Now); err != nil {
			return err
		}
	}
	before := o.Trust
	if before != nil && before.Digest == d.Digest {
		before = nil // by itself
	}
	if res.Verified, err = d.Check(before, clock); err != nil {
		return err
	}
	return d.Valid("", clock)
}

// TrustRows is a trust document for a person.
func TrustRows(d *trustdoc.Document) [][]string {
	rows := [][]string{
		{"product", d.Product}, {"version", strconv.FormatInt(d.Version, 10)},
		{"issued", d.Issued.Format(time.RFC3339)}, {"expires", d.Expires.Format(time.RFC3339)},
	}
	for _, role := range slices.Sorted(maps.Keys(d.Thresholds)) {
		rows = append(rows, []string{"threshold", fmt.Sprintf("%s %d", role, d.Thresholds[role])})
	}
	for _, s := range d.Signers().Signers {
		text := strings.Join(s.Principals, ",") + " " + signature.Fingerprint(s.Key)
		if s.CertAuthority {
			text += " cert-authority"
		}
		if !s.ValidAfter.IsZero() {
			text += " valid-after " + s.ValidAfter.UTC().Format(time.RFC3339)
		}
		if !s.ValidBefore.IsZero() {
			text += " valid-before " + s.ValidBefore.UTC().Format(time.RFC3339)
		}
		if s.Namespaces != "" {
			text += " namespaces " + s.Namespaces
		}
		rows = append(rows, []string{"signer", text})
	}
	for _, r := range d.Revoked {
		rows = append(rows, []string{"revoked", strings.TrimSpace(r.Key + " " + r.Reason)})
	}
	return rows
}
