package compare

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/relkit/relkit/pkg/format/archive"
)

// within is what of two files differs; first and second are what stands there, ""
// where that is nothing to show.
type within struct{ what, first, second string }

func says(format string, args ...any) within { return within{what: fmt.Sprintf(format, args...)} }

// inside says what stands where two files first differ, going by what the first
// bytes say they are; nothing where that is not known or they are not of one kind.
func inside(a, b File, p *place, depth int) within {
	kind := kindOf(a)
	if kind == "" || kind != kindOf(b) {
		return within{}
	}
	switch kind {
	case "elf":
		return section(a, b, p)
	case "zip":
		return zipMember(a, b, depth)
	case "ar":
		return arMember(a, b, depth)
	}
	return tarMember(a, b)
}

// kinds are the files that are looked into, by how they begin.
var kinds = []struct{ kind, magic string }{
	{"elf", elf.ELFMAG}, {"zip", "PK\x03\x04"}, {"ar", "!<arch>\n"},
	{"tar", "\x1f\x8b"}, {"tar", "\x28\xb5\x2f\xfd"}, // packed
}

func kindOf(f File) string {
	var head [512]byte
	n, err := f.ReadAt(head[:], 0)
	if err != nil && err != io.EOF {
		return ""
	}
	for _, k := range kinds {
		if bytes.HasPrefix(head[:n], []byte(k.magic)) {
			return k.kind
		}
	}
	if n == len(head) && string(head[257:262]) == "ustar" {
		return "tar"
	}
	return ""
}

// section names the part of a program that holds an offset.
func section(a, b File, p *place) within {
	fa, err := elf.NewFile(a)
	if err != nil {
		return within{}
	}
	defer fa.Close()
	fb, err := elf.NewFile(b)
	if err != nil {
		return within{}
	}
	defer fb.Close()
	// Where one section is larger, all behind it has moved, and the head says so
	// before it does: the first section that differs tells more than the offset.
	for i, s := range fa.Sections {
		if i >= len(fb.Sections) || fb.Sections[i].Name != s.Name {
			break
		}
		o := fb.Sections[i]
		if s.Type == elf.SHT_NOBITS || s.Type == elf.SHT_NULL {
			continue
		}
		d, err := firstDifference(raw(a, s), raw(b, o))
		if err == nil && d != nil && s.Name != "" && s.Name != ".note.gnu.build-id" { // that one follows from the others
			return within{fmt.Sprintf("section %q", s.Name), d.first, d.second}
		}
	}
	for _, s := range fa.Sections {
		if s.Type != elf.SHT_NOBITS && p.at >= int64(s.Offset) && p.at < int64(s.Offset+s.FileSize) {
			return says("section %q", s.Name)
		}
	}
	return within{}
}

// raw is a section as it stands in the file.
func raw(f File, s *elf.Section) io.Reader {
	return io.NewSectionReader(f, int64(s.Offset), int64(s.FileSize))
}

// zipMember names the first member that differs.
func zipMember(a, b File, depth int) within {
	za, err := zip.NewReader(a, a.Size)
	if err != nil {
		return within{}
	}
	zb, err := zip.NewReader(b, b.Size)
	if err != nil {
		return within{}
	}
	for i, m := range za.File {
		if i >= len(zb.File) {
			return says("member %q is in the first alone", m.Name)
		}
		o := zb.File[i]
		switch {
		case m.Name != o.Name:
			return says("member %q stands where the second has %q", m.Name, o.Name)
		case m.CRC32 != o.CRC32 || m.UncompressedSize64 != o.UncompressedSize64:
			return deeper(m.Name, zipContent(m), zipContent(o), depth)
		case !m.Modified.Equal(o.Modified):
			return says("member %q: time, %s and %s", m.Name, m.Modified.UTC().Format(time.RFC3339), o.Modified.UTC().Format(time.RFC3339))
		case m.ExternalAttrs != o.ExternalAttrs:
			return says("member %q: mode", m.Name)
		}
	}
	if len(zb.File) > len(za.File) {
		return says("member %q is in the second alone", zb.File[len(za.File)].Name)
	}
	return within{}
}

// maxMember bounds a member that is looked into, in bytes.
const maxMember = 64 << 20

func zipContent(f *zip.File) []byte {
	r, err := f.Open()
	if err != nil {
		return nil
	}
	defer r.Close()
	data, err := io.ReadAll(io.LimitReader(r, maxMember+1))
	if err != nil || len(data) > maxMember {
		return nil
	}
	return data
}

