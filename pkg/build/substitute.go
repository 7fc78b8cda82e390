package build

import (
	"fmt"
	"regexp"
	"strings"
)

// placeholder is "{name}", with a "$" in front where it is the shell's.
var placeholder = regexp.MustCompile(`\$?\{[A-Za-z_][A-Za-z0-9_.-]*\}|\{\{|\}\}`)

// substitute replaces each "{name}" by its value. "${name}" is the shell's and
// stays; "{{" and "}}" are a brace each; an unknown name is an error.
func substitute(text string, vars map[string]string) (string, error) {
	var err error
	out := placeholder.ReplaceAllStringFunc(text, func(m string) string {
		switch {
		case m == "{{" || m == "}}":
			return m[:1]
		case m[0] == '$':
			return m
		}
		v, ok := vars[m[1:len(m)-1]]
		if !ok && err == nil {
			err = fmt.Errorf("unknown substitution %q in %q; write %q for the text itself", m, text, "{"+m+"}")
		}
		return v
	})
	return out, err
}

// shellSafe is a value that the shell takes for nothing but itself.
var shellSafe = regexp.MustCompile(`^[A-Za-z0-9_.,:/@%+=-]*$`)

// substituteShell replaces known names only, since braces are the shell's own,
// and refuses values that the shell would interpret.
func substituteShell(script string, vars map[string]string) (string, error) {
	var err error
	out := placeholder.ReplaceAllStringFunc(script, func(m string) string {
		if m[0] != '{' || strings.HasPrefix(m, "{{") {
			return m
		}
		v, ok := vars[m[1:len(m)-1]]
		if !ok {
			return m
		}
		if !shellSafe.MatchString(v) && err == nil {
			err = fmt.Errorf("the value %q of %s holds what the shell would interpret: use the environment variable instead", v, m)
		}
		return v
	})
	return out, err
}

// envWord makes the end of an environment variable's name out of a name.
func envWord(name string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z' || r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, name)
}
