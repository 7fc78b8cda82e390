package health

import (
	"fmt"
	"math"
	"os"
	"os/exec"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/relkit/relkit/pkg/relkittest"
)

// escapeOctal is what the kernel's seq_path does with the bytes " \t\n\\#".
func escapeOctal(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if strings.IndexByte(" \t\n\\#", s[i]) >= 0 {
			fmt.Fprintf(&b, `\%03o`, s[i])
		} else {
			b.WriteByte(s[i])
		}
	}
	return b.String()
}

// text is m as the kernel writes it.
func (m *mount) text() string {
	f := []string{
		fmt.Sprint(m.id), fmt.Sprint(m.parent), fmt.Sprintf("%d:%d", m.major, m.minor),
		escapeOctal(m.root), escapeOctal(m.point), escapeOctal(m.options),
	}
	f = append(append(f, m.optional...), "-", escapeOctal(m.fstype), escapeOctal(m.source), escapeOctal(m.super))
	return strings.Join(f, " ")
}

func FuzzMountinfo(f *testing.F) {
	f.Add([]byte("27 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw,errors=remount-ro\n"))
	f.Add([]byte("30 27 0:50 / /mnt/usb\\040disk rw - nfs4 [fd00::1]:/six rw,vers=4.2\n31 27 0:51 / /a\\134b\\012c rw -  rw\n"))
	f.Add([]byte("36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 propagate_from:2 - ext3  rw"))
	f.Fuzz(func(t *testing.T, b []byte) {
		mounts, err := parseMountinfo(b)
		if err != nil {
			return
		}
		if len(mounts) > len(b)/10+1 {
			t.Fatalf("%d mounts in %d bytes", len(mounts), len(b))
		}
		var written strings.Builder
		for i := range mounts {
			written.WriteString(mounts[i].text() + "\n")
		}
		again, err := parseMountinfo([]byte(written.String()))
		if err != nil {
			t.Fatalf("%q: %v", written.String(), err)
		}
		if fmt.Sprintf("%#v", again) != fmt.Sprintf("%#v", mounts) {
			t.Fatalf("%#v became %#v", mounts, again)
		}
	})
}

// TestMountinfoOfThisMachine holds every line the kernel writes, byte for byte.
func TestMountinfoOfThisMachine(t *testing.T) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	mounts, err := parseMountinfo(b)
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range strings.Split(strings.TrimSuffix(string(b), "\n"), "\n") {
		if got := mounts[i].text(); got != line {
			t.Errorf("line %d\ngot  %s\nwant %s", i+1, got, line)
		}
	}
}

func TestMountinfoErrors(t *testing.T) {
	for in, want := range map[string]string{
		"27 1 254:1 / / rw":                          `line 1: bad mount "27 1 254:1 / / rw"`,
		"x 1 254:1 / / rw - ext4 a rw":               `line 1: bad mount id "x"`,
		"1 1 254 / / rw - ext4 a rw":                 `line 1: bad device "254"`,
		"1 1 1:1 / / rw - e a rw\n2 1 1:1 / / - e a": `line 2: bad mount "2 1 1:1 / / - e a"`,
		"1 1 1:1 / / rw - ext4 a rw more":            `line 1: bad mount "1 1 1:1 / / rw - ext4 a rw more"`,
	} {
		if _, err := parseMountinfo([]byte(in)); err == nil || err.Error() != want {
			t.Errorf("%q: got %v, want %s", in, err, want)
		}
	}
}

func FuzzFstab(f *testing.F) {
	f.Add([]byte("# comment\nUUID=aa / ext4 defaults,ro 0 1\n/dev/sdb1\t/mnt/a\\040b vfat\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		entries := parseFstab(b)
		var written strings.Builder
		for _, e := range entries {
			fmt.Fprintf(&written, "%s\t%s %s %s 0 2\n", escapeFstab(e.source), escapeFstab(e.point), e.fstype, e.options)
		}
		if again := parseFstab([]byte(written.String())); fmt.Sprintf("%#v", again) != fmt.Sprintf("%#v", entries) {
			t.Fatalf("%#v became %#v", entries, again)
		}
	})
}

func escapeFstab(s string) string { return strings.ReplaceAll(escapeOctal(s), "\r", `\015`) }

func TestFstabReadOnly(t *testing.T) {
	for options, want := range map[string]bool{"defaults": false, "ro": true, "noatime,ro": true, "ro,rw": false, "errors=remount-ro": false, "rw,ro": true} {
		e := parseFstab([]byte("a /a ext4 " + options + "\n"))
		if len(e) != 1 || e[0].readOnly() != want {
			t.Errorf("%s: got %+v, want %v", options, e, want)
		}
	}
}

