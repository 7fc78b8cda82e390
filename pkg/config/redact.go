package config

import (
	"net/url"
	"regexp"
	"strings"
)

// hidden stands for a secret, as it does in url.URL.Redacted.
const hidden = "xxxxx"

// Hide takes secrets out of text, and those of the URLs in it.
func Hide(text string, secrets []string) string {
	text = Redact(text)
	for _, s := range secrets {
		text = strings.ReplaceAll(text, s, hidden)
	}
	return text
}

// anyURL finds URLs in text: also those that url.Parse refuses, of which an error
// would tell all the more.
var anyURL = regexp.MustCompile(`[A-Za-z][A-Za-z0-9+.-]*://[^\s<>]+`)

// portEnd is an authority that ends in no port, or a number.
var portEnd = regexp.MustCompile(`^(\[[^\]]*\]|[^:]*)(:[0-9]*)?$`)

// Redact takes out of text what may be secret in the URLs in it: the user and
// the password, or a token that stands alone there, and the values of a query and
// of a fragment. Records, logs and mail are read by many. The user of ssh is none.
func Redact(text string) string { return anyURL.ReplaceAllStringFunc(text, redactURL) }

// leastSecret is the length of a secret that text is searched for, in bytes: less
// than that is part of words.
const leastSecret = 4

// Secrets are the words of a URL that Redact hides, as they stand there and
// decoded: programs repeat them outside of any URL, too.
func Secrets(address string) (list []string) {
	scheme, user, secret, rest := cutURL(address)
	if scheme == "" {
		return nil
	}
	_, password, ok := strings.Cut(user, ":")
	if !ok {
		password = user
	}
	var words []string
	if secret {
		words = []string{user, password}
	}
	if i := strings.IndexAny(rest, "?#"); i >= 0 {
		for v := range strings.FieldsFuncSeq(rest[i+1:], func(r rune) bool { return strings.ContainsRune("&#?", r) }) {
			name, value, ok := strings.Cut(v, "=")
			if !ok {
				value = name
			}
			words = append(words, value)
		}
	}
	for _, w := range words {
		decoded, err := url.PathUnescape(w)
		if err != nil {
			decoded = w
		}
		for _, w := range []string{w, decoded} {
			if len(w) >= leastSecret {
				list = append(list, w)
			}
		}
	}
	return list
}

// cutURL cuts a URL into its scheme, the user and what is with it, whether that
// is secret, and what follows.
func cutURL(text string) (scheme, user string, secret bool, rest string) {
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok {
		return "", "", false, text
	}
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	at := strings.LastIndex(rest[:end], "@")
	if at < 0 && !portEnd.MatchString(strings.TrimRight(rest[:end], `"'.,;:)`)) {
		at = strings.LastIndex(rest, "@") // a password with a slash in it
	}
	if at < 0 {
		return scheme, "", false, rest
	}
	user, rest = rest[:at], rest[at+1:]
	return scheme, user, !strings.HasSuffix(strings.ToLower(scheme), "ssh") || strings.Contains(user, ":"), rest
}

func redactURL(text string) string {
	scheme, user, secret, rest := cutURL(text)
	if secret {
		user = hidden
	}
	if user != "" {
		user += "@"
	}
	if i := strings.IndexAny(rest, "?#"); i >= 0 {
		rest = rest[:i+1] + redactValues(rest[i+1:])
	}
	return scheme + "://" + user + rest
}

// redactValues hides the values of "a=1&b=2", and what has no name.
func redactValues(query string) string {
	end := strings.TrimRight(query, `"'.,;:)`)
	list := strings.Split(end, "&")
	for i, v := range list {
		if name, _, ok := strings.Cut(v, "="); ok {
			list[i] = name + "=" + hidden
		} else if v != "" {
			list[i] = hidden
		}
	}
	return strings.Join(list, "&") + query[len(end):]
}
