package e2e

import (
	"crypto/x509"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/notaryproject/notation-go/verifier/trustpolicy"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/e2e/judge"
)

const differentialRepo = "registry.example/team/app"

// An outfit is a policy of which both imprint's and notation's are made.
type outfit struct {
	kind       string // of all roots; "": ca
	roots      []pinned
	identities []string // notation's kind alone: each with C, ST and O
	onEntry    bool     // the identities stand at the entries of trust, and not at the roots
	stamping   string   // use of timestamps; "": no section
	stampRoots []*x509.Certificate
	scope      string // "": everything

	// What notation has no word for: it can only make imprint stricter.
	algorithms []string
	maxAge     string
	claims     string
	strict     bool
	reject     bool
}

// A pinned is a root.
type pinned struct {
	certificates []*x509.Certificate
	pin          string // "": root
	kind         string // "": the outfit's
	untrusted    bool   // no scope names it
}

// imprint returns the policy as imprint reads it. JSON is YAML, too.
func (o outfit) imprint() []byte {
	inline := func(certs []*x509.Certificate) []string {
		var out []string
		for _, c := range certs {
			out = append(out, string(certtest.PEM(c)))
		}
		return out
	}
	roots, trust := map[string]any{}, []any{}
	for i, p := range o.roots {
		name := fmt.Sprintf("root%d", i)
		root := map[string]any{"certificates": inline(p.certificates)}
		if p.pin != "" {
			root["pin"] = p.pin
		}
		if kind := orElse(p.kind, o.kind); kind != "" {
			root["kind"] = kind
		}
		entry := map[string]any{"root": name}
		if len(o.identities) > 0 {
			if o.onEntry {
				entry["identities"] = o.identities
			} else {
				root["identities"] = o.identities
			}
		}
		roots[name] = root
		if !p.untrusted {
			trust = append(trust, entry)
		}
	}
	scope := map[string]any{"trust": trust}
	if o.reject {
		scope = map[string]any{"reject": true}
	}
	set := func(key string, value any, is bool) {
		if is {
			scope[key] = value
		}
	}
	set("algorithms", o.algorithms, o.algorithms != nil)
	set("max-age", o.maxAge, o.maxAge != "")
	set("claims", o.claims, o.claims != "")
	set("strict-x509", true, o.strict)
	doc := map[string]any{"version": 1, "roots": roots, "scopes": map[string]any{orElse(o.scope, "*"): scope}}
	if o.stamping != "" {
		doc["timestamps"] = map[string]any{"roots": inline(o.stampRoots), "use": o.stamping}
	}
	b, err := json.Marshal(doc)
	if err != nil {
		panic(err)
	}
	return b
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// notation returns what of the policy notation has words for. It does not check revocation, as imprint does not unless it is told to.
func (o outfit) notation() judge.Policy {
	p := judge.Policy{Stores: map[string][]*x509.Certificate{}}
	statement := trustpolicy.TrustPolicy{
		Name: "differential", RegistryScopes: []string{orElse(o.scope, "*")},
		SignatureVerification: trustpolicy.SignatureVerification{
			VerificationLevel: trustpolicy.LevelStrict.Name,
			Override:          map[trustpolicy.ValidationType]trustpolicy.ValidationAction{trustpolicy.TypeRevocation: trustpolicy.ActionSkip},
		},
		TrustedIdentities: []string{"*"},
	}
	for i, r := range o.roots {
		if r.untrusted {
			continue
		}
		kind := "ca"
		if orElse(r.kind, o.kind) == "signing-authority" {
			kind = "signingAuthority"
		}
		name := fmt.Sprintf("%s:root%d", kind, i)
		p.Stores[name] = r.certificates
		statement.TrustStores = append(statement.TrustStores, name)
	}
	if o.stamping != "" {
		p.Stores["tsa:stamps"] = o.stampRoots
		statement.TrustStores = append(statement.TrustStores, "tsa:stamps")
		statement.SignatureVerification.VerifyTimestamp = map[string]trustpolicy.TimestampOption{
			"always": trustpolicy.OptionAlways, "after-cert-expiry": trustpolicy.OptionAfterCertExpiry,
		}[o.stamping]
	}
	if len(o.identities) > 0 {
		statement.TrustedIdentities = nil
		for _, id := range o.identities {
			statement.TrustedIdentities = append(statement.TrustedIdentities, "x509.subject:"+id)
		}
	}
	p.Document = trustpolicy.Document{Version: "1.0", TrustPolicies: []trustpolicy.TrustPolicy{statement}}
	return p
}

// bendPolicy makes a mutation of the policy, once the chain is known.
func bendPolicy(bend func(s *suit, p *outfit, chain []*x509.Certificate)) func(s *suit) bool {
	return func(s *suit) bool {
		s.policyBends = append(s.policyBends, func(p *outfit, chain []*x509.Certificate) { bend(s, p, chain) })
		return true
	}
}

// further adds a root, unless it is there: no certificate has two names.
func (o *outfit) further(r pinned) {
	if !slices.ContainsFunc(o.roots, func(p pinned) bool { return slices.ContainsFunc(p.certificates, r.certificates[0].Equal) }) {
		o.roots = append(o.roots, r)
	}
}

func trustsOnly(c ...*x509.Certificate) []pinned { return []pinned{{certificates: c}} }

var policyMutations = []mutation{
	{"another root", bendPolicy(func(s *suit, p *outfit, _ []*x509.Certificate) { p.roots = trustsOnly(s.attacker.Certificate) })},
	{"a further root", bendPolicy(func(s *suit, p *outfit, _ []*x509.Certificate) {
		p.further(pinned{certificates: []*x509.Certificate{s.attacker.Certificate}})
	})},
	{"a further certificate of the root", bendPolicy(func(s *suit, p *outfit, _ []*x509.Certificate) {
		p.roots[0].certificates = append([]*x509.Certificate{someone.Certificate}, p.roots[0].certificates...)
	})},
	{"X02 the root was issued again", bendPolicy(func(s *suit, p *outfit, chain []*x509.Certificate) {
		if n := len(chain); n > 1 {
			last := s.certificates[n-1]
			p.roots = trustsOnly(certtest.RootWith(last.key, last.name, append(slices.Clone(last.edits), certtest.Valid(s.now.AddDate(-3, 0, 0), s.now.AddDate(3, 0, 0)))...).Certificate)
		}
	})},
	{"X01 another leaf of the same name is pinned", bendPolicy(func(s *suit, p *outfit, _ []*x509.Certificate) {
		p.roots = trustsOnly(certtest.SelfSigned(s.curve[6], "differential leaf"))
	})},
	{"X03 the intermediate, as a root", bendPolicy(func(_ *suit, p *outfit, chain []*x509.Certificate) {
		if len(chain) > 2 {
			p.roots = trustsOnly(chain[1])
		}
	})},
	{"pin intermediate", bendPolicy(func(_ *suit, p *outfit, chain []*x509.Certificate) {
		if len(chain) > 2 {
			p.roots = []pinned{{certificates: []*x509.Certificate{chain[len(chain)-2]}, pin: "intermediate"}}
		}
	})},
	{"pin intermediate, of the root", bendPolicy(func(_ *suit, p *outfit, _ []*x509.Certificate) { p.roots[0].pin = "intermediate" })},
	{"pin leaf, of the root", bendPolicy(func(_ *suit, p *outfit, _ []*x509.Certificate) { p.roots[0].pin = "leaf" })},
	{"pin root and an intermediate that are both there", bendPolicy(func(_ *suit, p *outfit, chain []*x509.Certificate) {
		if len(chain) > 2 {
			p.roots = append(p.roots, pinned{certificates: []*x509.Certificate{chain[1]}, pin: "intermediate"})
		}
	})},
	{"the other kind", bendPolicy(func(_ *suit, p *outfit, _ []*x509.Certificate) { p.kind = otherKind(p.kind) })},
	{"both kinds, of different roots", bendPolicy(func(s *suit, p *outfit, _ []*x509.Certificate) {
		p.further(pinned{certificates: []*x509.Certificate{s.attacker.Certificate}, kind: otherKind(p.kind)})
	})},
	{"a root that no scope trusts", bendPolicy(func(s *suit, p *outfit, _ []*x509.Certificate) {
		for i := range p.roots {
			p.roots[i].untrusted = true
		}
		p.roots = append(p.roots, pinned{certificates: []*x509.Certificate{certtest.Root("someone").Certificate}})
	})},
	{"an identity that matches", bendPolicy(func(_ *suit, p *outfit, _ []*x509.Certificate) { p.identities = []string{"C=DE, ST=BE, O=Acme"} })},
	{"an identity that matches, of the entry", bendPolicy(func(_ *suit, p *outfit, _ []*x509.Certificate) {
		p.identities, p.onEntry = []string{"C=DE, ST=BE, O=Acme, CN=differential leaf"}, true
	})},
	{"an identity in another order", bendPolicy(func(_ *suit, p *outfit, _ []*x509.Certificate) {
		p.identities = []string{"CN=differential leaf,O=Acme,S=BE,C=DE"}
	})},
	{"an identity that does not match", bendPolicy(func(_ *suit, p *outfit, _ []*x509.Certificate) { p.identities = []string{"C=DE, ST=BE, O=Other"} })},
	{"an identity in another case", bendPolicy(func(_ *suit, p *outfit, _ []*x509.Certificate) { p.identities = []string{"C=DE, ST=BE, O=ACME"} })},
	{"an identity with a comma", bendPolicy(func(_ *suit, p *outfit, _ []*x509.Certificate) { p.identities = []string{`C=DE, ST=BE, O=Acme\, Inc`} })},
	{"an identity that ends sooner", bendPolicy(func(_ *suit, p *outfit, _ []*x509.Certificate) { p.identities = []string{"C=DE, ST=BE, O=Acm"} })},
	{"an identity with more", bendPolicy(func(_ *suit, p *outfit, _ []*x509.Certificate) {
		p.identities = []string{"C=DE, ST=BE, O=Acme, OU=Release"}
	})},
	{"one of two identities", bendPolicy(func(_ *suit, p *outfit, _ []*x509.Certificate) {
		p.identities = []string{"C=DE, ST=BE, O=Other", "C=DE, ST=BE, O=Acme"}
	})},
	{"the authority's identity", bendPolicy(func(_ *suit, p *outfit, _ []*x509.Certificate) {
		p.identities = []string{"C=DE, ST=BE, O=Acme, CN=differential CA 1"}
	})},
	{"no timestamps", bendPolicy(func(_ *suit, p *outfit, _ []*x509.Certificate) { p.stamping = "" })},
	{"timestamps always", bendPolicy(func(s *suit, p *outfit, _ []*x509.Certificate) { p.stamping, p.stampRoots = "always", s.tsa.Roots() })},
	{"timestamps after expiry", bendPolicy(func(s *suit, p *outfit, _ []*x509.Certificate) {
		p.stamping, p.stampRoots = "after-cert-expiry", s.tsa.Roots()
	})},
	{"timestamps of another root", bendPolicy(func(s *suit, p *outfit, _ []*x509.Certificate) {
		p.stamping, p.stampRoots = orElse(p.stamping, "always"), s.other.Roots()
	})},
	{"timestamps of two roots", bendPolicy(func(s *suit, p *outfit, _ []*x509.Certificate) {
		p.stamping, p.stampRoots = orElse(p.stamping, "always"), append(s.other.Roots(), s.tsa.Roots()...)
	})},
	{"the scope is this repository", bendPolicy(func(_ *suit, p *outfit, _ []*x509.Certificate) { p.scope = differentialRepo })},
	{"the scope is another repository", bendPolicy(func(_ *suit, p *outfit, _ []*x509.Certificate) { p.scope = differentialRepo + "x" })},
	{"algorithms with ours", bendPolicy(func(s *suit, p *outfit, _ []*x509.Certificate) {
		p.algorithms = []string{"ES256", "ES384", "ES512", "PS256", "PS384", "PS512"}
	})},
	{"algorithms without ours", bendPolicy(func(s *suit, p *outfit, _ []*x509.Certificate) { p.algorithms = []string{"PS512"} })},
	{"a long age", bendPolicy(func(_ *suit, p *outfit, _ []*x509.Certificate) { p.maxAge = "3000d" })},
	{"a short age", bendPolicy(func(_ *suit, p *outfit, _ []*x509.Certificate) { p.maxAge = "12h" })},
	{"claims ignored", bendPolicy(func(_ *suit, p *outfit, _ []*x509.Certificate) { p.claims = "ignore" })},
	{"claims by tag", bendPolicy(func(_ *suit, p *outfit, _ []*x509.Certificate) { p.claims = "tag" })},
	{"claims by name", bendPolicy(func(_ *suit, p *outfit, _ []*x509.Certificate) { p.claims = "name" })},
	{"strict-x509", bendPolicy(func(_ *suit, p *outfit, _ []*x509.Certificate) { p.strict = true })},
	{"reject", bendPolicy(func(_ *suit, p *outfit, _ []*x509.Certificate) { p.reject = true })},
}

func otherKind(kind string) string {
	if kind == "signing-authority" {
		return ""
	}
	return "signing-authority"
}
