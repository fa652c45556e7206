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
		known: []string{"version", "roots", "timestamps", "revocation", "scopes", "mirrors"},
		other: map[string]string{
			"profiles": "two policies are two files; choose one with --policy",
			"default":  `write the scope "*"; without it what no scope matches is rejected`,
			"include":  "a policy is one file; what it names are certificates and lists, never more policy",
		},
	}
	rootGrammar = grammar{
		known: []string{"certificates", "identities", "pin", "kind"},
		other: map[string]string{"certificate": "write certificates: [FILE]"},
	}
	scopeGrammar = grammar{
		known: []string{"trust", "require", "reject", "accept", "inherit", "distinct", "claims", "max-age", "algorithms", "timestamps", "revocation",
			"enforce", "strict-x509", "delegate"},
		other: map[string]string{
			"priority":    noOrder,
			"terminating": noOrder,
			"stop-search": noOrder,
			"identities":  "identities stand at a root, or at an entry of trust: {root: NAME, identities: […]}",
			"mirrors":     "mirrors stand beside scopes: {ORIGINAL: [MIRROR]}",
			"skip":        "what need not be signed says accept: unsigned; what is only to be reported says enforce: false",
		},
	}
	entryGrammar = grammar{
		known: []string{"root", "identities", "algorithms", "claims", "max-age", "timestamps", "revocation"},
	}
)

const noOrder = "scopes have no order: the longest one decides alone, and inherit: true adds what the enclosing one trusts"

// A parser makes a policy of a document.
type parser struct {
	document
	files  *folder
	policy *Policy
	certs  map[string]at // the certificate → the root that has it
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
	if f, ok := fields["revocation"]; ok {
		if p.policy.revocation, err = p.revocation(f, OfPolicy); err != nil {
			return err
		}
	}
	f, ok := fields["scopes"]
	if !ok {
		return p.wrong(n, codeMissing, "the policy has no scopes")
	}
	scopes, err := p.scopes(f.value)
	if err != nil {
		return err
	}
	if f, ok := fields["mirrors"]; ok {
		if err := p.mirrors(f.value, scopes); err != nil {
			return err
		}
	}
	link(p.policy.scopes)
	for _, s := range scopes {
		if err := p.checkInherit(s); err != nil {
			return err
		}
	}
	return nil
}

func (p *parser) version(n *yaml.Node) error {
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!int" || n.Value != "1" {
		return p.wrong(n, codeVersion, "this imprint reads policies of version: 1, not %s", kindOf(n))
	}
	return nil
}

// limits reads the settings that scopes and entries have in common; set says whether there is one.
func (p *parser) limits(fields map[string]field, of string) (l settings, set bool, err error) {
	if f, ok := fields["claims"]; ok {
		set = true
		word, err := p.oneOf(f.value, "claims", claimsModes)
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
			name, err := p.oneOf(item, "algorithms", allAlgorithms)
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
	if f, ok := fields["revocation"]; ok {
		set = true
		if l.revocation, err = p.revocation(f, of); err != nil {
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
