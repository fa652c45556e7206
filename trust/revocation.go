package trust

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/trust/revocation"
)

// What counts of revocation.
const (
	checkEnforce = "enforce" // revoked is refused, and what cannot be determined is not accepted
	checkLog     = "log"     // both are told
	checkOff     = "off"     // nobody looks
)

// A revoking is a section "revocation": whether certificates that were revoked count, and where that is looked up.
type revoking struct {
	of      string // what it stands at
	line    int
	check   string
	lists   []*revocation.List // sorted by name
	files   bool               // it names lists, even if these are none
	network bool               // ask what the certificates name, too
}

var revocationGrammar = grammar{
	known: []string{"check", "crl", "network"},
	other: map[string]string{
		"mode":  "write check: enforce, check: log, or check: off",
		"level": "write check: enforce, check: log, or check: off",
		"crls":  "write crl: [FILE or FOLDER]",
		"ocsp":  "write network: true: responders are asked first, then lists are fetched",
	},
}

func (p *parser) revocation(f field, of string) (*revoking, error) {
	n, what := f.value, "revocation of "+of
	fields, err := p.object(n, what, revocationGrammar)
	if err != nil {
		return nil, err
	}
	r := &revoking{of: of, line: f.key.Line}
	check, ok := fields["check"]
	if !ok {
		return nil, p.wrong(n, codeMissing, "%s: no check; write check: %s, check: %s, or check: %s", what, checkEnforce, checkLog, checkOff)
	}
	if r.check, err = p.oneOf(check.value, "check of "+what, []string{checkEnforce, checkLog, checkOff}); err != nil {
		return nil, err
	}
	if crl, ok := fields["crl"]; ok {
		items, err := p.list(crl.value, "crl of "+what)
		if err != nil {
			return nil, err
		}
		r.files = true
		for _, item := range items {
			name, err := p.text(item, "a revocation list of "+what)
			if err != nil {
				return nil, err
			}
			lists, err := p.files.lists(name)
			if err != nil {
				return nil, p.wrong(item, codeOf(err, codeListInvalid), "%s: %w", what, err)
			}
			r.lists = append(r.lists, lists...)
		}
		sortLists(r.lists)
	}
	if v, ok := fields["network"]; ok {
		if r.network, err = p.truth(v.value, "network of "+what); err != nil {
			return nil, err
		}
	}
	if r.check != checkOff && !r.files && !r.network {
		return nil, p.wrong(n, codeValue, "%s: check: %s, and nothing to look it up in: write crl: [FILE or FOLDER], or network: true", what, r.check)
	}
	p.policy.revokings = append(p.policy.revokings, r)
	return r, nil
}

// What is known of the revocation of a certificate.
const (
	RevocationGood       = revocation.Good    // a list or a responder that holds now says so
	RevocationRevoked    = revocation.Revoked // it was revoked when it mattered
	RevocationUnknown    = revocation.Unknown // nobody who may say it said it
	RevocationNotChecked = "not-checked"      // nobody was asked to look
	RevocationNone       = "not-revocable"    // it names neither lists nor responders, and none were given
)

// A Revocation is what was found out of the revocation of a chain. Status is that of the certificate that stands worst.
type Revocation struct {
	Status       string     `json:"status"`
	Check        string     `json:"check"` // enforce, log, off; "given": only what the lists of this run cover
	Certificates []Standing `json:"certificates,omitempty"`
	Warnings     []string   `json:"warnings,omitempty"`
}

// A Standing is that of one certificate. The last one of a chain has none: it is trusted for being itself.
type Standing struct {
	Certificate string     `json:"certificate"` // subject
	SHA256      string     `json:"sha256"`
	Status      string     `json:"status"`
	By          string     `json:"by,omitempty"`        // file or URL of the list, or URL of the responder, that says so
	RevokedAt   *time.Time `json:"revokedAt,omitempty"` //
	Cause       string     `json:"cause,omitempty"`     // the reason of RFC 5280
	HoldsUntil  *time.Time `json:"holdsUntil,omitempty"`
	Detail      string     `json:"detail,omitempty"`
}

// checkGiven is the Check of a Revocation where no section holds.
const checkGiven = "given"

// A certificateKey is a certificate and who issued it.
type certificateKey struct{ certificate, issuer [32]byte }

func thumbprintOf(c *x509.Certificate) [32]byte { return sha256.Sum256(c.Raw) }

func keyOf(cert, issuer *x509.Certificate) certificateKey {
	return certificateKey{thumbprintOf(cert), thumbprintOf(issuer)}
}

// revocation judges a chain by the rule and by the lists given for this run. proof is the latest time at which what is judged is
// proved to have been there; zero: nothing proves it. It is pure; ask says that the network could tell more.
func (c court) revocation(rule *revoking, chain certchain.Chain, stamping bool, proof time.Time) (found *Revocation, code, detail string, ask bool) {
	return c.revocationUpTo(len(chain)-1, rule, chain, stamping, proof)
}

