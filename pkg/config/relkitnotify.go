package config

import (
	"net/mail"
	"net/url"
	"slices"
	"strings"
)

func (r *Relkit) checkNotify(i int) {
	n := r.Notify[i]
	at := func(key ...any) []any { return append([]any{"notify", i}, key...) }
	ways := 0
	for _, given := range []bool{n.Mail != "", n.Sendmail, n.Webhook != "", len(n.Command) > 0, n.File != ""} {
		if given {
			ways++
		}
	}
	if ways != 1 {
		r.mistakef(at(), "notify: got %d of mail, sendmail, webhook, command and file, want one", ways)
		return
	}
	for k, w := range n.When {
		r.oneOf(at("when", k), "notify.when", w, whenNames...)
	}
	if n.Attach != "" {
		r.oneOf(at("attach"), "notify.attach", n.Attach, "tail", "log", "none")
	}
	r.checkBuilderNames(at("builders"), n.Builders)
	switch {
	case n.Mail != "":
		r.checkMail(i, at)
	case n.Webhook != "" && !isReference(n.Webhook):
		u, err := url.Parse(n.Webhook)
		if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
			r.mistakef(at("webhook"), "notify.webhook: want a URL of https or http, file:PATH or env:NAME")
		} else if n.Secret != "" && u.Scheme != "https" {
			r.mistakef(at("secret"), "notify.secret: for https alone")
		}
	}
	r.checkSecret(i, at)
	r.checkPeople(i, at)
}

// checkMail does not repeat the URL: what is wrong with it may be a password.
func (r *Relkit) checkMail(i int, at func(...any) []any) {
	n := r.Notify[i]
	u, err := url.Parse(n.Mail)
	switch {
	case err != nil || u.Scheme != "smtp" && u.Scheme != "smtps" || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "":
		r.mistakef(at("mail"), "notify.mail: want smtp://[USER@]HOST[:PORT] or smtps://[USER@]HOST[:PORT]")
		return
	case u.User == nil:
		return
	}
	if _, has := u.User.Password(); has {
		r.mistakef(at("mail"), "notify.mail: a password does not stand here: name where it is, secret = \"file:PATH\" or \"env:NAME\"")
	} else if n.Secret == "" {
		r.mistakef(at("mail"), "notify.mail: a user without a secret: name where the password is, secret = \"file:PATH\" or \"env:NAME\"")
	}
}

func (r *Relkit) checkSecret(i int, at func(...any) []any) {
	n := r.Notify[i]
	switch {
	case n.Secret == "":
	case !isReference(n.Secret):
		r.mistakef(at("secret"), "notify.secret: want file:PATH or env:NAME: the secret itself does not stand here")
	case n.Webhook != "":
	default:
		if u, err := url.Parse(n.Mail); n.Mail == "" || err == nil && u.User == nil {
			r.mistakef(at("secret"), "notify.secret: it is for a webhook, or for mail with a user")
		}
	}
}

// isReference tells whether text says where something stands.
func isReference(text string) bool {
	kind, rest, ok := strings.Cut(text, ":")
	return ok && rest != "" && (kind == "file" || kind == "env")
}

// checkPeople checks from whom and to whom mail is.
func (r *Relkit) checkPeople(i int, at func(...any) []any) {
	n := r.Notify[i]
	if n.Mail == "" && !n.Sendmail {
		for _, k := range []struct {
			key   string
			given bool
		}{{"from", n.From != ""}, {"to", len(n.To) > 0}, {"domains", len(n.Domains) > 0}} {
			if k.given {
				r.mistakef(at(k.key), "notify.%s: it is for mail and sendmail", k.key)
			}
		}
		return
	}
	if len(n.To) == 0 {
		r.mistakef(at(), "notify.to is missing: addresses, and %q for the authors of what has changed", Blame)
	}
	for k, to := range n.To {
		if _, err := mail.ParseAddress(to); to != Blame && err != nil {
			r.mistakef(at("to", k), "notify.to: bad address %q", to)
		}
	}
	if _, err := mail.ParseAddress(n.From); n.From != "" && err != nil {
		r.mistakef(at("from"), "notify.from: bad address %q", n.From)
	}
	if len(n.Domains) > 0 && !slices.Contains(n.To, Blame) {
		r.mistakef(at("domains"), "notify.domains: to has no %q that they would be for", Blame)
	}
	for k, d := range n.Domains {
		if d == "" || strings.ContainsAny(d, "@*/ ") {
			r.mistakef(at("domains", k), "notify.domains: bad domain %q", d)
		}
	}
}
