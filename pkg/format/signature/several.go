package signature

import (
	"bytes"
	"errors"
	"fmt"
)

// MaxSeveral bounds how many signatures stand in one file.
const MaxSeveral = 64

// MaxSeveralSize bounds such a file, in bytes.
const MaxSeveralSize = MaxSeveral * MaxSize

// Split cuts a file that holds armored signatures one after the other, as cat(1)
// puts them together. Nothing of a signature has been read but where it ends.
// Of such a file ssh-keygen -Y verify reads the first.
func Split(data []byte) ([][]byte, error) {
	const begin, end = "-----BEGIN SSH SIGNATURE-----\n", "\n-----END SSH SIGNATURE-----"
	if len(data) > MaxSeveralSize {
		return nil, fmt.Errorf("signatures of %d bytes: at most %d", len(data), MaxSeveralSize)
	}
	var all [][]byte
	for rest := bytes.TrimLeft(data, " \t\r\n"); len(rest) > 0; rest = bytes.TrimLeft(rest, " \t\r\n") {
		at := bytes.Index(rest, []byte(end))
		switch {
		case len(all) == MaxSeveral:
			return nil, fmt.Errorf("more than %d signatures", MaxSeveral)
		case !bytes.HasPrefix(rest, []byte(begin)):
			return nil, fmt.Errorf("signature %d does not start with %q", len(all)+1, begin)
		case at < 0 || at+len(end) > MaxSize:
			return nil, fmt.Errorf("signature %d does not end within %d bytes", len(all)+1, MaxSize)
		}
		all = append(all, rest[:at+len(end)])
		rest = rest[at+len(end):]
	}
	if len(all) == 0 {
		return nil, errors.New("no signature")
	}
	return all, nil
}

// Join puts signatures one after the other, as Split reads them.
func Join(signatures [][]byte) []byte {
	var b bytes.Buffer
	for _, s := range signatures {
		b.Write(bytes.TrimRight(s, " \t\r\n"))
		b.WriteByte('\n')
	}
	return b.Bytes()
}
