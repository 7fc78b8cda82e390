package notify

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/relkit/relkit/pkg/config"
	"github.com/relkit/relkit/pkg/relkittest"
)

// certificate makes a certificate for 127.0.0.1 in two files, and the pool that
// trusts it.
func certificate(t *testing.T) (cert, key string, pool *x509.CertPool) {
	t.Helper()
	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "mx"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &priv.PublicKey, priv)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(priv)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	for name, data := range map[string][]byte{cert: certPEM, key: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})} {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pool = x509.NewCertPool()
	pool.AppendCertsFromPEM(certPEM)
	return cert, key, pool
}

// mailServer starts a real server; its mails are in dir.
func mailServer(t *testing.T, o relkittest.MailOptions) (address, dir string) {
	t.Helper()
	relkittest.Need(t, "aiosmtpd")
	o.Dir = t.TempDir()
	address, stop, err := relkittest.MailServer(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return address, o.Dir
}

// mails reads what a server has taken, with the extension txt or eml.
func mails(t *testing.T, dir, ext string) (list []string) {
	t.Helper()
	names, err := filepath.Glob(dir + "/*." + ext)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, string(b))
	}
	return list
}

func env(pairs ...string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1], true
			}
		}
		return os.LookupEnv(name)
	}
}

// tell queues a situation in a spool of its own and delivers it.
func tell(t *testing.T, n config.Notify, o Options, s *Situation) (*Spool, []Outcome) {
	t.Helper()
	spool := Open(filepath.Join(t.TempDir(), "notify"), []config.Notify{n}, o)
	queue(t, spool, s)
	return spool, deliver(t, spool)
}

func queue(t *testing.T, spool *Spool, s *Situation) {
	t.Helper()
	dropped, err := spool.Queue(s, &Facts{Config: "/srv/relkit.toml", Log: []byte("make: *** [all] Error 1\ncafé\n")})
	if err != nil || len(dropped) > 0 {
		t.Fatal(err, dropped)
	}
}

