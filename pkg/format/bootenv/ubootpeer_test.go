package bootenv

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/relkit/relkit/pkg/relkittest"
)

// TestUBootTools: fw_printenv reads what Encode writes, ParseUBoot reads what
// fw_setenv writes, and both take the same copy for the newer one.
func TestUBootTools(t *testing.T) {
	relkittest.Need(t, "fw_printenv", "fw_setenv")
	const size = 0x1000
	dir := t.TempDir()
	files := []string{filepath.Join(dir, "a.env"), filepath.Join(dir, "b.env")}
	config := filepath.Join(dir, "fw_env.config")
	// At an offset, as on a card: the boot loader is in front.
	text := fmt.Sprintf("# two copies\n%s 0x200 0x%x\n%s 0x200 0x%x\n", files[0], size, files[1], size)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	places, err := ParseUBootConfig([]byte(text))
	if err != nil || len(places) != 2 {
		t.Fatalf("%v, %v", places, err)
	}
	want := &UBoot{Flag: 255}
	want.Set("bootcmd", "run distro_bootcmd; echo a=b")
	want.Set("relkit_boot", "test")
	want.Set("empty", "x")
	for i, file := range files {
		e := *want
		if e.Flag = 255; i == 1 { // the flag wraps: 0 comes after 255
			e.Flag = 0
			e.Set("relkit_boot", "good")
		}
		b, err := e.Encode(size, true)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, append(make([]byte, 0x200), b...), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	tool := func(name string, args ...string) string {
		t.Helper()
		out, err := exec.Command(name, append([]string{"-c", config}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s %q: %v\n%s", name, args, err, out)
		}
		return string(out)
	}
	if got := tool("fw_printenv", "-n", "relkit_boot"); got != "good\n" {
		t.Errorf("fw_printenv takes the older copy: %q", got)
	}
	if got := tool("fw_printenv", "-n", "bootcmd"); got != "run distro_bootcmd; echo a=b\n" {
		t.Errorf("fw_printenv reads %q", got)
	}
	newer := func() *UBoot {
		t.Helper()
		var copies [2]*UBoot
		for i, p := range places {
			b, err := os.ReadFile(p.File)
			if err != nil {
				t.Fatal(err)
			}
			if copies[i], err = ParseUBoot(b[p.Offset:][:p.Size], true); err != nil {
				t.Fatal(err)
			}
		}
		return copies[max(0, NewerUBoot(copies[0].Flag, copies[1].Flag))]
	}
	for i := range 5 { // they take turns
		value := fmt.Sprintf("turn %d", i)
		tool("fw_setenv", "relkit_boot", value)
		e := newer()
		if got, _ := e.Get("relkit_boot"); got != value {
			t.Errorf("turn %d: got %q, want %q", i, got, value)
		}
		if got, _ := e.Get("bootcmd"); !strings.HasSuffix(got, "a=b") {
			t.Errorf("turn %d: bootcmd is %q", i, got)
		}
	}
	tool("fw_setenv", "empty") // without a value it is taken away
	if _, there := newer().Get("empty"); there {
		t.Error("a variable that was taken away is read")
	}
}
