package record

import (
	"bytes"
	"strings"
	"testing"
)

const smallHealth = `{"schema":"relkit.health/v1","id":"01a20107-5b08-7000-8000-000000000000","time":"2026-11-22T02:13:09Z","seq":1,` +
	`"duration_seconds":0.5,"interval_seconds":null,"uptime_seconds":86399.5,"relkit":{"version":"1.0.0"},"status":"warn",` +
	`"counts":{"ok":0,"warn":1,"crit":0,"unknown":0},"machine":{"id":null,"serial":"SN-1","uuid":null,"vendor":null,"product":null,` +
	`"board_serial":null,"bios_vendor":null,"bios_version":null,"bios_date":null,"hostname":"a<b","os":null,"kernel":null,` +
	`"architecture":"amd64","macs":[]},"release":{"product":null,"version":null,"patches":[],"transaction":null,"reboot_required":null,"deviations":[],"trust":null},` +
	`"audit":{"count":18446744073709551615,"head":null},"checks":[{"name":"nic","object":"eth0","status":"warn","summary":"off",` +
	`"warn":">=0.1","values":{"receive_bytes_total":18446744073709551615,"up":false}}],"errors":[],"redacted":[]}` + "\n"

// TestHealthRoundTrip holds the written form, the largest counter included.
func TestHealthRoundTrip(t *testing.T) {
	h, err := DecodeHealth([]byte(smallHealth))
	if err != nil {
		t.Fatal(err)
	}
	b, err := h.Encode()
	if err != nil || string(b) != smallHealth {
		t.Errorf("%v\ngot  %s\nwant %s", err, b, smallHealth)
	}
}

func TestHealthErrors(t *testing.T) {
	change := func(old, new string) string {
		if !strings.Contains(smallHealth, old) {
			t.Fatalf("the report holds no %q", old)
		}
		return strings.Replace(smallHealth, old, new, 1)
	}
	for what, c := range map[string]struct{ in, want string }{
		"nothing":           {"", "reading health report: offset 0: unexpected EOF"},
		"cut":               {smallHealth[:200], "unexpected EOF"},
		"two reports":       {smallHealth + smallHealth, "data after the document"},
		"another schema":    {change("health/v1", "health/v2"), `schema is "relkit.health/v2", want "relkit.health/v1"`},
		"no id":             {change(`"id":"01a20107-5b08-7000-8000-000000000000",`, ""), "id or time is missing"},
		"a bad status":      {change(`"status":"warn",`, `"status":"bad",`), `bad status "bad"`},
		"a bad check":       {change(`"status":"warn","summary"`, `"status":"","summary"`), `check "nic": bad status ""`},
		"a nameless one":    {change(`"name":"nic"`, `"name":""`), "check 0 has no name"},
		"false counts":      {change(`"ok":0`, `"ok":5`), "counts say"},
		"a bad time":        {change("2026-11-22T02:13:09Z", "yesterday"), "cannot parse"},
		"more than 64 bits": {change(`"count":18446744073709551615`, `"count":18446744073709551616`), "cannot unmarshal number"},
		"too long":          {smallHealth + strings.Repeat(" ", MaxHealth), "more than 16777216"},
	} {
		if _, err := DecodeHealth([]byte(c.in)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %s", what, err, c.want)
		}
	}
	if _, err := DecodeHealth([]byte(change(`"seq":1`, `"seq":1,"from_the_future":{"x":[1]}`))); err != nil {
		t.Errorf("a field that is not known: %v", err)
	}
}

func TestHealthWorse(t *testing.T) {
	order := []HealthStatus{HealthOK, HealthUnknown, HealthWarn, HealthCrit}
	for i, a := range order {
		for j, b := range order {
			if got, want := a.Worse(b), order[max(i, j)]; got != want {
				t.Errorf("%s.Worse(%s) = %s, want %s", a, b, got, want)
			}
		}
	}
}

// FuzzHealth: what is read is written so that it reads the same again.
func FuzzHealth(f *testing.F) {
	f.Add([]byte(smallHealth))
	f.Add([]byte(strings.Replace(smallHealth, `"up":false`, `"up":{"x":[1e400,null,"\ud800"]}`, 1)))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := DecodeHealth(b)
		if err != nil {
			return
		}
		once, err := h.Encode()
		if err != nil {
			t.Fatal(err)
		}
		again, err := DecodeHealth(once)
		if err != nil {
			t.Fatalf("%s: %v", once, err)
		}
		if twice, err := again.Encode(); err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("%v\n%s\n%s", err, once, twice)
		}
	})
}