func deliver(t *testing.T, spool *Spool) []Outcome {
	t.Helper()
	out, err := spool.Deliver(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// waiting counts what is in a spool, which holds nothing else.
func waiting(t *testing.T, spool *Spool) int {
	t.Helper()
	list, err := os.ReadDir(spool.dir)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	for _, f := range list {
		if filepath.Ext(f.Name()) != entryExt {
			t.Errorf("the spool has %s", f.Name())
		}
	}
	return len(list)
}

func TestMail(t *testing.T) {
	address, dir := mailServer(t, relkittest.MailOptions{})
	s := judged("success a@x", "failed b@x", "failed c@x")
	s.Build.Error = "é"
	n := config.Notify{Mail: "smtp://" + address, From: "Build Host <relkit@build.example.com>", To: []string{"team@x", "blame"}, When: []string{"failing"}, Attach: "log"}
	spool, out := tell(t, n, Options{}, s)
	if len(out) != 1 || out[0].Err != nil || waiting(t, spool) != 0 {
		t.Fatalf("%+v", out)
	}
	got := mails(t, dir, "txt")
	if len(got) != 1 {
		t.Fatalf("%d mails", len(got))
	}
	for _, want := range []string{"X-Envelope-From: relkit@build.example.com\n", "X-Envelope-To: team@x, c@x, b@x\n", "X-Session: plain -\n",
		"Subject: [r3000] fw[cc=gcc]/3 still fails, since 2: unit, exit status 2\n", "From: Build Host <relkit@build.example.com>\n",
		"To: team@x, c@x, b@x\n", "Auto-Submitted: auto-generated\n", "X-Relkit-Event: failing\n", "\nMIME-Version: 1.0\n", "\nDate: ",
		"\n  relkit build --config /srv/relkit.toml --rev ", "\n  make: *** [all] Error 1\n  café\n", "--- unit.log\nmake: *** [all] Error 1\ncafé\n"} {
		if !strings.Contains(got[0], want) {
			t.Errorf("there is no %q in\n%s", want, got[0])
		}
	}
	if raw := mails(t, dir, "eml")[0]; !strings.Contains(strings.ToLower(raw), "content-type: text/plain; charset=utf-8") {
		t.Errorf("%s", raw)
	}
	queue(t, spool, s) // what a relkit that was killed does again
	deliver(t, spool)
	if len(mails(t, dir, "txt")) != 1 {
		t.Error("told twice by one process")
	}
}

// TestThread: a row of failures and the build that ends it are one thread.
func TestThread(t *testing.T) {
	address, dir := mailServer(t, relkittest.MailOptions{})
	n := config.Notify{Mail: "smtp://" + address, From: "relkit@build.example.com", To: []string{"team@x"}, When: []string{"always"}}
	spool := Open(t.TempDir(), []config.Notify{n}, Options{})
	rows := []string{"success", "failed", "failed", "success", "failed"}
	for i := range rows {
		queue(t, spool, judged(rows[:i+1]...))
		deliver(t, spool)
	}
	got := mails(t, dir, "txt")
	if len(got) != len(rows) {
		t.Fatalf("%d mails", len(got))
	}
	header := func(i int, name string) string {
		for l := range strings.SplitSeq(got[i], "\n") {
			if v, ok := strings.CutPrefix(l, name+": "); ok {
				return v
			}
		}
		return ""
	}
	root := header(1, "Message-ID")
	if !strings.HasSuffix(root, "@build.example.com>") {
		t.Errorf("Message-ID %s", root)
	}
	seen := map[string]bool{}
	for i, want := range []string{"", "", root, root, ""} {
		seen[header(i, "Message-ID")] = true
		if header(i, "References") != want || header(i, "In-Reply-To") != want {
			t.Errorf("%d: References %q, In-Reply-To %q, want %q", i, header(i, "References"), header(i, "In-Reply-To"), want)
		}
	}
	if len(seen) != len(rows) {
		t.Errorf("%d Message-IDs", len(seen))
	}
}

func TestMailEncryption(t *testing.T) {
	cert, key, pool := certificate(t)
	s := judged("failed b@x")
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("hunter2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	with := relkittest.MailOptions{TLS: "starttls", Cert: cert, Key: key, User: "relkit", Password: "hunter2"}
	implicit := with
	implicit.TLS = "implicit"
	bare := with
	bare.TLS = ""
	open := relkittest.MailOptions{TLS: "starttls", Cert: cert, Key: key}
	for name, c := range map[string]struct {
		server relkittest.MailOptions
		url    string
		secret string
		roots  *x509.CertPool
		want   string // X-Session, or the error
	}{
		"STARTTLS and a password from a file":     {with, "smtp://relkit@", "file:" + file, pool, "encrypted relkit"},
		"TLS and a password from the environment": {implicit, "smtps://relkit@", "env:MAIL_PASSWORD", pool, "encrypted relkit"},
		"opportunistic, a stranger":               {open, "smtp://", "", nil, "encrypted -"},
		"credentials for a stranger":              {with, "smtp://relkit@", "env:MAIL_PASSWORD", x509.NewCertPool(), "unknown authority"},
		"TLS by a stranger":                       {implicit, "smtps://relkit@", "env:MAIL_PASSWORD", x509.NewCertPool(), "unknown authority"},
		"credentials in the clear":                {bare, "smtp://relkit@", "env:MAIL_PASSWORD", pool, "does not support STARTTLS"},
		"a wrong password":                        {with, "smtp://relkit@", "env:WRONG", pool, "535"},
		"a secret that is not there":              {with, "smtp://relkit@", "env:NOT_THERE", pool, "the environment has no NOT_THERE"},
		"a secret's file that is not there":       {with, "smtp://relkit@", "file:nowhere", pool, "reading notify.secret: open /conf/nowhere"},
	} {
		t.Run(name, func(t *testing.T) {
			address, dir := mailServer(t, c.server)
			n := config.Notify{Mail: c.url + address, Secret: c.secret, From: "relkit@x", To: []string{"blame"}}
			spool, out := tell(t, n, Options{Dir: "/conf", Roots: c.roots, LookupEnv: env("MAIL_PASSWORD", "hunter2", "WRONG", "hunter3")}, s)
			if len(out) != 1 {
				t.Fatalf("%+v", out)
			}
			got := mails(t, dir, "txt")
			if strings.HasPrefix(c.want, "encrypted") {
				if out[0].Err != nil || len(got) != 1 || !strings.Contains(got[0], "X-Session: "+c.want+"\n") {
					t.Errorf("%v, %q", out[0].Err, got)
				}
				return
			}
			if len(got) != 0 || out[0].Err == nil || !strings.Contains(out[0].Err.Error(), c.want) || out[0].GivenUp {
				t.Errorf("%v, %d mails", out[0].Err, len(got))
			}
			if waiting(t, spool) != 1 {
				t.Error("it does not wait for the next run")
			}
			noSecret(t, spool, out[0], "hunter")
		})
	}
}

// noSecret looks for a secret in what is written down.
func noSecret(t *testing.T, spool *Spool, o Outcome, secret string) {
	t.Helper()
	if strings.Contains(o.Err.Error()+o.Label, secret) {
		t.Errorf("%s: %v", o.Label, o.Err)
	}
	ids, err := spool.ids()
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		b, err := os.ReadFile(filepath.Join(spool.dir, id+entryExt))
		if err != nil || strings.Contains(string(b), secret) {
			t.Errorf("%v, %s", err, b)
		}
	}
}

// TestMailRefusals: one recipient who is refused does not keep the mail from the
// others, one who is put off gets it later, and nobody gets it twice.
func TestMailRefusals(t *testing.T) {
	address, dir := mailServer(t, relkittest.MailOptions{Refuse: []string{"gone@x"}, Defer: []string{"slow@x"}})
	n := config.Notify{Mail: "smtp://" + address, From: "relkit@x", To: []string{"gone@x", "slow@x", "team@x"}}
	s := judged("failed")
	spool, out := tell(t, n, Options{}, s)
	if out[0].Err == nil || out[0].GivenUp || !strings.Contains(out[0].Text(), "recipient gone@x: 550 5.1.1 no such user here") {
		t.Errorf("%+v", out[0])
	}
	got := mails(t, dir, "txt")
	if len(got) != 1 || !strings.Contains(got[0], "X-Envelope-To: team@x\n") || !strings.Contains(got[0], "To: gone@x, slow@x, team@x\n") {
		t.Errorf("%q", got)
	}
	// The next run tries the one who is left, alone.
	spool = Open(spool.dir, []config.Notify{n}, Options{})
	if out = deliver(t, spool); len(out) != 1 || !strings.Contains(out[0].Text(), "slow@x: 450") || strings.Contains(out[0].Text(), "gone") || len(mails(t, dir, "txt")) != 1 {
		t.Errorf("%+v", out)
	}

	for name, o := range map[string]relkittest.MailOptions{"the mail": {Reject: true}, "all recipients": {Refuse: []string{"gone@x", "slow@x", "team@x"}}} {
		n.Mail, _ = mailServer(t, o)
		n.Mail = "smtp://" + n.Mail
		if spool, out = tell(t, n, Options{}, s); len(out) != 1 || !out[0].GivenUp || waiting(t, spool) != 0 {
			t.Errorf("%s: %+v", name, out)
		}
	}
}

// TestMailHangs: a server that takes the connection, or the mail, and says no more.
func TestMailHangs(t *testing.T) {
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	lazy, dir := mailServer(t, relkittest.MailOptions{Hang: true})
	for _, address := range []string{mute.Addr().String(), lazy} {
		for _, scheme := range []string{"smtp", "smtps"} {
			if scheme == "smtps" && address == lazy {
				continue
			}
			start := time.Now()
			n := config.Notify{Mail: scheme + "://" + address, From: "relkit@x", To: []string{"team@x"}}
			spool, out := tell(t, n, Options{Deadline: time.Second}, judged("failed"))
			if len(out) != 1 || out[0].Err == nil || out[0].Text() != "no answer within 1s" || out[0].GivenUp || waiting(t, spool) != 1 {
				t.Errorf("%s://%s: %+v", scheme, address, out)
			}
			if d := time.Since(start); d > 5*time.Second {
				t.Errorf("it took %v", d)
			}
		}
	}
	if len(mails(t, dir, "txt")) != 0 {
		t.Error("the server has taken a mail")
	}
}

// TestSendmail: a sendmail on PATH gets the whole mail on its standard input.
func TestSendmail(t *testing.T) {
	dir := t.TempDir()
	write := func(text string) {
		if err := os.WriteFile(dir+"/sendmail", []byte("#!/bin/sh\n"+text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	o := Options{Deadline: 2 * time.Second, LookupEnv: env("PATH", dir+":/usr/bin:/bin"), Env: []string{"PATH=/usr/bin:/bin"}}
	n := config.Notify{Sendmail: true, From: "relkit@x", To: []string{"team@x", "blame"}}
	s := judged("failed b@x")

	// It goes on in the background, as exim's does, and must be let.
	write("echo \"$*\" >" + dir + "/args; cat >" + dir + "/mail; (sleep 0.5; echo done >" + dir + "/late) & exit 0\n")
	if _, out := tell(t, n, o, s); len(out) != 1 || out[0].Err != nil {
		t.Fatalf("%+v", out)
	}
	args, _ := os.ReadFile(dir + "/args")
	mail, _ := os.ReadFile(dir + "/mail")
	if string(args) != "-t -oi\n" || !strings.Contains(string(mail), "\r\nTo: <team@x>, <b@x>\r\n") || !strings.Contains(string(mail), "Auto-Submitted: auto-generated\r\n") {
		t.Errorf("%s%s", args, mail)
	}
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if _, err := os.Stat(dir + "/late"); err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal("what sendmail does in the background was ended")
		}
	}

	write("echo queue is full >&2; exit 75\n")
	if spool, out := tell(t, n, o, s); out[0].Err == nil || !strings.Contains(out[0].Text(), "exit status 75: queue is full") || waiting(t, spool) != 1 {
		t.Errorf("%+v", out)
	}
	write("sleep 100 & sleep 100\n")
	start := time.Now()
	if _, out := tell(t, n, o, s); out[0].Err == nil || out[0].Text() != "no answer within 2s" || time.Since(start) > 8*time.Second {
		t.Errorf("%+v after %v", out, time.Since(start))
	}
	o.LookupEnv = env("PATH", "/nowhere")
	if _, err := os.Stat("/usr/sbin/sendmail"); err == nil {
		return
	}
	if _, out := tell(t, n, o, s); out[0].Err == nil || out[0].Text() != "there is no sendmail" {
		t.Errorf("%+v", out)
	}
}

// Who presses Ctrl-C is not kept waiting, and nothing is held against the server.
func TestInterruptedDelivery(t *testing.T) {
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	n := config.Notify{Mail: "smtp://" + mute.Addr().String(), From: "relkit@x", To: []string{"team@x"}}
	spool := Open(t.TempDir(), []config.Notify{n}, Options{})
	queue(t, spool, judged("failed"))
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(100*time.Millisecond, cancel)
	start := time.Now()
	out, err := spool.Deliver(ctx)
	if err != nil || len(out) != 0 || time.Since(start) > 5*time.Second || waiting(t, spool) != 1 {
		t.Errorf("%+v, %v after %v", out, err, time.Since(start))
	}
	ids, _ := spool.ids()
	if e, err := spool.load(ids[0]); err != nil || e.Attempts != 0 {
		t.Errorf("%+v, %v", e, err)
	}
}
