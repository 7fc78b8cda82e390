package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
)

// version is what a release build is told by -ldflags "-X main.version=1.2.3".
var version string

// versionLine is what --version prints:
//
//	relkit 1.2.3 (revision 0123456789ab, go1.26.8 linux/amd64)
func versionLine() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{}
	}
	return formatVersion(version, info, runtime.Version(), runtime.GOOS+"/"+runtime.GOARCH)
}

func formatVersion(override string, info *debug.BuildInfo, goVersion, platform string) string {
	v := override
	if v == "" {
		v = strings.TrimPrefix(info.Main.Version, "v")
	}
	// A pseudo-version (0.0.0-TIME-REVISION) says no more than the revision does.
	if v == "" || v == "(devel)" || strings.HasPrefix(v, "0.0.0-") {
		v = "devel"
	}
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	var about []string
	if rev := settings["vcs.revision"]; rev != "" {
		about = append(about, "revision "+rev[:min(12, len(rev))])
	}
	if settings["vcs.modified"] == "true" {
		about = append(about, "modified")
	}
	about = append(about, goVersion+" "+platform)
	return fmt.Sprintf("relkit %s (%s)", v, strings.Join(about, ", "))
}
