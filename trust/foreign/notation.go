package foreign

import (
	"cmp"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/trust"
)

// The trust policy of notation (Notary Project, trust store and trust policy specification, "Trust Policy for OCI artifacts").
type notationPolicy struct {
	Version  string              `json:"version" yaml:"version"`
	Policies []notationStatement `json:"trustPolicies" yaml:"trustPolicies"`
}

type notationStatement struct {
	Name         string               `json:"name" yaml:"name"`
	Scopes       []string             `json:"registryScopes" yaml:"registryScopes"`
	Verification notationVerification `json:"signatureVerification" yaml:"signatureVerification"`
	Stores       []string             `json:"trustStores,omitempty" yaml:"trustStores,omitempty"`
	Identities   []string             `json:"trustedIdentities,omitempty" yaml:"trustedIdentities,omitempty"`
}

type notationVerification struct {
	Level           string            `json:"level" yaml:"level"`
	VerifyTimestamp string            `json:"verifyTimestamp,omitempty" yaml:"verifyTimestamp,omitempty"`
	Override        map[string]string `json:"override,omitempty" yaml:"override,omitempty"`
}

// A trustStore is one of notation's: certificates of a type under a name.
type trustStore struct {
	kind, name string
	certs      []*x509.Certificate
}

// A shelf holds the trust stores of a document, each certificate set once.
type shelf struct{ stores []trustStore }

// put returns the store's full name, TYPE:NAME. A name that is taken by other certificates gets a number.
func (s *shelf) put(kind, name string, certs []*x509.Certificate) string {
	try := name
	for n := 2; ; n++ {
		at := slices.IndexFunc(s.stores, func(o trustStore) bool { return o.kind == kind && strings.EqualFold(o.name, try) })
		if at < 0 {
			s.stores = append(s.stores, trustStore{kind, try, certs})
			return kind + ":" + try
		}
		if slices.EqualFunc(s.stores[at].certs, certs, (*x509.Certificate).Equal) {
			return kind + ":" + s.stores[at].name
		}
		try = fmt.Sprintf("%s-%d", name, n)
	}
}

