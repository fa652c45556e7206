package foreign

import (
	"crypto/x509"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/registry"
)

// Stores returns the certificates of one of notation's trust stores; kind is "ca", "signingAuthority" or "tsa".
type Stores func(kind, name string) ([]*x509.Certificate, error)

// Import reads a trust policy of notation or of containers/image, whichever it is.
func Import(b []byte, stores Stores) (*Imported, error) {
	var top map[string]any
	if err := decode(b, &top); err != nil {
		return nil, err
	}
	if _, ok := top["trustPolicies"]; ok {
		return ImportNotation(b, stores)
	}
	if _, ok := top["default"]; ok {
		return ImportContainers(b)
	}
	return nil, wrong("it is neither a trust policy of notation (no trustPolicies) nor a policy.json of containers/image (no default)")
}

var storeName = regexp.MustCompile(`^[a-zA-Z0-9_.-]+$`)

// ImportNotation makes a policy of notation's trustpolicy.json (Notary Project, trust store and trust policy
// specification). What its own program refuses to read is [ErrDocument].
func ImportNotation(b []byte, stores Stores) (*Imported, error) {
	var doc notationPolicy
	if err := decode(b, &doc); err != nil {
		return nil, err
	}
	if doc.Version != "1.0" {
		return nil, wrong("its version is %q; 1.0 is known", doc.Version)
	}
	if len(doc.Policies) == 0 {
		return nil, wrong("it has no statements")
	}
	m := &notationImport{Imported: &Imported{From: "notation", named: map[Loss]bool{}}, stores: stores, read: map[string][]*x509.Certificate{}, places: map[string]int{}}
	names := map[string]bool{}
	for _, st := range doc.Policies {
		if st.Name == "" || names[st.Name] {
			return nil, wrong("a statement has no name of its own: %q", st.Name)
		}
		names[st.Name] = true
		if err := m.check(st); err != nil {
			return nil, err
		}
	}
	if err := scopesOnce(doc); err != nil {
		return nil, err
	}
	for _, st := range doc.Policies {
		if err := m.readStores(st); err != nil {
			return nil, err
		}
	}
	m.makeRoots()
	for _, st := range doc.Policies {
		m.statement(st)
	}
	m.finish()
	return m.Imported, nil
}

type notationImport struct {
	*Imported
	stores Stores
	order  []string                       // of read
	read   map[string][]*x509.Certificate // by TYPE:NAME
	parts  map[string][]string            // the roots of a store
	places map[string]int                 // in scopes, by name
}

// check refuses what notation refuses.
func (m *notationImport) check(st notationStatement) error {
	in := func(format string, args ...any) error {
		return wrong("statement %q: %w", st.Name, fmt.Errorf(format, args...))
	}
	level, err := levelOf(st.Verification)
	if err != nil {
		return in("%w", err)
	}
	switch st.Verification.VerifyTimestamp {
	case "", "always", "afterCertExpiry":
	default:
		return in("verifyTimestamp is %q", st.Verification.VerifyTimestamp)
	}
	switch {
	case len(st.Scopes) == 0:
		return in("it has no registryScopes")
	case len(st.Scopes) > 1 && slices.Contains(st.Scopes, "*"):
		return in(`"*" stands beside other scopes`)
	case level == nil && len(st.Stores)+len(st.Identities) > 0:
		return in("level skip has neither trust stores nor identities")
	case level != nil && (len(st.Stores) == 0 || len(st.Identities) == 0):
		return in("it lacks trustStores or trustedIdentities")
	case len(st.Identities) > 1 && slices.Contains(st.Identities, "*"):
		return in(`"*" stands beside other identities`)
	}
	for _, s := range st.Scopes {
		if s != "*" && !notationScope.MatchString(s) {
			return in("%q is no scope", s)
		}
	}
	for _, s := range st.Stores {
		kind, name, _ := strings.Cut(s, ":")
		if !slices.Contains([]string{"ca", "signingAuthority", "tsa"}, kind) || !storeName.MatchString(name) || strings.Trim(name, ".") == "" {
			return in("%q is no trust store", s)
		}
	}
	return nil
}

// scopesOnce refuses a scope in two statements.
func scopesOnce(doc notationPolicy) error {
	seen := map[string]bool{}
	for _, st := range doc.Policies {
		for _, s := range st.Scopes {
			if seen[s] {
				return wrong("the scope %q stands twice", s)
			}
			seen[s] = true
		}
	}
	return nil
}

