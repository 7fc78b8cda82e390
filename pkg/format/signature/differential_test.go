package signature

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/relkit/relkit/pkg/relkittest"
)

// How many random cases TestDifferential makes, and from which seed; the
// environment may say otherwise.
const (
	differentialCases = 300
	differentialSeed  = 1
)

// strictness is what relkit refuses on purpose and ssh-keygen does not: part of
// the error, and why.
var strictness = []struct{ says, why string }{
	// Keys and signatures.
	{"RSA key of 1024 bits", "too short (NIST SP 800-131A); ssh-keygen takes 1024"},
	{"user presence", "a signature without a touch may have been made by a program; sshd wants one too, ssh-keygen does not look"},
	{"critical option", "it narrows what the certificate is for, and nothing here could meet it; ssh-keygen does not look"},
	{`made with "ssh-rsa"`, "RSA with SHA-1 under a certificate; ssh-keygen refuses it under a document only"},
	{"ssh: signature did not verify", "an Ed25519 signature whose S is not reduced is one that others can make of a good one (RFC 8032, 5.1.7)"},
	{`made with "webauthn-sk-ecdsa`, "what a browser signed, which no command-line tool asks for"},
	{"not in the one form", "a reserved field that nobody writes"},
	{"unsupported signature version 0", "a version that never was"},
	{`\x00"`, "a zero byte after a name, which ssh-keygen does not see"},
	{"unknown key algorithm", "likewise"},
	{"data after the end of the signature", "nothing that is not covered travels with a signature"},
	{"bad armor", "blanks between the base64, or none of it"},
	// Lines of allowed_signers.
	{"patterns are not accepted", "a role is a name; a pattern gives more than was meant"},
	{"an empty name", "a comma too many, or a name too few"},
	{"a quote in the middle", "not what anybody means"},
	{"no blank after the closing quote", "not what anybody means"},
	{"a control character", "not what anybody means"},
	{"of 1100 bytes: at most", "ssh-keygen takes nothing of a list with a longer one"},
	{"stands twice", "which of them counts"},
	{"unknown option", "an option without a name between two commas"},
	{"bad time", "a 31st of February, a blank for a digit: strptime(3) and mktime(3) make some day of it"},
	{"key is a certificate", "ssh-keygen takes it whatever it says of principals and validity"},
	{"a NUL byte", "the line goes on behind what ssh-keygen reads of it"},
	{"illegal base64", "blanks of other kinds in the middle of a key"},
}

// trial is one question to both: does this signature count as this principal's?
type trial struct {
	name, allowed, sig, message, namespace, principal string
	at                                                time.Time
	zone                                              zone
}

// zone is a time zone as Go and as the C library name it.
type zone struct{ name, posix string }

var zones = []zone{{"UTC", "UTC0"}, {"Europe/Berlin", "CET-1CEST,M3.5.0,M10.5.0/3"}, {"Australia/Sydney", "AEST-10AEDT,M10.1.0,M4.1.0/3"}, {"America/New_York", "EST5EDT,M3.2.0,M11.1.0"}}

// verdict is the answer.
type verdict struct {
	valid      bool   // the signature is one, whoever made it
	verified   bool   // and it counts as the principal's
	principals string // whom it counts as in any namespace, by the first line that lets it; "" without valid
}

// openssh asks ssh-keygen.
func openssh(t *testing.T, c *trial) (v verdict) {
	dir, err := os.MkdirTemp("", "relkit-differential-")
	if err != nil {
		t.Error(err)
		return v
	}
	defer os.RemoveAll(dir)
	allowed, sig := filepath.Join(dir, "allowed"), filepath.Join(dir, "sig")
	if os.WriteFile(allowed, []byte(c.allowed), 0o600) != nil || os.WriteFile(sig, []byte(c.sig), 0o600) != nil {
		t.Error("cannot write a case")
	}
	ask := func(args ...string) (string, bool) {
		cmd := exec.Command("ssh-keygen", args...)
		cmd.Stdin = strings.NewReader(c.message)
		cmd.Env = append(os.Environ(), "TZ="+c.zone.posix)
		out, err := cmd.Output()
		return string(out), err == nil
	}
	when := "-Overify-time=" + c.at.UTC().Format("20060102150405Z")
	_, v.valid = ask("-Y", "check-novalidate", "-n", c.namespace, "-s", sig)
	_, v.verified = ask("-Y", "verify", "-n", c.namespace, "-I", c.principal, "-f", allowed, "-s", sig, when)
	if out, ok := ask("-Y", "find-principals", "-f", allowed, "-s", sig, when); ok && v.valid {
		v.principals = setOf(strings.Split(strings.TrimSuffix(out, "\n"), "\n"))
		if v.principals == "" { // it prints a list up to the first empty name
			v.principals = "(empty name)"
		}
	}
	return v
}

