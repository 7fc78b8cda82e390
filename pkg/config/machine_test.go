package config

import (
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/relkit/relkit/pkg/failure"
)

func TestDecodeMachine(t *testing.T) {
	m, err := DecodeMachine("machine.toml", []byte(`
compatible = ["x2-pro", "x2"]
labels = { ring = "beta" }
provides = ["bootloader (= 2.06)", "tpm"]
[retention]
keep = 0
keep_size = "2GiB"
[audit]
max_size = "1MiB"
keep_files = 4
host_key = "/etc/ssh/ssh_host_ed25519_key"
syslog = true
journald = true
`))
	if err != nil {
		t.Fatal(err)
	}
	if m.Retention.Count() != 0 || m.Retention.KeepSize != 2<<30 || m.Audit.MaxSize != 1<<20 || m.Audit.KeepFiles != 4 || !m.Audit.Syslog || !m.Audit.Journald ||
		m.Audit.HostKey != "/etc/ssh/ssh_host_ed25519_key" || len(m.Compatible) != 2 || m.Labels["ring"] != "beta" || len(m.Provides) != 2 {
		t.Errorf("got %+v", m)
	}
	if m, err := DecodeMachine("machine.toml", nil); err != nil || m.Retention.Count() != DefaultKeep {
		t.Errorf("an empty file: %+v, %v", m, err)
	}
	for text, want := range map[string]string{
		"provides = [\"a (>= 1)\"]":     `provides: expression "a (>= 1)"`,
		"labels = { ring = 1 }":         "labels",
		"[retention]\nkeep = -1":        "retention.keep: got -1",
		"[retention]\nkeep = \"all\"":   "retention.keep",
		"[retention]\nkeep_size = 12.5": "retention.keep_size",
		"[audit]\nkeep_files = -2":      "audit.keep_files: got -2",
		"[audit]\nmax_size = \"1K\"":    "audit.max_size: got 1024",
		"[audit]\nhost_key = \"key\"":   `audit.host_key: got "key"`,
		"[audit]\nsylog = true":         `did you mean "syslog"`,
	} {
		if _, err := DecodeMachine("machine.toml", []byte(text)); failure.Of(err) != failure.Usage || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
}

// TestMachinePage: relkit-machine.toml(5) has every key there is.
func TestMachinePage(t *testing.T) {
	page, err := os.ReadFile("../../man/relkit-machine.toml.5")
	if err != nil {
		t.Fatal(err)
	}
	for key, kind := range fieldTypes(reflect.TypeFor[Machine]()) {
		if kind.Kind() != reflect.Struct {
			if !strings.Contains(string(page), ".It Cm "+key+"\n") {
				t.Errorf("relkit-machine.toml(5) does not have %s", key)
			}
			continue
		}
		for sub := range fieldTypes(kind) {
			if !strings.Contains(string(page), ".It Cm "+key+"."+sub+"\n") {
				t.Errorf("relkit-machine.toml(5) does not have %s.%s", key, sub)
			}
		}
	}
}
