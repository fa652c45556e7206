package signer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
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

// RechainOptions of [PlanRechain].
type RechainOptions struct {
	AllowIdentityChange bool
	AllowShorter        bool
	Replace             bool      // delete the old one once the new one is listed
	Now                 time.Time // required
	Only                Selection // which signatures are meant
	// Many: the pool is for many signatures. One whose issuer is in it already is unchanged, though leaves for other keys are too.
	Many bool
	// Found are certificates that were fetched for this signature. They may only make its chain last longer, and no root is taken
	// of them.
	Found []*x509.Certificate
	// Siblings are the signatures that were listed together with this one. A plan whose result is among them is Status "there",
	// unless it has something to delete.
	Siblings *Siblings
	// Stamper, if not nil, is to countersign what has no good countersignature inside its new chain: [Plan.Stamp] asks it,
	// PlanRechain never does.
	Stamper *Stamper
}

// A Selection says which signatures are meant; the zero one means all.
type Selection struct {
	Replacing []*x509.Certificate // whose chain has one of these, byte for byte; no new chain has
	SignedBy  certchain.Name      // whose leaf's subject contains all of this
	EndsBy    time.Time           // whose chain ends by then
}

func (s Selection) has(c envelope.Content) (bool, error) {
	if len(s.Replacing) > 0 && !slices.ContainsFunc(c.Chain, func(cert *x509.Certificate) bool { return contains(s.Replacing, cert) }) {
		return false, nil
	}
	if _, end := c.Chain.HoldsUntil(); !s.EndsBy.IsZero() && end.After(s.EndsBy) {
		return false, nil
	}
	if s.SignedBy.Empty() {
		return true, nil
	}
	name, err := certchain.NameFrom(c.Chain.Leaf().RawSubject)
	return err == nil && name.Contains(s.SignedBy), err
}

// What became of a signature that was to be rechained; besides [StatusPlanned].
const (
	StatusUnchanged = "unchanged" // it has this chain, or the longest of those that can be built
	StatusSkipped   = "skipped"   // refused: Reason says why
	StatusLeftOut   = "left-out"  // not one of those that were meant
	StatusLater     = "later"     // planned, but not for this run
	StatusWritten   = "written"
	StatusThere     = "there" // listed already
	StatusReplaced  = "replaced"
	StatusOldLeft   = "old-left" // the new one is there; the registry did not delete the old one
)

// A Plan is one signature's new chain, checked and not yet written.
type Plan struct {
	Subject    digest.Digest           `json:"subject"`
	Signature  digest.Digest           `json:"signature"`     // the present signature manifest
	New        digest.Digest           `json:"new,omitempty"` // the new one: known before it is written
	Core       digest.Digest           `json:"core,omitempty"`
	Status     string                  `json:"status"`           // "planned", "unchanged", "there", "skipped", "left-out"; after Push "written", "there", "replaced", "old-left"
	Reason     string                  `json:"reason,omitempty"` // why skipped
	Detail     string                  `json:"detail,omitempty"`
	Identity   string                  `json:"identity"` // present leaf subject
	Scheme     string                  `json:"scheme,omitempty"`
	NewLeaf    string                  `json:"newIdentity,omitempty"`
	Changed    bool                    `json:"identityChanged"`
	Anchor     string                  `json:"anchorsAt,omitempty"` // subject of the new root when it is another certificate
	NowUntil   time.Time               `json:"nowUntil"`
	HoldsUntil time.Time               `json:"holdsUntil"`
	Chain      []certchain.Certificate `json:"chain,omitempty"`
	Verdicts   []Verdict               `json:"verifiers,omitempty"`
	Afterwards []Verdict               `json:"verifiersAfterwards,omitempty"` // once the present chain has ended, a second after NowUntil; empty if it has
	Replace    bool                    `json:"replace,omitempty"`
	// Timestamped: the present one has a countersignature. Breaks is why verifiers that accept it would refuse the new one; "" if none would.
	Timestamped bool   `json:"timestamped,omitempty"`
	Breaks      string `json:"replaceWouldBreak,omitempty"`
	// Restamp: the new one gets a countersignature of its own; its digest is known once that is there. Stamped is what it says.
	Restamp  bool     `json:"newTimestamp,omitempty"`
	Stamped  *Stamped `json:"timestamp,omitempty"`
	Warnings []string `json:"warnings,omitempty"`

	sig      registry.Signature // the present one
	content  envelope.Content   // of the present one
	envelope *envelope.Envelope // the new one
	manifest registry.Manifest
	listed   bool               // the new one was read in the list
	stops    []digest.Digest    // what stock verifiers give up at, between the present one and the new one
	subject  ocispec.Descriptor // as it was signed
	now      time.Time
	pause    func(context.Context, time.Duration) error
}

// Envelope returns the new envelope of a plan, nil when nothing is to be written.
func (p Plan) Envelope() *envelope.Envelope { return p.envelope }

// Present returns the present chain, nil of a signature that does not verify.
func (p Plan) Present() certchain.Chain { return p.content.Chain }

