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
// hides another.
func (p *Policy) Judge(ref registry.Reference, subject ocispec.Descriptor, sigs []registry.Signature, now time.Time) Report {
	return p.judge(ref, subject, sigs, now, func(d digest.Digest) string { return d.String() })
}

// judge is Judge with a name for what a signature of another artifact is for.
func (p *Policy) judge(ref registry.Reference, subject ocispec.Descriptor, sigs []registry.Signature, now time.Time, name func(digest.Digest) string) Report {
	r := Report{
		Reference:    ref.String(),
		Digest:       subject.Digest,
		MediaType:    subject.MediaType,
		Enforced:     true,
		Revocation:   "not checked: the policy has no revocation section",
		PolicyFile:   p.file,
		PolicyDigest: p.digest,
		Signatures:   []Judged{},
		Now:          now.UTC(),
	}
	if p.single {
		r.Revocation = "not checked: a root certificate alone asks for none"
	}
	c := court{policy: p, ref: ref, subject: subject, now: now, name: name, scope: p.selects(ref)}
	r.Timestamps = p.stamps(c.scope)
	if c.scope != nil {
		info := p.info(c.scope)
		r.Scope, r.Enforced = &info, c.scope.enforce
		for _, name := range info.Trust {
			r.Warnings = append(r.Warnings, p.warningsAt(p.roots[name], now)...)
		}
	}
	findings := make([]finding, len(sigs))
	for i, sig := range sigs {
		findings[i] = c.judge(sig)
	}
	slices.SortFunc(findings, compare)
	for _, f := range findings {
		r.Signatures = append(r.Signatures, f.Judged)
	}
	r.Verdict, r.Reason, r.Detail = c.verdict(findings)
	return r
}

// A court judges the signatures of one artifact.
type court struct {
	policy  *Policy
	ref     registry.Reference
	subject ocispec.Descriptor
	now     time.Time
	name    func(digest.Digest) string
	scope   *scope // nil: none matches
}

func (c court) judge(sig registry.Signature) finding {
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
	f.describe(content)
	c.decide(&f, content)
	return f
}

// decide judges what the leaf key signed, by every entry of the scope; it keeps the one by which the signature got furthest.
func (c court) decide(f *finding, content envelope.Content) {
	if c.scope == nil {
		f.stage, f.Reason = atRoot, codeNoScope
		return
	}
	if c.scope.rule == ruleReject {
		f.stage, f.Reason = atRoot, codeRejected
		return
	}
	f.stage, f.Reason, f.Detail = c.artifact(content)
	best := finding{stage: -1}
	for e := range c.scope.entries() {
		if !c.policy.admits(e.root) || !slices.ContainsFunc(e.root.certificates, content.Chain.Root().Equal) {
			continue
		}
		f.trusted = true
		now := c.entry(e, content)
		if better(now, best) {
			best = now
		}
	}
	switch {
	case f.Reason != "": // of another artifact, or weak: whose root it has is only told
		f.Root = best.Root
	case !f.trusted:
		f.stage, f.Reason, f.Detail = atRoot, codeRootNotTrusted, c.stranger(content.Chain)
	default:
		f.stage, f.Root, f.Reason, f.Detail = best.stage, best.Root, best.Reason, best.Detail
		f.Accepted, f.Timestamp = f.stage == passed, best.Timestamp
		f.lasts(content)
	}
	if f.Timestamp == nil && len(content.Timestamp) > 0 {
		f.Timestamp = &Timestamp{Status: StampIgnored, Detail: "not looked at: the signature is refused whatever it says"}
	}
}

// lasts takes down how long an accepted signature stays so where a timestamp keeps it beyond the end of its chain.
func (f *finding) lasts(content envelope.Content) {
	if !f.Accepted || f.Timestamp == nil || f.Timestamp.Status != StampGood {
		return
	}
	f.HoldsUntil, f.FirstToEnd = f.Expiry, ""
	if f.Expiry != nil {
		f.FirstToEnd = "expiry"
	}
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
	switch cert.SignatureAlgorithm {
	case x509.UnknownSignatureAlgorithm, x509.MD2WithRSA, x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.DSAWithSHA256, x509.ECDSAWithSHA1:
		return fmt.Sprintf("was issued with %v", cert.SignatureAlgorithm)
	}
	return ""
}