// deeper says where in a member the difference is.
func deeper(name string, a, b []byte, depth int) within {
	w := says("member %q: content", name)
	if a == nil || b == nil {
		return w
	}
	d, err := files(File{bytes.NewReader(a), int64(len(a))}, File{bytes.NewReader(b), int64(len(b))}, depth+1)
	if err != nil || d == nil {
		return w
	}
	w.what += fmt.Sprintf(" at byte %d", d.Offset)
	if d.Inside != "" {
		w.what += ", " + d.Inside
	}
	w.first, w.second = d.First, d.Second
	return w
}

// arMember names the first member of an ar(5) archive that differs: of a static
// library, or a package of Debian's.
func arMember(a, b File, depth int) within {
	ra, rb := a.reader(), b.reader()
	for _, r := range []*io.SectionReader{ra, rb} {
		if _, err := r.Seek(8, io.SeekStart); err != nil {
			return within{}
		}
	}
	for {
		ha, da, erra := arNext(ra)
		hb, db, errb := arNext(rb)
		if erra != nil || errb != nil {
			return within{}
		}
		name := strings.TrimRight(ha[:16], " ")
		switch {
		case ha[:16] != hb[:16]:
			return says("member %q stands where the second has %q", name, strings.TrimRight(hb[:16], " "))
		case !bytes.Equal(da, db):
			return deeper(name, da, db, depth)
		case ha[16:28] != hb[16:28]:
			return says("member %q: time", name)
		case ha != hb:
			return says("member %q: owner or mode", name)
		}
	}
}

func arNext(r *io.SectionReader) (head string, data []byte, err error) {
	var h [60]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return "", nil, err
	}
	size, err := strconv.ParseInt(strings.TrimSpace(string(h[48:58])), 10, 64)
	if err != nil || size < 0 || size > maxMember {
		return "", nil, errors.New("bad size of a member")
	}
	data, err = io.ReadAll(io.LimitReader(r, size))
	if err == nil && size%2 == 1 {
		_, err = r.Seek(1, io.SeekCurrent)
	}
	return string(h[:]), data, err
}

// tarMember names the first member that differs of two archives, packed or not.
func tarMember(a, b File) within {
	pa, err := archive.Unpack(io.NewSectionReader(a, 0, a.Size))
	if err != nil {
		return within{}
	}
	defer pa.Close()
	pb, err := archive.Unpack(io.NewSectionReader(b, 0, b.Size))
	if err != nil {
		return within{}
	}
	defer pb.Close()
	ta, tb := tar.NewReader(io.LimitReader(pa, maxLooked)), tar.NewReader(io.LimitReader(pb, maxLooked))
	for n := 0; ; n++ {
		ma, erra := ta.Next()
		mb, errb := tb.Next()
		switch {
		case erra == io.EOF && errb == io.EOF && n > 0:
			return says("the packing alone")
		case erra == io.EOF && errb == nil && n > 0:
			return says("member %q is in the second alone", mb.Name)
		case errb == io.EOF && erra == nil && n > 0:
			return says("member %q is in the first alone", ma.Name)
		case erra != nil || errb != nil:
			return within{}
		case ma.Name != mb.Name:
			return says("member %q stands where the second has %q", ma.Name, mb.Name)
		}
		if what := tarHeader(ma, mb); what != "" {
			return says("member %q: %s", ma.Name, what)
		}
		d, err := firstDifference(ta, tb)
		if err != nil {
			return within{}
		}
		if d != nil {
			return within{fmt.Sprintf("member %q: content at byte %d", ma.Name, d.at), d.first, d.second}
		}
	}
}

// tarHeader says in what else than content two members differ.
func tarHeader(a, b *tar.Header) string {
	switch {
	case a.Typeflag != b.Typeflag:
		return "kind"
	case a.Mode != b.Mode:
		return fmt.Sprintf("mode, %04o and %04o", a.Mode, b.Mode)
	case !a.ModTime.Equal(b.ModTime):
		return fmt.Sprintf("time, %s and %s", a.ModTime.UTC().Format(time.RFC3339), b.ModTime.UTC().Format(time.RFC3339))
	case a.Uid != b.Uid || a.Gid != b.Gid || a.Uname != b.Uname || a.Gname != b.Gname:
		return fmt.Sprintf("owner, %d:%d (%s:%s) and %d:%d (%s:%s)", a.Uid, a.Gid, a.Uname, a.Gname, b.Uid, b.Gid, b.Uname, b.Gname)
	case a.Linkname != b.Linkname:
		return fmt.Sprintf("target, %q and %q", a.Linkname, b.Linkname)
	case !slices.Equal(paxNames(a), paxNames(b)):
		return "extended header"
	}
	return ""
}

func paxNames(h *tar.Header) []string {
	var list []string
	for k, v := range h.PAXRecords {
		list = append(list, k+"="+v)
	}
	slices.Sort(list)
	return list
}
