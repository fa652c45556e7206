package signer

import (
	"bytes"
	"context"
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
	// Listed are the digests of all signatures that were listed together with this one and could be read. A plan
	// whose result is among them is Status "there", unless it has something to delete.
	Listed []digest.Digest
}

// A Verdict is what verifiers of one setting say.
type Verdict struct {
	Setting envelope.Setting `json:"setting"`
	Old     bool             `json:"old"`
	New     bool             `json:"new"`
	Both    bool             `json:"both"` // side by side: verifiers try the next
	OldWhy  string           `json:"oldWhy,omitempty"`
	NewWhy  string           `json:"newWhy,omitempty"`
}

// What became of a signature that was to be rechained; besides [StatusPlanned].
const (
	StatusUnchanged = "unchanged" // it has this chain, or the longest of those that can be built
	StatusSkipped   = "skipped"   // refused: Reason says why
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
	Status     string                  `json:"status"`           // "planned", "unchanged", "skipped"; after Push "written", "there", "replaced", "old-left"
	Reason     string                  `json:"reason,omitempty"` // why skipped
	Detail     string                  `json:"detail,omitempty"`
	Identity   string                  `json:"identity"` // present leaf subject
	NewLeaf    string                  `json:"newIdentity,omitempty"`
	Changed    bool                    `json:"identityChanged"`
	Anchor     string                  `json:"anchorsAt,omitempty"` // subject of the new root when it is another certificate
	NowUntil   time.Time               `json:"nowUntil"`
	HoldsUntil time.Time               `json:"holdsUntil"`
	Chain      []certchain.Certificate `json:"chain,omitempty"`
	Verdicts   []Verdict               `json:"verifiers,omitempty"`
	Afterwards []Verdict               `json:"verifiersAfterwards,omitempty"` // once the present chain has ended, a second after NowUntil; empty if it has
	Replace    bool                    `json:"replace,omitempty"`
	Warnings   []string                `json:"warnings,omitempty"`

	sig      registry.Signature // the present one
	envelope *envelope.Envelope // the new one
	manifest registry.Manifest
	subject  ocispec.Descriptor // as it was signed
	pause    func(context.Context, time.Duration) error
}

// Envelope returns the new envelope of a plan, nil when nothing is to be written.
func (p Plan) Envelope() *envelope.Envelope { return p.envelope }

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

// PlanRechain builds the new chain of sig from certs and the certificates already in it, and checks that
// nothing but the chain changes and nobody loses by it. It takes no key: it cannot sign. A chain that is the present one gives Status
// "unchanged". With an error the plan is Status "skipped" and says as much of the signature as is known.
//
// Errors are *Error with the codes leaf-key-differs, identity-changes, not-issued-by, chain-incomplete, ends-earlier,
// chain-is-signed, would-break-timestamp, signature-invalid; or a rule of certchain's; or that of reading sig.
func PlanRechain(sig registry.Signature, certs []*x509.Certificate, o RechainOptions) (Plan, error) {
	p := Plan{Subject: sig.Subject.Digest, Signature: sig.Descriptor.Digest, Status: StatusPlanned, Replace: o.Replace, sig: sig}
	if err := p.make(certs, o); err != nil {
		err = fmt.Errorf("rechaining signature %s: %w", sig.Descriptor.Digest, err)
		p.Status, p.Detail, p.envelope = StatusSkipped, err.Error(), nil
		var coded interface{ Reason() string }
		if errors.As(err, &coded) {
			p.Reason = coded.Reason()
		}
		return p, err
	}
	return p, nil
}

func (p *Plan) make(certs []*x509.Certificate, o RechainOptions) error {
	old, oldContent, err := p.readPresent()
	if err != nil {
		return err
	}
	if e := oldContent.Expiry; !e.IsZero() && !e.After(o.Now) {
		p.warn("it expired on %s, whatever its chain", stamp(e))
	}
	chain, err := choose(oldContent.Chain, certs, o.Now)
	if err != nil {
		return err
	}
	if chain.Equal(oldContent.Chain) {
		p.unchanged(o.Now)
		return nil
	}
	if err := chain.Check(o.Now); err != nil {
		return chainError(err)
	}
	if err := p.compare(oldContent, chain, o); err != nil {
		return err
	}
	e, err := old.WithChain(chain)
	if errors.Is(err, envelope.ErrChainSigned) {
		return &Error{codeChainSigned, err}
	}
	if err != nil {
		return fmt.Errorf("exchanging the chain: %w", err)
	}
	content, err := e.Verify()
	if err != nil {
		return fmt.Errorf("the new envelope: %w", err)
	}
	// The whole point is that it stays the same signature; that this holds is checked where it would show, not assumed.
	if content.CoreID() != oldContent.CoreID() {
		return fmt.Errorf("the new envelope: %w: it is another signature", envelope.ErrSignature)
	}
	p.Verdicts = verdicts(oldContent, content, o.Now)
	if ended := p.NowUntil.Add(time.Second); ended.After(o.Now) {
		p.Afterwards = verdicts(oldContent, content, ended)
	}
	if err := p.checkTimes(oldContent, content); err != nil {
		return err
	}
	p.describe(e, content)
	if slices.Contains(o.Listed, p.New) && !o.Replace {
		p.Status = StatusThere
	}
	return nil
}

