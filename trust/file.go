package trust

import (
	"fmt"
	"strconv"
	"time"

	yaml "go.yaml.in/yaml/v4"
)

// The keys of each kind of mapping.
var (
	topGrammar = grammar{
		known: []string{"version", "roots", "timestamps", "scopes"},
		later: []string{"revocation", "mirrors"},
		other: map[string]string{
			"profiles": "two policies are two files; choose one with --policy",
			"default":  `write the scope "*"; without it what no scope matches is rejected`,
		},
	}
	rootGrammar = grammar{
		known: []string{"certificates", "identities", "pin", "kind"},
		other: map[string]string{"certificate": "write certificates: [FILE]"},
	}
	scopeGrammar = grammar{
		known: []string{"trust", "reject", "inherit", "claims", "max-age", "algorithms", "timestamps", "enforce"},
		later: []string{"require", "accept", "revocation", "strict-x509", "delegate", "distinct"},
		other: map[string]string{
			"priority":    noOrder,
			"terminating": noOrder,
			"stop-search": noOrder,
			"identities":  "identities stand at a root, or at an entry of trust: {root: NAME, identities: […]}",
		},
	}
	entryGrammar = grammar{
		known: []string{"root", "identities", "algorithms", "claims", "max-age", "timestamps"},
		later: []string{"revocation"},
	}
)

const noOrder = "scopes have no order: the longest one decides alone, and inherit: true adds what the enclosing one trusts"

// A parser makes a policy of a document.
type parser struct {
	document
	files  *folder
	policy *Policy
	certs  map[string]at // thumbprint → the root that has it
	defs   map[string]*yaml.Node
}

type at struct {
	root *root
	node *yaml.Node
}

func parsePolicy(file string, b []byte, files *folder) (*Policy, error) {
	p := &parser{
		document: document{file},
		files:    files,
		policy:   &Policy{file: file, roots: map[string]*root{}, scopes: map[string]*scope{}},
		certs:    map[string]at{},
		defs:     map[string]*yaml.Node{},
	}
	top, err := p.parse(b)
	if err != nil {
		return nil, err
	}
	if err := p.top(top); err != nil {
		return nil, err
	}
	for _, name := range p.policy.rootNames() {
		r := p.policy.roots[name]
		if !r.used {
			p.warn("root %s: no scope trusts it", name)
		}
		p.policy.warnings = append(p.policy.warnings, r.warnings()...)
	}
	p.policy.digest = digestOf(b, files.read)
	return p.policy, nil
}

func (p *parser) warn(format string, args ...any) {
	p.policy.warnings = append(p.policy.warnings, fmt.Sprintf(format, args...))
}

func (p *parser) top(n *yaml.Node) error {
	// The version decides what the other keys mean, so it is asked for before anything is called unknown.
	if n.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == "version" {
				if err := p.version(n.Content[i+1]); err != nil {
					return err
				}
			}
		}
	}
	fields, err := p.object(n, "the policy", topGrammar)
	if err != nil {
		return err
	}
	if _, ok := fields["version"]; !ok {
		return p.wrong(n, codeVersion, "the policy has no version: write version: 1")
	}
	if f, ok := fields["roots"]; ok {
		if err := p.roots(f.value); err != nil {
			return err
		}
	}
	if f, ok := fields["timestamps"]; ok {
		if p.policy.timestamps, err = p.timestamps(f, OfPolicy); err != nil {
			return err
		}
	}
	f, ok := fields["scopes"]
	if !ok {
		return p.wrong(n, codeMissing, "the policy has no scopes")
	}
	return p.scopes(f.value)
}

func (p *parser) version(n *yaml.Node) error {
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!int" || n.Value != "1" {
		return p.wrong(n, codeVersion, "this imprint reads policies of version: 1, not %s", kindOf(n))
	}
	return nil
}

func (p *parser) scopes(n *yaml.Node) error {
	fields, err := p.mapping(n, "scopes")
	if err != nil {
		return err
	}
	if len(fields) == 0 {
		return p.wrong(n, codeValue, "scopes is empty")
	}
	for _, f := range fields {
		name, err := canonicalScope(f.key.Value)
		if err != nil {
			return p.wrong(f.key, codeScope, "scope %q: %w", shorten(f.key.Value), err)
		}
		if first := p.defs[name]; first != nil {
			return p.wrong(f.key, codeScopeDuplicate, "scope %q is already defined at %s; "+
				"scopes must be unique: merge the trust lists, or use a longer scope", name, p.at(first))
		}
		p.defs[name] = f.key
		s, err := p.scope(name, f)
		if err != nil {
			return err
		}
		p.policy.scopes[name] = s
	}
	link(p.policy.scopes)
	for _, f := range fields {
		name, _ := canonicalScope(f.key.Value)
		if err := p.checkInherit(p.policy.scopes[name], f.key); err != nil {
			return err
		}
	}
	return nil
}

