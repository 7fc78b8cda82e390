package trust

import (
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/relkit/relkit/pkg/format/signature"
)

// SigSuffix is what a signature's file name adds to its document's, as
// ssh-keygen -Y sign has it.
const SigSuffix = ".sig"

// ReadSigned reads the document called name, of at most limit bytes, and the
// signature beside it. Nothing has been checked yet.
func ReadSigned(fsys fs.FS, name string, limit int) (signature.SignedDoc, error) {
	doc, err := readBounded(fsys, name, limit)
	if err != nil {
		return signature.SignedDoc{}, err
	}
	sig, err := readBounded(fsys, name+SigSuffix, signature.MaxSize)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%s is not signed: %w", name, err)
	}
	return signature.SignedDoc{Name: name, Doc: doc, Sig: sig}, err
}

func readBounded(fsys fs.FS, name string, limit int) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, int64(limit)+1))
	if err == nil && len(b) > limit {
		err = fmt.Errorf("reading %q: more than %d bytes", name, limit)
	}
	return b, err
}
