package trust

import (
	"strings"

	yaml "go.yaml.in/yaml/v4"

	"github.com/imprint-oci/imprint/registry"
)

// maxScopes limits how many scopes there are with those that mirrors make; the file's size limits those that it writes out.
const maxScopes = 200_000

// A mirror is one "Y/rest is judged exactly as X/rest" (M1).
type mirror struct {
	original, name string
	at             *yaml.Node
}

// mirrors makes a scope of each scope under an original at each of its mirrors. What it makes are scopes like any other: nothing
// but their position and the names of claims tells that they were not written out.
func (p *parser) mirrors(n *yaml.Node, scopes []*scope) error {
	list, err := p.mirrorList(n)
	if err != nil {
		return err
	}
	byName, byOriginal := map[string]mirror{}, map[string][]mirror{}
	p.policy.mirrored = map[string]string{}
	for _, m := range list {
		if first, ok := byName[m.name]; ok {
			return p.wrong(m.at, codeMirror, "%q is already a mirror of %q at %s", m.name, first.original, p.at(first.at))
		}
		byName[m.name] = m
		byOriginal[m.original] = append(byOriginal[m.original], m)
		p.policy.mirrored[m.name] = m.original
	}
	for _, m := range list {
		if x, ok := under(byName, m.original); ok {
			return p.wrong(m.at, codeMirror, "%q is mirrored and lies under %q, itself a mirror of %q: name the original, there are no chains of mirrors",
				m.original, x.name, x.original)
		}
		if x, ok := under(byOriginal, m.name); ok {
			return p.wrong(m.at, codeMirror, "%q is a mirror and lies under %q, which is mirrored: there are no chains of mirrors",
				m.name, x[0].original)
		}
	}
	add := func(m mirror, s *scope, name string) error {
		if inner, _ := under(byName, name); inner.name != m.name {
			return p.wrong(m.at, codeMirror, "as a mirror of %q, %q would have the scope %q, but that lies under %q, a mirror of %q",
				m.original, m.name, name, inner.name, inner.original)
		}
		if first := p.policy.scopes[name]; first != nil {
			return p.wrong(m.at, codeScopeDuplicate, "scope %q, which mirrors %q, is already defined at %s; "+
				"scopes must be unique: write it, or mirror it", name, s.name, p.scopeAt(first))
		}
		if s.rule == ruleUnsigned && wide(name) {
			return p.wrong(m.at, codeUnsignedWide, "scope %q, which mirrors %q, would accept what is unsigned: that is not allowed on a whole host; name a path",
				name, s.name)
		}
		if len(p.policy.scopes) >= maxScopes {
			return p.wrong(m.at, codeTooLarge, "with those of mirrors there are more than %d scopes", maxScopes)
		}
		made := *s
		made.name, made.mirrors, made.origin = name, s.name, s
		made.line, made.column = m.at.Line, m.at.Column
		p.policy.scopes[name] = &made
		return nil
	}
	for _, s := range scopes {
		for at, ok := s.name, true; ok; at, ok = enclosingName(at) {
			for _, m := range byOriginal[at] {
				if err := add(m, s, m.name+strings.TrimPrefix(s.name, at)); err != nil {
					return err
				}
			}
		}
	}
	for _, m := range list {
		if p.policy.scopes[m.original] != nil {
			continue
		}
		s, _ := lookup(p.policy.scopes, m.original)
		if s == nil {
			return p.wrong(m.at, codeMirror, "no scope holds for %q: there is nothing that its mirror %q could be judged by", m.original, m.name)
		}
		if err := add(m, s, m.name); err != nil {
			return err
		}
	}
	return nil
}

// mirrorList reads the mirrors in the order of the file.
func (p *parser) mirrorList(n *yaml.Node) ([]mirror, error) {
	fields, err := p.mapping(n, "mirrors")
	if err != nil {
		return nil, err
	}
	if len(fields) == 0 {
		return nil, p.wrong(n, codeValue, "mirrors is empty")
	}
	var list []mirror
	originals := map[string]*yaml.Node{}
	for _, f := range fields {
		original, err := p.mirrorName(f.key, "an original")
		if err != nil {
			return nil, err
		}
		if first := originals[original]; first != nil {
			return nil, p.wrong(f.key, codeMirror, "%q is already mirrored at %s: merge the lists", original, p.at(first))
		}
		originals[original] = f.key
		items, err := p.list(f.value, "the mirrors of "+original)
		if err != nil {
			return nil, err
		}
		for _, item := range items {
			if _, err := p.text(item, "a mirror of "+original); err != nil {
				return nil, err
			}
			name, err := p.mirrorName(item, "a mirror")
			if err != nil {
				return nil, err
			}
			list = append(list, mirror{original, name, item})
		}
	}
	return list, nil
}

func (p *parser) mirrorName(n *yaml.Node, what string) (string, error) {
	name, err := canonicalScope(n.Value)
	if err != nil {
		return "", p.wrong(n, codeScope, "%s, %q: %w", what, shorten(n.Value), err)
	}
	if name == everything {
		return "", p.wrong(n, codeMirror, "%s is a host or a host with a path, never *", what)
	}
	return name, nil
}

// under returns what names holds for name or for the longest beginning of it that it knows.
func under[T any](names map[string]T, name string) (found T, ok bool) {
	for more := true; more; name, more = enclosingName(name) {
		if found, ok = names[name]; ok {
			return found, true
		}
	}
	return found, false
}

// original returns what ref mirrors, by the longest mirror that it is under (M5, M6); ref itself if it is under none. Tag and digest stay.
func (p *Policy) original(ref registry.Reference) registry.Reference {
	if ref.Kind != registry.Remote || len(p.mirrored) == 0 {
		return ref
	}
	name := repository(ref)
	for at, ok := name, true; ok; at, ok = enclosingName(at) {
		original, mirrored := p.mirrored[at]
		if !mirrored {
			continue
		}
		host, path, _ := strings.Cut(original+strings.TrimPrefix(name, at), "/")
		if path != "" { // else the original is a whole host, and no repository
			ref.Host, ref.Path = host, path
		}
		return ref
	}
	return ref
}