// readPresent reads and verifies the signature as it stands. Nothing is built on one that does not verify, or that
// signs something else than what it refers to.
func (p *Plan) readPresent() (*envelope.Envelope, envelope.Content, error) {
	if p.sig.Err != nil {
		return nil, envelope.Content{}, fmt.Errorf("reading it: %w", p.sig.Err)
	}
	invalid := func(err error) (*envelope.Envelope, envelope.Content, error) {
		if errors.Is(err, envelope.ErrChainSigned) {
			return nil, envelope.Content{}, &Error{codeChainSigned, err}
		}
		return nil, envelope.Content{}, &Error{codeSignature, fmt.Errorf("the present signature does not verify: %w", err)}
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
	p.Core = c.CoreID()
	p.Identity = certchain.NameOf(c.Chain.Leaf().RawSubject)
	p.NowUntil = until(c)
	p.HoldsUntil = p.NowUntil
	p.Chain = c.Chain.Describe()
	// What was signed, not what some list says of the subject: so the new manifest is the same whoever writes it.
	p.subject = ocispec.Descriptor{MediaType: c.Payload.MediaType, Digest: c.Payload.Digest, Size: c.Payload.Size}
	return e, c, nil
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
	p.Changed = !bytes.Equal(old.Chain.Leaf().RawSubject, chain.Leaf().RawSubject)
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

// verdicts says what each kind of verifier says at a time of the present signature, the new one, and both side by side.
func verdicts(old, new envelope.Content, now time.Time) (all []Verdict) {
	for _, s := range envelope.Settings() {
		v := Verdict{Setting: s}
		v.Old, v.OldWhy = passes(old, s, now)
		v.New, v.NewWhy = passes(new, s, now)
		v.Both = v.Old || v.New
		all = append(all, v)
	}
	return all
}

// passes says what a verifier of setting s says of c: of its certificates, and of its expiry, which no setting forgives.
func passes(c envelope.Content, s envelope.Setting, now time.Time) (ok bool, why string) {
	if !c.Expiry.IsZero() && !c.Expiry.After(now) {
		return false, "it expired on " + stamp(c.Expiry)
	}
	return c.Passes(s, now)
}

// checkTimes refuses to replace a signature whose stated time (the timestamp's, or the authentic signing time) the
// new chain does not cover: verifiers that go by that time would refuse the new one. Side by side with the old one it
// harms nobody.
func (p *Plan) checkTimes(old, new envelope.Content) error {
	why := ""
	from, to, stamped, err := new.TimestampRange()
	switch {
	case err != nil:
		why = fmt.Sprintf("its timestamp cannot be read (%v), so nobody can say whether the new chain covers it", err)
	case stamped && !covers(new.Chain, from, to) && covers(old.Chain, from, to):
		why = fmt.Sprintf("its timestamp, %s, lies outside the validity of the new chain, which begins %s", stamp(from), stamp(new.Chain.HoldsFrom()))
	case !new.AuthenticTime.IsZero() && !covers(new.Chain, new.AuthenticTime, new.AuthenticTime) && covers(old.Chain, old.AuthenticTime, old.AuthenticTime):
		why = fmt.Sprintf("its authentic signing time, %s, lies outside the validity of the new chain, which begins %s",
			stamp(new.AuthenticTime), stamp(new.Chain.HoldsFrom()))
	}
	for _, v := range p.Verdicts {
		if why == "" && v.Old && !v.New {
			why = fmt.Sprintf("verifiers of the setting %s accept the present signature and would refuse the new one: %s", v.Setting, v.NewWhy)
		}
	}
	switch {
	case why == "":
	case p.Replace:
		return &Error{codeTimestamp, fmt.Errorf("replacing it would break it for some verifiers: %s", why)}
	default:
		p.warn("%s; the present one has to stay beside it", why)
	}
	return nil
}

func covers(chain certchain.Chain, from, to time.Time) bool {
	_, until := chain.HoldsUntil()
	return !from.Before(chain.HoldsFrom()) && !to.After(until)
}

func (p *Plan) describe(e *envelope.Envelope, c envelope.Content) {
	p.envelope = e
	p.HoldsUntil = until(c)
	p.Chain = c.Chain.Describe()
	p.manifest = p.sig.Form().Manifest(p.subject, p.sig.MediaType, e.Bytes(), p.annotationsOf(c.Chain))
	p.New = p.manifest.Descriptor.Digest
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
	DryRun    bool          `json:"dryRun,omitempty"`
	Warnings  []string      `json:"warnings,omitempty"`
}
