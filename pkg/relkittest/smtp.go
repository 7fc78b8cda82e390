package relkittest

import (
	"bufio"
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

//go:embed smtpd.py
var smtpd string

// MailOptions say what a mail server is like; the zero value takes everything.
type MailOptions struct {
	// Dir gets the mails: 1.eml as it came, 1.txt decoded, and so on.
	Dir string `json:"dir"`
	// TLS is "", "starttls" or "implicit", with Cert and Key in files.
	TLS  string `json:"tls,omitempty"`
	Cert string `json:"cert,omitempty"`
	Key  string `json:"key,omitempty"`
	// User, where given, must log in with Password.
	User     string `json:"user,omitempty"`
	Password string `json:"password,omitempty"`
	// Refuse and Defer are recipients that get 550 and 450; Reject refuses each
	// mail after it was sent, Hang never answers then.
	Refuse []string `json:"refuse,omitempty"`
	Defer  []string `json:"defer,omitempty"`
	Reject bool     `json:"reject,omitempty"`
	Hang   bool     `json:"hang,omitempty"`
}

// Python is the interpreter that Debian's packages of modules are for.
const Python = "/usr/bin/python3"

// MailServer starts aiosmtpd, a real mail server (Debian: python3-aiosmtpd), on
// a port of 127.0.0.1. A caller needs the tool aiosmtpd.
func MailServer(o MailOptions) (address string, stop func(), err error) {
	tmp, err := os.MkdirTemp("", "relkit-smtpd-")
	if err != nil {
		return "", nil, err
	}
	defer os.RemoveAll(tmp)
	options, err := json.Marshal(o)
	if err != nil {
		return "", nil, err
	}
	for name, data := range map[string][]byte{"smtpd.py": []byte(smtpd), "options.json": options} {
		if err := os.WriteFile(filepath.Join(tmp, name), data, 0o600); err != nil {
			return "", nil, err
		}
	}
	cmd := exec.Command(Python, filepath.Join(tmp, "smtpd.py"), filepath.Join(tmp, "options.json"))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", nil, err
	}
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	stop = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	port, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		stop()
		return "", nil, fmt.Errorf("starting a mail server: %w: %s", err, stderr.Bytes())
	}
	return "127.0.0.1:" + strings.TrimSpace(port), stop, nil
}
