package archive

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/relkit/relkit/pkg/format/manifest"
)

const blockSize = 512

// The type flags of pax(1)'s ustar format.
const (
	typeFile    = '0'
	typeLink    = '1'
	typeSymlink = '2'
	typeChar    = '3'
	typeBlock   = '4'
	typeDir     = '5'
	typeFIFO    = '6'
	typePAX     = 'x'
)

// paxName is the name of every extended header: readers of PAX do not look at
// it, others show it.
const paxName = "././@PaxHeader"

// maxPAX bounds an extended header: the largest entry that a manifest can hold.
const maxPAX = 4 << 20

const xattrPrefix = "SCHILY.xattr."

// header is a member's header as ustar and PAX together write it.
type header struct {
	name         string // a folder's ends in a slash
	typ          byte
	link         string
	mode         uint32
	uid, gid     uint32
	size         int64
	time         manifest.Time
	major, minor uint32
	xattrs       []manifest.Xattr
}

var kindTypes = map[manifest.Kind]byte{
	manifest.File: typeFile, manifest.Dir: typeDir, manifest.Symlink: typeSymlink,
	manifest.CharDev: typeChar, manifest.BlockDev: typeBlock, manifest.FIFO: typeFIFO,
}

// headerOf is the header of an entry; linkTo is set for a further name of a
// hard-link group.
func headerOf(e *manifest.Entry, linkTo string) *header {
	h := &header{name: e.Path, typ: kindTypes[e.Kind], link: e.Target, mode: e.Mode, uid: e.UID, gid: e.GID,
		size: e.Size, time: e.ModTime, major: e.Major, minor: e.Minor, xattrs: e.Xattrs}
	if e.Kind == manifest.Dir {
		h.name += "/"
	}
	if linkTo != "" {
		h.typ, h.link, h.size, h.major, h.minor, h.xattrs = typeLink, linkTo, 0, 0, 0, nil
	}
	return h
}

// append appends the header's blocks: an extended header first where a value
// does not fit the ustar block.
func (h *header) append(b []byte) ([]byte, error) {
	records := map[string]string{}
	u := *h
	if len(h.name) > 100 {
		records["path"] = h.name
		u.name = h.name[:100]
	}
	if len(h.link) > 100 {
		records["linkpath"] = h.link
		u.link = h.link[:100]
	}
	if h.uid > 0o7777777 {
		records["uid"] = strconv.FormatUint(uint64(h.uid), 10)
		u.uid = 0
	}
	if h.gid > 0o7777777 {
		records["gid"] = strconv.FormatUint(uint64(h.gid), 10)
		u.gid = 0
	}
	if h.size > 0o77777777777 {
		records["size"] = strconv.FormatInt(h.size, 10)
		u.size = 0
	}
	if h.time.Nsec != 0 || h.time.Sec < 0 || h.time.Sec > 0o77777777777 {
		records["mtime"] = paxTime(h.time)
		u.time.Sec = min(max(h.time.Sec, 0), 0o77777777777)
	}
	if h.major > 0o7777777 || h.minor > 0o7777777 {
		return nil, fmt.Errorf("device number %d,%d does not fit a tar header", h.major, h.minor)
	}
	for _, x := range h.xattrs {
		key, value := xattrRecord(x)
		records[key] = value
	}
	if len(records) > 0 {
		pax := appendRecords(nil, records)
		if len(pax) > maxPAX {
			return nil, fmt.Errorf("extended header of %d bytes, at most %d", len(pax), maxPAX)
		}
		x := header{name: paxName, typ: typePAX, mode: 0o644, size: int64(len(pax))}
		b = pad(append(x.appendBlock(b), pax...), int64(len(pax)))
	}
	return u.appendBlock(b), nil
}

