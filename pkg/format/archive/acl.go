package archive

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/relkit/relkit/pkg/format/manifest"
)

// The attributes in which Linux keeps POSIX ACLs, and the PAX keywords under
// which star(1), GNU tar and bsdtar write them as text.
const (
	attrAccess  = "system.posix_acl_access"
	attrDefault = "system.posix_acl_default"
	aclAccess   = "SCHILY.acl.access"
	aclDefault  = "SCHILY.acl.default"
)

// Tags of an ACL entry and the id of one that names nobody (linux/posix_acl.h,
// linux/posix_acl_xattr.h).
const (
	aclVersion  = 2
	aclNoID     = ^uint32(0)
	tagUserObj  = 0x01
	tagUser     = 0x02
	tagGroupObj = 0x04
	tagGroup    = 0x08
	tagMask     = 0x10
	tagOther    = 0x20
)

// aclText writes the kernel's form of an ACL as acl(5)'s short text form with
// numeric ids: "user::rw-,user:1000:r--,group::r--,mask::r--,other::r--". ok is
// false for bytes that have no such text.
func aclText(b []byte) (text string, ok bool) {
	if len(b) < 4 || (len(b)-4)%8 != 0 || binary.LittleEndian.Uint32(b) != aclVersion {
		return "", false
	}
	var parts []string
	for b = b[4:]; len(b) > 0; b = b[8:] {
		tag, perm := binary.LittleEndian.Uint16(b), binary.LittleEndian.Uint16(b[2:])
		id := binary.LittleEndian.Uint32(b[4:])
		word, who := "", ""
		switch tag {
		case tagUserObj, tagUser:
			word = "user"
		case tagGroupObj, tagGroup:
			word = "group"
		case tagMask:
			word = "mask"
		case tagOther:
			word = "other"
		}
		named := tag == tagUser || tag == tagGroup
		if named {
			who = strconv.FormatUint(uint64(id), 10)
		}
		if word == "" || perm > 7 || named == (id == aclNoID) {
			return "", false
		}
		parts = append(parts, word+":"+who+":"+permText(perm))
	}
	return strings.Join(parts, ","), len(parts) > 0
}

func permText(perm uint16) string {
	b := []byte("---")
	for i, c := range []byte("rwx") {
		if perm&(4>>i) != 0 {
			b[i] = c
		}
	}
	return string(b)
}

// aclBytes reads the text of an ACL: entries separated by commas or newlines, in
// any order.
// A name is taken by the numeric id in a fourth field (star's way), or is
// itself a number; other names mean nothing away from the machine they are from.
func aclBytes(text string) ([]byte, error) {
	var acl []aclEntry
	entries := strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == '\n' })
	if len(entries) == 0 {
		return nil, fmt.Errorf("bad ACL %q", text)
	}
	for _, entry := range entries {
		f := strings.Split(strings.TrimSpace(entry), ":")
		if len(f) < 3 || len(f) > 4 {
			return nil, fmt.Errorf("bad ACL entry %q", entry)
		}
		tag := tagOf(f[0], f[1] != "")
		perm, ok := permOf(f[2])
		if tag == 0 || !ok {
			return nil, fmt.Errorf("bad ACL entry %q", entry)
		}
		id := aclNoID
		if f[1] != "" {
			n, err := strconv.ParseUint(f[len(f)-1], 10, 32)
			if len(f) == 3 {
				n, err = strconv.ParseUint(f[1], 10, 32)
			}
			if err != nil || uint32(n) == aclNoID {
				return nil, fmt.Errorf("ACL entry %q has no numeric id", entry)
			}
			id = uint32(n)
		}
		acl = append(acl, aclEntry{tag, perm, id})
	}
	// The kernel wants them by tag, and gives them by id within one.
	slices.SortStableFunc(acl, func(a, b aclEntry) int {
		return cmp.Or(cmp.Compare(a.tag, b.tag), cmp.Compare(a.id, b.id))
	})
	b := binary.LittleEndian.AppendUint32(nil, aclVersion)
	for _, e := range acl {
		b = binary.LittleEndian.AppendUint16(b, e.tag)
		b = binary.LittleEndian.AppendUint16(b, e.perm)
		b = binary.LittleEndian.AppendUint32(b, e.id)
	}
	return b, nil
}

// onlyMode tells whether x is an access ACL that says no more than the mode does:
// GNU tar writes it for a folder that has a default ACL, and Linux keeps none.
func onlyMode(x manifest.Xattr) bool {
	const threeEntries = 4 + 3*8
	return x.Name == attrAccess && len(x.Value) <= threeEntries
}

type aclEntry struct {
	tag, perm uint16
	id        uint32
}

func tagOf(word string, named bool) uint16 {
	switch {
	case word == "user" && named:
		return tagUser
	case word == "user":
		return tagUserObj
	case word == "group" && named:
		return tagGroup
	case word == "group":
		return tagGroupObj
	case word == "mask" && !named:
		return tagMask
	case word == "other" && !named:
		return tagOther
	}
	return 0
}

func permOf(s string) (uint16, bool) {
	if len(s) != 3 {
		return 0, false
	}
	var perm uint16
	for i, c := range []byte("rwx") {
		switch s[i] {
		case c:
			perm |= 4 >> i
		case '-':
		default:
			return 0, false
		}
	}
	return perm, true
}
