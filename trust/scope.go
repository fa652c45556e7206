package trust

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/imprint-oci/imprint/registry"
)

// everything is the scope that matches all references.
const everything = "*"

// A scope is one rule, for the references that its name is the longest match of.
type scope struct {
	name         string // canonical
	line, column int

	rule    rule
	trust   []entry   // its own, where the rule is trust
	groups  [][]entry // where the rule is require: one of each
	shared  bool      // groups may be satisfied by one key ("distinct: false")
	inherit bool
	mirrors string // the scope that it was generated from (M1); empty: it stands in the file
	origin  *scope // that scope
	// enclosing is the longest other scope that matches name read as a repository (P4); nil: none. It never depends
	// on a reference, so scopes are a tree.
	enclosing *scope

	settings
	enforce    bool
	strictX509 bool
	delegate   *delegation // nil: no document means anything here (D1)
}

// A rule is what a scope asks for (P7).
type rule string

const (
	ruleTrust    rule = "trust"
	ruleRequire  rule = "require"
	ruleReject   rule = "reject"
	ruleUnsigned rule = "accept: unsigned"
)

// settings are what scopes and entries say of their own. An entry's own hold, else the selected scope's, else the policy's.
type settings struct {
	claims     claimsMode // "": not said
	maxAge     time.Duration
	algorithms algorithms
	timestamps *timestamping
	revocation *revoking
}

// An entry is what a scope trusts: a root, with limits of its own. Its settings hold before the selected scope's.
type entry struct {
	root       *root
	identities identities
	settings
}

// inherits returns the scope whose trust s adds to its own (P5), nil: none. A mirror adds what its original adds.
func (s *scope) inherits() *scope {
	switch {
	case !s.inherit:
		return nil
	case s.origin != nil:
		return s.origin.inherits()
	}
	return s.enclosing
}

// entries visits what s effectively trusts (P5): its own, those of its groups, and while scopes inherit, that of the enclosing ones.
func (s *scope) entries() iter.Seq[entry] {
	return func(yield func(entry) bool) {
		for _, group := range s.groups {
			for _, e := range group {
				if !yield(e) {
					return
				}
			}
		}
		for at := s; at != nil; at = at.inherits() {
			for _, e := range at.trust {
				if !yield(e) {
					return
				}
			}
		}
	}
}

// canonicalScope checks and canonicalises a scope: *, host[:port], or host[:port]/segment[/segment…] (N2, N3).
func canonicalScope(s string) (string, error) {
	switch {
	case s == everything:
		return s, nil
	case strings.Contains(s, "://"):
		return "", errors.New("write it without the URL's scheme")
	case strings.HasPrefix(s, "*."):
		return "", errors.New("there are no wildcards for hosts: write each host, or * for everything")
	case strings.Contains(s, "*"):
		return "", errors.New("there are no wildcards in scopes: a scope holds for everything under it")
	case strings.Contains(s, "@"):
		return "", errors.New("a scope has neither tag nor digest")
	case strings.HasSuffix(s, "/"):
		return "", errors.New("write it without the / at its end: a scope holds for everything under it")
	}
	// Every scope is the beginning of a repository's name, and that has one parser.
	const rest = "/a/b"
	ref, err := registry.ParseQualified(s + rest)
	if err != nil {
		return "", scopeError(s, err)
	}
	name, ok := strings.CutSuffix(repository(ref), rest)
	if !ok || ref.Tag != "" {
		return "", errors.New("not a host or a host with a path")
	}
	return name, nil
}

func scopeError(s string, err error) error {
	host, path, _ := strings.Cut(s, "/")
	for _, r := range s {
		if r > '~' {
			return fmt.Errorf("%q is not ASCII: write hosts in punycode, paths in lower case letters and digits", r)
		}
	}
	if strings.Contains(path, ":") {
		return errors.New("a scope has neither tag nor digest")
	}
	if path != strings.ToLower(path) {
		return errors.New("repository paths are lower case")
	}
	if host != "localhost" && !strings.ContainsAny(host, ".:") {
		return errors.New("add the registry host; imprint never assumes docker.io")
	}
	return err
}

// repository returns the canonical name of a remote repository, by which scopes are looked up.
func repository(ref registry.Reference) string { return ref.Host + "/" + ref.Path }

// enclosingName returns the name without its last segment; the host is the first one.
func enclosingName(name string) (string, bool) {
	i := strings.LastIndexByte(name, '/')
	if i < 0 {
		return everything, name != everything
	}
	return name[:i], true
}

// lookup returns the longest scope that matches name, which is a repository or a scope (P1, P2), and how many names
// it looked up. It walks up name's segments, so that the number of scopes does not matter.
func lookup(scopes map[string]*scope, name string) (s *scope, steps int) {
	for ok := true; ok; name, ok = enclosingName(name) {
		steps++
		if s := scopes[name]; s != nil {
			return s, steps
		}
	}
	return nil, steps
}

// selects returns the scope that judges ref, nil if there is none.
func (p *Policy) selects(ref registry.Reference) *scope {
	if p.single {
		return p.scopes[everything]
	}
	if ref.Kind != registry.Remote || ref.Host == "" || ref.Path == "" {
		return nil
	}
	s, _ := lookup(p.scopes, repository(ref))
	return s
}

// link finds the enclosing scope of each scope (P4).
func link(scopes map[string]*scope) {
	for name, s := range scopes {
		if up, ok := enclosingName(name); ok {
			s.enclosing, _ = lookup(scopes, up)
		}
	}
}

// tree returns the scopes so that each stands after its enclosing one.
func tree(scopes map[string]*scope) []*scope {
	return slices.SortedFunc(maps.Values(scopes), func(a, b *scope) int { return compareNames(a.name, b.name) })
}

// compareNames compares by segments; * comes first, and a name before what is under it.
func compareNames(a, b string) int {
	if a == everything || b == everything {
		return cmp.Compare(len(strings.TrimPrefix(a, everything)), len(strings.TrimPrefix(b, everything)))
	}
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			switch {
			case a[i] == '/':
				return -1
			case b[i] == '/':
				return 1
			}
			return cmp.Compare(a[i], b[i])
		}
	}
	return cmp.Compare(len(a), len(b))
}

// trusted returns the roots that s trusts in p, narrowed, by name.
func (p *Policy) trusted(s *scope) []string { return p.namesOf(s.entries()) }

// namesOf returns the roots of entries, narrowed, by name.
func (p *Policy) namesOf(entries iter.Seq[entry]) []string {
	names := map[string]bool{}
	for e := range entries {
		if p.admits(e.root) {
			names[e.root.name] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

func (p *Policy) admits(r *root) bool {
	return p.narrow.roots == nil || p.narrow.roots[r.name]
}
