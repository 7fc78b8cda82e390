package serve

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path"
	"strings"
	"time"

	"github.com/relkit/relkit/pkg/format/artifact"
	"github.com/relkit/relkit/pkg/format/digest"
)

// Files is a folder to serve. Nothing outside it is reached, through a symlink
// neither; names that start with a dot, folders themselves, and the trees of
// stored images are not served.
type Files struct{ root *os.Root }

// OpenFiles opens a folder.
func OpenFiles(dir string) (*Files, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &Files{root}, nil
}

// Close closes the folder.
func (f *Files) Close() error { return f.root.Close() }

// ServeHTTP answers a GET or HEAD.
func (f *Files) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(path.Clean("/"+r.URL.Path), "/")
	switch {
	case name == "v2":
		// What a client asks first: no login wanted.
		w.Header().Set("Docker-Distribution-API-Version", "registry/2.0")
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, artifact.Empty)
		return
	case name == "" || f.hidden(name):
		http.Error(w, "nothing to see here: relkit serves files by their names", http.StatusNotFound)
		return
	}
	file, info, err := f.open(name)
	if err != nil {
		answerError(w, err)
		return
	}
	defer file.Close()
	kind, ref := registryPath(name)
	switch kind {
	case "manifests":
		serveManifest(w, r, file, ref)
	case "blobs":
		w.Header().Set("Docker-Content-Digest", ref)
		w.Header().Set("ETag", `"`+ref+`"`)
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
		http.ServeContent(w, r, "", time.Time{}, file)
	case "tags":
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-cache")
		http.ServeContent(w, r, "", info.ModTime(), file)
	default:
		if path.Ext(name) == "" {
			w.Header().Set("Content-Type", "application/octet-stream")
		}
		http.ServeContent(w, r, name, info.ModTime(), file)
	}
}

func (f *Files) open(name string) (*os.File, fs.FileInfo, error) {
	info, err := f.root.Stat(name)
	if err != nil {
		return nil, nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, nil, fs.ErrNotExist // opening a FIFO would wait for ever
	}
	file, err := f.root.Open(name)
	return file, info, err
}

// hidden tells whether a name is none of a client's business.
func (f *Files) hidden(name string) bool {
	parts := strings.Split(name, "/")
	for i, part := range parts {
		if strings.HasPrefix(part, ".") || strings.ContainsRune(part, 0) {
			return true
		}
		if part == "tree" {
			if _, err := f.root.Lstat(path.Join(path.Join(parts[:i]...), "image.json")); err == nil {
				return true
			}
		}
	}
	return false
}

// registryPath takes "v2/REPO/manifests/REF" and the like apart.
func registryPath(name string) (kind, ref string) {
	rest, ok := strings.CutPrefix(name, "v2/")
	if !ok {
		return "", ""
	}
	dir, ref := path.Split(rest)
	kind = path.Base(dir)
	switch {
	case path.Dir(path.Clean(dir)) == ".":
		return "", ""
	case kind == "manifests":
		return kind, ref
	case kind == "tags" && ref == "list":
		return kind, ref
	case kind == "blobs":
		if _, err := digest.Parse(ref); err == nil {
			return kind, ref
		}
	}
	return "", ""
}

// serveManifest adds the headers that clients of a registry want.
func serveManifest(w http.ResponseWriter, r *http.Request, file io.Reader, ref string) {
	raw, err := io.ReadAll(io.LimitReader(file, artifact.MaxManifest+1))
	if err != nil || len(raw) > artifact.MaxManifest {
		http.Error(w, "the manifest cannot be read, or is too long", http.StatusInternalServerError)
		return
	}
	d := digest.Of(raw).String()
	if strings.HasPrefix(ref, "sha256:") && ref != d {
		http.Error(w, "the manifest's content does not have its digest", http.StatusInternalServerError)
		return
	}
	mediaType := artifact.MediaTypeOf(raw)
	if mediaType == "" {
		mediaType = artifact.TypeManifest
	}
	w.Header().Set("Content-Type", mediaType)
	w.Header().Set("Docker-Content-Digest", d)
	w.Header().Set("ETag", `"`+d+`"`)
	cache := "no-cache"
	if ref == d {
		cache = "public, max-age=31536000, immutable"
	}
	w.Header().Set("Cache-Control", cache)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(raw))
}

func answerError(w http.ResponseWriter, err error) {
	switch {
	case errors.Is(err, fs.ErrPermission):
		http.Error(w, "the server may not read this", http.StatusForbidden)
	default:
		// Not found, not a file, or a way out of the folder: no difference to a client.
		http.Error(w, "not found", http.StatusNotFound)
	}
}
