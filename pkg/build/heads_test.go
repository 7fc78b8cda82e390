package build

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

// deadServer accepts connections and never answers.
func deadServer(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { c.Close() })
		}
	}()
	return l.Addr().String()
}

// Four sources that never answer keep one that does waiting no longer than one would,
// and each is told of once, however many builders and schedules watch it.
func TestDueDespiteDeadSources(t *testing.T) {
	at, text := deadServer(t), ""
	for i := range 4 {
		text += fmt.Sprintf("[[source]]\nname = \"dead%d\"\nvcs = \"git\"\nurl = \"git://%s/r%d\"\nbranch = \"main\"\n", i, at, i)
		for k := range 2 {
			text += fmt.Sprintf("[[builder]]\nname = \"d%d%d\"\nsources = [\"dead%d\"]\n", i, k, i) + plainStep
		}
	}
	b := newDueBench(t, text+"[[builder]]\nname = \"fw\"\nsources = [\"fw\"]\n"+plainStep+
		"[[schedule]]\nname = \"s\"\non = \"change\"\n[[schedule]]\nname = \"t\"\non = \"change\"\nbuilders = [\"d00\"]\n")
	b.opt.poll = 3 * time.Second
	start := time.Now()
	built, err := b.tryDue()
	if took := time.Since(start); took > 3*b.opt.poll {
		t.Errorf("took %v", took)
	}
	if len(built) != 1 || built[0] != "fw/1 change" || err == nil {
		t.Fatalf("%v, %q", err, built)
	}
	for i := range 4 {
		if n := strings.Count(err.Error(), fmt.Sprintf("/r%d\" does not answer within 3s", i)); n != 1 {
			t.Errorf("source %d is told of %d times: %v", i, n, err)
		}
	}
}
