package signer

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/registry"
)

// PruneOptions of [PlanPrune].
type PruneOptions struct {
	Now time.Time // required
	// Signature, if not empty, is the one to delete, whatever it is; then nothing else goes.
	Signature digest.Digest
	// TimestampRoots are roots of time-stamping authorities, to compare two timestamps by: a verifier may trust any of them.
	TimestampRoots []*x509.Certificate
	// Hidden are signatures that are listed in such a way that stock verifiers pass them over. They are never survivors.
	Hidden []digest.Digest
	// Accept, if not nil, says whether a policy accepts a signature that is to survive, and why not.
	Accept func(registry.Signature) (ok bool, why string)
}

// What is to become of a signature, or became of it.
const (
	PruneStays    = "stays"    // Reason says why
	PruneGoes     = "goes"     // is to be deleted
	PruneUnlists  = "unlists"  // a ghost: it is gone, and is to be taken out of the list
	PruneDeleted  = "deleted"  // by this run
	PruneUnlisted = "unlisted" // taken out of the list; its manifest, if there is one, the registry did not delete
	PruneGone     = "gone"     // somebody else had deleted it
	PruneLeft     = "old-left" // the registry did not delete it
)

// A PrunedSignature is a listed signature and what is to become of it.
type PrunedSignature struct {
	Signature digest.Digest `json:"signature"`
	Core      digest.Digest `json:"core,omitempty"`
	Identity  string        `json:"identity,omitempty"`
	// HoldsUntil is when its chain or its expiry ends.
	HoldsUntil *time.Time `json:"holdsUntil,omitempty"`
	Status     string     `json:"status"`
	Reason     string     `json:"reason"`
	Detail     string     `json:"detail,omitempty"`
	// Survivor is the signature that supersedes it, and passes wherever it passes.
	Survivor digest.Digest `json:"survivor,omitempty"`
	// OnlyHere are certificates of its chain that the survivor's has not: who trusts one of these themselves, and not
	// the root, loses it.
	OnlyHere []certchain.Certificate `json:"certificatesOnlyHere,omitempty"`

	sig registry.Signature
}

// A PrunePlan is what is to become of the signatures of one artifact. Nothing is deleted before [PrunePlan.Push].
type PrunePlan struct {
	Subject    digest.Digest     `json:"-"`
	Signatures []PrunedSignature `json:"signatures"`
	Warnings   []string          `json:"warnings,omitempty"`
	// Left is why the registry did not delete what was to go.
	Left string `json:"oldLeft,omitempty"`

	refusal error // Left
	subject ocispec.Descriptor
	pause   func(context.Context, time.Duration) error // tests
}

// A Removed signature is what it takes to put a deleted one back: two blobs (the empty configuration, "{}", and the envelope) and the
// manifest, byte for byte, pushed by its digest.
type Removed struct {
	Signature    digest.Digest `json:"signature"`
	MediaType    string        `json:"mediaType"` // of the manifest
	Manifest     []byte        `json:"manifest"`
	EnvelopeType string        `json:"envelopeType,omitempty"`
	Envelope     []byte        `json:"envelope,omitempty"`
	EnvelopeHash digest.Digest `json:"envelopeDigest,omitempty"`
}

// A PruneResult is what the command did with one reference.
type PruneResult struct {
	Reference string        `json:"reference"`
	Digest    digest.Digest `json:"digest"`
	PrunePlan
	DryRun  bool      `json:"dryRun,omitempty"`
	Goes    []Removed `json:"goes,omitempty"`    // of a plan
	Deleted []Removed `json:"deleted,omitempty"` // taken out of the list, or deleted
}

// Contents returns what it takes to put signatures of these statuses back.
func (p PrunePlan) Contents(statuses ...string) (all []Removed) {
	for _, s := range p.with(statuses...) {
		if len(s.sig.Manifest.Bytes) == 0 {
			continue
		}
		r := Removed{Signature: s.Signature, MediaType: s.sig.Manifest.Descriptor.MediaType, Manifest: s.sig.Manifest.Bytes}
		if len(s.sig.Envelope) > 0 {
			r.EnvelopeType, r.Envelope, r.EnvelopeHash = s.sig.MediaType, s.sig.Envelope, digest.FromBytes(s.sig.Envelope)
		}
		all = append(all, r)
	}
	return all
}

