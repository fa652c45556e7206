package trust

import (
	"fmt"
	"strings"

	yaml "go.yaml.in/yaml/v4"
)

// scopes reads the scopes that stand in the file, and returns them in its order.
func (p *parser) scopes(n *yaml.Node) ([]*scope, error) {
	if n.Kind != yaml.MappingNode {
		return nil, p.wrong(n, codeType, "scopes must be a mapping, not %s", kindOf(n))
	}
	if len(n.Content) == 0 {
		return nil, p.wrong(n, codeValue, "scopes is empty")
	}
	scopes := make([]*scope, 0, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		f := field{n.Content[i], n.Content[i+1]}
		if err := p.isKey(f.key, "scopes"); err != nil {
			return nil, err
		}
		name, err := canonicalScope(f.key.Value)
		if err != nil {
			return nil, p.wrong(f.key, codeScope, "scope %q: %w", shorten(f.key.Value), err)
		}
		if first := p.policy.scopes[name]; first != nil {
			return nil, p.wrong(f.key, codeScopeDuplicate, "scope %q is already defined at %s; "+
				"scopes must be unique: merge the trust lists, or use a longer scope", name, p.scopeAt(first))
		}
		s, err := p.scope(name, f)
		if err != nil {
			return nil, err
		}
		p.policy.scopes[name] = s
		scopes = append(scopes, s)
	}
	return scopes, nil
}

func (p *parser) scopeAt(s *scope) string { return fmt.Sprintf("%s:%d:%d", p.file, s.line, s.column) }

// checkInherit says whether what s inherits has a meaning. What encloses it is known only when all scopes are.
func (p *parser) checkInherit(s *scope) error {
	wrong := func(format string, args ...any) error {
		return &LoadError{File: p.file, Line: s.line, Column: s.column, Code: codeInherit, Err: fmt.Errorf(format, args...)}
	}
	switch {
	case !s.inherit:
	case s.enclosing == nil:
		return wrong("scope %q inherits, but no scope encloses it", s.name)
	case s.enclosing.rule == ruleReject:
		return wrong("scope %q inherits from %q, which rejects everything", s.name, s.enclosing.name)
	case s.enclosing.rule != ruleTrust:
		return wrong("scope %q inherits from %q, whose rule is %s: only trust can be inherited", s.name, s.enclosing.name, s.enclosing.rule)
	}
	return nil
}