// ours asks this package. Lines that it refuses are left out, as ssh-keygen
// does; why are the reasons for that and for what else it refuses.
func ours(t *testing.T, c *trial) (v verdict, why []string) {
	location, err := time.LoadLocation(c.zone.name)
	if err != nil {
		t.Fatal(err)
	}
	time.Local = location
	signers, why := readLines(c.allowed)
	key, err := Verify(strings.NewReader(c.message), []byte(c.sig), c.namespace)
	if err != nil {
		return v, append(why, err.Error())
	}
	v.valid = true
	for _, s := range signers.Find(key) {
		err := s.Accepts(key, c.namespace, c.at, c.at)
		v.verified = v.verified || err == nil && slices.Contains(s.Roles(key), c.principal)
		if err != nil {
			why = append(why, err.Error())
		}
		s.Namespaces = ""
		if roles := s.Roles(key); v.principals == "" && len(roles) > 0 && s.Accepts(key, c.namespace, c.at, c.at) == nil {
			v.principals = setOf(roles)
		}
	}
	return v, why
}

// readLines reads a file line by line, passing over those that are refused.
func readLines(text string) (all AllowedSigners, why []string) {
	for line := range strings.Lines(text) {
		a, err := ParseAllowedSigners([]byte(line))
		if err != nil {
			why = append(why, err.Error())
			continue
		}
		all.Signers = append(all.Signers, a.Signers...)
	}
	return all, why
}

func setOf(names []string) string {
	names = slices.Clone(names)
	slices.Sort(names)
	return strings.Join(slices.Compact(names), ",")
}

// onPurpose is why relkit refuses what ssh-keygen accepts; "" where nothing is
// known of that.
func onPurpose(why []string) string {
	for _, s := range strictness {
		for _, w := range why {
			if strings.Contains(w, s.says) {
				return s.says
			}
		}
	}
	return ""
}

// TestDifferential holds parser and verifier against ssh-keygen, on signatures
// and allowed_signers files made out of good and bad pieces and then damaged.
// relkit never accepts what ssh-keygen does not; where it is the stricter one,
// that is on the list above, all of which occurs.
// RELKIT_TEST_SIGNATURES=N makes N random cases, RELKIT_TEST_SEED=N others.
func TestDifferential(t *testing.T) {
	relkittest.Need(t, "ssh-keygen")
	local := time.Local
	t.Cleanup(func() { time.Local = local })
	n, seed := fromEnv(t, "RELKIT_TEST_SIGNATURES", differentialCases), fromEnv(t, "RELKIT_TEST_SEED", differentialSeed)
	g := newGenerator(t, rand.New(rand.NewPCG(uint64(seed), 0)))
	trials := g.directed()
	directed := len(trials)
	for i := range n {
		trials = append(trials, g.random(fmt.Sprintf("seed %d, case %d", seed, i)))
	}
	theirs := askAll(t, trials)
	occurred, agreed := map[string]int{}, verdictCount{}
	for i, c := range trials {
		v, why := ours(t, c)
		if tooLax(v, theirs[i], len(why) == 0) {
			t.Errorf("%s: relkit accepts what ssh-keygen does not: %+v, ssh-keygen %+v\n%s", c.name, v, theirs[i], c)
			continue
		}
		if v == theirs[i] {
			if i >= directed {
				agreed.add(v)
			}
			continue
		}
		reason := onPurpose(why)
		if reason == "" {
			t.Errorf("%s: ssh-keygen accepts what relkit does not: %+v, ssh-keygen %+v, because of %q\n%s", c.name, v, theirs[i], why, c)
		}
		occurred[reason]++
	}
	for _, s := range strictness {
		if occurred[s.says] == 0 {
			t.Errorf("%q never made a difference: is it still one?", s.says)
		}
	}
	if agreed.valid < n/4 || agreed.verified < n/10 || agreed.invalid < n/10 {
		t.Errorf("of %d random cases both found %d signatures good, %d of them verified, and %d bad: too little of one of them", n, agreed.valid, agreed.verified, agreed.invalid)
	}
	t.Logf("%d cases, agreed on %+v; stricter %v", len(trials), agreed, occurred)
}

// tooLax tells whether relkit accepts anything that ssh-keygen does not. Of
// whom a key may sign as, ssh-keygen says what one line says, which is another
// than relkit's where relkit has passed over the first.
func tooLax(ours, theirs verdict, sameLine bool) bool {
	return ours.valid && !theirs.valid || ours.verified && !theirs.verified ||
		ours.principals != "" && (theirs.principals == "" || sameLine && !subset(ours.principals, theirs.principals))
}

func subset(a, b string) bool {
	for name := range strings.SplitSeq(a, ",") {
		if !slices.Contains(strings.Split(b, ","), name) {
			return false
		}
	}
	return true
}

type verdictCount struct{ valid, verified, invalid int }

func (n *verdictCount) add(v verdict) {
	if !v.valid {
		n.invalid++
		return
	}
	n.valid++
	if v.verified {
		n.verified++
	}
}

func (c *trial) String() string {
	return fmt.Sprintf("principal %q namespace %q message %q at %s in %s\nallowed_signers %q\nsignature %q", c.principal, c.namespace, c.message, c.at, c.zone.name, c.allowed, c.sig)
}

// askAll asks ssh-keygen, a few at a time.
func askAll(t *testing.T, trials []*trial) []verdict {
	out := make([]verdict, len(trials))
	var wg sync.WaitGroup
	next := make(chan int)
	for range 4 {
		wg.Go(func() {
			for i := range next {
				out[i] = openssh(t, trials[i])
			}
		})
	}
	for i := range trials {
		next <- i
	}
	close(next)
	wg.Wait()
	return out
}

func fromEnv(t *testing.T, name string, def int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return def
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		t.Fatalf("%s=%q is no number", name, text)
	}
	return n
}
