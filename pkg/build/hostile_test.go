package build

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/relkit/relkit/pkg/build/worker"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/record"
	"github.com/relkit/relkit/pkg/sys/process"
)

// lies is a file beside the folder of a worker's programs: calls, and what the
// worker answers to each instead of the truth, in JSON.
const lies = "lies.json"

// lie is a file that is not there, as the worker describes it.
type lie struct {
	Path   []byte      `json:"path"`
	Mode   fs.FileMode `json:"mode"`
	Size   int64       `json:"size"`
	MTime  time.Time   `json:"mtime"`
	Target []byte      `json:"target,omitempty"`
}

// handlers are a worker's, where it has been told to lie a liar's.
func handlers() map[string]process.Handler {
	h := worker.Handlers()
	exe, err := os.Executable()
	if err != nil {
		return h
	}
	data, err := os.ReadFile(filepath.Join(filepath.Dir(filepath.Dir(exe)), lies))
	if err != nil {
		return h
	}
	var told map[string][]lie
	if err := json.Unmarshal(data, &told); err != nil {
		panic(err)
	}
	for call, list := range told {
		h[call] = func(_ context.Context, _ json.RawMessage, _ io.Reader, out io.Writer) (any, error) {
			w := bufio.NewWriter(out)
			for _, l := range list {
				if err := json.NewEncoder(w).Encode(l); err != nil {
					return nil, err
				}
			}
			return nil, w.Flush()
		}
	}
	return h
}

// A worker whose relkit a step has replaced answers with whatever leads out of the
// build's folder. Nothing outside it is made or changed, and the record says who.
func TestHostileWorker(t *testing.T) {
	b := newBench(t, builder("mkdir -p out; echo x >out/x", "", artifact), nil)
	p := newPlace(b, "ssh")
	b.must()
	out := "../../../../../victim"
	for i, c := range []struct {
		call, want string
		answer     []lie
	}{
		{"find", `"../../../../../victim/f"`, []lie{{Path: []byte(out + "/f"), Mode: 0o777}}},
		{"find", `"../../../../../victim/d"`, []lie{{Path: []byte(out + "/d"), Mode: fs.ModeDir | 0o777}}},
		{"stat", `asked for ".git"`, []lie{{Path: []byte(out), Mode: 0o777}}},
		{"get", `the file "../../../../../victim"`, []lie{{Path: []byte(out), Mode: 0o777}}},
		{"get", `the file "out/x", L`, []lie{{Path: []byte("out/x"), Mode: fs.ModeSymlink | 0o777, Target: []byte("/etc")}}},
	} {
		t.Run(fmt.Sprint(i, c.call), func(t *testing.T) {
			data, err := json.Marshal(map[string][]lie{c.call: c.answer})
			if err != nil {
				t.Fatal(err)
			}
			b.write("victim/kept", "")
			if err := errors.Join(os.Chmod(b.path("victim"), 0o700), os.WriteFile(filepath.Join(p.dir, lies), data, 0o600)); err != nil {
				t.Fatal(err)
			}
			err = b.run()
			if err == nil || failure.Of(err) != failure.Failed || !errors.Is(err, worker.ErrAnswer) || !strings.Contains(err.Error(), `worker "here" answers with `) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v", err)
			}
			if c.call != "stat" && (len(b.built) != 1 || b.built[0].Status != record.BuildError || !strings.Contains(b.built[0].Error, c.want)) {
				t.Errorf("built %+v", b.built)
			}
			info, err := os.Stat(b.path("victim"))
			list, lerr := os.ReadDir(b.path("victim"))
			if err != nil || lerr != nil || info.Mode().Perm() != 0o700 || len(list) != 1 {
				t.Errorf("the victim is now %v, %v, %v, %v", info, list, err, lerr)
			}
		})
	}
	if err := os.Remove(filepath.Join(p.dir, lies)); err != nil {
		t.Fatal(err)
	}
	b.must()
	if strings.Contains(b.notes.String(), "killed") {
		t.Errorf("a build was not put in order:\n%s", b.notes.String())
	}
}

// Names that are fit for themselves, and make links of each other.
func TestHostileLinks(t *testing.T) {
	b := newBench(t, builder("mkdir -p out; echo x >out/x", "", artifact), nil)
	p := newPlace(b, "ssh")
	now := time.Now()
	data, err := json.Marshal(map[string][]lie{"find": {
		{Path: []byte("out"), Mode: fs.ModeSymlink | 0o777, Target: []byte("."), MTime: now},
		{Path: []byte("out/x"), Mode: 0o644, Size: 2, MTime: now},
	}})
	if err != nil {
		t.Fatal(err)
	}
	b.must() // or there is no relkit there yet
	if err := os.WriteFile(filepath.Join(p.dir, lies), data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := b.run(); failure.Of(err) != failure.Failed || len(b.built) != 1 || b.built[0].Status != record.BuildError {
		t.Errorf("%v, %+v", err, b.built)
	}
}

// What a build leaves here gives nobody the rights of whom the state belongs to.
func TestModesOfArtifacts(t *testing.T) {
	b := newBench(t, builder(`mkdir -p out/open out/x; echo x >out/su; echo y >out/sg; echo z >out/w; chmod 4755 out/su; chmod 2775 out/sg; chmod 666 out/w; chmod 3777 out/open; ln -s x out/l`, "", artifact), nil)
	r := b.must()
	modes := map[string]string{}
	for _, a := range r.Artifacts {
		modes[a.Path] = a.Mode
	}
	for name, want := range map[string]string{"su": "4755", "sg": "2775", "w": "0666"} {
		if got := modes["artifacts/out/"+name]; got != want {
			t.Errorf("%s has the mode %s in the record, want %s", name, got, want)
		}
	}
	for name, want := range map[string]fs.FileMode{"su": 0o755, "sg": 0o755, "w": 0o644, "open": fs.ModeDir | 0o755} {
		if info, err := os.Stat(b.path("state/builds/fw/000001/artifacts/out", name)); err != nil || info.Mode() != want {
			t.Errorf("%s has the mode %v, want %v; %v", name, info.Mode(), want, err)
		}
	}
}
