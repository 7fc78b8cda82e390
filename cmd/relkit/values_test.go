package main

import (
	"runtime/debug"
	"strings"
	"testing"
	"time"
)

func TestParseSpan(t *testing.T) {
	for s, want := range map[string]time.Duration{
		"90s": 90 * time.Second, "1h30m": 90 * time.Minute, "30d": 720 * time.Hour, "2w": 336 * time.Hour, "0": 0, "0d": 0,
	} {
		if got, err := parseSpan(s); got != want || err != nil {
			t.Errorf("%q: got %v, %v, want %v", s, got, err, want)
		}
	}
	for _, s := range []string{"", "30", "-1h", "-1d", "1.5d", "d", "999999999d", "1h2d", "soon"} {
		if got, err := parseSpan(s); err == nil {
			t.Errorf("%q: got %v, want an error", s, got)
		}
	}
}

func TestNearest(t *testing.T) {
	names := []string{"autoinstall", "build", "getimage", "patch-apply", "patch-make"}
	for word, want := range map[string]string{
		"buidl": "build", "patchmake": "patch-make", "patch-appyl": "patch-apply", "get-image": "getimage", "build": "build",
		"zzz": "", "": "", "b": "", "patch": "",
	} {
		if got := nearest(word, names); got != want {
			t.Errorf("%q: got %q, want %q", word, got, want)
		}
	}
}

func TestVersionLine(t *testing.T) {
	info := &debug.BuildInfo{Main: debug.Module{Version: "v1.2.3"}, Settings: []debug.BuildSetting{
		{Key: "vcs.revision", Value: "0123456789abcdef0123"}, {Key: "vcs.modified", Value: "true"}}}
	for _, c := range []struct {
		override string
		info     *debug.BuildInfo
		want     string
	}{
		{"", info, "relkit 1.2.3 (revision 0123456789ab, modified, go1.26.0 linux/arm64)"},
		{"2.0", info, "relkit 2.0 (revision 0123456789ab, modified, go1.26.0 linux/arm64)"},
		{"", &debug.BuildInfo{Main: debug.Module{Version: "(devel)"}}, "relkit devel (go1.26.0 linux/arm64)"},
		{"", &debug.BuildInfo{Main: debug.Module{Version: "v0.0.0-20260102030405-0123456789ab+dirty"}}, "relkit devel (go1.26.0 linux/arm64)"},
		{"", &debug.BuildInfo{}, "relkit devel (go1.26.0 linux/arm64)"},
	} {
		if got := formatVersion(c.override, c.info, "go1.26.0", "linux/arm64"); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}

func TestColumns(t *testing.T) {
	got := columns([][]string{{"a", "über", "x"}, {"long", "b"}, {}})
	want := "a     über  x|long  b|"
	if s := strings.Join(got, "|"); s != want {
		t.Errorf("got %q, want %q", s, want)
	}
}