// revocationUpTo is revocation of a chain of which the policy trusts the certificate at pinned for being itself. What stands above that one
// says nothing, and least of all where to ask: for the public key of who issued it anybody can make another certificate, and put that
// into the chain of a signature that he only copied. It counts alone what lists that are at hand revoke there.
func (c court) revocationUpTo(pinned int, rule *revoking, chain certchain.Chain, stamping bool, proof time.Time) (found *Revocation, code, detail string, ask bool) {
	given := c.policy.narrow.lists
	if rule == nil && given == nil {
		return nil, "", "", false
	}
	found = &Revocation{Status: RevocationNone, Check: checkGiven}
	if rule != nil {
		found.Check = rule.check
	}
	if rule == nil || rule.check == checkOff {
		rule = &revoking{check: checkOff}
	}
	if rule.check == checkOff && given == nil {
		found.Status = RevocationNotChecked
		return found, "", "", false
	}
	worst := -1
	for i, cert := range chain[:len(chain)-1] {
		of := *rule
		of.network = rule.network && i <= pinned
		v := c.certificate(&of, given, cert, chain[i+1], proof)
		if i > pinned && v.Status != RevocationRevoked {
			continue
		}
		found.Certificates = append(found.Certificates, v.describe(cert))
		worst = max(worst, slices.Index(badness, v.Status))
		said := v.sentence(cert, stamping)
		switch {
		case v.Status != RevocationRevoked && v.Status != RevocationUnknown:
		case !v.enforced:
			found.Warnings = append(found.Warnings, said)
		case v.Status == RevocationRevoked && code != codeRevoked:
			code, detail = codeRevoked, said
		case v.Status == RevocationUnknown && code == "":
			code, detail = codeRevocationUnknown, said
		}
		ask = ask || v.ask
	}
	if worst >= 0 {
		found.Status = badness[worst]
	}
	switch code {
	case codeRevoked:
		found.Status, ask = RevocationRevoked, false
	case codeRevocationUnknown:
		found.Status = RevocationUnknown
	}
	return found, code, detail, ask
}

// badness orders what is known, the best first.
var badness = []string{RevocationNone, RevocationGood, RevocationNotChecked, RevocationUnknown, RevocationRevoked}

// A standing is what is made of one certificate.
type standing struct {
	revocation.Ruling
	enforced bool
	ask      bool
}

func (c court) certificate(rule *revoking, given *Lists, cert, issuer *x509.Certificate, proof time.Time) standing {
	own, covered := c.byLists(given.all(), cert, issuer, proof)
	if rule.check == checkOff {
		if !covered {
			return standing{Ruling: revocation.Ruling{Status: RevocationNotChecked, Why: "no list that was given is of its issuer"}}
		}
		return standing{Ruling: own, enforced: true}
	}
	base, _ := c.byLists(rule.lists, cert, issuer, proof)
	all := base
	if base.Status != RevocationRevoked { // which no list of the run lifts
		all, _ = c.byLists(slices.Concat(rule.lists, given.all()), cert, issuer, proof)
	}
	var ask bool
	if c.supposed != nil {
		return standing{Ruling: c.supposed.ruling(cert, all), enforced: rule.check == checkEnforce}
	}
	switch {
	case base.Status == RevocationGood || all.Status == RevocationRevoked:
	case !rule.network:
		if all.Why == "" && all.Status != RevocationGood {
			all.Why = "no list that was given is of its issuer"
		}
	case !asksNetwork(cert):
		if all.Why == "" && !rule.files && all.Status != RevocationGood {
			all.Status, all.Why = RevocationNone, "it names neither a list nor a responder"
		}
	default:
		// That a list of the run says good keeps nobody from being asked: it would hide what the policy would have been told.
		told, ok := c.evidence.revocation[keyOf(cert, issuer)]
		ask = !ok
		switch {
		case ok:
			if by := told.at(c.now, proof, all); by.Status == RevocationRevoked || all.Status != RevocationGood {
				all = by
			}
		case all.Status == RevocationGood:
			all = revocation.Ruling{Status: RevocationUnknown, Why: "its lists and responders were not asked"}
		case all.Why == "":
			all.Why = "its lists and responders were not asked"
		}
	}
	if all.Why == "" && all.Status == RevocationUnknown {
		all.Why = "it names neither a list nor a responder, and no list that was given is of its issuer"
	}
	switch {
	case rule.check == checkEnforce:
		return standing{Ruling: all, enforced: true, ask: ask}
	case covered && own.Status != RevocationGood && all.Status != RevocationRevoked:
		return standing{Ruling: own, enforced: true}
	case covered && own.Status == RevocationRevoked:
		return standing{Ruling: own, enforced: true}
	}
	return standing{Ruling: all, ask: ask}
}