func FuzzClean(f *testing.F) {
	f.Add("SN-TEST-0001\n")
	f.Add("a\x00\x1b[31m\xff" + strings.Repeat("é", 200))
	f.Fuzz(func(t *testing.T, s string) {
		c := clean(s)
		if !utf8.ValidString(c) || len(c) > maxValue || strings.TrimSpace(c) != c {
			t.Fatalf("clean(%q) = %q", s, c)
		}
		for _, r := range c {
			if !unicode.IsPrint(r) {
				t.Fatalf("clean(%q) = %q", s, c)
			}
		}
		if clean(c) != c {
			t.Fatalf("clean(%q) = %q", c, clean(c))
		}
	})
}

func FuzzUptime(f *testing.F) {
	f.Add([]byte("86399.50 170000.00\n"))
	f.Add([]byte("NaN"))
	f.Add([]byte("-1"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if v, err := parseUptime(b); err == nil && !(v >= 0 && v < 1e12) {
			t.Fatalf("parseUptime(%q) = %v", b, v)
		}
	})
}

func FuzzOSRelease(f *testing.F) {
	f.Add([]byte("NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n"))
	f.Add([]byte("PRETTY_NAME='a'\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s := parseOSRelease(b); clean(s) != s {
			t.Fatalf("parseOSRelease(%q) = %q", b, s)
		}
	})
}

// TestOSRelease asks the shell, which is what reads the file elsewhere.
func TestOSRelease(t *testing.T) {
	relkittest.Need(t, "sh")
	for _, value := range []string{`"Debian GNU/Linux 12 (bookworm)"`, `'single $x'`, `Plain`, `"a \"quoted\" \$name \\ \` + "`" + `x"`} {
		file := t.TempDir() + "/os-release"
		if err := os.WriteFile(file, []byte("NAME=x\nPRETTY_NAME="+value+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		want, err := exec.Command("sh", "-c", `. "$0"; printf %s "$PRETTY_NAME"`, file).Output()
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got := parseOSRelease(b); got != string(want) {
			t.Errorf("%s: got %q, the shell says %q", value, got, want)
		}
	}
}

// TestSpaceAgainstDf asks df about the root file system.
func TestSpaceAgainstDf(t *testing.T) {
	relkittest.Need(t, "df")
	s, err := statfs("/")
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("df", "-B1", "--output=size,pcent,itotal", "/").Output()
	if err != nil {
		t.Fatal(err)
	}
	var size, inodes uint64
	var percent float64
	last := strings.Split(strings.TrimSpace(string(out)), "\n")[1]
	if _, err := fmt.Sscanf(strings.ReplaceAll(last, "%", ""), "%d %f %d", &size, &percent, &inodes); err != nil {
		t.Fatalf("%q: %v", last, err)
	}
	// df rounds up to a whole per cent; other tests write meanwhile.
	if s.Size != size || s.Inodes != inodes || math.Abs(s.Used()*100-percent) > 1.5 {
		t.Errorf("got %+v, %.2f %% used; df says %s", s, s.Used()*100, last)
	}
}

// TestSpaceShares holds the shares where a file system tells nonsense.
func TestSpaceShares(t *testing.T) {
	for _, s := range []Space{{}, {Size: 10, Free: 20}, {Size: 10, Free: 10, Available: 10}, {Size: 10}, {Size: 10, Free: 2, Available: 0}, {Inodes: 5, InodesFree: 9}} {
		if u := s.Used(); !(u >= 0 && u <= 1) {
			t.Errorf("%+v: %v used", s, u)
		}
		if u, ok := s.InodesUsed(); ok && !(u >= 0 && u <= 1) {
			t.Errorf("%+v: %v of the inodes used", s, u)
		}
	}
}

func TestTexts(t *testing.T) {
	for v, want := range map[float64]string{0: "0 %", 0.8599: "85.9 %", 0.9999: "99.9 %", 1: "100 %"} {
		if got := percent(v); got != want {
			t.Errorf("percent(%v) = %s, want %s", v, got, want)
		}
	}
	for n, want := range map[uint64]string{0: "0 B", 1023: "1023 B", 1536: "1.5 KiB", 10 << 30: "10 GiB", 1<<64 - 1: "16 EiB"} {
		if got := bytesText(n); got != want {
			t.Errorf("bytesText(%d) = %s, want %s", n, got, want)
		}
	}
}
