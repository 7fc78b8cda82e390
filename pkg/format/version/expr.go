package version

import (
	"errors"
	"fmt"
	"strings"
)

// MaxExpr bounds an expression in bytes.
const MaxExpr = 64 << 10

// Op compares what is there with what an expression names.
type Op string

// The operators, as in a Debian control file's Depends.
const (
	Any         Op = "" // a bare name: any version, or none
	Earlier     Op = "<<"
	EarlierSame Op = "<="
	Same        Op = "="
	LaterSame   Op = ">="
	Later       Op = ">>"
)

// Term is one condition: "name" or "name (op version)".
type Term struct {
	Name    string
	Op      Op
	Version string // "" for a bare name
}

// Expr is terms that are all meant: "fw (>= 4.1), fw (<< 5), hotfix-17".
// The empty expression is written "" and has no terms.
type Expr []Term

// ParseExpr reads an expression; blanks around its parts do not matter.
func ParseExpr(s string) (Expr, error) {
	if len(s) > MaxExpr {
		return nil, fmt.Errorf("expression of %d bytes: at most %d", len(s), MaxExpr)
	}
	if trim(s) == "" {
		return nil, nil
	}
	var e Expr
	for part := range strings.SplitSeq(s, ",") {
		t, err := parseTerm(trim(part))
		if err != nil {
			return nil, fmt.Errorf("expression %q: %w", s, err)
		}
		e = append(e, t)
	}
	return e, nil
}

// ParseProvides reads what somebody provides: names, each alone or with the one
// version that it is there in, "tls, schema (= 7)".
func ParseProvides(s string) (Expr, error) {
	e, err := ParseExpr(s)
	if err != nil {
		return nil, err
	}
	for _, t := range e {
		if t.Op != Any && t.Op != Same {
			return nil, fmt.Errorf("expression %q: %q: want a name, or name (= version)", s, t)
		}
	}
	return e, nil
}

func parseTerm(s string) (Term, error) {
	name, cond, bounded := strings.Cut(s, "(")
	t := Term{Name: trim(name)}
	if err := ValidName(t.Name); err != nil {
		return Term{}, err
	}
	if !bounded {
		return t, nil
	}
	cond, ok := strings.CutSuffix(cond, ")")
	if !ok {
		return Term{}, fmt.Errorf("term %q: no closing parenthesis at the end", s)
	}
	cond = trim(cond)
	for _, op := range []Op{Earlier, EarlierSame, LaterSame, Later, Same} {
		if v, ok := strings.CutPrefix(cond, string(op)); ok {
			t.Op, t.Version = op, trim(v)
			return t, Valid(t.Version)
		}
	}
	return Term{}, fmt.Errorf("term %q: want one of << <= = >= >> before the version", s)
}

// ValidName tells what is wrong with s as the name of a product, patch or
// provided key: 1 to 128 letters, digits and . + - _ : / from the second on.
func ValidName(s string) error {
	switch {
	case s == "":
		return errors.New("empty name")
	case len(s) > 128:
		return fmt.Errorf("name of %d bytes: at most 128", len(s))
	case !isDigit(s[0]) && !isAlpha(s[0]):
		return fmt.Errorf("name %q: does not start with a letter or digit", s)
	}
	for i := range len(s) {
		if c := s[i]; !isDigit(c) && !isAlpha(c) && !strings.ContainsRune(".+-_:/", rune(c)) {
			return fmt.Errorf("name %q: bad character %q", s, c)
		}
	}
	return nil
}

// String is the canonical form: "name (op version)".
func (t Term) String() string {
	if t.Op == Any {
		return t.Name
	}
	return t.Name + " (" + string(t.Op) + " " + t.Version + ")"
}

// Met tells whether version v of the name satisfies t. What is there without a
// version (v == "") satisfies bare names only.
func (t Term) Met(v string) bool {
	if t.Op == Any {
		return true
	}
	if v == "" {
		return false
	}
	c := Compare(v, t.Version)
	switch t.Op {
	case Earlier:
		return c < 0
	case EarlierSame:
		return c <= 0
	case Same:
		return c == 0
	case LaterSame:
		return c >= 0
	case Later:
		return c > 0
	}
	return false
}

// String is the canonical form: terms joined by ", ".
func (e Expr) String() string {
	parts := make([]string, len(e))
	for i, t := range e {
		parts[i] = t.String()
	}
	return strings.Join(parts, ", ")
}

// Unmet is the terms that do not hold where have tells the version of a name
// and whether it is there at all. A patch is applicable when its requirements
// have none.
func (e Expr) Unmet(have func(name string) (version string, present bool)) []Term {
	return e.filter(have, false)
}

// Held is the terms that do hold. A patch is applicable when its conflicts have none.
func (e Expr) Held(have func(name string) (version string, present bool)) []Term {
	return e.filter(have, true)
}

func (e Expr) filter(have func(string) (string, bool), want bool) []Term {
	var out []Term
	for _, t := range e {
		v, present := have(t.Name)
		if (present && t.Met(v)) == want {
			out = append(out, t)
		}
	}
	return out
}

func trim(s string) string { return strings.Trim(s, " \t\n") }