func (p *parser) checkInherit(s *scope, n *yaml.Node) error {
	switch {
	case !s.inherit:
	case s.enclosing == nil:
		return p.wrong(n, codeInherit, "scope %q inherits, but no scope encloses it", s.name)
	case s.enclosing.rule == ruleReject:
		return p.wrong(n, codeInherit, "scope %q inherits from %q, which rejects everything", s.name, s.enclosing.name)
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
	trust, trusts := fields["trust"]
	reject, rejects := fields["reject"]
	switch {
	case trusts && rejects:
		return nil, p.wrong(reject.key, codeRule, "scope %q has both trust and reject: it can have one rule", name)
	case rejects:
		yes, err := p.truth(reject.value, "reject")
		if err != nil {
			return nil, err
		}
		if s.rule = ruleReject; !yes {
			return nil, p.wrong(reject.value, codeRule, "reject: false says nothing: leave it out and write trust")
		}
	case trusts:
		if err := p.trust(s, trust.value); err != nil {
			return nil, err
		}
	default:
		return nil, p.wrong(f.key, codeRule, "scope %q has no rule: write trust: [ROOT] or reject: true", name)
	}
	if v, ok := fields["inherit"]; ok {
		if s.inherit, err = p.truth(v.value, "inherit"); err != nil {
			return nil, err
		}
		if rejects {
			return nil, p.wrong(v.key, codeInherit, "scope %q rejects everything: there is nothing to inherit into", name)
		}
	}
	if v, ok := fields["enforce"]; ok {
		if s.enforce, err = p.truth(v.value, "enforce"); err != nil {
			return nil, err
		}
	}
	limits, set, err := p.limits(fields, fmt.Sprintf("scope %q", name))
	if err != nil {
		return nil, err
	}
	if rejects && set {
		p.warn("scope %s rejects everything: its other settings mean nothing", name)
	}
	s.settings = limits
	return s, nil
}

func (p *parser) trust(s *scope, n *yaml.Node) error {
	if n.Kind == yaml.SequenceNode && len(n.Content) == 0 {
		return p.wrong(n, codeRule, "scope %q trusts nothing: say reject: true", s.name)
	}
	items, err := p.list(n, "trust")
	if err != nil {
		return err
	}
	s.rule = ruleTrust
	for _, item := range items {
		e, err := p.entry(item)
		if err != nil {
			return err
		}
		s.trust = append(s.trust, e)
	}
	return nil
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

// limits reads the settings that scopes and entries have in common; set says whether there is one.
func (p *parser) limits(fields map[string]field, of string) (l settings, set bool, err error) {
	if f, ok := fields["claims"]; ok {
		set = true
		word, err := p.oneOf(f.value, "claims", claimsModes, nil)
		if err != nil {
			return l, set, err
		}
		l.claims = claimsMode(word)
	}
	if f, ok := fields["max-age"]; ok {
		set = true
		if l.maxAge, err = p.age(f.value); err != nil {
			return l, set, err
		}
	}
	if f, ok := fields["algorithms"]; ok {
		set = true
		items, err := p.list(f.value, "algorithms")
		if err != nil {
			return l, set, err
		}
		for _, item := range items {
			name, err := p.oneOf(item, "algorithms", allAlgorithms, nil)
			if err != nil {
				return l, set, err
			}
			l.algorithms = append(l.algorithms, name)
		}
	}
	if f, ok := fields["timestamps"]; ok {
		set = true
		if l.timestamps, err = p.timestamps(f, of); err != nil {
			return l, set, err
		}
	}
	return l, set, nil
}

// age reads a whole number of minutes, hours, days or weeks, up to 100 years.
func (p *parser) age(n *yaml.Node) (time.Duration, error) {
	const day = 24 * time.Hour
	units := map[byte]time.Duration{'m': time.Minute, 'h': time.Hour, 'd': day, 'w': 7 * day}
	if n.Kind == yaml.ScalarNode {
		if s := n.Value; len(s) >= 2 && len(s) <= 10 && s[0] >= '1' && s[0] <= '9' {
			unit := units[s[len(s)-1]]
			count, err := strconv.ParseUint(s[:len(s)-1], 10, 32)
			if err == nil && unit > 0 && count <= uint64(100*365*day/unit) {
				return time.Duration(count) * unit, nil
			}
		}
	}
	return 0, p.wrong(n, codeValue, "max-age must be a number of days, as 90d (or weeks w, hours h, minutes m; at most 100 years), not %s", kindOf(n))
}
