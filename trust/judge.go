package trust

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"maps"
	"slices"
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
