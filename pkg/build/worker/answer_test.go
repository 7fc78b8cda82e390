package worker

import (
	"errors"
	"io/fs"
	"strings"
	"testing"
)

// What a worker says it found becomes files here, under these names.
func TestAnswers(t *testing.T) {
	f := remoteFiles{name: "far"}
	for _, good := range []string{"out/x", "out/a b\n\xff", "out/..x", "out/x..", "out/-", "out/a/b"} {
		if err := f.checkFound("out/**", good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, pattern := range []string{"out/**", "**", "**/*", "*"} {
		for _, bad := range []string{"", ".", "..", "../x", "out/../../x", "out/../x", "/out/x", "/", "out//x", "out/", "./out", "out/.", "out/a\x00b", "out/" + strings.Repeat("x", maxPath)} {
			if err := f.checkFound(pattern, bad); !errors.Is(err, ErrAnswer) || !strings.HasPrefix(err.Error(), `worker "far" answers `) {
				t.Errorf("%q: %v", bad, err)
			}
		}
	}
	if err := f.checkFound("out/**", "other/x"); !errors.Is(err, ErrAnswer) {
		t.Errorf("what was not looked for: %v", err)
	}
	for _, good := range []Info{{}, {Size: 5, Mode: 0o644}, {Mode: fs.ModeSymlink, Target: "/x"}, {Mode: fs.ModeDir, Size: 4096}} {
		if err := f.checkInfo(good); err != nil {
			t.Errorf("%+v: %v", good, err)
		}
	}
	for _, bad := range []Info{{Size: -1}, {Mode: fs.ModeSymlink}, {Target: "x"}, {Mode: fs.ModeSymlink, Target: "a\x00"}, {Mode: fs.ModeSymlink, Target: strings.Repeat("x", maxPath+1)}} {
		if err := f.checkInfo(bad); !errors.Is(err, ErrAnswer) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}
