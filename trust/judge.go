package trust

import (
	"bytes"
	"cmp"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/registry"
)

// Judge judges the signatures that were found on subject. It is pure: no network, no clock, and the order of sigs
// means nothing. ref is what is judged (its tag is compared with claims); a signature with Err is reported, and never
// hides another. What only the network could tell counts as not known; [Policy.Examine] asks for it.
func (p *Policy) Judge(ref registry.Reference, subject ocispec.Descriptor, sigs []registry.Signature, now time.Time) Report {
	report, _ := p.judge(p.court(ref, subject, now, evidence{}), sigs)
	return report
}

// judge also says what the evidence could not answer.
func (p *Policy) judge(c court, sigs []registry.Signature) (Report, asks) {
	findings := make([]finding, len(sigs))
	for i, sig := range sigs {
		findings[i] = c.judge(sig)
	}
	return c.conclude(findings), *c.asks
}

// court returns the court that judges ref by the evidence.
func (p *Policy) court(ref registry.Reference, subject ocispec.Descriptor, now time.Time, known evidence) court {
	c := court{
		policy:   p,
		ref:      ref,
		subject:  subject,
		now:      now,
		name:     func(d digest.Digest) string { return d.String() },
		scope:    p.selects(ref),
		evidence: known,
		asks:     &asks{},
	}
	if c.scope != nil {
		if c.scope.delegate != nil {
			c.grant = c.granted()
		}
		c.seats = c.seated()
	}
	return c
}

// A court judges the signatures of one artifact.
type court struct {
	policy   *Policy
	ref      registry.Reference
	subject  ocispec.Descriptor
	now      time.Time
	name     func(digest.Digest) string // of what a signature of another artifact is for
	scope    *scope                     // nil: none matches
	evidence evidence
	grant    grant
	seats    [][]seat // what the scope's rule asks for: one of each
	asks     *asks
	supposed *supposition // the signatures are only supposed; nil: they are not
}

// asks are what the evidence could not answer yet.
type asks struct {
	revocation []question
	document   bool
}

// A question is whether a chain was revoked, of one that is accepted otherwise.
type question struct {
	rule     *revoking
	chain    certchain.Chain // up to the issuer of the last certificate that is asked about
	stamping bool            // the chain is that of a time-stamping authority
	at       time.Time       // by when the signature is proved to exist; zero: nothing proves it
}

// A grant is what a delegation document adds to the trust of the selected scope.
type grant struct {
	entries     []entry
	asked       bool   // the evidence holds the document, or why there is none
	code        string // why it grants nothing
	detail      string
	unavailable bool // it could not be had
}

// A seat is an entry of one of the groups that a rule asks for; rule trust is one group.
type seat struct {
	entry
	granted bool // by a delegation document
}

// conclude makes the report of what was found of each signature.
func (c court) conclude(findings []finding) Report {
	p := c.policy
	r := Report{
		Reference:    c.ref.String(),
		Digest:       c.subject.Digest,
		MediaType:    c.subject.MediaType,
		Enforced:     true,
		Revocation:   p.revoked(c.scope),
		Timestamps:   p.stamps(c.scope),
		Delegation:   c.delegated(),
		PolicyFile:   p.file,
		PolicyDigest: p.digest,
		Signatures:   []Judged{},
		Now:          c.now.UTC(),
	}
	if c.scope != nil {
		info := p.info(c.scope)
		r.Scope, r.Enforced = &info, c.scope.enforce
		for _, name := range c.rootNames() {
			r.Warnings = append(r.Warnings, p.warningsAt(p.roots[name], c.now)...)
		}
	}
	for i := range findings {
		findings[i].endsWith(r.Delegation)
	}
	slices.SortFunc(findings, compare)
	r.Verdict, r.Reason, r.Detail, r.Groups = c.verdict(findings)
	for _, f := range findings {
		r.Signatures = append(r.Signatures, f.Judged)
		if f.Accepted {
			r.Warnings = append(r.Warnings, f.warnings()...)
		}
	}
	if r.Delegation != nil {
		r.Warnings = append(r.Warnings, r.Delegation.Warnings...)
	}
	r.Warnings = unique(r.Warnings)
	return r
}

// seated returns what the scope asks for, without what this run is narrowed out of.
func (c court) seated() [][]seat {
	groups := c.scope.groups
	if c.scope.rule == ruleTrust {
		groups = [][]entry{slices.Collect(c.scope.entries())}
	}
	out := make([][]seat, len(groups))
	for i, entries := range groups {
		for _, e := range entries {
			if c.policy.admits(e.root) {
				out[i] = append(out[i], seat{e, false})
			}
		}
	}
	if c.scope.rule == ruleTrust {
		for _, e := range c.grant.entries {
			out[0] = append(out[0], seat{e, true})
		}
	}
	return out
}

