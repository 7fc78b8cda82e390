package notify

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/relkit/relkit/pkg/config"
	"github.com/relkit/relkit/pkg/format/record"
	"github.com/relkit/relkit/pkg/sys/lock"
)

// hook is a web server that keeps the notices it takes; broken ones are answered
// with a status of its list first.
type hook struct {
	*httptest.Server
	mu      sync.Mutex
	answers []int
	calls   []*http.Request
	taken   []*record.BuildNotice
}

func newHook(t *testing.T, tls bool, answers ...int) *hook {
	h := &hook{answers: answers}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.calls = append(h.calls, r)
		if len(h.answers) > 0 {
			code := h.answers[0]
			h.answers = h.answers[1:]
			if code/100 == 3 {
				w.Header().Set("Location", "/elsewhere")
			}
			http.Error(w, "trouble at "+r.URL.Path, code)
			return
		}
		var body strings.Builder
		if _, err := fmt.Fprint(&body, readAll(r)); err != nil {
			t.Error(err)
		}
		n, err := record.DecodeBuildNotice([]byte(body.String()))
		if err != nil {
			t.Error(err)
		}
		h.taken = append(h.taken, n)
	})
	if h.Server = httptest.NewUnstartedServer(handler); tls {
		h.StartTLS()
	} else {
		h.Start()
	}
	t.Cleanup(h.Close)
	return h
}

func readAll(r *http.Request) string {
	var b strings.Builder
	buf := make([]byte, 4096)
	for {
		n, err := r.Body.Read(buf)
		b.Write(buf[:n])
		if err != nil {
			return b.String()
		}
	}
}

func TestWebhook(t *testing.T) {
	s := judged("success a@x", "failed b@x")
	for _, c := range []struct {
		answers []int
		calls   int
		want    string // the error; "" where it is told
		givenUp bool
	}{
		{nil, 1, "", false},
		{[]int{500}, 2, "", false},
		{[]int{503, 429}, 3, "", false},
		{[]int{500, 502, 500}, 3, "500 Internal Server Error: trouble at ***", false},
		{[]int{404}, 1, "404 Not Found: trouble at ***", false},
		{[]int{302}, 1, "302 Found: trouble at ***", false}, // nobody else is told
		{[]int{400}, 1, "400 Bad Request: trouble at ***", true},
	} {
		h := newHook(t, false, c.answers...)
		spool, out := tell(t, config.Notify{Webhook: h.URL + "/hooks/T0PS3CRET"}, Options{Backoff: time.Millisecond}, s)
		left := 0
		if c.want != "" && !c.givenUp {
			left = 1
		}
		if len(out) != 1 || len(h.calls) != c.calls || waiting(t, spool) != left {
			t.Errorf("%v: %+v, %d calls, %d wait", c.answers, out, len(h.calls), waiting(t, spool))
			continue
		}
		for _, r := range h.calls {
			if r.Method != "POST" || r.Header.Get("Content-Type") != "application/json" || r.Header.Get("Idempotency-Key") != h.calls[0].Header.Get("Idempotency-Key") || r.Header.Get("Idempotency-Key") == "" {
				t.Errorf("%s %v", r.Method, r.Header)
			}
		}
		if c.want == "" {
			if n := h.taken; out[0].Err != nil || len(n) != 1 || n[0].Event != broke || n[0].Blame[0] != "b@x" || !strings.Contains(n[0].Text, "café") {
				t.Errorf("%v: %v, %+v", c.answers, out[0].Err, n)
			}
			continue
		}
		if out[0].Err == nil || out[0].Text() != c.want || out[0].GivenUp != c.givenUp {
			t.Errorf("%v: %+v", c.answers, out[0])
			continue
		}
		noSecret(t, spool, out[0], "T0PS3CRET")
	}
}