// levelOf returns what is done about each kind of failure, nil for level skip.
func levelOf(v notationVerification) (map[string]string, error) {
	const enforce, log, skip = "enforce", "log", "skip"
	levels := map[string]map[string]string{
		"strict":     {"authenticity": enforce, "authenticTimestamp": enforce, "expiry": enforce, "revocation": enforce},
		"permissive": {"authenticity": enforce, "authenticTimestamp": log, "expiry": log, "revocation": log},
		"audit":      {"authenticity": log, "authenticTimestamp": log, "expiry": log, "revocation": log},
		"skip":       nil,
	}
	level, ok := levels[v.Level]
	switch {
	case !ok:
		return nil, fmt.Errorf("the level %q is unknown", v.Level)
	case level == nil && len(v.Override) > 0:
		return nil, fmt.Errorf("level skip has no overrides")
	}
	for what, action := range v.Override {
		if level[what] == "" {
			return nil, fmt.Errorf("the override of %q is unknown", what)
		}
		if action != enforce && action != log && (action != skip || what != "revocation") {
			return nil, fmt.Errorf("the override %q of %s is unknown", action, what)
		}
		level[what] = action
	}
	return level, nil
}

func (m *notationImport) readStores(st notationStatement) error {
	for _, full := range st.Stores {
		if _, ok := m.read[full]; ok {
			continue
		}
		kind, name, _ := strings.Cut(full, ":")
		certs, err := m.stores(kind, name)
		if err != nil {
			return fmt.Errorf("reading the trust store %s: %w", full, err)
		}
		if len(certs) == 0 {
			return wrong("the trust store %s holds no certificate", full)
		}
		for _, c := range certs {
			if !c.IsCA && !certchain.Describe(c).SelfSigned {
				return wrong("the trust store %s holds %s, which is neither an authority nor self-signed", full, certchain.NameOf(c.RawSubject))
			}
		}
		m.read[full] = certs
		m.order = append(m.order, full)
	}
	return nil
}

// makeRoots makes roots of the stores. Certificates that are in the same stores and stand at the same place of chains are a root.
func (m *notationImport) makeRoots() {
	type part struct{ kind, pin, stores string }
	where := map[string]part{} // by raw certificate
	byRaw := map[string]*x509.Certificate{}
	var seen []string
	for _, kind := range []string{"ca", "signingAuthority"} {
		for _, full := range m.order {
			if !strings.HasPrefix(full, kind+":") {
				continue
			}
			for _, c := range m.read[full] {
				raw := string(c.Raw)
				p, ok := where[raw]
				switch {
				case ok && p.kind != kind:
					m.lose(lossKind, "", Narrower, "%s is in a store of certification authorities and in %s: it is imported as a certification authority only",
						certchain.NameOf(c.RawSubject), full)
					continue
				case !ok:
					p = part{kind: kind, pin: "intermediate"}
					if certchain.Describe(c).SelfSigned {
						p.pin = "root"
					}
					seen = append(seen, raw)
					byRaw[raw] = c
				}
				if !slices.Contains(strings.Fields(p.stores), full) {
					p.stores = strings.TrimSpace(p.stores + " " + full)
				}
				where[raw] = p
			}
		}
	}
	m.parts = map[string][]string{}
	made := map[part]int{}
	for _, raw := range seen {
		p := where[raw]
		at, ok := made[p]
		if !ok {
			at = len(m.roots)
			made[p] = at
			r := importedRoot{name: m.free(p.stores, p.pin), kind: "ca", pin: p.pin}
			if p.kind != "ca" {
				r.kind = "signing-authority"
			}
			m.roots = append(m.roots, r)
			for _, full := range strings.Fields(p.stores) {
				m.parts[full] = append(m.parts[full], r.name)
			}
		}
		m.roots[at].certs = append(m.roots[at].certs, byRaw[raw])
	}
	for _, full := range m.order {
		if kind, _, _ := strings.Cut(full, ":"); kind == "tsa" {
			m.stamps = append(m.stamps, importedRoot{name: m.free(full, "root"), certs: m.read[full]})
			m.parts[full] = []string{m.stamps[len(m.stamps)-1].name}
		}
	}
}

// free makes a name of stores' names that no root has yet, whatever case file systems tell apart.
func (m *notationImport) free(stores, pin string) string {
	var words []string
	for _, full := range strings.Fields(stores) {
		kind, name, _ := strings.Cut(full, ":")
		if kind == "tsa" {
			name = "tsa-" + name
		}
		words = append(words, name)
	}
	if pin == "intermediate" {
		words = append(words, "intermediate")
	}
	base := plain(strings.Join(words, "-"), 100)
	name := base
	taken := func(r importedRoot) bool { return strings.EqualFold(r.name, name) }
	for n := 2; slices.ContainsFunc(m.roots, taken) || slices.ContainsFunc(m.stamps, taken); n++ {
		name = fmt.Sprintf("%s-%d", base, n)
	}
	return name
}