func (p PrunePlan) with(statuses ...string) (all []PrunedSignature) {
	for _, s := range p.Signatures {
		if slices.Contains(statuses, s.Status) {
			all = append(all, s)
		}
	}
	return all
}

// PlanPrune says which of the signatures of one artifact, all that are listed, may be deleted, and why the others stay.
//
// B goes only if some A that stays supersedes it ([envelope.Content.Supersedes]), is seen by every stock verifier that sees B, and
// passes at every verifier setting and at every time from now on at which B passes; where A would need its timestamp for that, it has to be as
// credible as B's: the same token, or one for which it is shown that whoever believes B's believes it. Anybody with push rights can attach a
// chain, and a timestamp of an authority of his own, to a copy of a signature; so A's timestamp is worth what is shown of it, and B's what
// it says. What cannot be read, is not there, or does not verify stays, unless it is the one that o.Signature names; of a ghost only the entry in
// a list is taken out.
//
// Revocation is not looked at, here as elsewhere without a network: o.Accept is for who knows more.
func PlanPrune(sigs []registry.Signature, o PruneOptions) PrunePlan {
	p := PrunePlan{Signatures: []PrunedSignature{}}
	var all []*prunable
	stops := 0
	for _, sig := range sigs {
		p.Subject, p.subject = sig.Subject.Digest, ocispec.Descriptor{MediaType: sig.Subject.MediaType, Digest: sig.Subject.Digest, Size: sig.Subject.Size}
		s := readPrunable(sig, o)
		s.place, s.stops = len(all), stops
		if sig.Err != nil || sig.Misdescribed {
			stops++
		}
		all = append(all, s)
	}
	if o.Signature != "" {
		p.planNamed(all, o)
	} else {
		planSuperseded(all, o)
	}
	for _, s := range all {
		p.Signatures = append(p.Signatures, s.PrunedSignature)
	}
	return p
}

// A prunable is a listed signature, with what it says if it verifies.
type prunable struct {
	PrunedSignature
	content  *envelope.Content // nil: it does not verify, or not for this subject
	shape    manifestShape
	hidden   bool
	place    int    // in the list
	stops    int    // how many stand before it at which stock verifiers give up
	rejected string // why the policy does not accept it, once asked
	asked    bool
}

func readPrunable(sig registry.Signature, o PruneOptions) *prunable {
	s := &prunable{
		PrunedSignature: PrunedSignature{Signature: sig.Descriptor.Digest, Status: PruneStays, sig: sig},
		hidden:          sig.Misdescribed || slices.Contains(o.Hidden, sig.Descriptor.Digest),
		shape:           shapeOfManifest(sig.Manifest),
	}
	switch {
	case errors.Is(sig.Err, registry.ErrNotFound):
		s.Status, s.Reason, s.Detail = PruneUnlists, codeGhost, "it is listed, and its manifest is not there: stock notation may refuse the whole artifact for that"
		if len(sig.Manifest.Bytes) > 0 {
			// Its manifest came, its envelope did not: that may yet come.
			s.Status, s.Reason, s.Detail = PruneStays, codeUnreadable, sig.Err.Error()
		}
		return s
	case sig.Err != nil:
		s.Reason, s.Detail = codeUnreadable, sig.Err.Error()
		return s
	}
	c, err := verifiedContent(sig)
	if err != nil {
		s.Reason, s.Detail = codeSignature, err.Error()
		return s
	}
	end := until(c)
	s.content, s.Core, s.Identity, s.HoldsUntil = &c, c.CoreID(), certchain.NameOf(c.Chain.Leaf().RawSubject), &end
	s.Reason = codeNewest
	return s
}