// The address and the token may stand elsewhere than in relkit.toml.
func TestWebhookSecrets(t *testing.T) {
	h := newHook(t, true)
	pool := h.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/url", []byte(h.URL+"/x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := judged("failed")
	o := Options{Dir: dir, Roots: pool, LookupEnv: env("TOKEN", "t0ken", "URL", h.URL+"/x", "PLAIN", "http://127.0.0.1:1/x"), Backoff: time.Millisecond}
	for _, webhook := range []string{"file:url", "env:URL"} {
		if _, out := tell(t, config.Notify{Webhook: webhook, Secret: "env:TOKEN"}, o, s); out[0].Err != nil {
			t.Errorf("%+v", out)
		}
	}
	if len(h.calls) != 2 || h.calls[0].Header.Get("Authorization") != "Bearer t0ken" {
		t.Errorf("%d calls", len(h.calls))
	}
	for webhook, want := range map[string]string{"env:PLAIN": "notify.secret is for https alone", "env:NONE": "reading notify.webhook: the environment has no NONE",
		"file:none": "reading notify.webhook: open " + dir + "/none: no such file or directory", "env:TOKEN": "notify.webhook leads to no URL of http or https"} {
		if _, out := tell(t, config.Notify{Webhook: webhook, Secret: "env:TOKEN"}, o, s); out[0].Err == nil || out[0].Text() != want {
			t.Errorf("%s: %+v", webhook, out)
		}
	}
	o.Roots = nil
	spool, out := tell(t, config.Notify{Webhook: h.URL + "/T0PS3CRET", Secret: "env:TOKEN"}, o, s)
	if out[0].Err == nil || !strings.Contains(out[0].Text(), "unknown authority") {
		t.Errorf("%+v", out)
	}
	noSecret(t, spool, out[0], "T0PS3CRET")
}

func TestWebhookHangs(t *testing.T) {
	end := make(chan struct{})
	h := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-end }))
	defer h.Close()
	defer close(end)
	start := time.Now()
	_, out := tell(t, config.Notify{Webhook: h.URL}, Options{Deadline: time.Second}, judged("failed"))
	if out[0].Err == nil || out[0].Text() != "no answer within 1s" || time.Since(start) > 5*time.Second {
		t.Errorf("%+v after %v", out, time.Since(start))
	}
}

// TestCommand: JSON on standard input, and nothing is left of one that hangs.
func TestCommand(t *testing.T) {
	dir := t.TempDir()
	o := Options{Dir: dir, Env: []string{"PATH=/usr/bin:/bin", "RELKIT_X=y"}, Deadline: 2 * time.Second}
	s := judged("success", "failed b@x")
	spool, out := tell(t, config.Notify{Command: []string{"sh", "-c", `cat >"$1"; pwd >pwd; echo $RELKIT_X >>pwd`, "-", "got it"}}, o, s)
	if out[0].Err != nil || waiting(t, spool) != 0 {
		t.Fatalf("%+v", out)
	}
	line, err := os.ReadFile(dir + "/got it")
	if err != nil {
		t.Fatal(err)
	}
	if n, err := record.DecodeBuildNotice(line); err != nil || n.Event != broke || n.Number != 2 {
		t.Errorf("%v, %s", err, line)
	}
	if got, _ := os.ReadFile(dir + "/pwd"); string(got) != dir+"\ny\n" {
		t.Errorf("%s", got)
	}
	if _, out = tell(t, config.Notify{Command: []string{"sh", "-c", "echo no queue >&2; exit 7"}}, o, s); out[0].Err == nil || out[0].Text() != "exit status 7: no queue" {
		t.Errorf("%+v", out)
	}
	if _, out = tell(t, config.Notify{Command: []string{"nonsense"}}, o, s); out[0].Err == nil || !strings.Contains(out[0].Text(), "exit status 127: ") {
		t.Errorf("%+v", out)
	}
	start := time.Now()
	spool, out = tell(t, config.Notify{Command: []string{"sh", "-c", "setsid sleep 1017 & trap '' TERM; sleep 1017"}}, o, s)
	if out[0].Err == nil || !strings.Contains(out[0].Text(), "within 2s") || waiting(t, spool) != 1 || time.Since(start) > 20*time.Second {
		t.Errorf("%+v after %v", out, time.Since(start))
	}
	if n := running(t, "sleep\x001017\x00"); n != 0 {
		t.Errorf("%d processes are left", n)
	}
}

