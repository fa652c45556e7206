package trust

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	yaml "go.yaml.in/yaml/v4"

	"github.com/imprint-oci/imprint/registry"
)

// A second evaluator of policies, deliberately naive: written from the rules as they are worded, over lists that are scanned, without
// the product's tree, maps or lookups. It knows which root each signature is accepted by, and asks nothing else.

type naivePolicy struct {
	scopes  []naiveScope
	mirrors []naiveMirror
}

type naiveScope struct {
	name    string
	rule    string     // "trust", "require", "reject", "unsigned"
	groups  [][]string // of roots; trust has one
	inherit bool
	shared  bool
	of      string // generated: the scope that it is judged as
}

type naiveMirror struct{ original, name string }

// A naiveSignature is accepted by one root, and made by a key.
type naiveSignature struct{ root, key string }

// segments of a name; * has none, the host is the first.
func segments(name string) []string {
	if name == "*" {
		return nil
	}
	return strings.Split(name, "/")
}

// isUnder is P1.
func isUnder(name, scope string) bool {
	n, s := segments(name), segments(scope)
	return len(n) >= len(s) && slices.Equal(n[:len(s)], s)
}

// longest is P2 and P4: the longest scope that matches name, but for the one called except.
func (p naivePolicy) longest(name, except string) *naiveScope {
	var found *naiveScope
	for i, s := range p.scopes {
		if s.name != except && isUnder(name, s.name) && (found == nil || len(segments(s.name)) > len(segments(found.name))) {
			found = &p.scopes[i]
		}
	}
	return found
}

// loads is P3, P5, P7 and M1 to M3; it returns the policy with the scopes of its mirrors.
func (p naivePolicy) loads() (naivePolicy, bool) {
	all := naivePolicy{scopes: slices.Clone(p.scopes), mirrors: p.mirrors}
	for _, m := range p.mirrors {
		for _, other := range p.mirrors {
			if isUnder(m.original, other.name) || isUnder(other.name, m.original) { // M3
				return all, false
			}
		}
		exact := false
		for _, s := range p.scopes {
			if !isUnder(s.name, m.original) || s.name == "*" {
				continue
			}
			exact = exact || s.name == m.original
			made := s
			made.name, made.of = m.name+s.name[len(m.original):], s.name
			all.scopes = append(all.scopes, made)
		}
		if !exact {
			up := p.longest(m.original, "")
			if up == nil {
				return all, false
			}
			made := *up
			made.name, made.of = m.name, up.name
			all.scopes = append(all.scopes, made)
		}
	}
	for i, s := range all.scopes {
		for _, other := range all.scopes[:i] {
			if s.name == other.name { // P3, M2
				return all, false
			}
		}
		if s.rule == "unsigned" && len(segments(s.name)) < 2 { // P7
			return all, false
		}
		if s.inherit && s.of == "" { // P5
			up := all.longest(s.name, s.name)
			if s.rule != "trust" || up == nil || up.rule != "trust" {
				return all, false
			}
		}
	}
	return all, true
}

// effective is P5.
func (p naivePolicy) effective(s naiveScope) []string {
	if s.of != "" {
		for _, original := range p.scopes {
			if original.name == s.of {
				return p.effective(original)
			}
		}
	}
	roots := slices.Clone(s.groups[0])
	if s.inherit {
		roots = append(roots, p.effective(*p.longest(s.name, s.name))...)
	}
	return roots
}

// selects is P6, P2 and P5: the scope that judges name, with what it effectively asks for.
func (p naivePolicy) selects(name string) *naiveScope {
	s := p.longest(name, "")
	if s != nil && s.rule == "trust" {
		with := *s
		with.groups = [][]string{p.effective(*s)}
		return &with
	}
	return s
}

// accepts is P7 and P10.
func (s *naiveScope) accepts(sigs []naiveSignature) bool {
	switch {
	case s == nil, s.rule == "reject":
		return false
	case s.rule == "unsigned":
		return true
	}
	return naiveGroups(s.groups, sigs, nil, s.shared)
}