// appendBlock appends the ustar block (POSIX.1, pax, "ustar Interchange Format").
func (h *header) appendBlock(b []byte) []byte {
	start := len(b)
	b = append(b, make([]byte, blockSize)...)
	u := b[start:]
	copy(u[0:100], h.name)
	putOctal(u[100:108], uint64(h.mode))
	putOctal(u[108:116], uint64(h.uid))
	putOctal(u[116:124], uint64(h.gid))
	putOctal(u[124:136], uint64(h.size))
	putOctal(u[136:148], uint64(h.time.Sec))
	u[156] = h.typ
	copy(u[157:257], h.link)
	copy(u[257:265], "ustar\x0000")
	if h.typ == typeChar || h.typ == typeBlock {
		putOctal(u[329:337], uint64(h.major))
		putOctal(u[337:345], uint64(h.minor))
	}
	putOctal(u[148:155], checksum(u)) // six digits, NUL, blank
	u[155] = ' '
	return b
}

// putOctal fills a field with digits and one NUL.
func putOctal(f []byte, n uint64) {
	for i := len(f) - 2; i >= 0; i-- {
		f[i] = '0' + byte(n&7)
		n >>= 3
	}
	f[len(f)-1] = 0
}

// checksum adds the bytes of a block, those of the checksum field as blanks.
func checksum(block []byte) uint64 {
	var sum uint64
	for i, c := range block {
		if i >= 148 && i < 156 {
			c = ' '
		}
		sum += uint64(c)
	}
	return sum
}

// pad appends the zeros that fill the last block of n bytes.
func pad(b []byte, n int64) []byte {
	return append(b, make([]byte, -n&(blockSize-1))...)
}

// paxTime is a time as a decimal number: half a second before 1970 is -0.5.
func paxTime(t manifest.Time) string {
	if t.Nsec == 0 {
		return strconv.FormatInt(t.Sec, 10)
	}
	if t.Sec < 0 {
		return fmt.Sprintf("-%d.%09d", -(t.Sec + 1), 1e9-t.Nsec)
	}
	return fmt.Sprintf("%d.%09d", t.Sec, t.Nsec)
}

// parsePAXTime reads a decimal number of seconds with up to nine digits after
// the point; further ones are dropped, as other readers do.
func parsePAXTime(s string) (manifest.Time, error) {
	whole, frac, _ := strings.Cut(s, ".")
	sec, err := strconv.ParseInt(whole, 10, 64)
	if len(frac) > 9 {
		frac = frac[:9]
	}
	nsec, nerr := strconv.ParseUint(frac+strings.Repeat("0", 9-len(frac)), 10, 32)
	if err != nil || nerr != nil {
		return manifest.Time{}, fmt.Errorf("bad time %q", s)
	}
	t := manifest.Time{Sec: sec, Nsec: int64(nsec)}
	if strings.HasPrefix(s, "-") && nsec > 0 {
		t.Sec, t.Nsec = sec-1, 1e9-int64(nsec)
	}
	return t, nil
}

// xattrRecord is an attribute as a PAX record: an ACL as text where it has one,
// all else as its bytes. The keyword's % and = are escaped as GNU tar does.
func xattrRecord(x manifest.Xattr) (key, value string) {
	if x.Name == attrAccess || x.Name == attrDefault {
		text, ok := aclText(x.Value)
		if back, err := aclBytes(text); ok && err == nil && bytes.Equal(back, x.Value) && !onlyMode(x) {
			if x.Name == attrAccess {
				return aclAccess, text
			}
			return aclDefault, text
		}
	}
	return xattrPrefix + strings.NewReplacer("%", "%25", "=", "%3D").Replace(x.Name), string(x.Value)
}

