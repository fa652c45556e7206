package trust

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/envelope"
)

// A trial is a signature held against one entry.
type trial struct {
	root    string
	granted bool // by a delegation document
	group   int
	stage   stage
	code    string
	detail  string

	stamp      *Timestamp
	revocation *Revocation
	// endless: nothing but the signature's own expiry ends it, since it is judged by a time that is proved.
	endless bool
}

// try checks a signature whose chain holds the entry's root by what the entry and the selected scope ask.
func (c court) try(t *trial, e entry, content envelope.Content) {
	t.stage, t.code, t.detail = c.asked(t, e, content)
}

func (c court) asked(t *trial, e entry, content envelope.Content) (at stage, code, detail string) {
	p, s, leaf := c.policy, c.scope, content.Chain.Leaf()
	if want := schemeOf(e.root.kind); content.Scheme != want {
		return atKind, codeKind, fmt.Sprintf("scheme %s; root %s is trusted as a %s only", content.Scheme, e.root.name, kindText(e.root.kind))
	}
	for _, ids := range []identities{e.root.identities, e.identities} {
		if !ids.match(leaf) {
			return atIdentity, codeMismatch, fmt.Sprintf("signed by %s; the policy asks for %s", certchain.NameOf(leaf.RawSubject), ids)
		}
	}
	allowed := s.algorithms
	if e.algorithms != nil {
		allowed = e.algorithms
	}
	if allowed = allowed.and(p.narrow.algorithms); !allowed.allow(content.Algorithm) {
		return atAlgorithm, codeAlgorithm, fmt.Sprintf("signed with %s; allowed: %s", content.Algorithm, cmp.Or(strings.Join(allowed, ", "), "none"))
	}
	if !content.Expiry.IsZero() && !c.now.Before(content.Expiry) {
		return atExpiry, codeExpired, fmt.Sprintf("the signature expired %s", minute(content.Expiry))
	}
	proof, code, detail := c.validity(t, c.stamping(e), content)
	if code != "" {
		return atCertificates, code, detail
	}
	known := c.unrevoked(t, c.revoking(e), content, e.root.highest(content.Chain), proof)
	if known.refused {
		return atRevocation, known.code, known.detail
	}
	if code, detail := c.age(shorter(cmp.Or(e.maxAge, s.maxAge), p.narrow.maxAge), content.SignedAt()); code != "" {
		return atAge, code, detail
	}
	mode := p.claimsIn(e.claims, s.claims)
	claims, present, err := content.Payload.Claims()
	if err != nil && mode != claimsIgnore {
		return atClaims, codeClaimsBad, err.Error()
	}
	if code, detail := checkClaims(mode, c.ref, p.original(c.ref), claims, present); code != "" {
		return atClaims, code, detail
	}
	// Only of what is accepted otherwise is anything asked for: nobody's certificates send us anywhere (X17).
	c.asks.revocation = append(c.asks.revocation, known.asks...)
	if known.code != "" {
		return atUnknown, known.code, known.detail
	}
	return passed, "", ""
}

// A proof is by when a signature existed for certain.
type proof struct {
	at     time.Time // the latest that it may be; zero: nothing proves it
	stamp  *envelope.Stamp
	counts bool // the validity of the signer's certificates rests on it
}

// knowledge is what is known of the revocation of a signature's chains.
type knowledge struct {
	code, detail string
	refused      bool // for certain
	asks         []question
}

func (k knowledge) and(o knowledge) knowledge {
	all := k
	if k.code == "" || o.refused && !k.refused {
		all = o
	}
	all.asks = slices.Concat(k.asks, o.asks)
	return all
}

// unrevoked looks whether the signer's certificates were revoked, and those of the authority whose timestamp counts: because
// the validity of the former rests on it, or because it proves that the signature is older than what they were revoked for. pinned is
// the signer's certificate that the policy trusts for being itself.
func (c court) unrevoked(t *trial, rule *revoking, content envelope.Content, pinned int, p proof) knowledge {
	if p.stamp == nil || p.counts {
		found, k := c.look(rule, content.Chain, pinned, false, p.at)
		t.revocation = found
		if p.stamp != nil {
			found, authority := c.look(rule, p.stamp.Chain, len(p.stamp.Chain)-1, true, time.Time{})
			t.stamp.Revocation = found
			k = k.and(authority)
		}
		return k
	}
	found, k := c.look(rule, content.Chain, pinned, false, time.Time{})
	t.revocation = found
	if k.refused {
		found, older := c.look(rule, content.Chain, pinned, false, p.at)
		ofAuthority, authority := c.look(rule, p.stamp.Chain, len(p.stamp.Chain)-1, true, time.Time{})
		if !older.refused && !authority.refused {
			t.revocation, t.stamp.Revocation = found, ofAuthority
			return older.and(authority)
		}
	}
	return k
}

func (c court) look(rule *revoking, chain certchain.Chain, pinned int, stamping bool, at time.Time) (*Revocation, knowledge) {
	found, code, detail, ask := c.revocationUpTo(pinned, rule, chain, stamping, at)
	k := knowledge{code: code, detail: detail, refused: code != "" && (found == nil || found.Status != RevocationUnknown)}
	if ask {
		k.asks = []question{{rule, chain[:min(pinned+2, len(chain))], stamping, at}}
	}
	return found, k
}

// revoking returns the section that holds for an entry; nil: nothing is asked.
func (c court) revoking(e entry) *revoking {
	return cmp.Or(e.revocation, c.scope.revocation, c.policy.revocation)
}

// stamping returns the section that holds for an entry; nil: timestamps are ignored.
func (c court) stamping(e entry) *timestamping {
	return cmp.Or(e.timestamps, c.policy.stamping(c.scope))
}

func schemeOf(k kind) string {
	if k == kindAuthority {
		return envelope.SchemeSigningAuthority
	}
	return envelope.SchemeX509
}

func kindText(k kind) string {
	if k == kindAuthority {
		return "signing authority"
	}
	return "certification authority"
}

// stands reports whether one of the root's certificates is where in the chain its pin says (P9). Certificates are compared, never
// names.
func (r *root) stands(chain certchain.Chain) bool {
	from, to := r.pin.within(chain)
	for i := from; i <= to; i++ {
		if slices.ContainsFunc(r.certificates, chain[i].Equal) {
			return true
		}
	}
	return false
}

// highest returns the place of the root's certificate in a chain where one stands, of several that of the last one.
func (r *root) highest(chain certchain.Chain) int {
	from, to := r.pin.within(chain)
	for to > from && !slices.ContainsFunc(r.certificates, chain[to].Equal) {
		to--
	}
	return to
}

// skew is how far a signer's clock may be ahead before its signature's age is called unknown.
const skew = 5 * time.Minute

func (c court) age(most time.Duration, signed time.Time) (code, detail string) {
	switch {
	case most == 0:
		return "", ""
	case signed.After(c.now.Add(skew)):
		return codeAhead, fmt.Sprintf("signed %s, which is yet to come; its age cannot be told", minute(signed))
	case c.now.Sub(signed) > most:
		return codeTooOld, fmt.Sprintf("signed %s; the policy allows an age of %s", minute(signed), ageText(most))
	}
	return "", ""
}

func ageText(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d == day:
		return "1 day"
	case d%day == 0:
		return fmt.Sprintf("%d days", d/day)
	}
	return d.String()
}