// rootNames are those that the scope trusts, narrowed, without what is granted.
func (c court) rootNames() []string {
	names := map[string]bool{}
	for _, group := range c.seats {
		for _, s := range group {
			if !s.granted {
				names[s.root.name] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(names))
}

func (c court) judge(sig registry.Signature) finding {
	if f, ok := alreadyHeard(sig); ok {
		return f
	}
	f := finding{Judged: Judged{Digest: sig.Descriptor.Digest}}
	if sig.Err != nil {
		f.Reason, f.Detail = codeUnfetched, sig.Err.Error()
		if code, ok := malformed(sig.Err); ok {
			f.Reason, f.Malformed = code, true
		} else {
			f.Unfetched = true
		}
		return f
	}
	f.stage = atEnvelope
	e, err := envelope.Parse(sig.MediaType, sig.Envelope)
	if err != nil {
		f.Reason, f.Detail, f.Malformed = reasonOf(err, codeMalformed), err.Error(), true
		return f
	}
	content, err := e.Verify()
	if err != nil {
		f.Reason, f.Detail = reasonOf(err, codeMalformed), err.Error()
		return f
	}
	heard := c.hear(content)
	heard.Digest = f.Digest
	if !heard.trusted && len(sig.Envelope) > maxTold {
		// Of a thousand of them a report would be a gigabyte. It depends on nothing but the signature, so that reports do not
		// depend on the order in which they are read.
		heard.Metadata, heard.Claims, heard.Chain = nil, nil, nil
	}
	return heard
}

// hear judges what the leaf key signed.
func (c court) hear(content envelope.Content) finding {
	f := finding{stage: atEnvelope}
	f.describe(content)
	if f.SignedAt != nil {
		f.AgeSeconds = new(int64(c.now.Sub(*f.SignedAt) / time.Second))
	}
	c.decide(&f, content)
	if f.Timestamp == nil && len(content.Timestamp) > 0 {
		f.Timestamp = &Timestamp{Status: StampIgnored, Detail: "not looked at: the signature is refused whatever it says"}
	}
	return f
}

// decide judges what the leaf key signed, by every entry of the scope; of those that refuse it, it tells the one by which the
// signature got furthest.
func (c court) decide(f *finding, content envelope.Content) {
	if c.scope == nil {
		f.stage, f.Reason = atRoot, codeNoScope
		return
	}
	switch c.scope.rule {
	case ruleReject:
		f.stage, f.Reason = atRoot, codeRejected
		return
	case ruleUnsigned:
		f.stage, f.Reason, f.Detail = atRoot, codeRootNotTrusted, "the scope asks for no signature and trusts no root"
		return
	}
	f.stage, f.Reason, f.Detail = c.artifact(content)
	f.key = signerKey(content.Chain)
	if c.scope.strictX509 && f.Reason == "" {
		if why := c.supposed.beyond(content.Chain); why != "" {
			f.stage, f.Reason, f.Detail = atChain, codeBeyondSpec, why
		}
	}
	for i, group := range c.seats {
		for _, s := range group {
			if !s.root.stands(content.Chain) {
				continue
			}
			t := trial{root: s.root.name, granted: s.granted, group: i}
			if f.Reason == "" {
				c.try(&t, s.entry, content)
			}
			f.trials = append(f.trials, t)
		}
	}
	f.trusted, f.sound = len(f.trials) > 0, f.Reason == ""
	switch {
	case !f.trusted && f.Reason == "":
		f.stage, f.Reason, f.Detail = atRoot, codeRootNotTrusted, c.stranger(content.Chain)
		f.Reissued = c.reissued(content.Chain)
	case !f.trusted: // of another artifact, or weak: whose root it has is only told
	case f.Reason != "":
		f.Root = slices.MinFunc(f.trials, byRoot).root
	default:
		f.conclude(c.scope.rule)
		f.BeyondSpec = c.supposed.beyond(content.Chain)
	}
}

// beyond says which of imprint's stricter rules for chains does not hold, of those that other verifiers pass over.
func beyond(chain certchain.Chain) string {
	if err := chain.Check(time.Time{}); err != nil {
		return err.Error()
	}
	return ""
}

// artifact checks what holds whoever signed: the payload is the subject, and the chain does not rest on broken cryptography.
func (c court) artifact(content envelope.Content) (at stage, code, detail string) {
	switch signed := content.Payload; {
	case signed.Digest != c.subject.Digest:
		return atPayload, codePayload, fmt.Sprintf("the signature is for %s", c.name(signed.Digest))
	case signed.MediaType != c.subject.MediaType:
		return atPayload, codePayload, fmt.Sprintf("the signature is for media type %s, the artifact has %s", signed.MediaType, c.subject.MediaType)
	case signed.Size != c.subject.Size:
		return atPayload, codePayload, fmt.Sprintf("the signature is for %d bytes, the artifact has %d", signed.Size, c.subject.Size)
	}
	for i, cert := range content.Chain {
		if why := weak(cert, i == len(content.Chain)-1); why != "" {
			return atChain, codeWeak, fmt.Sprintf("%s %s", certchain.NameOf(cert.RawSubject), why)
		}
	}
	return atRoot, "", ""
}

// weak says what is wrong with a certificate's cryptography. The last one is trusted for being itself,
// whatever it signed itself with.
func weak(cert *x509.Certificate, last bool) string {
	switch key := cert.PublicKey.(type) {
	case *rsa.PublicKey:
		if n := key.N.BitLen(); n < 2048 {
			return fmt.Sprintf("has an RSA key of %d bits", n)
		}
	case *ecdsa.PublicKey:
		if n := key.Curve.Params().BitSize; n < 256 {
			return fmt.Sprintf("has an elliptic curve key of %d bits", n)
		}
	}
	if last {
		return ""
	}
	if cert.SerialNumber.Sign() <= 0 { // RFC 5280, 4.1.2.2; lists of what is revoked go by it. Old roots have zero.
		return "has a serial number that is not positive"
	}
	switch cert.SignatureAlgorithm {
	case x509.UnknownSignatureAlgorithm, x509.MD2WithRSA, x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.DSAWithSHA256, x509.ECDSAWithSHA1:
		return fmt.Sprintf("was issued with %v", cert.SignatureAlgorithm)
	}
	return ""
}

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

// stranger says what the scope makes of a chain that holds none of its roots where it has to stand.
func (c court) stranger(chain certchain.Chain) string {
	trusted := c.trusted()
	for _, name := range c.policy.rootNames() {
		switch {
		case !c.policy.roots[name].stands(chain):
		case trusted[name] != nil:
			return fmt.Sprintf("this run is narrowed to other roots than %s", name)
		default:
			return fmt.Sprintf("this scope does not trust root %s", name)
		}
	}
	last := certchain.NameOf(chain.Root().RawSubject)
	for _, name := range slices.Sorted(maps.Keys(trusted)) {
		r := trusted[name]
		for _, pinned := range r.certificates {
			switch i := slices.IndexFunc(chain, pinned.Equal); {
			case i < 0:
			case i == 0:
				return fmt.Sprintf("root %s is the signer's own certificate; it has to stand %s", name, r.pin.place())
			case r.pin == pinLeaf:
				return fmt.Sprintf("root %s stands in the chain, but has to stand %s", name, r.pin.place())
			default:
				return fmt.Sprintf("root %s stands in the chain, but the chain ends in %s", name, last)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(trusted)) {
		if cert, pinned := trusted[name].namesake(chain); cert != nil {
			what := "the chain ends in another certificate"
			if !cert.Equal(chain.Root()) {
				what = "the chain holds another certificate"
			}
			return fmt.Sprintf("%s of the name of root %s: sha256 %s, not %s", what, name, certchain.Thumbprint(cert), certchain.Thumbprint(pinned))
		}
	}
	return "this scope does not trust that root"
}

// trusted are the scope's roots, by name, also those that this run is narrowed out of.
func (c court) trusted() map[string]*root {
	out := map[string]*root{}
	for e := range c.scope.entries() {
		out[e.root.name] = e.root
	}
	for _, group := range c.scope.groups {
		for _, e := range group {
			out[e.root.name] = e.root
		}
	}
	return out
}

// within returns the first and the last index in a chain that the certificate may have.
func (p pin) within(chain certchain.Chain) (from, to int) {
	last := len(chain) - 1
	switch p {
	case pinIntermediate:
		return 1, last
	case pinLeaf:
		return 0, 0
	}
	return last, last
}

// place says the same in words.
func (p pin) place() string {
	switch p {
	case pinIntermediate:
		return "above the signer's"
	case pinLeaf:
		return "first"
	}
	return "last"
}

// namesake returns a certificate of the chain that stands where the root's pin says and has the name of one of the root's, but is
// another.
func (r *root) namesake(chain certchain.Chain) (cert, pinned *x509.Certificate) {
	from, to := r.pin.within(chain)
	for i := from; i <= to; i++ {
		cert := chain[i]
		for _, pinned := range r.certificates {
			if bytes.Equal(pinned.RawSubject, cert.RawSubject) {
				return cert, pinned
			}
		}
	}
	return nil, nil
}

// reissued names the root of which the chain ends in another certificate of the same name and key (X02). Only the holder of that
// key can have made it; whether it is trusted is still for the policy to say.
func (c court) reissued(chain certchain.Chain) string {
	last := chain.Root()
	trusted := c.trusted()
	for _, name := range slices.Sorted(maps.Keys(trusted)) {
		for _, pinned := range trusted[name].certificates {
			if trusted[name].pin == pinRoot && !pinned.Equal(last) && bytes.Equal(pinned.RawSubject, last.RawSubject) &&
				bytes.Equal(pinned.RawSubjectPublicKeyInfo, last.RawSubjectPublicKeyInfo) {
				return name
			}
		}
	}
	return ""
}

// verdict is the one of the artifact, with which signature satisfies which group. findings are sorted.
func (c court) verdict(findings []finding) (verdict, reason, detail string, groups []Group) {
	switch {
	case c.scope == nil:
		return Rejected, codeNoScope, fmt.Sprintf("no scope of the policy matches %s", where(c.ref)), nil
	case c.scope.rule == ruleReject:
		return Rejected, codeRejected, fmt.Sprintf("scope %s rejects everything", c.scope.name), nil
	case c.scope.rule == ruleUnsigned && !c.policy.narrow.asks():
		return Accepted, "", "", nil
	}
	taken, full := c.assign(findings, finding.accepts)
	groups = c.groups(findings, taken)
	if full && c.scope.rule != ruleUnsigned {
		return Accepted, "", "", groups
	}
	verdict, reason, detail = c.refuse(findings)
	return verdict, reason, detail, groups
}

// refuse says why the artifact is not accepted.
func (c court) refuse(findings []finding) (verdict, reason, detail string) {
	grantable := c.scope.delegate != nil && slices.ContainsFunc(findings, func(f finding) bool { return f.sound && !f.Accepted })
	c.asks.document = grantable && !c.grant.asked
	if c.scope.rule != ruleUnsigned {
		if _, could := c.assign(findings, finding.couldKnown); could {
			i := slices.IndexFunc(findings, func(f finding) bool { return f.Undetermined })
			return Undetermined, findings[i].Reason, findings[i].Detail
		}
		if _, could := c.assign(findings, finding.could); could {
			unfetched := slices.DeleteFunc(slices.Clone(findings), func(f finding) bool { return !f.Unfetched })
			return Undetermined, codeUnfetched, fmt.Sprintf("%d of %d signatures could not be fetched: %s",
				len(unfetched), len(findings), unfetched[0].Detail)
		}
	}
	switch {
	case len(findings) == 0:
		return Rejected, codeUnsigned, "it has no signature"
	case c.asks.document:
		return Undetermined, codeNoDocument, "the scope's delegation document was not asked for"
	case grantable && c.grant.unavailable:
		return Undetermined, c.grant.code, c.grant.detail
	}
	lacking := c.lacking(findings)
	furthest := trial{stage: -1}
	for _, f := range findings {
		for _, t := range f.trials {
			if f.Reason != "" && !f.sound {
				t.stage, t.code, t.detail = f.stage, f.Reason, f.Detail
			}
			if lacking[t.group] && (furthest.stage < 0 || better(t, furthest) < 0) {
				furthest = t
			}
		}
	}
	switch {
	case furthest.stage >= 0:
		return Rejected, furthest.code, furthest.detail
	case slices.ContainsFunc(findings, func(f finding) bool { return f.Accepted || f.Undetermined }):
		return c.incomplete(findings)
	case c.grant.code != "":
		return Rejected, c.grant.code, c.grant.detail
	case c.scope.rule == ruleUnsigned:
		return Rejected, codeNoTrusted, "the scope asks for no signature and trusts no root, and this run is narrowed to signatures"
	}
	return Rejected, codeNoTrusted, fmt.Sprintf("no signature has a root that the scope trusts (%s)",
		cmp.Or(strings.Join(c.rootNames(), ", "), "none is left"))
}

// asks reports whether anything is asked of signatures beyond what the policy does.
func (n narrowing) asks() bool {
	return n.roots != nil || n.requireClaim || n.maxAge != 0 || n.algorithms != nil
}

func where(ref registry.Reference) string {
	if ref.Kind == registry.Remote {
		return repository(ref)
	}
	return ref.String()
}