// xattrsOf reads the attributes of an extended header. An ACL that is there as
// text and in the kernel's form is read from the latter.
func xattrsOf(records map[string]string) ([]manifest.Xattr, error) {
	var all []manifest.Xattr
	for key, attr := range map[string]string{aclAccess: attrAccess, aclDefault: attrDefault} {
		_, raw := records[xattrPrefix+attr]
		text, ok := records[key]
		if !ok || raw || text == "" {
			continue
		}
		value, err := aclBytes(text)
		if err != nil {
			return nil, err
		}
		if x := (manifest.Xattr{Name: attr, Value: value}); !onlyMode(x) {
			all = append(all, x)
		}
	}
	for key, value := range records {
		if name, ok := strings.CutPrefix(key, xattrPrefix); ok {
			name = strings.NewReplacer("%3D", "=", "%25", "%").Replace(name)
			all = append(all, manifest.Xattr{Name: name, Value: []byte(value)})
		}
	}
	slices.SortFunc(all, func(a, b manifest.Xattr) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

// appendRecords appends an extended header's records, sorted by keyword:
// "LENGTH keyword=value\n", the length counting itself.
func appendRecords(b []byte, records map[string]string) []byte {
	keys := make([]string, 0, len(records))
	for k := range records {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		size := len(k) + len(records[k]) + 3
		size += len(strconv.Itoa(size))
		if n := len(k) + len(records[k]) + 3 + len(strconv.Itoa(size)); n > size {
			size = n
		}
		b = strconv.AppendInt(b, int64(size), 10)
		b = append(b, ' ')
		b = append(b, k...)
		b = append(b, '=')
		b = append(b, records[k]...)
		b = append(b, '\n')
	}
	return b
}

func parseRecords(s string) (map[string]string, error) {
	records := map[string]string{}
	for s != "" {
		length, _, ok := strings.Cut(s, " ")
		n, err := strconv.Atoi(length)
		if !ok || err != nil || n <= len(length)+1 || n > len(s) || s[n-1] != '\n' {
			return nil, errors.New("bad record in an extended header")
		}
		key, value, ok := strings.Cut(s[len(length)+1:n-1], "=")
		if !ok {
			return nil, errors.New("extended header record without a value")
		}
		records[key] = value
		s = s[n:]
	}
	return records, nil
}

// parseBlock reads a ustar block. It is lax: whether it is what appendBlock
// writes is for the caller to see by writing it again.
func parseBlock(u []byte) (*header, error) {
	if string(u[257:265]) != "ustar\x0000" {
		return nil, errors.New("not a ustar header")
	}
	h := &header{typ: u[156], name: cString(u[0:100]), link: cString(u[157:257])}
	for _, f := range []struct {
		field []byte
		set   func(uint64)
	}{
		{u[100:108], func(n uint64) { h.mode = uint32(n) }},
		{u[108:116], func(n uint64) { h.uid = uint32(n) }},
		{u[116:124], func(n uint64) { h.gid = uint32(n) }},
		{u[124:136], func(n uint64) { h.size = int64(n) }},
		{u[136:148], func(n uint64) { h.time.Sec = int64(n) }},
		{u[329:337], func(n uint64) { h.major = uint32(n) }},
		{u[337:345], func(n uint64) { h.minor = uint32(n) }},
	} {
		digits := cString(f.field)
		if digits == "" {
			continue
		}
		n, err := strconv.ParseUint(digits, 8, 40)
		if err != nil {
			return nil, fmt.Errorf("bad number %q in a header", digits)
		}
		f.set(n)
	}
	return h, nil
}

func cString(f []byte) string {
	s, _, _ := strings.Cut(string(f), "\x00")
	return s
}

// extend lays an extended header's records over a ustar block's values.
func (h *header) extend(records map[string]string) (err error) {
	for key, value := range records {
		switch key {
		case "path":
			h.name = value
		case "linkpath":
			h.link = value
		case "mtime":
			h.time, err = parsePAXTime(value)
		case "size":
			h.size, err = strconv.ParseInt(value, 10, 64)
		case "uid":
			h.uid, err = parseID(value)
		case "gid":
			h.gid, err = parseID(value)
		default:
			if !strings.HasPrefix(key, xattrPrefix) && key != aclAccess && key != aclDefault {
				err = fmt.Errorf("unknown keyword %q in an extended header", key)
			}
		}
		if err != nil {
			return err
		}
	}
	h.xattrs, err = xattrsOf(records)
	return err
}

func parseID(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err
}