// entry checks a signature whose chain ends in the entry's root by what the entry and the selected scope ask.
func (c court) entry(e entry, content envelope.Content) finding {
	f := finding{Judged: Judged{Root: e.root.name}}
	f.stage, f.Reason, f.Detail = c.asks(e, content, &f.Timestamp)
	return f
}

func (c court) asks(e entry, content envelope.Content, stamp **Timestamp) (at stage, code, detail string) {
	p, s, leaf := c.policy, c.scope, content.Chain.Leaf()
	if content.Scheme != envelope.SchemeX509 {
		return atKind, codeKind, fmt.Sprintf("scheme %s; root %s is trusted as a certification authority only", content.Scheme, e.root.name)
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
	rule := e.timestamps
	if rule == nil {
		rule = p.stamping(s)
	}
	if *stamp, code, detail = c.validity(rule, content); code != "" {
		return atCertificates, code, detail
	}
	if code, detail := c.age(shorter(cmp.Or(e.maxAge, s.maxAge), p.narrow.maxAge), content.SignedAt()); code != "" {
		return atAge, code, detail
	}
	mode := p.claimsIn(e.claims, s.claims)
	claims, present, err := content.Payload.Claims()
	if err != nil && mode != claimsIgnore {
		return atClaims, codeClaimsBad, err.Error()
	}
	if code, detail := checkClaims(mode, c.ref, claims, present); code != "" {
		return atClaims, code, detail
	}
	return passed, "", ""
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
	if day := 24 * time.Hour; d%day == 0 {
		return fmt.Sprintf("%d days", d/day)
	}
	return d.String()
}

// stranger says what the scope makes of a chain that ends in no root of its own.
func (c court) stranger(chain certchain.Chain) string {
	last := chain.Root()
	trusted := map[string]*root{}
	for e := range c.scope.entries() {
		trusted[e.root.name] = e.root
	}
	for _, name := range c.policy.rootNames() {
		switch {
		case !slices.ContainsFunc(c.policy.roots[name].certificates, last.Equal):
		case trusted[name] != nil:
			return fmt.Sprintf("this run is narrowed to other roots than %s", name)
		default:
			return fmt.Sprintf("this scope does not trust root %s", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(trusted)) {
		for _, pinned := range trusted[name].certificates {
			switch {
			case bytes.Equal(pinned.RawSubject, last.RawSubject):
				return fmt.Sprintf("the chain ends in another certificate of the name of root %s: sha256 %s, not %s",
					name, certchain.Thumbprint(last), certchain.Thumbprint(pinned))
			case slices.ContainsFunc(chain, pinned.Equal):
				return fmt.Sprintf("root %s stands in the chain, but the chain ends in %s", name, certchain.NameOf(last.RawSubject))
			}
		}
	}
	return "this scope does not trust that root"
}

// verdict is the one of the artifact. findings are sorted.
func (c court) verdict(findings []finding) (verdict, reason, detail string) {
	switch {
	case c.scope == nil:
		return Rejected, codeNoScope, fmt.Sprintf("no scope of the policy matches %s", where(c.ref))
	case c.scope.rule == ruleReject:
		return Rejected, codeRejected, fmt.Sprintf("scope %s rejects everything", c.scope.name)
	case slices.ContainsFunc(findings, func(f finding) bool { return f.Accepted }):
		return Accepted, "", ""
	}
	trusted := c.policy.trusted(c.scope)
	unfetched := slices.DeleteFunc(slices.Clone(findings), func(f finding) bool { return !f.Unfetched })
	if len(unfetched) > 0 && len(trusted) > 0 {
		return Undetermined, codeUnfetched, fmt.Sprintf("%d of %d signatures could not be fetched: %s",
			len(unfetched), len(findings), unfetched[0].Detail)
	}
	if len(findings) == 0 {
		return Rejected, codeUnsigned, "it has no signature"
	}
	furthest := finding{stage: -1}
	for _, f := range findings {
		if f.trusted && f.stage > furthest.stage {
			furthest = f
		}
	}
	if furthest.stage < 0 {
		return Rejected, codeNoTrusted, fmt.Sprintf("no signature has a root that the scope trusts (%s)",
			cmp.Or(strings.Join(trusted, ", "), "none is left"))
	}
	return Rejected, furthest.Reason, furthest.Detail
}

func where(ref registry.Reference) string {
	if ref.Kind == registry.Remote {
		return repository(ref)
	}
	return ref.String()
}
