// Package notify tells people and programs what became of builds: it decides
// whom a build concerns, composes what to say, and delivers it by mail, webhook,
// command or file. What cannot be delivered waits in a spool for the next run;
// nothing here ever fails a build.
package notify

import (
	"net/mail"
	"slices"
	"strings"

	"github.com/relkit/relkit/pkg/config"
	"github.com/relkit/relkit/pkg/format/record"
)

// The events of a build that has ended, as a notice names them.
const (
	broke       = "broke"       // fails, and the one before it did not
	failing     = "failing"     // fails like the one before it
	recovered   = "recovered"   // succeeds, and the one before it failed
	succeeded   = "succeeded"   // like the one before it
	failedInfra = "error"       // the infrastructure failed: nobody's change
	interrupted = "interrupted" // stopped or killed
)

// Situation is a build that has ended and what there was before it.
type Situation struct {
	Build *record.Build
	Event string
	// again tells that the build before failed for the infrastructure too.
	again bool
	// lastGood is the newest that succeeded; nil where there is none.
	lastGood *record.Build
	// first is the first of the row of failures that Build is in, or ends; nil
	// where there is none.
	first *record.Build
	// failures counts that row.
	failures int
	// changes are those since lastGood, newest first.
	changes []record.BuildChange
}

// Judge looks at a build and at those before it, newest first: as many as there
// are down to the last that succeeded.
func Judge(b *record.Build, before []*record.Build) *Situation {
	s := &Situation{Build: b}
	s.add(b.Changes)
	wasFailed := false
	for _, old := range before {
		if old.Status == record.BuildSuccess {
			s.lastGood = old
			break
		}
		s.add(old.Changes)
		if old.Status == record.BuildFailed {
			wasFailed = true
			s.first = old
			s.failures++
		}
	}
	// Who interrupts knows: that is neither the end nor the beginning of an outage.
	last := slices.IndexFunc(before, func(old *record.Build) bool { return old.Status != record.BuildInterrupted })
	s.again = last >= 0 && before[last].Status == record.BuildError
	switch b.Status {
	case record.BuildFailed:
		s.failures++
		s.Event = failing
		if !wasFailed {
			s.Event, s.first = broke, b
		}
	case record.BuildSuccess:
		s.Event = succeeded
		if wasFailed {
			s.Event = recovered
		}
	case record.BuildError:
		s.Event = failedInfra
	default:
		s.Event = interrupted
	}
	return s
}

// add adds changes that are not there yet: a build that came to no answer has
// the same as the one after it.
func (s *Situation) add(changes []record.BuildChange) {
	for _, c := range changes {
		known := slices.ContainsFunc(s.changes, func(k record.BuildChange) bool {
			return k.Source == c.Source && k.Revision == c.Revision
		})
		if !known {
			s.changes = append(s.changes, c)
		}
	}
}

// concerns tells whether a [[notify]] asks to hear of the situation.
func (s *Situation) concerns(n *config.Notify) bool {
	builder, _, _ := strings.Cut(s.Build.Builder, "[") // a cell of it
	if len(n.Builders) > 0 && !slices.Contains(n.Builders, "*") && !slices.Contains(n.Builders, builder) {
		return false
	}
	when := n.When
	if len(when) == 0 {
		when = []string{"change"}
	}
	return slices.ContainsFunc(when, func(w string) bool {
		switch w {
		case "always":
			return true
		case "failing":
			return s.Event == broke || s.Event == failing || s.lost()
		case "change":
			return s.Event == broke || s.Event == recovered
		case "recovery":
			return s.Event == recovered
		case "error":
			return s.Event == failedInfra && !s.again || s.lost()
		}
		return false
	})
}

// lost tells whether the build was stopped or killed and nobody has seen that:
// whoever asks for a build himself has, but a schedule has not.
func (s *Situation) lost() bool {
	return s.Event == interrupted && s.Build.Schedule != "" && slices.Contains([]string{"schedule", "dependent", "change"}, s.Build.Reason)
}

// blame lists the addresses of those whose changes are built for the first time
// since the last success; nobody's where the infrastructure failed.
func (s *Situation) blame() []string {
	var list []string
	if s.Event == failedInfra || s.Event == interrupted {
		return nil
	}
	for _, c := range s.changes {
		if address, ok := plainAddress(c.Email); ok {
			list = addOnce(list, address)
		}
	}
	return list
}

// recipients lists the addresses that a [[notify]] of mail means.
func (s *Situation) recipients(n *config.Notify) []string {
	var list []string
	for _, to := range n.To {
		if to != config.Blame {
			if address, err := mail.ParseAddress(to); err == nil { // config has seen to that
				list = addOnce(list, address.Address)
			}
			continue
		}
		for _, address := range s.blame() {
			if len(n.Domains) == 0 || slices.ContainsFunc(n.Domains, func(d string) bool { return inDomain(address, d) }) {
				list = addOnce(list, address)
			}
		}
	}
	return list
}

// addOnce adds an address. Case does not tell two of them apart in practice.
func addOnce(list []string, address string) []string {
	if slices.ContainsFunc(list, func(a string) bool { return strings.EqualFold(a, address) }) {
		return list
	}
	return append(list, address)
}

// plainAddress takes what a version control system calls an author's address: it
// may be anything, and is passed to a mail server only where it is one address.
func plainAddress(text string) (string, bool) {
	a, err := mail.ParseAddress(text)
	if err != nil || a.Name != "" || a.Address != text || strings.ContainsAny(text, "\"<>,;: \t\r\n") {
		return "", false
	}
	return a.Address, true
}

func inDomain(address, domain string) bool {
	_, host, _ := strings.Cut(address, "@")
	return strings.EqualFold(host, domain)
}
