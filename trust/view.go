package trust

import (
	"cmp"
	"crypto/x509"
	"slices"
	"time"

	"github.com/imprint-oci/imprint/registry"
)

// A View is what a policy means, for those who say it in other words: everything inherited, mirrored and defaulted is
// worked out, and narrowing is applied. It is a copy: changing it changes no policy.
type View struct {
	File   string
	Roots  []RootView  // by name
	Scopes []ScopeView // as a tree: each after its enclosing one

	index  map[string]int
	single bool
}

// A RootView is a root.
type RootView struct {
	Name         string
	Certificates []*x509.Certificate
	Identities   []string // as the policy writes them; none: any leaf
	Pin          string   // "root", "intermediate", "leaf"
	Kind         string   // "ca", "signing-authority"
}

// A ScopeView is a scope.
type ScopeView struct {
	Name       string // canonical
	Line       int    // 0: it stands in no file
	Rule       string // "trust", "require", "reject", "accept: unsigned"
	Trust      []EntryView
	Groups     [][]EntryView // of require: one of each
	Distinct   bool          // the groups are satisfied by different keys
	Inherits   bool
	Mirrors    string // the scope that it was generated from; empty: it stands in the file
	Enclosing  string
	Delegates  bool // a delegation document may add to Trust
	Enforced   bool
	StrictX509 bool
}

// An EntryView is a root that a scope trusts, with what holds for it there.
type EntryView struct {
	Root       RootView
	Identities []string // further ones: a leaf must match one of these and one of the root's
	Claims     string   // "ignore", "if-present", "tag", "name"
	MaxAge     time.Duration
	Algorithms []string // nil: all
	Timestamps *TimestampsView
	Revocation RevocationView
}

// A TimestampsView is a section "timestamps".
type TimestampsView struct {
	Use   string // "always", "after-cert-expiry"
	Roots []*x509.Certificate
}

// A RevocationView is a section "revocation".
type RevocationView struct {
	Check   string // "enforce", "log", "off"
	Lists   bool   // it names CRL files
	Network bool   // it asks the network
}

// View returns what p means.
func (p *Policy) View() View {
	v := View{File: p.file, index: map[string]int{}, single: p.single}
	for _, name := range p.rootNames() {
		v.Roots = append(v.Roots, p.roots[name].view())
	}
	for i, s := range tree(p.scopes) {
		v.index[s.name] = i
		v.Scopes = append(v.Scopes, p.scopeView(s))
	}
	return v
}

// Select returns the scope that judges ref, nil if there is none.
func (v View) Select(ref registry.Reference) *ScopeView {
	if v.single {
		return &v.Scopes[0]
	}
	if ref.Kind != registry.Remote || ref.Host == "" || ref.Path == "" {
		return nil
	}
	name := repository(ref)
	for ok := true; ok; name, ok = enclosingName(name) {
		if i, found := v.index[name]; found {
			return &v.Scopes[i]
		}
	}
	return nil
}

func (r *root) view() RootView {
	return RootView{
		Name:         r.name,
		Certificates: slices.Clone(r.certificates),
		Identities:   r.identities.texts(),
		Pin:          string(r.pin),
		Kind:         string(r.kind),
	}
}

func (ids identities) texts() []string {
	var out []string
	for _, id := range ids {
		out = append(out, id.text)
	}
	return out
}

func (p *Policy) scopeView(s *scope) ScopeView {
	out := ScopeView{
		Name:       s.name,
		Line:       s.line,
		Rule:       string(s.rule),
		Distinct:   s.rule == ruleRequire && !s.shared,
		Inherits:   s.inherit,
		Mirrors:    s.mirrors,
		Delegates:  s.delegate != nil,
		Enforced:   s.enforce,
		StrictX509: s.strictX509,
	}
	if s.enclosing != nil {
		out.Enclosing = s.enclosing.name
	}
	switch s.rule {
	case ruleTrust:
		out.Trust = p.entryViews(s, slices.Collect(s.entries()))
	case ruleRequire:
		for _, group := range s.groups {
			out.Groups = append(out.Groups, p.entryViews(s, group))
		}
	}
	return out
}

// entryViews are the entries that narrowing left. An empty group stays: nothing satisfies it.
func (p *Policy) entryViews(s *scope, entries []entry) []EntryView {
	out := []EntryView{}
	for _, e := range entries {
		if !p.admits(e.root) {
			continue
		}
		algorithms := s.algorithms
		if e.algorithms != nil {
			algorithms = e.algorithms
		}
		out = append(out, EntryView{
			Root:       e.root.view(),
			Identities: e.identities.texts(),
			Claims:     string(p.claimsIn(e.claims, s.claims)),
			MaxAge:     shorter(cmp.Or(e.maxAge, s.maxAge), p.narrow.maxAge),
			Algorithms: slices.Clone(algorithms.and(p.narrow.algorithms)),
			Timestamps: cmp.Or(e.timestamps, s.timestamps, p.timestamps).view(),
			Revocation: cmp.Or(e.revocation, s.revocation, p.revocation).view(),
		})
	}
	return out
}

func (t *timestamping) view() *TimestampsView {
	if t == nil {
		return nil
	}
	return &TimestampsView{Use: t.use, Roots: slices.Clone(t.roots)}
}

func (r *revoking) view() RevocationView {
	if r == nil {
		return RevocationView{Check: "off"}
	}
	return RevocationView{Check: r.check, Lists: r.files, Network: r.network}
}
