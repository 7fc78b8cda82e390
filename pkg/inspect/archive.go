package inspect

import (
	"bufio"
	"bytes"
	"io"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/archive"
	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/machine"
	"github.com/relkit/relkit/pkg/format/manifest"
)

// isArchive tells a tar, packed or not, by its first bytes.
func isArchive(head []byte) bool {
	return bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}) || bytes.HasPrefix(head, []byte{0x1f, 0x8b}) ||
		len(head) >= 262 && string(head[257:262]) == "ustar"
}

// archive reads a tar to its end: whose it is, and what it holds in numbers. One
// that begins with a machine description is an image that relkit wrote.
func (res *Result) archive(r io.Reader, o Options) error {
	hash := digest.New()
	r = io.TeeReader(r, hash)
	plain, err := archive.Unpack(r)
	if err != nil {
		return failure.As(failure.Untrusted, err)
	}
	defer plain.Close()
	members := archive.Any(bufio.NewReaderSize(plain, 1<<20))
	res.Kind, res.Tree = "archive", &Tree{Kinds: map[string]int64{}}
	for {
		m, err := members.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return failure.As(failure.Untrusted, err)
		}
		res.Tree.Entries++
		res.Tree.Kinds[m.Entry.Kind.String()]++
		if m.LinkTo == "" {
			res.Tree.Bytes += m.Entry.Size
		}
		if o.Files {
			res.Files = append(res.Files, File{Path: manifest.Escape(m.Entry.Path), Kind: m.Entry.Kind.String(), Size: m.Entry.Size})
		}
	}
	if b := members.Machine(); b != nil {
		res.Kind = "image-archive"
		if res.Document, err = machine.Decode(b); err != nil {
			return failure.As(failure.Untrusted, err)
		}
	}
	for _, left := range []io.Reader{plain, r} { // a checksum at the end
		if _, err := io.Copy(io.Discard, left); err != nil {
			return failure.As(failure.Untrusted, err)
		}
	}
	res.Digest = hash.Digest()
	return nil
}
