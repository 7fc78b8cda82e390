package main

import (
	"bytes"
	"debug/elf"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
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
	if rss := helpMemory(t, tool); rss > maxHelpMemory {
		t.Errorf("--help takes %d bytes of memory, want at most %d", rss, maxHelpMemory)
	}
}

// BenchmarkStartup measures `relkit --help` from fork to exit: the median, and
// the memory at most resident.
func BenchmarkStartup(b *testing.B) {
	tool := buildTool(b)
	var times []time.Duration
	for b.Loop() {
		cmd := exec.Command(tool, "--help")
		start := time.Now()
		if err := cmd.Run(); err != nil {
			b.Fatal(err)
		}
		times = append(times, time.Since(start))
	}
	slices.Sort(times)
	median := times[len(times)/2]
	b.ReportMetric(float64(median.Microseconds())/1000, "ms-median")
	b.ReportMetric(float64(helpMemory(b, tool))/(1<<20), "MiB-rss")
	if median > maxStart {
		b.Errorf("starting takes %v, want at most %v", median, maxStart)
	}
}

// helpMemory is the most memory, in bytes, that --help ever had resident. The
// kernel's ru_maxrss would count the memory of this process in, which the child
// shares until it becomes relkit; so relkit is looked at in /proc while it waits
// to write its help into a pipe that is full.
func helpMemory(t testing.TB, tool string) int64 {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	size, err := unix.FcntlInt(w.Fd(), unix.F_SETPIPE_SZ, 4096)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(tool, "--help")
	cmd.Stdout = w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	most, calm := int64(0), 0
	for calm < 20 { // 200 ms without growth: it waits
		time.Sleep(10 * time.Millisecond)
		now := peakMemory(t, cmd.Process.Pid)
		calm++
		if now > most {
			most, calm = now, 0
		}
	}
	out, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil || !bytes.Contains(out, []byte("usage: relkit")) {
		t.Fatalf("%v, stdout %q", err, out)
	}
	return most
}

// peakMemory is VmHWM of a process (proc_pid_status(5)), in bytes.
func peakMemory(t testing.TB, pid int) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(status), "\nVmHWM:")
	var kib int64
	if _, err := fmt.Sscan(rest, &kib); err != nil || !ok {
		t.Fatalf("no peak in %s", status)
	}
	return kib << 10
}