// notationScope is a scope by notation's grammar.
var notationScope = regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?(\.[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?)*(:[0-9]+)?` +
	`/[a-z0-9]+(([._]|__|-*)[a-z0-9]+)*(/[a-z0-9]+(([._]|__|-*)[a-z0-9]+)*)*$`)

// statement says a scope as notation would, without name and scopes; ok is false if everything in it is to be rejected, which is
// what notation does with what it finds in no statement.
func (x *exporter) statement(s trust.ScopeView, stores *shelf) (st notationStatement, ok bool) {
	switch s.Rule {
	case "reject":
		return st, false
	case "accept: unsigned":
		if x.to == Ratify {
			x.lose(lossUnsigned, s.Name, Narrower, "Ratify rejects what has no signature")
			return st, false
		}
		st.Verification.Level = "skip"
		return st, true
	case "require":
		x.lose(lossRequire, s.Name, Narrower, "%s accepts an artifact for one signature and cannot ask for several; so everything in it is rejected there", x.who)
		return st, false
	}
	if s.Delegates {
		x.lose(lossDelegate, s.Name, Narrower, "%s reads no delegation documents: granted keys are not trusted there", x.who)
	}
	voices := x.voices(s, s.Trust)
	if len(voices) == 0 {
		return st, false
	}
	if !s.Enforced {
		x.lose(lossEnforce, s.Name, Narrower, "%s rejects what is only reported here", x.who)
	}
	return x.chorus(s, voices, stores)
}

// chorus makes one statement of voices. Notation holds every trust store of it against every identity, timestamps and
// revocation alike for all, so only what is meant for each of them can be said.
func (x *exporter) chorus(s trust.ScopeView, voices []voice, stores *shelf) (st notationStatement, ok bool) {
	first := voices[0]
	all := first.names
	for _, v := range voices[1:] {
		if !sameTimestamps(first.timestamps, v.timestamps) {
			x.lose(lossTimestamps, s.Name, Narrower, "roots %s and %s judge timestamps differently, and %s judges them alike for all roots of a scope; "+
				"so everything in it is rejected there", first.root, v.root, x.who)
			return st, false
		}
		if first.revocation != v.revocation {
			x.lose(lossRevocation, s.Name, Narrower, "roots %s and %s look up revocation differently, and %s does it alike for all roots of a scope; "+
				"so everything in it is rejected there", first.root, v.root, x.who)
			return st, false
		}
		if len(all)*len(v.names) > maxNames {
			x.lose(lossIdentities, s.Name, Narrower, "its identities come to too many; so everything in it is rejected there")
			return st, false
		}
		all = all.and(v.names)
	}
	for _, v := range voices {
		if v.names.equal(all) {
			continue
		}
		if len(all) == 0 {
			x.lose(lossIdentities, s.Name, Narrower, "%s holds all identities of a scope against all its roots, and none is meant for each of them; "+
				"so everything in it is rejected there", x.who)
			return st, false
		}
		x.lose(lossIdentities, s.Name, Narrower, "%s holds all identities of a scope against all its roots: root %s is trusted there only for %s",
			x.who, v.root, strings.Join(all.texts(), " or "))
	}
	st.Identities = all.texts()
	st.Verification.Level = "strict"
	switch first.revocation {
	case "off":
		st.Verification.Override = map[string]string{"revocation": "skip"}
	case "log":
		st.Verification.Override = map[string]string{"revocation": "log"}
	}
	for _, v := range voices {
		kind := "ca"
		if v.authority {
			kind = "signingAuthority"
		}
		if store := stores.put(kind, plain(v.root, 64), v.certificates); !slices.Contains(st.Stores, store) {
			st.Stores = append(st.Stores, store)
		}
	}
	slices.Sort(st.Stores)
	if t := first.timestamps; t != nil {
		x.note("%s asks the network whether certificates of time-stamping authorities that say where to ask were revoked, whatever is said of revocation", x.who)
		st.Stores = append(st.Stores, stores.put("tsa", "timestamps", t.Roots))
		st.Verification.VerifyTimestamp = map[string]string{"always": "always", "after-cert-expiry": "afterCertExpiry"}[t.Use]
	}
	return st, true
}

func sameTimestamps(a, b *trust.TimestampsView) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Use == b.Use && slices.EqualFunc(a.Roots, b.Roots, (*x509.Certificate).Equal)
}

// A placer collects the statements of a document: one for each scope.
type placer struct {
	exporter *exporter
	stores   *shelf
	said     map[string]*notationStatement // by scope; nil: everything in it is rejected
	placed   map[string]bool               // exact scopes
	order    []*notationStatement
}

// place has s judge the repositories of these names.
func (p *placer) place(s trust.ScopeView, names ...string) {
	st, known := p.said[s.Name]
	if !known {
		if made, ok := p.exporter.statement(s, p.stores); ok {
			st = &made
			if st.Name = s.Name; s.Name == "*" {
				st.Name = "everything"
			}
		}
		p.said[s.Name] = st
	}
	if st == nil {
		return
	}
	for _, name := range names {
		if name != "*" && !notationScope.MatchString(name) {
			p.exporter.lose(lossScope, s.Name, Narrower, "%s cannot name the repository %s; so it is rejected there", p.exporter.to, name)
			continue
		}
		if len(st.Scopes) == 0 {
			p.order = append(p.order, st)
		}
		if !p.placed[name] {
			p.placed[name] = true
			st.Scopes = append(st.Scopes, name)
		}
	}
}

// statements says the whole policy; repos are exact scopes for it.
func (x *exporter) statements(repos []Repository) ([]notationStatement, *shelf, error) {
	p := &placer{exporter: x, stores: &shelf{}, said: map[string]*notationStatement{}, placed: map[string]bool{}}
	if repos != nil {
		x.listed(repos, p.place)
	} else {
		x.unlisted(p.place)
	}
	if len(p.order) == 0 {
		return nil, nil, fmt.Errorf("%w that %s could say: everything would be rejected", ErrNothing, x.who)
	}
	var out []notationStatement
	for _, st := range p.order {
		slices.Sort(st.Scopes)
		out = append(out, *st)
	}
	slices.SortFunc(out, func(a, b notationStatement) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(p.stores.stores, func(a, b trustStore) int {
		return cmp.Or(strings.Compare(a.kind, b.kind), strings.Compare(a.name, b.name))
	})
	return out, p.stores, nil
}

// listed gives each repository what its scope means.
func (x *exporter) listed(repos []Repository, place func(trust.ScopeView, ...string)) {
	heard := map[string]bool{}
	for _, r := range repos {
		s := x.view.Select(r.Reference)
		if s == nil {
			x.note("%s is in no scope: it is rejected there as it is here", r.name())
			continue
		}
		heard[s.Name] = true
		if s.Rule == "reject" {
			x.note("%s is rejected by scope %s: it is not listed there, which rejects it", r.name(), s.Name)
			continue
		}
		place(*s, r.name(), r.Written)
	}
	for _, s := range x.view.Scopes {
		if !heard[s.Name] && s.Rule != "reject" {
			x.note("no repository of scope %s was listed: nothing in it is accepted there", s.Name)
		}
	}
}

// unlisted says each scope as the one repository of its name.
func (x *exporter) unlisted(place func(trust.ScopeView, ...string)) {
	for _, s := range x.view.Scopes {
		switch {
		case s.Rule == "reject":
		case s.Name == "*" && len(x.view.Scopes) == 1:
			place(s, "*")
		case s.Name == "*":
			x.lose(lossEverything, s.Name, Narrower, `%s knows no longer scopes that would be an exception from "*"; so what is not listed is rejected there: `+
				"list repositories with --batch", x.who)
		case !strings.Contains(s.Name, "/"):
			x.lose(lossPrefix, s.Name, Narrower, "%s knows repositories, not hosts; so nothing in it is accepted there: list repositories with --batch", x.who)
		default:
			x.lose(lossPrefix, s.Name, Narrower, "%s takes it for one repository; so nothing below it is accepted there: list repositories with --batch", x.who)
			place(s, s.Name)
		}
	}
}

// PolicyFile is the name of notation's trust policy, in the spelling that all its versions read.
const PolicyFile = "trustpolicy.json"

// OCIPolicyFile is the one that newer versions read instead if it is there.
const OCIPolicyFile = "trustpolicy.oci.json"

func (x *exporter) notation(repos []Repository) error {
	statements, stores, err := x.statements(repos)
	if err != nil || x.unwritten {
		return err
	}
	for _, s := range stores.stores {
		for _, c := range s.certs {
			x.add(fmt.Sprintf("truststore/x509/%s/%s/%s.pem", s.kind, s.name, certchain.Thumbprint(c)[:16]), pemOf([]*x509.Certificate{c}))
		}
	}
	b, err := json.MarshalIndent(notationPolicy{"1.0", statements}, "", "  ")
	x.add(PolicyFile, append(b, '\n'))
	return err
}