func (m *notationImport) statement(st notationStatement) {
	s := m.rule(st)
	for _, written := range st.Scopes {
		one := s
		one.name = written
		if written != "*" {
			ref, err := registry.ParseQualified(written)
			if err != nil {
				m.lose(lossScope, written, Narrower, "%v; so it is rejected", err)
				continue
			}
			one.name = ref.Host + "/" + ref.Path
		}
		switch {
		case written == "*" && s.rule == unsigned:
			m.lose(lossLevel, written, Narrower, "statement %q accepts everything unsigned, which a policy cannot say of all registries; so what has no other scope is rejected", st.Name)
			continue
		case written == "*":
		case s.rule != reject:
			m.lose(lossBelow, one.name, Wider, "notation means this repository alone; here it holds for repositories below it too")
		}
		if at, known := m.places[one.name]; known {
			if !same(m.scopes[at], one) {
				m.lose(lossScope, one.name, Narrower, "two statements judge it, under several spellings of its registry; so it is rejected")
				m.scopes[at] = importedScope{name: one.name, rule: reject}
			}
			continue
		}
		m.places[one.name] = len(m.scopes)
		m.scopes = append(m.scopes, one)
	}
}

const (
	reject   = "reject: true"
	unsigned = "accept: unsigned"
)

func same(a, b importedScope) bool {
	return a.rule == b.rule && a.use == b.use && a.revocation == b.revocation && slices.Equal(a.stamps, b.stamps) &&
		slices.EqualFunc(a.entries, b.entries, func(a, b importedEntry) bool {
			return a.root == b.root && slices.Equal(a.identities, b.identities)
		})
}

// rule says a statement.
func (m *notationImport) rule(st notationStatement) importedScope {
	level, _ := levelOf(st.Verification) // it was checked
	if level == nil {
		return importedScope{rule: unsigned}
	}
	where := strings.Join(st.Scopes, ", ")
	for _, what := range slices.Sorted(maps.Keys(level)) {
		if what != "revocation" && level[what] == "log" {
			m.lose(lossLevel, where, Narrower, "statement %q only logs failures of %s; here they are enforced", st.Name, what)
		}
	}
	s := importedScope{revocation: map[string]string{
		"enforce": "revocation: {check: enforce, network: true}",
		"log":     "revocation: {check: log, network: true}",
		"skip":    "revocation: {check: \"off\"}",
	}[level["revocation"]]}
	ids, ok := m.identities(st, where)
	for _, full := range st.Stores {
		for _, name := range m.parts[full] {
			if strings.HasPrefix(full, "tsa:") {
				s.use = "always"
				if st.Verification.VerifyTimestamp == "afterCertExpiry" {
					s.use = "after-cert-expiry"
				}
				if !slices.Contains(s.stamps, name) {
					s.stamps = append(s.stamps, name)
				}
			} else if !slices.ContainsFunc(s.entries, func(e importedEntry) bool { return e.root == name }) {
				s.entries = append(s.entries, importedEntry{name, ids})
			}
		}
	}
	if !ok || len(s.entries) == 0 {
		return importedScope{rule: reject}
	}
	return s
}

// identities says those of a statement; ok is false if it trusts nobody whom a policy could name.
func (m *notationImport) identities(st notationStatement, where string) (ids []string, ok bool) {
	for _, text := range st.Identities {
		if text == "*" {
			return nil, true
		}
		value, isSubject := strings.CutPrefix(text, "x509.subject:")
		if !isSubject {
			m.lose(lossIdentities, where, Narrower, "the identity %q is a plugin's and is left out", text)
			continue
		}
		sub, why := subjectOf(strings.TrimSpace(value))
		if why == "" && sub.lacks() != "" {
			why = "notation asks it for " + sub.lacks()
		}
		if why != "" {
			m.lose(lossIdentities, where, Narrower, "the identity %q is left out: %s", text, why)
			continue
		}
		ids = append(ids, strings.ReplaceAll(sub.String(), ",", ", "))
	}
	slices.Sort(ids)
	return slices.Compact(ids), len(ids) > 0
}

// finish orders what was made. A policy must have a scope, and one of notation that nothing is left of rejects everything.
func (m *notationImport) finish() {
	used := map[string]bool{}
	for _, s := range m.scopes {
		for _, e := range s.entries {
			used[e.root] = true
		}
		for _, name := range s.stamps {
			used[name] = true
		}
	}
	unused := func(r importedRoot) bool { return !used[r.name] }
	m.roots, m.stamps = slices.DeleteFunc(m.roots, unused), slices.DeleteFunc(m.stamps, unused)
	m.close()
	m.Notes = append(m.Notes, "notation does not look at claims, so the imported scopes do not (claims: ignore)")
}

func (m *Imported) close() {
	if len(m.scopes) == 0 {
		m.scopes = []importedScope{{name: "*", rule: reject}}
	}
	byName := func(a, b importedRoot) int { return strings.Compare(a.name, b.name) }
	slices.SortFunc(m.roots, byName)
	slices.SortFunc(m.stamps, byName)
	slices.SortFunc(m.scopes, func(a, b importedScope) int { return strings.Compare(a.name, b.name) })
	for i := range m.scopes {
		slices.SortFunc(m.scopes[i].entries, func(a, b importedEntry) int { return strings.Compare(a.root, b.root) })
		slices.Sort(m.scopes[i].stamps)
	}
	sortLosses(m.Losses)
}