// asks says all that a verdict may depend on.
func (s *naiveScope) asks() string {
	if s == nil {
		return "no scope"
	}
	text := fmt.Sprint(s.rule, s.shared)
	for _, g := range s.groups {
		g = slices.Clone(g)
		slices.Sort(g)
		text += " " + strings.Join(slices.Compact(g), "+")
	}
	return text
}

// asks says it of the product's.
func asksOf(c court) string {
	if c.scope == nil {
		return "no scope"
	}
	text := fmt.Sprint(map[rule]string{ruleTrust: "trust", ruleRequire: "require", ruleReject: "reject", ruleUnsigned: "unsigned"}[c.scope.rule], c.scope.shared)
	for group := range c.seats {
		text += " " + strings.Join(c.rootsOf(group), "+")
	}
	return text
}

// naiveGroups tries each signature for the first group and all that is left for the others.
func naiveGroups(groups [][]string, sigs []naiveSignature, used []string, shared bool) bool {
	if len(groups) == 0 {
		return true
	}
	for _, x := range sigs {
		if slices.Contains(groups[0], x.root) && (shared || !slices.Contains(used, x.key)) &&
			naiveGroups(groups[1:], sigs, append(slices.Clone(used), x.key), shared) {
			return true
		}
	}
	return false
}

// A smallWorld is all policies of some scopes, rules and mirrors, and loads one from nodes, so that nothing is read or parsed for each.
type smallWorld struct {
	names   []string
	rules   []naiveScope
	values  []*yaml.Node // of rules
	mirrors [][]naiveMirror
	refs    []string
	sigs    [][]naiveSignature
	roots   map[string]*root

	policies, loaded int
	judged           map[string]int // by what is asked
	verdicts         map[bool]int
}

func newSmallWorld() *smallWorld {
	w := &smallWorld{
		names: []string{"*", "h.example", "h.example/a", "h.example/a/b", "m.example/a"},
		rules: []naiveScope{
			{rule: "trust", groups: [][]string{{"a"}}},
			{rule: "trust", groups: [][]string{{"a"}}, inherit: true},
			{rule: "trust", groups: [][]string{{"b"}}},
			{rule: "trust", groups: [][]string{{"b"}}, inherit: true},
			{rule: "require", groups: [][]string{{"a"}, {"b"}}},
			{rule: "require", groups: [][]string{{"a", "b"}, {"a"}}, shared: true},
			{rule: "reject"},
			{rule: "unsigned"},
		},
		mirrors: [][]naiveMirror{
			nil,
			{{"h.example/a", "m.example"}},
			{{"h.example", "m.example/a"}},
			{{"h.example/a/b", "m.example/a/b"}, {"h.example/a/b", "n.example"}},
		},
		refs:     []string{"h.example/a", "h.example/a/b", "h.example/a/b/c", "h.example/ab", "h.example/b", "m.example/a", "m.example/b", "m.example/a/b/c", "m.example/ab/b", "n.example/c", "o.example/a"},
		sigs:     [][]naiveSignature{{}},
		roots:    map[string]*root{},
		judged:   map[string]int{},
		verdicts: map[bool]int{},
	}
	for _, root := range []string{"a", "b", "c"} { // up to three signatures of three roots by three keys, in any order
		for _, key := range []string{"1", "2", "3"} {
			for _, sigs := range w.sigs {
				if len(sigs) < 3 {
					w.sigs = append(w.sigs, append(slices.Clone(sigs), naiveSignature{root, key}))
				}
			}
		}
	}
	for _, name := range []string{"a", "b", "c"} {
		w.roots[name] = &root{name: name, pin: pinRoot, kind: kindCA, used: true}
	}
	for _, r := range w.rules {
		w.values = append(w.values, r.node())
	}
	return w
}