// running counts processes by their command line.
func running(t *testing.T, cmdline string) (n int) {
	t.Helper()
	list, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range list {
		if b, err := os.ReadFile(name); err == nil && string(b) == cmdline {
			n++
		}
	}
	return n
}

func TestFile(t *testing.T) {
	dir := t.TempDir()
	o := Options{Dir: dir}
	s := judged("success", "failed")
	for range 2 {
		if _, out := tell(t, config.Notify{File: "builds"}, o, s); out[0].Err != nil {
			t.Errorf("%+v", out)
		}
	}
	got, _ := os.ReadFile(dir + "/builds")
	lines := strings.Split(strings.TrimSuffix(string(got), "\n"), "\n")
	if len(lines) != 2 || !strings.HasSuffix(lines[1], "Z [r3000] fw[cc=gcc]/2 fails: unit, exit status 2") {
		t.Errorf("%q", got)
	}
	tell(t, config.Notify{File: dir + "/text", Attach: "log"}, o, s)
	if got, _ = os.ReadFile(dir + "/text"); !strings.Contains(string(got), "\nReproduce:\n") || !strings.HasSuffix(string(got), "--- unit.log\nmake: *** [all] Error 1\ncafé\n\n") {
		t.Errorf("%s", got)
	}
	if spool, out := tell(t, config.Notify{File: "no/such"}, o, s); out[0].Err == nil || waiting(t, spool) != 1 {
		t.Errorf("%+v", out)
	}
}

// TestSpool: what fails is tried by the next run, later less often, told once
// and given up in the end.
func TestSpool(t *testing.T) {
	h := newHook(t, false, 500, 500, 500, 500, 500, 500, 500, 500, 500, 500, 500, 500)
	n := []config.Notify{{Webhook: h.URL, When: []string{"always"}}}
	dir := filepath.Join(t.TempDir(), "notify")
	now := noon
	next := func() *Spool { // another run
		s := Open(dir, n, Options{Backoff: time.Millisecond})
		s.now = func() time.Time { return now }
		return s
	}
	spool := next()
	queue(t, spool, judged("failed"))
	step := func(wait time.Duration, want int, why string) {
		t.Helper()
		now = now.Add(wait)
		spool = next()
		if out := deliver(t, spool); len(out) != want {
			t.Errorf("%s: %+v", why, out)
		}
	}
	step(0, 1, "the first try")
	if out := deliver(t, spool); len(out) != 0 {
		t.Errorf("a run tries once: %+v", out)
	}
	step(0, 1, "the next run")
	step(time.Minute, 0, "a minute later")
	step(4*time.Minute, 1, "five minutes later")
	step(9*time.Minute, 0, "nine minutes later")
	step(time.Minute, 1, "ten minutes later")
	// A build of now makes those before it due, and goes after them.
	spool = next()
	queue(t, spool, judged("failed", "success"))
	h.answers = nil
	if out := deliver(t, spool); len(out) != 2 || out[0].Number != 1 || !out[0].Again || out[1].Number != 2 || out[1].Again || waiting(t, spool) != 0 {
		t.Errorf("%+v", out)
	}
	if len(h.taken) != 2 || h.taken[0].Event != broke || h.taken[1].Event != recovered {
		t.Errorf("%+v", h.taken)
	}
	step(time.Hour, 0, "it is told once")

	h.answers = []int{404, 404}
	queue(t, spool, judged("failed"))
	deliver(t, next())
	now = now.Add(maxAge + time.Hour)
	if out := deliver(t, next()); len(out) != 1 || !out[0].GivenUp || waiting(t, spool) != 0 {
		t.Errorf("after days: %+v", out)
	}
	queue(t, next(), judged("failed"))
	n = nil
	if out := deliver(t, next()); len(out) != 1 || !out[0].GivenUp || waiting(t, spool) != 0 {
		t.Errorf("without the target: %+v", out)
	}
}

