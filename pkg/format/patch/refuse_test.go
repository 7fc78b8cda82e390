package patch

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/digest"
)

func TestHeaderRefuses(t *testing.T) {
	s, _ := seal(t)
	good := string(s.Raw)
	if _, err := ParseHeader(s.Raw); err != nil {
		t.Fatal(err)
	}
	long := digest.Of(nil).String()
	for _, c := range []struct {
		old, new, want string
		kind           failure.Kind
	}{
		{`"id"`, `"form":1,"id"`, `unknown field "form"`, failure.Untrusted},
		{`"id"`, `"ID"`, `offset`, failure.Untrusted},
		{`{"schema"`, `{ "schema"`, `offset 1: not in canonical form`, failure.Untrusted},
		{`"reboot":"none"`, `"reboot":"none","reboot":"none"`, `twice`, failure.Untrusted},
		{`relkit.patch/v1`, `relkit.patch/v2`, `schema "relkit.patch/v2"`, failure.Refused},
		{`relkit.patch/v1`, `relkit.image/v1`, `schema "relkit.image/v1"`, failure.Untrusted},
		{`relkit.patch/v1`, `rdlkit.patch/v1`, `schema "rdlkit.patch/v1"`, failure.Untrusted},
		{`"fw-4.1-4.2"`, `"../x"`, `id: bad id "../x"`, failure.Untrusted},
		{`"product":"fw"`, `"product":""`, `product`, failure.Untrusted},
		{`"fw (>= 4.1)"`, `"fw (~ 4.1)"`, `requires`, failure.Untrusted},
		{`"reboot":"none"`, `"reboot":"maybe"`, `reboot`, failure.Untrusted},
		{`"app.service"`, `"--now"`, `restart`, failure.Untrusted},
		{`"etc/*.conf"`, `"etc/[.conf"`, `config_files: bad pattern`, failure.Untrusted},
		{`"2023-11-14T22:13:20Z"`, `"2023-11-14T22:13:20+01:00"`, `UTC`, failure.Untrusted},
		{`"from":{"version":"4.1"`, `"full":true,"from":{"version":"4.1"`, `a full patch`, failure.Untrusted},
		{digest.Of([]byte("to")).String(), ``, `to: no tree digest`, failure.Untrusted},
		{`"method":1`, `"method":99`, `method 99`, failure.Refused},
		{`"output":20`, `"output":21`, `new_bytes`, failure.Untrusted},
		{`"length":20`, `"length":67108865`, `segment 0`, failure.Untrusted},
		{`"length":20`, `"length":-1`, `segment 0`, failure.Untrusted},
		{`"name":"entries"`, `"name":"hooks/x"`, `want hooks`, failure.Untrusted},
		{`"name":"hooks/pre"`, `"name":"hooks/other"`, `no member "hooks/pre"`, failure.Untrusted},
		{`"name":"hooks/pre"`, `"name":"hooks/../x"`, `bad hook name`, failure.Untrusted},
		{`"name":"payload","size":`, `"name":"payload","size":9`, `payload of 9`, failure.Untrusted},
		{"}\n", "}\n\n", `offset`, failure.Untrusted},
		{"}\n", "}", `offset`, failure.Untrusted},
		{"}\n", "}{}\n", `after the document`, failure.Untrusted},
		{long, long, ``, 0},
	} {
		if c.kind == 0 {
			continue
		}
		bad := strings.Replace(good, c.old, c.new, 1)
		if bad == good {
			t.Errorf("no %q in the header", c.old)
		}
		_, err := ParseHeader([]byte(bad))
		if err == nil || failure.Of(err) != c.kind || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q for %q: %v (kind %d), want %q", c.new, c.old, err, failure.Of(err), c.want)
		}
	}
}