// verifiedContent returns what a signature says that verifies and signs the subject at which it is listed.
func verifiedContent(sig registry.Signature) (envelope.Content, error) {
	e, err := envelope.Parse(sig.MediaType, sig.Envelope)
	if err != nil {
		return envelope.Content{}, err
	}
	c, err := e.Verify()
	if err != nil {
		return envelope.Content{}, err
	}
	if signed, s := c.Payload, sig.Subject; signed.Digest != s.Digest || signed.MediaType != s.MediaType || signed.Size != s.Size {
		return envelope.Content{}, fmt.Errorf("%w: it signs %s (%s, %d bytes)", envelope.ErrSignature, signed.Digest, signed.MediaType, signed.Size)
	}
	return c, nil
}

// planSuperseded marks what goes. It looks at those that end last first: what supersedes ends strictly later, so that what it may
// have to survive for is decided after it, and nothing goes for the sake of what goes itself.
func planSuperseded(all []*prunable, o PruneOptions) {
	ordered := slices.DeleteFunc(slices.Clone(all), func(s *prunable) bool { return s.content == nil })
	slices.SortFunc(ordered, func(a, b *prunable) int {
		_, first := a.content.Chain.HoldsUntil()
		_, second := b.content.Chain.HoldsUntil()
		return cmp.Or(second.Compare(first), cmp.Compare(a.Signature, b.Signature))
	})
	var stay []*prunable
	for _, b := range ordered {
		best := objection{rank: -1}
		for _, a := range stay {
			r := a.replaces(b, o)
			if r.code == "" {
				b.goes(a)
				break
			}
			if r.rank > best.rank {
				best, b.Survivor = r, a.Signature
			}
		}
		if b.Status == PruneGoes {
			continue
		}
		if best.code != "" && best.code != codeNewest {
			b.Reason, b.Detail = best.code, best.why
		} else {
			b.Survivor = ""
		}
		stay = append(stay, b)
	}
}

// goes marks s as superseded by a.
func (s *prunable) goes(a *prunable) {
	s.Status, s.Reason, s.Survivor = PruneGoes, codeSuperseded, a.Signature
	s.Detail = fmt.Sprintf("%s is the same signature with a chain that ends on %s", a.Signature, stamp(*a.HoldsUntil))
	for _, cert := range s.content.Chain {
		if !contains(a.content.Chain, cert) {
			s.OnlyHere = append(s.OnlyHere, certchain.Describe(cert))
		}
	}
}

// planNamed marks the one signature that was named. All others stay as they are, ghosts too.
func (p *PrunePlan) planNamed(all []*prunable, o PruneOptions) {
	var named *prunable
	verify, pass := 0, 0
	for _, s := range all {
		if s.Signature == o.Signature {
			named = s
			continue
		}
		if s.Status == PruneUnlists {
			s.Status = PruneStays
		}
		if s.content != nil {
			verify++
			if _, ok := passesSomewhere(*s.content, o.Now); ok {
				pass++
			}
		}
	}
	if named == nil {
		return
	}
	if named.Status != PruneUnlists {
		named.Status, named.Reason = PruneGoes, codeNamed
	}
	switch {
	case len(all) == 1:
		p.warn("%s is the last signature: the artifact will be unsigned", o.Signature)
	case verify == 0:
		p.warn("%s is the last signature that verifies, or none does: what stays of %d signatures is wrong, or cannot be read", o.Signature, len(all)-1)
	case pass == 0:
		p.warn("of those that stay verifiers accept none now, whatever their setting: their chains have ended, or their expiry has passed")
	}
}

// Named reports whether the plan has a signature of that digest.
func (p PrunePlan) Named(d digest.Digest) bool {
	return slices.ContainsFunc(p.Signatures, func(s PrunedSignature) bool { return s.Signature == d })
}

// Stay returns the signatures that the plan leaves, as they were read.
func (p PrunePlan) Stay() (all []registry.Signature) {
	for _, s := range p.with(PruneStays) {
		all = append(all, s.sig)
	}
	return all
}

func (p *PrunePlan) warn(format string, args ...any) {
	p.Warnings = append(p.Warnings, fmt.Sprintf(format, args...))
}
