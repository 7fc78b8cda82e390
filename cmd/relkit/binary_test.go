package main

import (
	"bytes"
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// What the tool may cost everywhere it goes.
const (
	maxBinarySize = 25 << 20 // bytes
	maxHelpMemory = 15 << 20 // bytes resident at most during --help
	maxStart      = 20 * time.Millisecond
)

// buildTool builds relkit as `make build` does, by the Makefile itself.
func buildTool(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	tool := filepath.Join(dir, "relkit")
	line, err := exec.Command("make", "-s", "-n", "-C", "../..", "build").Output()
	if err != nil {
		t.Fatalf("asking make how to build: %v", err)
	}
	command := strings.Replace(string(line), "-o bin/relkit", "-o "+tool, 1)
	if !strings.Contains(command, tool) || !strings.Contains(command, "CGO_ENABLED=0") || !strings.Contains(command, "urfave_cli_no_docs") {
		t.Fatalf("the Makefile builds otherwise than expected: %s", command)
	}
	build := exec.Command("sh", "-c", command)
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return tool
}

// TestBinary: static, small, and small in memory.
func TestBinary(t *testing.T) {
	tool := buildTool(t)
	info, err := os.Stat(tool)
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() > maxBinarySize {
		t.Errorf("the binary has %d bytes, want at most %d", info.Size(), maxBinarySize)
	}
	f, err := elf.Open(tool)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			t.Error("the binary is not static: it names an interpreter")
		}
	}
	raw, err := os.ReadFile(tool)
	if err != nil {
		t.Fatal(err)
	}
	if wd, err := filepath.Abs("../.."); err != nil || bytes.Contains(raw, []byte(wd+"/pkg")) {
		t.Errorf("the binary holds the path it was built in (%v)", err)
	}
	cmd := exec.Command(tool, "--help")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	if rss := cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss * 1024; rss > maxHelpMemory {
		t.Errorf("--help takes %d bytes of memory, want at most %d", rss, maxHelpMemory)
	}
}

// BenchmarkStartup measures `relkit --help` from fork to exit: the median, and
// the memory at most resident.
func BenchmarkStartup(b *testing.B) {
	tool := buildTool(b)
	var times []time.Duration
	var rss int64
	for b.Loop() {
		cmd := exec.Command(tool, "--help")
		start := time.Now()
		if err := cmd.Run(); err != nil {
			b.Fatal(err)
		}
		times = append(times, time.Since(start))
		rss = max(rss, cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss)
	}
	slices.Sort(times)
	median := times[len(times)/2]
	b.ReportMetric(float64(median.Microseconds())/1000, "ms-median")
	b.ReportMetric(float64(rss)/1024, "MiB-rss")
	if median > maxStart {
		b.Errorf("starting takes %v, want at most %v", median, maxStart)
	}
}
