package trust

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	yaml "go.yaml.in/yaml/v4"
)

// A document is one policy's YAML with its file's name for errors. It is read as a tree of nodes and walked by hand:
// every key is asked for by name, so that nothing is ignored, and no value is converted by YAML's rules.
type document struct {
	file string
}

func (d document) wrong(n *yaml.Node, code, format string, args ...any) error {
	return &LoadError{File: d.file, Line: n.Line, Column: n.Column, Code: code, Err: fmt.Errorf(format, args...)}
}

// parse returns the top node of b, which must be exactly one document of plain YAML (P8).
func (d document) parse(b []byte) (*yaml.Node, error) {
	if err := d.checkText(b); err != nil {
		return nil, err
	}
	loader, err := yaml.NewLoader(bytes.NewReader(b))
	if err != nil {
		return nil, d.syntax(err)
	}
	var doc, more yaml.Node
	if err := loader.Load(&doc); errors.Is(err, io.EOF) {
		return nil, &LoadError{File: d.file, Code: codeSyntax, Err: errors.New("the policy is empty")}
	} else if err != nil {
		return nil, d.syntax(err)
	}
	switch err := loader.Load(&more); {
	case err == nil:
		return nil, d.wrong(firstOf(&more), codeSyntax, "a second YAML document starts here: a policy is one document")
	case !errors.Is(err, io.EOF):
		return nil, d.syntax(err)
	}
	if doc.Kind != yaml.DocumentNode || len(doc.Content) != 1 {
		return nil, &LoadError{File: d.file, Code: codeSyntax, Err: errors.New("the policy is empty")}
	}
	if err := d.checkPlain(doc.Content[0]); err != nil {
		return nil, err
	}
	return doc.Content[0], nil
}

func firstOf(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.DocumentNode && len(n.Content) > 0 {
		return n.Content[0]
	}
	return n
}

// The limits of the characters by which YAML's values are told apart, and by that of the memory that parsing takes: each value has
// one of its own. 100,000 scopes take about ten each, of which four are of the flow style; what is in brackets may be held in memory
// as a whole before it is understood.
const (
	maxMarks     = 1 << 20
	maxFlowMarks = 400_000
)

// checkText refuses what a reader sees otherwise than a parser: other encodings than UTF-8, control characters, and
// those that reorder text.
func (d document) checkText(b []byte) error {
	line, column, marks, flow := 1, 1, 0, 0
	for i := 0; i < len(b); {
		r, size := utf8.DecodeRune(b[i:])
		bad := ""
		switch {
		case r == utf8.RuneError && size == 1:
			bad = "not UTF-8"
		case r == ',', r == '[', r == '{':
			flow++
			marks++
		case r == ':', r == '\n', (r == '-' || r == '?') && i+1 < len(b) && b[i+1] <= ' ':
			marks++
		default:
			bad = unseen(r)
		}
		if bad != "" {
			return &LoadError{File: d.file, Line: line, Column: column, Code: codeSyntax, Err: errors.New(bad)}
		}
		if marks > maxMarks || flow > maxFlowMarks {
			return &LoadError{File: d.file, Line: line, Column: column, Code: codeTooLarge,
				Err: fmt.Errorf("more values than imprint reads: %d in all, %d in brackets", maxMarks, maxFlowMarks)}
		}
		column++
		if r == '\n' {
			line, column = line+1, 1
		}
		i += size
	}
	return nil
}

// unseen says why a character has no place in a policy, as such or escaped: what is shown of it would mislead.
func unseen(r rune) string {
	switch {
	case r < ' ' && r != '\t' && r != '\n' && r != '\r', r >= 0x7f && r < 0xa0:
		return fmt.Sprintf("control character U+%04X", r)
	case r == 0x200e, r == 0x200f, r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x2069:
		return fmt.Sprintf("U+%04X changes the order in which text is shown", r)
	}
	return ""
}

func (d document) syntax(err error) error {
	e := &LoadError{File: d.file, Code: codeSyntax, Err: fmt.Errorf("not YAML: %w", err)}
	var at *yaml.LoadError
	if errors.As(err, &at) {
		e.Line, e.Column = at.Mark.Line, at.Mark.Column
		if e.Line == 0 {
			e.Line, e.Column = at.ContextMark.Line, at.ContextMark.Column
		}
		text := at.Message
		if at.ContextMsg != "" {
			text = at.ContextMsg + ": " + text
		}
		if strings.Contains(text, "alias") || strings.Contains(text, "unknown anchor") {
			text += `; what begins with * stands in quotes: "*"`
		}
		e.Err = fmt.Errorf("not YAML: %s", text)
	}
	return e
}

func (d document) checkPlain(n *yaml.Node) error {
	switch {
	case n.Kind == yaml.AliasNode:
		return d.wrong(n, codeFeature, "alias *%s: a policy has no anchors and aliases; write it out", n.Value)
	case n.Anchor != "":
		return d.wrong(n, codeFeature, "anchor &%s: a policy has no anchors and aliases; write it out", n.Anchor)
	case n.Kind == yaml.ScalarNode && n.ShortTag() == "!!merge":
		return d.wrong(n, codeFeature, "merge key <<: a policy has no merge keys; write it out, or use inherit: true")
	case n.Style&yaml.TaggedStyle != 0:
		return d.wrong(n, codeFeature, "tag %s: a policy has no tags", n.Tag)
	}
	if n.Style&yaml.DoubleQuotedStyle != 0 {
		for _, r := range n.Value {
			if bad := unseen(r); bad != "" {
				return d.wrong(n, codeSyntax, "%s, written as an escape", bad)
			}
		}
	}
	for _, c := range n.Content {
		if err := d.checkPlain(c); err != nil {
			return err
		}
	}
	return nil
}

