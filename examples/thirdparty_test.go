package examples_test

import (
	"archive/zip"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/relkit/relkit/pkg/relkittest"
)

// thirdParty are projects of others that the examples build.
var thirdParty = []struct {
	example, archive string
	needs            []string
	builder          string
	total            int      // how many tests there are at least
	tests            []string // some of them
	use              func(t *testing.T, b built)
}{
	{"c-jansson", "jansson_2.14.orig.tar.gz", []string{"cmake", "gcc", "make"}, "jansson", 200, []string{"valid__simple-ascii-string", "test_unpack"}, useJansson},
	{"cpp-snappy", "snappy_1.1.9.orig.tar.gz", []string{"cmake", "g++", "make"}, "snappy", 20, []string{"snappy_unittest", "RandomData"}, useSnappy},
	{"java-commons-codec", "libcommons-codec-java_1.15.orig.tar.xz", []string{"ant", "javac", "java"}, "codec", 700, []string{"testDecodeHexCharArrayEmpty", "testMetaphone"}, useCodec},
}

// TestThirdParty builds what others have written from the files that users copy,
// and uses what comes of it. An archive that is not the one is refused.
func TestThirdParty(t *testing.T) {
	bin := buildRelkit(t)
	for _, c := range thirdParty {
		t.Run(c.example, func(t *testing.T) {
			relkittest.Need(t, c.needs...)
			archive, err := os.ReadFile(relkittest.Source(t, c.archive))
			if err != nil {
				t.Fatal(err)
			}
			r := copyRecipe(t, c.example, bin)
			file := filepath.Join(r.dir, c.archive)
			write := func(data []byte) {
				t.Helper()
				if err := os.WriteFile(file, data, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			write(append(slices.Clone(archive), 0))
			if _, said, err := r.relkit("build"); err == nil || !strings.Contains(said, "has the SHA-256 digest") {
				t.Errorf("another archive: %v\n%s", err, said)
			}
			write(archive)
			b := r.build()[c.builder]
			if b.Build == nil || len(b.Artifacts) == 0 {
				t.Fatalf("%+v", b)
			}
			if b.Tests.Total < c.total || b.Tests.Passed+b.Tests.Skipped != b.Tests.Total {
				t.Errorf("tests: %+v", b.Tests)
			}
			for _, name := range c.tests {
				if !b.tests[name] {
					t.Errorf("no test %s has passed", name)
				}
			}
			c.use(t, b)
		})
	}
}

// program compiles and runs a program, and answers what it prints.
func program(t *testing.T, name, text string, argv ...string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	run(t, dir, argv...)
	return run(t, dir, "./program")
}

func useJansson(t *testing.T, b built) {
	got := program(t, "main.c", `#include <jansson.h>
int main(void) { return puts(json_string_value(json_loads("\"built\"", JSON_DECODE_ANY, NULL))) < 0; }
`, "gcc", "-o", "program", "-I", b.artifact("out/include"), "main.c", b.artifact("out/lib/libjansson.a"))
	if got != "built\n" {
		t.Errorf("got %q", got)
	}
}

func useSnappy(t *testing.T, b built) {
	got := program(t, "main.cc", `#include <cstdio>
#include <snappy.h>
int main() {
	std::string text(1000, 'x'), packed, again;
	snappy::Compress(text.data(), text.size(), &packed);
	return puts(packed.size() < 100 && snappy::Uncompress(packed.data(), packed.size(), &again) && again == text ? "built" : "broken") < 0;
}
`, "g++", "-o", "program", "-I", b.artifact("snappy-1.1.9"), "-I", b.artifact("out"), "main.cc", b.artifact("out/libsnappy.a"))
	if got != "built\n" {
		t.Errorf("got %q", got)
	}
}

func useCodec(t *testing.T, b built) {
	jar := b.artifact("out/commons-codec-1.15.jar")
	z, err := zip.OpenReader(jar)
	if err != nil {
		t.Fatal(err)
	}
	z.Close()
	dir := t.TempDir()
	text := `class Main { public static void main(String[] a) { System.out.println(org.apache.commons.codec.digest.DigestUtils.sha256Hex("")); } }`
	if err := os.WriteFile(filepath.Join(dir, "Main.java"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("java", "-cp", jar, filepath.Join(dir, "Main.java")).CombinedOutput()
	if err != nil || !bytes.HasPrefix(out, []byte("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n")) {
		t.Errorf("%v\n%s", err, out)
	}
}
