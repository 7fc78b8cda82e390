package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// A patch that ends early is refused wherever it ends.
func TestTruncatedPatch(t *testing.T) {
	b := newBadBox(t)
	cuts := []int{0, 1, len(b.patch) - 1024, len(b.patch) - 512, len(b.patch) - 1}
	for _, m := range membersOf(t, b.patch) {
		cuts = append(cuts, m.start, m.start+1, m.body, m.body+1, m.end-1)
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		cuts = append(cuts, random.IntN(len(b.patch)))
	}
	slices.Sort(cuts)
	for _, n := range slices.Compact(cuts) {
		b.refuses(t, fmt.Sprintf("cut at %d of %d", n, len(b.patch)), b.patch[:n], 5, fmt.Sprintf("truncated at offset %d\n", n))
	}
}

// TestFlippedBit flips one bit of every byte of a signed patch. There is no bit
// that does not matter: headers and padding have one spelling, patch.json is
// covered by the sign-off, the rest by patch.json, and a sign-off that is not
// as it was signed, armor included, is none.
func TestFlippedBit(t *testing.T) {
	for _, pipe := range []bool{false, true} {
		t.Run(map[bool]string{false: "file", true: "pipe"}[pipe], func(t *testing.T) {
			t.Parallel()
			b := newBadBox(t)
			random := rand.New(rand.NewPCG(3, 4))
			step := 1
			if testing.Short() {
				step = 37
			}
			for at := 0; at < len(b.patch); at += step {
				bad, bit := bytes.Clone(b.patch), random.IntN(8)
				bad[at] ^= 1 << bit
				b.refused(t, fmt.Sprintf("bit %d of byte %d of %d", bit, at, len(bad)), bad, pipe, 5, "")
			}
		})
	}
}

// Members that patch.json does not list, lists otherwise, or does not know the order of.
func TestUnlistedMembers(t *testing.T) {
	b := newBadBox(t)
	m := membersOf(t, b.patch)
	raw := map[string][]byte{}
	for _, m := range m {
		raw[m.name] = m.raw
	}
	header, doc, sig, entries, payload := raw["patch.json"], raw["signoffs/release.json"], raw["signoffs/release.json.sig"], raw["entries"], raw["payload"]
	if !bytes.Equal(joined(header, doc, sig, entries, payload), b.patch) {
		t.Fatalf("the patch has other members: %v", m)
	}
	extra := rawMember("extra", '0', []byte("x"))
	trailer := make([]byte, 1024)
	for _, c := range []struct {
		what, want string
		patch      []byte
	}{
		{"nothing but the end", `not a relkit patch: it looks like nothing but zeros`, joined()},
		{"entries first", `whose first member is "entries", want "patch.json"`, joined(entries, header, doc, sig, payload)},
		{"patch.json twice", `member "patch.json" before offset`, joined(header, header, doc, sig, entries, payload)},
		{"patch.json behind", `member "patch.json" before offset`, joined(header, doc, sig, entries, payload, header)},
		{"sign-off twice", `member "signoffs/release.json" at offset`, joined(header, doc, sig, doc, sig, entries, payload)},
		{"sign-off without signature", `member "entries" at offset`, joined(header, doc, entries, payload)},
		{"signature without sign-off", `member "signoffs/release.json.sig" at offset`, joined(header, sig, entries, payload)},
		{"signature first", `member "signoffs/release.json.sig" at offset`, joined(header, sig, doc, entries, payload)},
		{"sign-off behind", `member "signoffs/release.json" before offset`, joined(header, doc, sig, entries, doc, sig, payload)},
		{"sign-off last", `member "signoffs/release.json" before offset`, joined(header, doc, sig, entries, payload, doc, sig)},
		{"no sign-off", `no sign-off as "release"`, joined(header, entries, payload)},
		{"no entries", `member "payload" before offset`, joined(header, doc, sig, payload)},
		{"no payload", `member "payload" is missing at offset`, joined(header, doc, sig, entries)},
		{"entries twice", `member "entries" before offset`, joined(header, doc, sig, entries, entries, payload)},
		{"payload twice", `member "payload" before offset`, joined(header, doc, sig, entries, payload, payload)},
		{"payload first", `member "payload" before offset`, joined(header, doc, sig, payload, entries)},
		{"unlisted hook", `member "hooks/pre" before offset`, joined(header, doc, sig, rawMember("hooks/pre", '0', []byte("#!/bin/sh\n")), entries, payload)},
		{"unlisted member in front", `whose first member is "extra", want "patch.json"`, joined(extra, header, doc, sig, entries, payload)},
		{"unlisted member", `member "extra" before offset`, joined(header, doc, sig, entries, extra, payload)},
		{"unlisted member behind", `member "extra" before offset`, joined(header, doc, sig, entries, payload, extra)},
		{"a folder", `header not in canonical form`, joined(header, doc, sig, rawMember("x/", '5', nil), entries, payload)},
		{"a symlink", `header not in canonical form`, joined(header, doc, sig, rawMember("x", '2', nil), entries, payload)},
		{"a pax header", `header not in canonical form`, joined(header, doc, sig, rawMember("x", 'x', []byte("12 path=yyy\n")), entries, payload)},
		{"a byte behind", `bytes after the end of the archive`, append(bytes.Clone(b.patch), 0)},
		{"blocks behind", `bytes after the end of the archive`, append(bytes.Clone(b.patch), trailer...)},
		{"another patch behind", `bytes after the end of the archive`, append(bytes.Clone(b.patch), b.patch...)},
		{"a member behind the end", `bytes after the end of the archive`, append(bytes.Clone(b.patch), extra...)},
		{"one block of zeros at the end", `truncated at offset`, b.patch[:len(b.patch)-512]},
		{"no patch", `not a relkit patch: it looks like text`, bytes.Repeat([]byte("no patch\n"), 200)},
		{"zeros", `nothing but zeros`, make([]byte, 10240)},
	} {
		b.refuses(t, c.what, c.patch, 5, c.want)
	}
}
