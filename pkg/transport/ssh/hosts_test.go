package ssh

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestScanWhereNothingIsYet: the command that makes a host known works as pasted, also
// for a user who has never had a folder for it.
func TestScanWhereNothingIsYet(t *testing.T) {
	dir := t.TempDir()
	k := &knownHosts{file: filepath.Join(dir, "a home", ".ssh", "known_hosts")}
	if err := os.WriteFile(filepath.Join(dir, "ssh-keyscan"), []byte("#!/bin/sh\necho \"$@\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		cmd := exec.Command("sh", "-ec", k.scan(Target{Host: "build-1", Port: 2222}))
		cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	info, err := os.Stat(filepath.Dir(k.file))
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info, err)
	}
	if b, err := os.ReadFile(k.file); err != nil || string(b) != "-p 2222 build-1\n-p 2222 build-1\n" {
		t.Errorf("%q, %v", b, err)
	}
}
