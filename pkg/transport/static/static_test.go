package static

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/artifact"
	"github.com/relkit/relkit/pkg/format/digest"
)

func opener(s string) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(s)), nil }
}

func newRepo(t *testing.T, name string) (*Dir, *Repo) {
	t.Helper()
	d, err := Create(filepath.Join(t.TempDir(), "www"))
	if err != nil {
		t.Fatal(err)
	}
	r, err := d.Repo(name)
	if err != nil {
		t.Fatal(err)
	}
	return d, r
}

// push stores one file as an artifact.
func push(t *testing.T, r *Repo, content string, tags ...string) (digest.Digest, []byte) {
	t.Helper()
	d := digest.Of([]byte(content))
	for _, s := range []string{artifact.Empty, content} {
		if _, err := r.PutBlob(t.Context(), digest.Of([]byte(s)), int64(len(s)), opener(s)); err != nil {
			t.Fatal(err)
		}
	}
	m := artifact.Manifest{Type: artifact.TypeFile, Layers: []artifact.Descriptor{{MediaType: artifact.TypeFile, Digest: d, Size: int64(len(content)), Title: "f"}}}
	raw, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	md, err := r.PutManifest(raw, tags...)
	if err != nil {
		t.Fatal(err)
	}
	return md, raw
}

// snapshot is every file under the folder with its content and inode.
func snapshot(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		info, _ := e.Info()
		files[strings.TrimPrefix(path, dir+"/")] = string(b) + info.ModTime().String()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestLayout(t *testing.T) {
	dir, r := newRepo(t, "acme/fw")
	md, raw := push(t, r, "hello", "v1", "latest")
	files := snapshot(t, dir.path)
	for _, name := range []string{"v2/index.html", "v2/acme/fw/manifests/v1", "v2/acme/fw/manifests/latest", "v2/acme/fw/manifests/" + md.String(),
		"v2/acme/fw/blobs/" + digest.Of([]byte("hello")).String(), "v2/acme/fw/blobs/" + artifact.EmptyConfig().Digest.String(), "v2/acme/fw/tags/list"} {
		if _, ok := files[name]; !ok {
			t.Errorf("%s is missing", name)
		}
	}
	if len(files) != 7 {
		t.Errorf("files are %q, want 7", files)
	}
	if list, _ := os.ReadFile(filepath.Join(dir.path, "v2/acme/fw/tags/list")); string(list) != `{"name":"acme/fw","tags":["latest","v1"]}`+"\n" {
		t.Errorf("tags/list = %s", list)
	}
	for _, ref := range []string{"v1", md.String()} {
		if got, err := r.Manifest(t.Context(), ref); err != nil || !bytes.Equal(got, raw) {
			t.Errorf("Manifest(%q) = %s, %v", ref, got, err)
		}
	}
	rc, err := r.Blob(t.Context(), digest.Of([]byte("hello")), 2)
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	if b, _ := io.ReadAll(rc); string(b) != "llo" {
		t.Errorf("Blob from 2 = %q", b)
	}
	if repos, err := dir.Repos(); err != nil || len(repos) != 1 || repos[0] != "acme/fw" {
		t.Errorf("Repos = %q, %v", repos, err)
	}
	push(t, r, "hello", "v1", "latest")
	for name, was := range files {
		if now := snapshot(t, dir.path)[name]; now != was {
			t.Errorf("the same push again rewrote %s", name)
		}
	}
	if _, err := Open(filepath.Dir(dir.path)); err == nil {
		t.Error("Open of a folder without v2 succeeds")
	}
}

func TestWrongContent(t *testing.T) {
	dir, r := newRepo(t, "fw")
	md, _ := push(t, r, "hello", "v1")
	d := digest.Of([]byte("hello"))
	for name, content := range map[string]string{"other": "hallo", "longer": "hello!", "shorter": "hell"} {
		want := digest.Of([]byte(name))
		if _, err := r.PutBlob(t.Context(), want, 5, opener(content)); err == nil || !strings.Contains(err.Error(), "changed meanwhile") {
			t.Errorf("PutBlob of %s content = %v", name, err)
		}
		if _, err := os.Stat(r.blobPath(want)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s content was left under the name: %v", name, err)
		}
	}
	if err := os.WriteFile(r.blobPath(d), []byte("hallo"), 0o644); err != nil {
		t.Fatal(err)
	}
	if written, err := r.PutBlob(t.Context(), d, 5, opener("hello")); err != nil || !written {
		t.Errorf("PutBlob over a rotten copy = %v, %v, want it written", written, err)
	}
	if err := os.WriteFile(filepath.Join(dir.path, "v2/fw/manifests", md.String()), []byte("{}"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Manifest(t.Context(), md.String()); failure.Of(err) != failure.Untrusted {
		t.Errorf("Manifest with other content = %v, want untrusted", err)
	}
	if _, err := r.Manifest(t.Context(), "v2"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Manifest of a missing tag = %v", err)
	}
	for _, ref := range []string{"../tags/list", "sha256:x", ""} {
		if _, err := r.Manifest(t.Context(), ref); failure.Of(err) != failure.Usage {
			t.Errorf("Manifest(%q) = %v, want a usage error", ref, err)
		}
	}
	if _, err := dir.Repo("../x"); failure.Of(err) != failure.Usage {
		t.Errorf("Repo(../x) = %v", err)
	}
	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.PutBlob(stopped, digest.Of([]byte("new")), 3, opener("new")); !errors.Is(err, context.Canceled) {
		t.Errorf("PutBlob after a cancel = %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(r.dir, "blobs", ".*")); len(left) > 0 {
		t.Errorf("temporary files are left: %q", left)
	}
}

// TestReaderSeesWholeArtifacts follows a tag while it is moved: whatever it
// points to is there.
func TestReaderSeesWholeArtifacts(t *testing.T) {
	_, r := newRepo(t, "fw")
	push(t, r, "0", "latest")
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			raw, err := r.Manifest(context.Background(), "latest")
			if err != nil {
				t.Error(err)
				return
			}
			m, err := artifact.Parse(raw)
			if err != nil {
				t.Errorf("%q: %v", raw, err)
				return
			}
			if has, err := r.HasBlob(m.Layers[0].Digest, m.Layers[0].Size); !has || err != nil {
				t.Errorf("the tag points to %s, which is not there: %v", m.Layers[0].Digest, err)
			}
			if _, err := r.Manifest(context.Background(), digest.Of(raw).String()); err != nil {
				t.Error(err)
			}
		}
	})
	for i := range 30 {
		push(t, r, strings.Repeat("x", i+1), "latest")
	}
	close(done)
	wg.Wait()
}

func TestLock(t *testing.T) {
	dir, _ := newRepo(t, "fw")
	unlock, err := dir.Lock(t.Context(), time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := dir.Lock(t.Context(), 20*time.Millisecond); failure.Of(err) != failure.Busy {
		t.Errorf("Lock of what is locked = %v, want busy", err)
	}
	go func() { time.Sleep(30 * time.Millisecond); unlock() }()
	again, err := dir.Lock(t.Context(), 10*time.Second)
	if err != nil {
		t.Fatalf("Lock while waiting = %v", err)
	}
	again()
}
