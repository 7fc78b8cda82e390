package relkittest

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// StartDistccd starts distcc's server on the loopback, which ends with the test. It
// answers what DISTCC_HOSTS is to say, and the server's log.
func StartDistccd(t testing.TB) (host, log string) {
	t.Helper()
	Need(t, "distcc", "distccd", "gcc")
	NeedRoot(t)
	dir, err := os.MkdirTemp("", "distcc")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	port := freePort(t)
	host, log = fmt.Sprintf("127.0.0.1:%d", port), filepath.Join(dir, "log")
	// It is nobody before it opens its log.
	if err := errors.Join(os.Chmod(dir, 0o755), os.WriteFile(log, nil, 0o600), os.Chmod(log, 0o666)); err != nil {
		t.Fatal(err)
	}
	daemon(t, nil, "distccd", "--no-detach", "--daemon", "--user=nobody", "--listen=127.0.0.1", "--allow=127.0.0.1", fmt.Sprintf("--port=%d", port), "--log-level=info", "--log-file="+log)
	awaitThat(t, "distccd", func() bool {
		c, err := net.DialTimeout("tcp", host, time.Second)
		if err != nil {
			return false
		}
		return c.Close() == nil
	})
	return host, log
}