// Result identifies what is going to be written: the new one's digest, or what it is going to be a countersigned form of. Plans of the
// same result write one signature.
func (p Plan) Result() string {
	if !p.Restamp || p.envelope == nil {
		return p.New.String()
	}
	c := p.envelope.Unverified()
	return fmt.Sprintf("%x %s", sha256.Sum256(c.Signature), thumbprints(c.Chain))
}

// Proposed returns the signature as it will stand after Push, so that a policy may judge it before anything is
// written; the present one when nothing is to be written.
func (p Plan) Proposed() registry.Signature {
	if p.envelope == nil {
		return p.sig
	}
	annotations := p.annotations()
	d := p.manifest.Descriptor
	d.ArtifactType, d.Annotations = registry.ArtifactTypeSignature, annotations
	return registry.Signature{
		Subject: p.sig.Subject, Descriptor: d, Manifest: p.manifest, Annotations: annotations,
		MediaType: p.sig.MediaType, Envelope: p.envelope.Bytes(),
	}
}

// PlanRechain builds the new chain of sig from pool and the certificates already in it, and checks that
// nothing but the chain changes and nobody loses by it. It takes no key: it cannot sign. A chain that is the present one gives Status
// "unchanged", and a signature that is not meant "left-out". With an error the plan is Status "skipped" and says as much of the signature as is known.
//
// Errors are *Error with the codes leaf-key-differs, identity-changes, not-issued-by, chain-incomplete, ends-earlier,
// chain-is-signed, would-break-timestamp, signature-invalid; or a rule of certchain's; or that of reading sig.
func PlanRechain(sig registry.Signature, pool *Pool, o RechainOptions) (Plan, error) {
	p := Plan{Subject: sig.Subject.Digest, Signature: sig.Descriptor.Digest, Status: StatusPlanned, Replace: o.Replace, sig: sig, now: o.Now}
	err := p.skipUnless(p.make(pool, o))
	p.stops = o.Siblings.stopsBetween(p.Signature, p.New)
	return p, err
}

// skipUnless makes of an error a plan that is skipped.
func (p *Plan) skipUnless(err error) error {
	if err == nil {
		return nil
	}
	err = fmt.Errorf("rechaining signature %s: %w", p.Signature, err)
	p.Status, p.Detail, p.envelope = StatusSkipped, err.Error(), nil
	var coded interface{ Reason() string }
	if errors.As(err, &coded) {
		p.Reason = coded.Reason()
	}
	return err
}

func (p *Plan) make(pool *Pool, o RechainOptions) error {
	old, err := p.readPresent()
	if err != nil {
		return err
	}
	meant, err := o.Only.has(p.content)
	if err != nil {
		return err
	}
	if !meant {
		p.Status = StatusLeftOut
		return nil
	}
	if e := p.content.Expiry; !e.IsZero() && !e.After(o.Now) {
		p.warn("it expired on %s, whatever its chain", stamp(e))
	}
	chain, err := pool.choose(p.content.Chain, o)
	if err != nil {
		return err
	}
	if chain.Equal(p.content.Chain) {
		p.unchanged(o.Now)
		return nil
	}
	if err := chain.Check(o.Now); err != nil {
		return chainError(err)
	}
	if err := p.compare(p.content, chain, o); err != nil {
		return err
	}
	e, err := old.WithChain(chain)
	if errors.Is(err, envelope.ErrChainSigned) {
		return &Error{codeChainSigned, err}
	}
	if err != nil {
		return fmt.Errorf("exchanging the chain: %w", err)
	}
	if o.Stamper != nil && wantsStamp(e, o.Stamper, o.Now) {
		if there := o.Siblings.like(e, shapeOfManifest(p.sig.Manifest), o.Stamper.Roots); there != nil {
			if err := p.checkAuthority(&there.stamped, o.Stamper.Roots); err != nil {
				return err
			}
			return p.adopt(there)
		}
		p.Restamp = true
		if err := p.checkAuthority(nil, o.Stamper.Roots); err != nil {
			return err
		}
	}
	if err := p.propose(e); err != nil || p.Restamp {
		return err
	}
	p.listed = o.Siblings.has(p.New)
	if p.listed && !o.Replace {
		p.Status = StatusThere
	}
	return nil
}

// propose makes e the new envelope, and says what verifiers say of it.
func (p *Plan) propose(e *envelope.Envelope) error {
	content, err := e.Verify()
	if err != nil {
		return fmt.Errorf("the new envelope: %w", err)
	}
	// The whole point is that it stays the same signature; that this holds is checked where it would show, not assumed.
	if content.CoreID() != p.content.CoreID() {
		return fmt.Errorf("the new envelope: %w: it is another signature", envelope.ErrSignature)
	}
	p.Verdicts, p.Afterwards = p.verdicts(content, p.now), nil
	if ended := p.NowUntil.Add(time.Second); ended.After(p.now) {
		p.Afterwards = p.verdicts(content, ended)
	}
	if err := p.checkTimes(content); err != nil {
		return err
	}
	p.envelope = e
	p.HoldsUntil = until(content)
	p.Chain = content.Chain.Describe()
	if p.Restamp {
		return nil
	}
	p.manifest = p.sig.Form().Manifest(p.subject, p.sig.MediaType, e.Bytes(), p.annotationsOf(content.Chain))
	p.New = p.manifest.Descriptor.Digest
	return nil
}