func (p *parser) scope(name string, f field) (*scope, error) {
	s := &scope{name: name, line: f.key.Line, column: f.key.Column, enforce: true}
	n := f.value
	if n.Kind == yaml.SequenceNode { // short for {trust: […]}
		return s, p.trust(s, n)
	}
	if n.Kind != yaml.MappingNode {
		return nil, p.wrong(n, codeType, "scope %q must be a list of roots or a mapping, not %s", name, kindOf(n))
	}
	fields, err := p.object(n, fmt.Sprintf("scope %q", name), scopeGrammar)
	if err != nil {
		return nil, err
	}
	if err := p.rule(s, f.key, fields); err != nil {
		return nil, err
	}
	for _, key := range []struct {
		name string
		to   *bool
	}{{"inherit", &s.inherit}, {"enforce", &s.enforce}, {"strict-x509", &s.strictX509}} {
		if v, ok := fields[key.name]; ok {
			if *key.to, err = p.truth(v.value, key.name); err != nil {
				return nil, err
			}
		}
	}
	if v, ok := fields["distinct"]; ok {
		distinct, err := p.truth(v.value, "distinct")
		if err != nil {
			return nil, err
		}
		s.shared = !distinct
	}
	if err := p.suits(s, fields); err != nil {
		return nil, err
	}
	limits, set, err := p.limits(fields, fmt.Sprintf("scope %q", name))
	if err != nil {
		return nil, err
	}
	_, strict := fields["strict-x509"]
	switch {
	case !set && !strict:
	case s.rule == ruleReject:
		p.warn("scope %s rejects everything: its other settings mean nothing", name)
	case s.rule == ruleUnsigned:
		p.warn("scope %s accepts what is unsigned: its other settings mean nothing", name)
	}
	s.settings = limits
	if v, ok := fields["delegate"]; ok {
		if s.delegate, err = p.delegation(v, s); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// rule reads the one rule that a scope must have (P7).
func (p *parser) rule(s *scope, key *yaml.Node, fields map[string]field) error {
	var rules []field
	for _, name := range []string{"trust", "require", "reject", "accept"} {
		if f, ok := fields[name]; ok {
			rules = append(rules, f)
		}
	}
	switch len(rules) {
	case 0:
		return p.wrong(key, codeRule, "scope %q has no rule: write trust: [ROOT], require, reject: true or accept: unsigned", s.name)
	case 1:
	default:
		last := rules[1]
		if before(last.key, rules[0].key) {
			last = rules[0]
		}
		return p.wrong(last.key, codeRule, "scope %q has both %s and %s: it can have one rule", s.name, rules[0].key.Value, rules[1].key.Value)
	}
	value := rules[0].value
	switch rules[0].key.Value {
	case "trust":
		return p.trust(s, value)
	case "require":
		return p.require(s, value)
	case "reject":
		s.rule = ruleReject
		yes, err := p.truth(value, "reject")
		if err == nil && !yes {
			err = p.wrong(value, codeRule, "reject: false says nothing: leave it out and write trust")
		}
		return err
	}
	s.rule = ruleUnsigned
	if _, err := p.oneOf(value, "accept", []string{"unsigned"}); err != nil {
		return err
	}
	if wide(s.name) {
		return p.wrong(value, codeUnsignedWide, "scope %q accepts what is unsigned: that is not allowed on * or on a whole host; name a path", s.name)
	}
	return nil
}

// wide reports whether a scope is everything or a whole host.
func wide(name string) bool { return !strings.Contains(name, "/") }

func before(a, b *yaml.Node) bool { return a.Line < b.Line || a.Line == b.Line && a.Column < b.Column }

// suits refuses keys that mean nothing under the rule of s.
func (p *parser) suits(s *scope, fields map[string]field) error {
	if f, ok := fields["inherit"]; ok {
		switch s.rule {
		case ruleReject:
			return p.wrong(f.key, codeInherit, "scope %q rejects everything: there is nothing to inherit into", s.name)
		case ruleRequire:
			return p.wrong(f.key, codeInherit, "scope %q requires groups: a merge with what encloses it would have no single meaning; "+
				"write out the roots of each group", s.name)
		case ruleUnsigned:
			return p.wrong(f.key, codeInherit, "scope %q accepts what is unsigned: there is nothing to inherit into", s.name)
		}
	}
	if f, ok := fields["distinct"]; ok && s.rule != ruleRequire {
		return p.wrong(f.key, codeRule, "scope %q: distinct is about the groups of require, and its rule is %s", s.name, s.rule)
	}
	if f, ok := fields["delegate"]; ok && s.rule != ruleTrust {
		return p.wrong(f.key, codeRule, "scope %q: delegate adds to trust, and its rule is %s", s.name, s.rule)
	}
	return nil
}

func (p *parser) trust(s *scope, n *yaml.Node) (err error) {
	if n.Kind == yaml.SequenceNode && len(n.Content) == 0 {
		return p.wrong(n, codeRule, "scope %q trusts nothing: say reject: true", s.name)
	}
	s.rule = ruleTrust
	s.trust, err = p.entries(n, "trust")
	return err
}

// require reads groups, of each of which one signature is asked for.
func (p *parser) require(s *scope, n *yaml.Node) error {
	if n.Kind == yaml.SequenceNode && len(n.Content) == 0 {
		return p.wrong(n, codeRule, "scope %q requires nothing: write require: [[ROOT], [ROOT]]", s.name)
	}
	s.rule = ruleRequire
	groups, err := p.list(n, "require")
	if err != nil {
		return err
	}
	for i, group := range groups {
		switch {
		case group.Kind != yaml.SequenceNode:
			return p.wrong(group, codeType, "each group of require must be a list of roots, as in [[ROOT], [ROOT]], not %s", kindOf(group))
		case len(group.Content) == 0:
			return p.wrong(group, codeRule, "scope %q: group %d of require is empty, which nothing satisfies; say reject: true", s.name, i+1)
		}
		entries, err := p.entries(group, "a group of require")
		if err != nil {
			return err
		}
		s.groups = append(s.groups, entries)
	}
	return nil
}

func (p *parser) entries(n *yaml.Node, what string) ([]entry, error) {
	items, err := p.list(n, what)
	if err != nil {
		return nil, err
	}
	entries := make([]entry, len(items))
	for i, item := range items {
		if entries[i], err = p.entry(item); err != nil {
			return nil, err
		}
	}
	return entries, nil
}

func (p *parser) entry(n *yaml.Node) (entry, error) {
	if n.Kind != yaml.MappingNode {
		r, err := p.rootNamed(n)
		return entry{root: r}, err
	}
	fields, err := p.object(n, "an entry of trust", entryGrammar)
	if err != nil {
		return entry{}, err
	}
	name, ok := fields["root"]
	if !ok {
		return entry{}, p.wrong(n, codeMissing, "an entry of trust needs root: NAME")
	}
	var e entry
	if e.root, err = p.rootNamed(name.value); err != nil {
		return entry{}, err
	}
	if v, ok := fields["identities"]; ok {
		if e.identities, err = p.identities(v.value); err != nil {
			return entry{}, err
		}
	}
	e.settings, _, err = p.limits(fields, "an entry of root "+e.root.name)
	return e, err
}

func (p *parser) rootNamed(n *yaml.Node) (*root, error) {
	name, err := p.text(n, "a trusted root")
	if err != nil {
		return nil, err
	}
	r := p.policy.roots[name]
	if r == nil {
		return nil, p.wrong(n, codeRootUnknown, "no root is named %q%s", shorten(name), suggest(name, p.policy.rootNames()))
	}
	r.used = true
	return r, nil
}