// A field is a key of a mapping and its value.
type field struct {
	key, value *yaml.Node
}

// mapping returns the fields of a mapping in the order of the file; each key is text, and stands once.
func (d document) mapping(n *yaml.Node, what string) ([]field, error) {
	if n.Kind != yaml.MappingNode {
		return nil, d.wrong(n, codeType, "%s must be a mapping, not %s", what, kindOf(n))
	}
	fields := make([]field, 0, len(n.Content)/2)
	seen := make(map[string]*yaml.Node, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		if err := d.isKey(k, what); err != nil {
			return nil, err
		}
		if first := seen[k.Value]; first != nil {
			return nil, d.wrong(k, codeDuplicateKey, "%q is already defined at %s", k.Value, d.at(first))
		}
		seen[k.Value] = k
		fields = append(fields, field{k, v})
	}
	return fields, nil
}

func (d document) isKey(n *yaml.Node, what string) error {
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!str" {
		return d.wrong(n, codeType, "a key of %s must be text, not %s", what, untextual(n))
	}
	return nil
}

func (d document) at(n *yaml.Node) string { return fmt.Sprintf("%s:%d:%d", d.file, n.Line, n.Column) }

// A grammar is which keys a mapping may have.
type grammar struct {
	known []string
	other map[string]string // what people write by habit, and what to write here
}

// Keys returns every key that a policy or a file of cases may hold, for its documentation.
func Keys() []string {
	all := map[string]bool{}
	for _, g := range []grammar{topGrammar, rootGrammar, scopeGrammar, entryGrammar, delegateGrammar, revocationGrammar, timestampsGrammar, casesGrammar, supposedGrammar} {
		for _, key := range g.known {
			all[key] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// object returns the values of a mapping by key.
func (d document) object(n *yaml.Node, what string, g grammar) (map[string]field, error) {
	fields, err := d.mapping(n, what)
	if err != nil {
		return nil, err
	}
	out := make(map[string]field, len(fields))
	for _, f := range fields {
		k := f.key.Value
		switch {
		case slices.Contains(g.known, k):
			out[k] = f
		case g.other[k] != "":
			return nil, d.wrong(f.key, codeKeyUnknown, "unknown key %q in %s: %s", k, what, g.other[k])
		default:
			return nil, d.wrong(f.key, codeKeyUnknown, "unknown key %q in %s%s", k, what, suggest(k, g.known))
		}
	}
	return out, nil
}

// list returns the items of a sequence that is not empty.
func (d document) list(n *yaml.Node, what string) ([]*yaml.Node, error) {
	if n.Kind != yaml.SequenceNode {
		return nil, d.wrong(n, codeType, "%s must be a list, not %s", what, kindOf(n))
	}
	if len(n.Content) == 0 {
		return nil, d.wrong(n, codeValue, "%s is an empty list", what)
	}
	return n.Content, nil
}

func (d document) text(n *yaml.Node, what string) (string, error) {
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!str" {
		return "", d.wrong(n, codeType, "%s must be text, not %s", what, untextual(n))
	}
	if n.Value == "" {
		return "", d.wrong(n, codeValue, "%s is empty", what)
	}
	return n.Value, nil
}

// truth reads true or false, in no other spelling: YAML's versions disagree on the others.
func (d document) truth(n *yaml.Node, what string) (bool, error) {
	if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!bool" && (n.Value == "true" || n.Value == "false") {
		return n.Value == "true", nil
	}
	return false, d.wrong(n, codeType, "%s must be true or false, not %s", what, kindOf(n))
}

// oneOf reads a word out of a closed set.
func (d document) oneOf(n *yaml.Node, what string, words []string) (string, error) {
	s, err := d.text(n, what)
	switch {
	case err != nil:
		return "", err
	case slices.Contains(words, s):
		return s, nil
	}
	return "", d.wrong(n, codeValue, "%s: %q is none of %s%s", what, s, strings.Join(words, ", "), suggest(s, words))
}

func kindOf(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	switch n.ShortTag() {
	case "!!null":
		return "nothing"
	case "!!str":
		return fmt.Sprintf("the text %q", shorten(n.Value))
	}
	return shorten(n.Value)
}

// untextual is kindOf where text was meant, and says how a number becomes that.
func untextual(n *yaml.Node) string {
	switch n.ShortTag() {
	case "!!int", "!!float", "!!timestamp":
		return kindOf(n) + " (in quotes it would be text)"
	}
	return kindOf(n)
}

func shorten(s string) string {
	const most = 60
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// suggest names the word that is nearest to s, if one is near enough to have been meant.
func suggest(s string, words []string) string {
	best, distance := "", 1+max(1, min((len(s)+1)/3, 3))
	for _, w := range words {
		if n := edits(strings.ToLower(s), strings.ToLower(w)); n < distance {
			best, distance = w, n
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", best)
}

// edits counts the insertions, deletions, replacements and swaps of neighbours that make b of a.
func edits(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	var before, last, row []int
	last = make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row = make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}