func textNode(s string) *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s} }
func truthNode(b bool) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: fmt.Sprint(b)}
}
func listNode(items ...*yaml.Node) *yaml.Node {
	return &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq", Content: items}
}
func mapNode(fields ...*yaml.Node) *yaml.Node {
	return &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Content: fields}
}

func (s naiveScope) node() *yaml.Node {
	var groups []*yaml.Node
	for _, g := range s.groups {
		var roots []*yaml.Node
		for _, r := range g {
			roots = append(roots, textNode(r))
		}
		groups = append(groups, listNode(roots...))
	}
	switch s.rule {
	case "reject":
		return mapNode(textNode("reject"), truthNode(true))
	case "unsigned":
		return mapNode(textNode("accept"), textNode("unsigned"))
	case "require":
		return mapNode(textNode("require"), listNode(groups...), textNode("distinct"), truthNode(!s.shared))
	}
	fields := []*yaml.Node{textNode("trust"), groups[0]}
	if s.inherit {
		fields = append(fields, textNode("inherit"), truthNode(true))
	}
	return mapNode(fields...)
}

// load makes the product's policy of what the naive one says.
func (w *smallWorld) load(scopes []naiveScope, values []*yaml.Node, mirrors []naiveMirror) (*Policy, error) {
	top := mapNode(textNode("version"), &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!int", Value: "1"})
	var fields []*yaml.Node
	for i, s := range scopes {
		fields = append(fields, textNode(s.name), values[i])
	}
	top.Content = append(top.Content, textNode("scopes"), mapNode(fields...))
	if len(mirrors) > 0 {
		byOriginal := mapNode()
		for _, m := range mirrors {
			if n := len(byOriginal.Content); n > 0 && byOriginal.Content[n-2].Value == m.original {
				byOriginal.Content[n-1].Content = append(byOriginal.Content[n-1].Content, textNode(m.name))
				continue
			}
			byOriginal.Content = append(byOriginal.Content, textNode(m.original), listNode(textNode(m.name)))
		}
		top.Content = append(top.Content, textNode("mirrors"), byOriginal)
	}
	p := &parser{document: document{"policy.yaml"}, policy: &Policy{file: "policy.yaml", roots: w.roots, scopes: map[string]*scope{}}}
	return p.policy, p.top(top)
}

// findings are what a court finds of signatures that are accepted by their roots: no cryptography is done.
func findings(c court, sigs []naiveSignature) []finding {
	var out []finding
	for _, x := range sigs {
		f := finding{key: x.key, sound: true}
		for group, seats := range c.seats {
			for _, s := range seats {
				if s.root.name == x.root {
					f.trials = append(f.trials, trial{root: x.root, group: group, stage: passed})
					f.Accepted, f.trusted = true, true
				}
			}
		}
		out = append(out, f)
	}
	return out
}

func (w *smallWorld) check(t *testing.T, scopes []naiveScope, values []*yaml.Node, mirrors []naiveMirror) {
	t.Helper()
	w.policies++
	naive, ok := naivePolicy{scopes, mirrors}.loads()
	p, err := w.load(scopes, values, mirrors)
	if (err == nil) != ok {
		t.Fatalf("%+v %+v: got %v, want it to load: %v", scopes, mirrors, err, ok)
	}
	if !ok {
		return
	}
	w.loaded++
	if len(p.scopes) != len(naive.scopes) {
		t.Fatalf("%+v %+v: got %d scopes, want %d", scopes, mirrors, len(p.scopes), len(naive.scopes))
	}
	for _, name := range w.refs {
		host, path, _ := strings.Cut(name, "/")
		c := p.court(registry.Reference{Host: host, Path: path, Tag: "1"}, artifact, time.Time{}, evidence{})
		selected, want := "", naive.selects(name)
		if c.scope != nil {
			selected = c.scope.name
		}
		if want == nil && selected != "" || want != nil && selected != want.name {
			t.Fatalf("%+v %+v: %s: selected %q, want %+v", scopes, mirrors, name, selected, want)
		}
		asks := want.asks()
		if got := asksOf(c); got != asks {
			t.Fatalf("%+v %+v: %s is asked for %s, want %s", scopes, mirrors, name, got, asks)
		}
		if w.judged[asks]++; w.judged[asks] > 3 { // it is all that a verdict depends on
			continue
		}
		for _, sigs := range w.sigs {
			got, reason, _, _ := c.verdict(findings(c, sigs))
			if want := want.accepts(sigs); (got == Accepted) != want || got == Undetermined {
				t.Fatalf("%+v %+v: %s signed by %v: got %s %s, want accepted %v", scopes, mirrors, name, sigs, got, reason, want)
			}
			w.verdicts[got == Accepted]++
		}
	}
}

// all visits every choice of up to most scopes, each with every rule.
func (w *smallWorld) all(most int, visit func(scopes []naiveScope, values []*yaml.Node)) {
	var choose func(from int, scopes []naiveScope, values []*yaml.Node)
	choose = func(from int, scopes []naiveScope, values []*yaml.Node) {
		if len(scopes) > 0 {
			visit(scopes, values)
		}
		if len(scopes) == most {
			return
		}
		for i := from; i < len(w.names); i++ {
			for k, r := range w.rules {
				r.name = w.names[i]
				choose(i+1, append(scopes[:len(scopes):len(scopes)], r), append(values[:len(values):len(values)], w.values[k]))
			}
		}
	}
	choose(0, nil, nil)
}

// Both evaluators agree on every policy of up to four scopes: on whether it loads, on the scope that is selected, on the verdict.
func TestNaiveAgreesOnAllSmallPolicies(t *testing.T) {
	t.Parallel()
	w := newSmallWorld()
	w.all(4, func(scopes []naiveScope, values []*yaml.Node) {
		for _, mirrors := range w.mirrors {
			w.check(t, scopes, values, mirrors)
		}
	})
	t.Logf("%d policies, %d loaded, which ask %d things, verdicts %v", w.policies, w.loaded, len(w.judged), w.verdicts)
	if w.loaded < 20_000 || len(w.judged) != 8 || w.verdicts[true] < 1000 || w.verdicts[false] < 1000 {
		t.Errorf("%d policies, %d loaded, which ask %d things, verdicts %v: too few to tell", w.policies, w.loaded, len(w.judged), w.verdicts)
	}
}

// What is under a mirror, and under no scope of the policy's own there, is judged exactly as what it mirrors (M1, M5).
func TestMirrorsAreJudgedAsTheirOriginals(t *testing.T) {
	t.Parallel()
	w := newSmallWorld()
	w.names = []string{"*", "h.example", "h.example/a", "h.example/a/b", "h.example/a/b/c"}
	compared := 0
	w.all(2, func(scopes []naiveScope, values []*yaml.Node) {
		p, err := w.load(scopes, values, []naiveMirror{{"h.example/a", "m.example/x"}})
		if err != nil {
			return
		}
		for _, rest := range []string{"", "/b", "/b/c", "/b/c/d", "/bc", "/d"} {
			mirror := registry.Reference{Host: "m.example", Path: "x" + rest, Tag: "1"}
			original := registry.Reference{Host: "h.example", Path: "a" + rest, Tag: "1"}
			if got := p.original(mirror); got != original {
				t.Fatalf("%s mirrors %s, want %s", mirror, got, original)
			}
			at, of := p.court(mirror, artifact, time.Time{}, evidence{}), p.court(original, artifact, time.Time{}, evidence{})
			for i, sigs := range w.sigs {
				if i > 10 && i%50 != 0 {
					continue
				}
				got, reason, _, _ := at.verdict(findings(at, sigs))
				want, because, _, _ := of.verdict(findings(of, sigs))
				if compared++; got != want || reason != because {
					t.Fatalf("%+v: %s signed by %v: got %s %s, but %s %s for %s", scopes, mirror, sigs, got, reason, want, because, original)
				}
			}
		}
	})
	if compared < 10_000 {
		t.Errorf("%d comparisons: too few to tell", compared)
	}
}