func TestEntriesRefuse(t *testing.T) {
	good := string(must(t)(testEntries().Encode()))
	for _, c := range []struct{ old, new, want string }{
		{"v1", "v2", `line 1: "#relkit-entries v2": this relkit reads "#relkit-entries v1"`},
		{"#relkit-", "#", `line 1: want "#relkit-entries v1"`},
		{"base 3", "base 0", `does not follow`},
		{"base 3", "base 03", `canonical`},
		{"./lib/kept", "./lib/../kept", `bad path`},
		{"./lib/kept", "./usr/old", `stands twice`},
		{"+./etc/empty", "+./etc/../x", `bad path`},
		{"+./etc/empty", "+./aaa", `is not after`},
		{"+./etc/empty", " ./etc/empty", `want - or +`},
		{"content=0\n", "content=00\n", `bad number`},
		{"content=0\n", "content=1\n", `the one before ends at 0`},
		{"content=0\n", "content=9223372036854775807\n", `bad content`},
		{"content=20\n", "content=19\n", `two files that differ|the one before ends|differs`},
		{"content=0\n", "base=0\n", `not a file of the same size`},
		{" base=0\n", "\n", `no content`},
		{" base=0\n", " base=1\n", `base 1 is not`},
		{"+#relkit hardlink=1\n+./usr/b", "+./usr/b", `alone`},
		{"+#relkit hardlink=1", "-#relkit hardlink=1", `notes without`},
		{"mode=0644", "mode=644", `canonical`},
		{"-./usr/gone", "-.", `dir|never deleted|not after`},
		{"+./etc/empty", "+./etc/empty type=link uid=0 gid=0 mode=0777 time=0.000000000 link=x\n+./etc/empty/x", `entry "etc/empty/x": "etc/empty" is no folder afterwards`},
	} {
		bad := strings.Replace(good, c.old, c.new, 1)
		if bad == good {
			t.Errorf("no %q in the entries", c.old)
		}
		_, err := DecodeEntries(strings.NewReader(bad))
		ok := false
		for want := range strings.SplitSeq(c.want, "|") {
			ok = ok || err != nil && strings.Contains(err.Error(), want)
		}
		if !ok {
			t.Errorf("%q for %q: %v, want %q", c.new, c.old, err, c.want)
		}
	}
}

// TestNewerEntries: a patch of a newer relkit is refused, not called damaged.
// Of a patch that is too new, Open still tells its identity and who signed it.
func TestNewerPatch(t *testing.T) {
	raw := bytes.Replace(testPatch(t), []byte("relkit.patch/v1"), []byte("relkit.patch/v2"), 1)
	p, err := Open(bytes.NewReader(raw))
	if p == nil || failure.Of(err) != failure.Refused {
		t.Fatalf("got %v, %v", p, err)
	}
	if p.ID() != digest.Of(bytes.TrimRight(split(t, raw)[0].b[512:], "\x00")) || len(p.Signoffs()) != 1 {
		t.Errorf("identity %s, %d sign-offs", p.ID(), len(p.Signoffs()))
	}
	if again := p.Verify(); again == nil || again.Error() != err.Error() {
		t.Errorf("Verify answers %v", again)
	}
	// What cannot be read as sign-offs speaks for nobody.
	bare := raw[:bytes.Index(raw, []byte("signoffs/"))+600]
	if p, err := Open(bytes.NewReader(bare)); p == nil || failure.Of(err) != failure.Refused || len(p.Signoffs()) != 0 {
		t.Errorf("got %v, %v", p, err)
	}
}

func TestNewerEntries(t *testing.T) {
	s, _ := seal(t)
	h := *s.Header
	newer := strings.Replace(string(must(t)(testEntries().Encode())), " v1\n", " v2\n", 1)
	if _, err := openEntries(&h, must(t)(pack([]byte(newer)))); failure.Of(inEntries(err)) != failure.Refused {
		t.Errorf("%v", err)
	}
}

// TestHeaderCountsEntries: what patch.json says of the entries is held to.
func TestHeaderCountsEntries(t *testing.T) {
	s, _ := seal(t)
	for _, field := range []string{`"entries":10`, `"files":3`, `"entries_bytes":`} {
		raw := strings.Replace(string(s.Raw), field, field+"1", 1)
		h, err := ParseHeader([]byte(raw))
		if err != nil {
			t.Fatal(err)
		}
		v, err := openEntries(h, s.entries)
		for err == nil {
			_, err = v.Next()
		}
		if err == io.EOF {
			t.Errorf("%s is not held to", field)
		}
	}
}