// readPresent reads and verifies the signature as it stands. Nothing is built on one that does not verify, or that
// signs something else than what it refers to.
func (p *Plan) readPresent() (*envelope.Envelope, error) {
	if p.sig.Err != nil {
		return nil, fmt.Errorf("reading it: %w", p.sig.Err)
	}
	invalid := func(err error) (*envelope.Envelope, error) {
		if errors.Is(err, envelope.ErrChainSigned) {
			return nil, &Error{codeChainSigned, err}
		}
		return nil, &Error{codeSignature, fmt.Errorf("the present signature does not verify: %w", err)}
	}
	e, err := envelope.Parse(p.sig.MediaType, p.sig.Envelope)
	if err != nil {
		return invalid(err)
	}
	c, err := e.Verify()
	if err != nil {
		return invalid(err)
	}
	if signed, s := c.Payload, p.sig.Subject; signed.Digest != s.Digest || signed.MediaType != s.MediaType || signed.Size != s.Size {
		return invalid(fmt.Errorf("%w: it signs %s (%s, %d bytes), but refers to %s (%s, %d bytes)", envelope.ErrSignature,
			signed.Digest, signed.MediaType, signed.Size, s.Digest, s.MediaType, s.Size))
	}
	p.content, p.Core = c, c.CoreID()
	p.Timestamped, p.Scheme = len(c.Timestamp) > 0, c.Scheme
	p.Identity = certchain.NameOf(c.Chain.Leaf().RawSubject)
	p.NowUntil = until(c)
	p.HoldsUntil = p.NowUntil
	p.Chain = c.Chain.Describe()
	// What was signed, not what some list says of the subject: so the new manifest is the same whoever writes it.
	p.subject = ocispec.Descriptor{MediaType: c.Payload.MediaType, Digest: c.Payload.Digest, Size: c.Payload.Size}
	return e, nil
}

func (p *Plan) unchanged(now time.Time) {
	p.Status = StatusUnchanged
	if !p.NowUntil.After(now) {
		p.warn("its chain ended on %s, and nothing given renews it", stamp(p.NowUntil))
	}
}

// compare holds the new chain against the present one: whose it is, where it ends, how long it lasts.
func (p *Plan) compare(old envelope.Content, chain certchain.Chain, o RechainOptions) error {
	if !bytes.Equal(old.Chain.Leaf().RawSubjectPublicKeyInfo, chain.Leaf().RawSubjectPublicKeyInfo) {
		return &Error{codeLeafKey, errors.New("the new leaf certificate is for another key")}
	}
	p.NewLeaf = certchain.NameOf(chain.Leaf().RawSubject)
	p.Changed = !sameIdentity(old.Chain.Leaf(), chain.Leaf())
	if p.Changed && !o.AllowIdentityChange {
		return &Error{codeIdentity, fmt.Errorf("the identity would change from %q to %q", p.Identity, p.NewLeaf)}
	}
	if !bytes.Equal(old.Chain.Root().Raw, chain.Root().Raw) {
		p.Anchor = certchain.NameOf(chain.Root().RawSubject)
		p.warn("the new chain ends at another root, %s (%s): verifiers that trust only the present one refuse it",
			p.Anchor, certchain.Thumbprint(chain.Root()))
	}
	_, now := old.Chain.HoldsUntil()
	first, then := chain.HoldsUntil()
	if then.Before(now) && !o.AllowShorter {
		return &Error{codeEndsEarlier, fmt.Errorf("the new chain ends on %s with %s, the present one on %s",
			stamp(then), certchain.NameOf(first.RawSubject), stamp(now))}
	}
	return nil
}

// annotationsOf keeps all annotations of the present signature manifest and renews the thumbprints.
func (p *Plan) annotationsOf(chain certchain.Chain) map[string]string {
	annotations := maps.Clone(p.sig.Annotations)
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[registry.AnnotationThumbprint] = thumbprints(chain)
	return annotations
}

// annotations are those of the new manifest.
func (p Plan) annotations() map[string]string {
	return p.annotationsOf(p.envelope.Unverified().Chain)
}

// until is the last time at which c holds: the end of its chain, or its expiry.
func until(c envelope.Content) time.Time {
	_, end := c.Chain.HoldsUntil()
	if !c.Expiry.IsZero() && c.Expiry.Before(end) {
		return c.Expiry
	}
	return end
}

func (p *Plan) warn(format string, args ...any) {
	p.Warnings = append(p.Warnings, fmt.Sprintf(format, args...))
}

// A RechainResult is what the command did with one reference.
type RechainResult struct {
	Reference string        `json:"reference"`
	Digest    digest.Digest `json:"digest"`
	Plans     []Plan        `json:"signatures"`
	LeftOut   int           `json:"leftOut,omitempty"` // signatures that are not among those meant
	DryRun    bool          `json:"dryRun,omitempty"`
	Warnings  []string      `json:"warnings,omitempty"`
}
