package serve

import (
	"io"
	"net/http"
	"time"
)

// paced gives a reader writeTime for every writeSlice bytes: one that has
// stopped reading is let go, and a long download is not.
type paced struct {
	http.ResponseWriter
	control *http.ResponseController
	status  int
	bytes   int64
}

func (p *paced) WriteHeader(status int) {
	if p.status == 0 {
		p.status = status
	}
	p.ResponseWriter.WriteHeader(status)
}

func (p *paced) Write(b []byte) (int, error) {
	if p.status == 0 {
		p.status = http.StatusOK
	}
	total := 0
	for {
		p.extend()
		n, err := p.ResponseWriter.Write(b[:min(len(b), writeSlice)])
		total, p.bytes = total+n, p.bytes+int64(n)
		if b = b[n:]; err != nil || len(b) == 0 {
			return total, err
		}
	}
}

// ReadFrom keeps sendfile(2): net/http uses it where it is handed a file.
func (p *paced) ReadFrom(r io.Reader) (int64, error) {
	if p.status == 0 {
		p.status = http.StatusOK
	}
	left, limited := int64(-1), false
	if lr, ok := r.(*io.LimitedReader); ok {
		// A LimitedReader in another would hide the file.
		r, left, limited = lr.R, lr.N, true
	}
	var total int64
	for {
		p.extend()
		slice := int64(writeSlice)
		if limited {
			slice = min(slice, left)
		}
		n, err := io.Copy(p.ResponseWriter, io.LimitReader(r, slice))
		total, p.bytes, left = total+n, p.bytes+n, left-n
		if err != nil || n < slice || limited && left == 0 {
			return total, err
		}
	}
}

func (p *paced) extend() {
	// Where deadlines cannot be set (a test's recorder), there is nobody to wait for.
	_ = p.control.SetWriteDeadline(time.Now().Add(writeTime))
}

func (p *paced) Unwrap() http.ResponseWriter { return p.ResponseWriter }
