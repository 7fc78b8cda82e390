package ssh

import "testing"

func TestParseTarget(t *testing.T) {
	for text, want := range map[string]Target{
		"el9":                 {Host: "el9", Port: 22},
		"build@el9":           {User: "build", Host: "el9", Port: 22},
		"build@el9:2222":      {User: "build", Host: "el9", Port: 2222},
		"192.0.2.1:22":        {Host: "192.0.2.1", Port: 22},
		"2001:db8::1":         {Host: "2001:db8::1", Port: 22},
		"b@[2001:db8::1]:99":  {User: "b", Host: "2001:db8::1", Port: 99},
		"DOM\\me@h":           {User: "DOM\\me", Host: "h", Port: 22},
		"me@example.com@host": {User: "me@example.com", Host: "host", Port: 22},
	} {
		if got, err := ParseTarget(text); err != nil || got != want {
			t.Errorf("%q: got %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "@h", "h:", "h:0", "h:65536", "h:x", "-oProxyCommand=x", "a@-h", "[::1", "[x]:1", "[::1]x", "[::1]:", "::g", "a b", "h;ls"} {
		if got, err := ParseTarget(text); err == nil {
			t.Errorf("%q passes as %+v", text, got)
		}
	}
}

// FuzzParseTarget: no host or user that passes is an option or a word of a shell.
func FuzzParseTarget(f *testing.F) {
	for _, text := range []string{"build@el9:2222", "b@[2001:db8::1]:99", "-oProxyCommand=x"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := ParseTarget(text)
		if err != nil {
			return
		}
		if got.Host == "" || got.Host[0] == '-' || got.User != "" && got.User[0] == '-' || got.Port < 1 || got.Port > 65535 {
			t.Errorf("%q passes as %+v", text, got)
		}
	})
}