// asksNetwork reports whether a certificate says where to ask.
func asksNetwork(cert *x509.Certificate) bool {
	return len(cert.OCSPServer) > 0 || len(cert.CRLDistributionPoints) > 0
}

// byLists judges a certificate by what lists say. covered is whether there is one for it, be it of use or not.
func (c court) byLists(lists []*revocation.List, cert, issuer *x509.Certificate, proof time.Time) (r revocation.Ruling, covered bool) {
	var full, deltas []revocation.Said
	for _, l := range lists {
		if !l.Issued(cert) {
			continue
		}
		switch s := about(l, cert, issuer); {
		case s.Apart:
		case l.Delta():
			deltas = append(deltas, s)
		default:
			full = append(full, s)
		}
	}
	return revocation.Judge(c.now, proof, full, deltas), len(full)+len(deltas) > 0
}

// about asks a list for a certificate. That a list is of somebody else is said with the name, as every screen shows it.
func about(l *revocation.List, cert, issuer *x509.Certificate) revocation.Said {
	if !bytes.Equal(l.Issuer(), issuer.RawSubject) {
		return revocation.Said{By: l.Name(), Unfit: "it is of " + certchain.NameOf(l.Issuer())}
	}
	return l.About(cert, issuer)
}

func (s standing) describe(cert *x509.Certificate) Standing {
	out := Standing{
		Certificate: certchain.NameOf(cert.RawSubject),
		SHA256:      certchain.Thumbprint(cert),
		Status:      s.Status,
		By:          s.By,
		Detail:      s.Why,
	}
	if s.Status == RevocationRevoked {
		out.RevokedAt, out.Cause = new(s.Entry.Since.UTC()), s.Entry.Cause()
	}
	if s.Status == RevocationGood {
		out.HoldsUntil = new(s.Until.UTC())
	}
	return out
}

func (s standing) sentence(cert *x509.Certificate, stamping bool) string {
	name := certchain.NameOf(cert.RawSubject)
	if stamping {
		name += ", of the timestamp's authority,"
	}
	if s.Status == RevocationRevoked {
		return fmt.Sprintf("%s was revoked %s (%s), says %s", name, minute(s.Entry.Since), s.Entry.Cause(), s.By)
	}
	why := s.Why
	if s.By != "" {
		why = s.By + ": " + why
	}
	return fmt.Sprintf("whether %s is revoked could not be determined: %s", name, why)
}

// revoked says what is made of revocation, for a report.
func (p *Policy) revoked(s *scope) string {
	rule := p.revocation
	if s != nil && s.revocation != nil {
		rule = s.revocation
	}
	var text string
	switch {
	case p.single:
		text = "not checked: a root certificate alone asks for none"
	case rule == nil:
		text = "not checked: the policy has no revocation section"
	case rule.check == checkOff:
		text = "not checked: the policy says check: off"
	default:
		text = map[string]string{checkEnforce: "enforced", checkLog: "told, not enforced"}[rule.check] + ", by " + rule.sources()
	}
	if p.narrow.lists != nil {
		text += fmt.Sprintf("; enforced for what %s given for this run cover", count(len(p.narrow.lists.lists), "list"))
	}
	if s == nil || s.rule == ruleReject {
		return text
	}
	for e := range s.entries() {
		if e.revocation != nil && e.revocation != rule {
			return text + "; an entry of its trust says otherwise"
		}
	}
	return text
}

func (r *revoking) sources() string {
	var from []string
	if r.files {
		from = append(from, count(len(r.lists), "list"))
	}
	if r.network {
		from = append(from, "what certificates name")
	}
	return strings.Join(from, " and ")
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// listWarnings returns which lists of the policy do not hold at a time.
func (p *Policy) listWarnings(at time.Time) []string {
	var out []string
	seen := map[*revocation.List]bool{}
	for _, r := range p.revokings {
		for _, l := range r.lists {
			if seen[l] || r.check == checkOff {
				continue
			}
			seen[l] = true
			if why := l.Unfit(); why != "" {
				out = append(out, fmt.Sprintf("revocation list %s is of no use: %s", l.Name(), why))
			} else if why := l.Untimely(at); why != "" {
				out = append(out, fmt.Sprintf("revocation list %s of %s: %s", l.Name(), certchain.NameOf(l.Issuer()), why))
			}
		}
	}
	return out
}

// revocationWarnings are those of a signature, whose policy tells of revocation and does not enforce it.
func (f *finding) revocationWarnings() []string {
	var out []string
	for _, r := range []*Revocation{f.Revocation, f.Timestamp.revocation()} {
		if r != nil {
			out = append(out, r.Warnings...)
		}
	}
	return out
}

func (t *Timestamp) revocation() *Revocation {
	if t == nil {
		return nil
	}
	return t.Revocation
}