func TestSpoolIsBounded(t *testing.T) {
	spool := Open(t.TempDir(), []config.Notify{{File: "/nowhere/x", When: []string{"always"}}}, Options{})
	f := &Facts{}
	var dropped []Outcome
	for i := range maxEntries + 3 {
		more, err := spool.Queue(Judge(built(i+1, record.BuildFailed), nil), f)
		if err != nil {
			t.Fatal(err)
		}
		dropped = append(dropped, more...)
		// Files are told apart by their times, which a fast disk makes the same.
		ids, _ := spool.ids()
		for k, id := range ids {
			at := noon.Add(time.Duration(k) * time.Second)
			if err := os.Chtimes(filepath.Join(spool.dir, id+entryExt), at, at); err != nil {
				t.Fatal(err)
			}
		}
	}
	if waiting(t, spool) != maxEntries || len(dropped) != 3 || dropped[0].Number != 1 || dropped[2].Number != 3 || !dropped[0].GivenUp {
		t.Errorf("%d wait, dropped %+v", waiting(t, spool), dropped)
	}
}

// TestSpoolOfOthers: an entry that another process is delivering is left to it,
// and what is no entry is said and passed over.
func TestSpoolOfOthers(t *testing.T) {
	file := filepath.Join(t.TempDir(), "told")
	n := []config.Notify{{File: file, When: []string{"always"}}}
	spool := Open(t.TempDir(), n, Options{})
	queue(t, spool, judged("failed"))
	ids, _ := spool.ids()
	l, err := lock.Try(filepath.Join(spool.dir, ids[0]+".lock"))
	if err != nil {
		t.Fatal(err)
	}
	if out := deliver(t, spool); len(out) != 0 {
		t.Errorf("%+v", out)
	}
	if err := l.Release(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(spool.dir+"/torn.json", []byte(`{"schema":`), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := spool.Deliver(t.Context())
	if len(out) != 1 || out[0].Err != nil || err == nil || !strings.Contains(err.Error(), "torn.json") {
		t.Errorf("%+v, %v", out, err)
	}

	// Many at once: each notice is told once.
	if err := os.Remove(spool.dir + "/torn.json"); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		if _, err := spool.Queue(Judge(built(i+1, record.BuildFailed), nil), &Facts{}); err != nil {
			t.Fatal(err)
		}
	}
	var told atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			out, err := Open(spool.dir, n, Options{}).Deliver(t.Context())
			if err != nil {
				t.Error(err)
			}
			told.Add(int64(len(out)))
		})
	}
	wg.Wait()
	b, _ := os.ReadFile(file)
	if strings.Count(string(b), "\n") != 20 || told.Load() != 20 || waiting(t, spool) != 0 {
		t.Errorf("%d told, %d lines, %d wait", told.Load(), strings.Count(string(b), "\n"), waiting(t, spool))
	}
}

// A target that keeps relkit waiting does so once a run, not once a notice.
func TestSilentTarget(t *testing.T) {
	end := make(chan struct{})
	var calls atomic.Int64
	h := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { calls.Add(1); <-end }))
	defer h.Close()
	defer close(end)
	file := filepath.Join(t.TempDir(), "told")
	spool := Open(t.TempDir(), []config.Notify{{Webhook: h.URL}, {File: file}}, Options{Deadline: 500 * time.Millisecond})
	for i := range 5 {
		if _, err := spool.Queue(Judge(built(i+1, record.BuildFailed), nil), &Facts{}); err != nil {
			t.Fatal(err)
		}
	}
	deliver(t, spool)
	b, _ := os.ReadFile(file)
	if calls.Load() != 1 || strings.Count(string(b), "\n") != 5 || waiting(t, spool) != 5 {
		t.Errorf("%d calls, %d lines, %d wait", calls.Load(), strings.Count(string(b), "\n"), waiting(t, spool))
	}
}
