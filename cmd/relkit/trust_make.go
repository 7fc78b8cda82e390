package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/signature"
	"github.com/relkit/relkit/pkg/format/trustdoc"
)

// makeTrust writes a new document, which is still to be signed.
func (e *env) makeTrust(c *cli.Context) error {
	if _, err := e.operands(c, 0, 0); err != nil {
		return err
	}
	edit, err := e.trustEdit(c)
	if err != nil {
		return err
	}
	var previous *trustdoc.Document
	if name := c.String("previous"); name != "" {
		b, err := readText(name, trustdoc.MaxSize)
		if err != nil {
			return err
		}
		if previous, err = trustdoc.Parse(b); err != nil {
			return failure.As(failure.Usage, fmt.Errorf("reading %q: %w", name, err))
		}
	}
	switch {
	case previous == nil && edit.Product == "":
		return failure.Errorf(failure.Usage, "missing flag --product, or --previous")
	case previous == nil && edit.AllowedSigners == nil:
		return failure.Errorf(failure.Usage, "missing flag --allowed-signers, or --previous")
	}
	d, err := trustdoc.Next(previous, edit)
	if err != nil {
		return failure.As(failure.Usage, fmt.Errorf("making the trust document: %w", err))
	}
	b, err := d.Encode()
	if err != nil {
		return err
	}
	name := c.String("output")
	out, err := e.create(name, 0o644, false)
	if err != nil {
		return err
	}
	defer out.Abort()
	if _, err := out.Write(b); err != nil {
		return err
	}
	if err := out.Commit(); err != nil || name == "-" {
		return err
	}
	e.Log.Info(fmt.Sprintf("trust document %d takes %d root keys to sign: relkit sign %s --as root --key KEYFILE", d.Version, d.Thresholds[trustdoc.RoleRoot], failure.Word(name)))
	return e.print(madeTrust{"relkit.trust-made/v1", name, d.Product, d.Version, d.Expires, digest.Of(b).String()}, name)
}

// trustEdit reads what the new document says.
func (e *env) trustEdit(c *cli.Context) (edit trustdoc.Edit, err error) {
	if edit.Issued, err = e.stamp(); err != nil {
		return edit, err
	}
	span, err := spanValue(c, "expires")
	if err != nil {
		return edit, err
	}
	edit.Product, edit.Expires = c.String("product"), edit.Issued.Add(span)
	if name := c.String("allowed-signers"); name != "" {
		b, err := readText(name, signature.MaxAllowedSigners)
		if err != nil {
			return edit, err
		}
		text := string(b)
		edit.AllowedSigners = &text
	}
	if edit.Thresholds, err = thresholds(c); err != nil {
		return edit, err
	}
	for _, value := range c.StringSlice("revoke") {
		print, err := fingerprint(value)
		if err != nil {
			return edit, err
		}
		edit.Revoke = append(edit.Revoke, trustdoc.Revoked{Key: print, Reason: c.String("reason")})
	}
	if c.IsSet("reason") && len(edit.Revoke) == 0 {
		return edit, failure.Errorf(failure.Usage, "--reason goes with --revoke")
	}
	return edit, nil
}

// thresholds is the value of --threshold; without it a first document takes one root key.
func thresholds(c *cli.Context) (map[string]int, error) {
	all := map[string]int{}
	if c.String("previous") == "" {
		all[trustdoc.RoleRoot] = 1
	}
	for _, s := range commaList(c.StringSlice("threshold")) {
		role, number, ok := strings.Cut(s, "=")
		n, err := strconv.Atoi(number)
		if !ok || err != nil || n < 0 {
			return nil, failure.Errorf(failure.Usage, "reading --threshold: got %q, want ROLE=N", s)
		}
		all[role] = n
	}
	return all, nil
}

// readText reads a file of at most limit bytes that the user has named.
func readText(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, failure.As(failure.Usage, err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = failure.Errorf(failure.Usage, "reading %q: more than %d bytes", name, limit)
	}
	return b, err
}
