package config

import (
	"fmt"
	"strings"
)

// Tags is an expression over the names and tags of workers:
//
//	expr = term { "|" term }
//	term = factor { [ "&" | "," ] factor }     a blank is "and", as "&" and "," are
//	factor = "!" factor | "(" expr ")" | word
//
// The zero Tags matches every worker.
type Tags struct{ root *tagNode }

type tagNode struct {
	op    byte // '|', '&', '!' or 0 for a word
	word  string
	left  *tagNode
	right *tagNode
}

// ParseTags reads an expression; blank text is the zero Tags. A word may hold
// "{axis}", which Match sees after substitution only.
func ParseTags(text string) (Tags, error) {
	p := &tagParser{words: tokenizeTags(text)}
	if len(p.words) == 0 {
		return Tags{}, nil
	}
	root, err := p.expr(0)
	if err == nil && len(p.words) > 0 {
		err = fmt.Errorf("unexpected %q", p.words[0])
	}
	if err != nil {
		return Tags{}, fmt.Errorf("bad tag expression %q: %w", text, err)
	}
	return Tags{root}, nil
}

func tokenizeTags(text string) []string {
	for _, op := range []string{"|", "&", "!", "(", ")"} {
		text = strings.ReplaceAll(text, op, " "+op+" ")
	}
	return strings.Fields(strings.ReplaceAll(text, ",", " & "))
}

// maxTagDepth bounds nesting.
const maxTagDepth = 50

type tagParser struct{ words []string }

func (p *tagParser) peek() string {
	if len(p.words) == 0 {
		return ""
	}
	return p.words[0]
}

func (p *tagParser) expr(depth int) (*tagNode, error) {
	left, err := p.term(depth)
	for err == nil && p.peek() == "|" {
		p.words = p.words[1:]
		var right *tagNode
		right, err = p.term(depth)
		left = &tagNode{op: '|', left: left, right: right}
	}
	return left, err
}

func (p *tagParser) term(depth int) (*tagNode, error) {
	left, err := p.factor(depth)
	for err == nil && p.peek() != "" && p.peek() != "|" && p.peek() != ")" {
		if p.peek() == "&" {
			p.words = p.words[1:]
		}
		var right *tagNode
		right, err = p.factor(depth)
		left = &tagNode{op: '&', left: left, right: right}
	}
	return left, err
}

func (p *tagParser) factor(depth int) (*tagNode, error) {
	word := p.peek()
	if depth > maxTagDepth {
		return nil, fmt.Errorf("nested more than %d deep", maxTagDepth)
	}
	switch word {
	case "", "|", "&", ")":
		return nil, fmt.Errorf("a tag is missing before %q", word)
	}
	p.words = p.words[1:]
	switch word {
	case "!":
		n, err := p.factor(depth + 1)
		return &tagNode{op: '!', left: n}, err
	case "(":
		n, err := p.expr(depth + 1)
		if err == nil && p.peek() != ")" {
			return nil, fmt.Errorf("a %q is missing", ")")
		}
		if err == nil {
			p.words = p.words[1:]
		}
		return n, err
	}
	return &tagNode{word: word}, nil
}

// Words are the names and tags that the expression speaks of.
func (t Tags) Words() []string { return t.root.words(nil) }

func (n *tagNode) words(list []string) []string {
	if n == nil {
		return list
	}
	if n.op == 0 {
		return append(list, n.word)
	}
	return n.right.words(n.left.words(list))
}

// Match tells whether the expression holds where has says which words do.
func (t Tags) Match(has func(word string) bool) bool { return t.root == nil || t.root.match(has) }

func (n *tagNode) match(has func(string) bool) bool {
	switch n.op {
	case '|':
		return n.left.match(has) || n.right.match(has)
	case '&':
		return n.left.match(has) && n.right.match(has)
	case '!':
		return !n.left.match(has)
	}
	return has(n.word)
}
