package signer

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/registry"
)

// Siblings are the signatures that are listed together. It may be used concurrently.
type Siblings struct {
	sigs    []registry.Signature // that stock verifiers find: a ghost is not there for being listed
	digests map[digest.Digest]bool
	places  []entry // of all that are listed, in the order of the list

	once   sync.Once
	byCore map[digest.Digest][]sibling
}

// An entry stands in the list. Stock verifiers give up at one that stops them.
type entry struct {
	digest digest.Digest
	stops  bool
}

type sibling struct {
	sig      registry.Signature
	envelope *envelope.Envelope
	content  envelope.Content
	stamped  Stamped // of what like returns
}

// Among returns the siblings that sigs, all signatures of one artifact, are.
func Among(sigs []registry.Signature) *Siblings {
	s := &Siblings{digests: map[digest.Digest]bool{}}
	for _, sig := range sigs {
		s.places = append(s.places, entry{sig.Descriptor.Digest, sig.Err != nil || sig.Misdescribed})
		if sig.Err == nil && !sig.Misdescribed {
			s.sigs = append(s.sigs, sig)
			s.digests[sig.Descriptor.Digest] = true
		}
	}
	return s
}

// stopsBetween returns what stands in the list behind d and, if that is listed, before next: where a verifier would give up that looks for
// next and does not find d before. Anybody may have put it there, and tools that delete a signature leave it in a fallback index.
func (s *Siblings) stopsBetween(d, next digest.Digest) (stops []digest.Digest) {
	if s == nil {
		return nil
	}
	at := func(d digest.Digest) int {
		return slices.IndexFunc(s.places, func(e entry) bool { return e.digest == d })
	}
	end := at(next)
	if end < 0 {
		end = len(s.places)
	}
	for i := at(d) + 1; i < end; i++ {
		if s.places[i].stops {
			stops = append(stops, s.places[i].digest)
		}
	}
	return stops
}

func (s *Siblings) has(d digest.Digest) bool { return s != nil && s.digests[d] }

// like returns the one that is e with a countersignature that serves it: the same signature with the same chain, seen by whoever sees a
// manifest of that shape; of several the one of the lowest digest, so that every run finds the same.
func (s *Siblings) like(e *envelope.Envelope, shape manifestShape, roots []*x509.Certificate) *sibling {
	c, err := e.Verify()
	if s == nil || err != nil {
		return nil
	}
	s.once.Do(s.verify)
	var best *sibling
	for _, b := range s.byCore[c.CoreID()] {
		if best != nil && b.sig.Descriptor.Digest > best.sig.Descriptor.Digest || !b.content.Chain.Equal(c.Chain) ||
			!shapeOfManifest(b.sig.Manifest).seenAs(shape) {
			continue
		}
		if b.stamped, err = StampOf(b.content, roots); err == nil {
			best = &b
		}
	}
	return best
}

func (s *Siblings) verify() {
	s.byCore = map[digest.Digest][]sibling{}
	for _, sig := range s.sigs {
		e, err := envelope.Parse(sig.MediaType, sig.Envelope)
		if err != nil {
			continue
		}
		if c, err := e.Verify(); err == nil {
			s.byCore[c.CoreID()] = append(s.byCore[c.CoreID()], sibling{sig: sig, envelope: e, content: c})
		}
	}
}

// adopt makes a listed signature the new one.
func (p *Plan) adopt(b *sibling) error {
	p.Restamp = false
	if err := p.propose(b.envelope); err != nil {
		return err
	}
	p.Stamped = &b.stamped
	p.manifest, p.New, p.listed = b.sig.Manifest, b.sig.Descriptor.Digest, true
	if !p.Replace {
		p.Status = StatusThere
	}
	return nil
}

// wantsStamp reports whether an envelope has no countersignature that serves the chain that it has, and one would.
func wantsStamp(e *envelope.Envelope, s *Stamper, now time.Time) bool {
	c, err := e.Verify()
	if err != nil || CanStamp(c, now) != nil {
		return false
	}
	_, err = StampOf(c, s.Roots)
	return err != nil
}

// sameIdentity reports whether two leaves name the same signer: the same attributes, whichever of the ASN.1 string types an
// authority writes them in.
func sameIdentity(a, b *x509.Certificate) bool {
	return certchain.SameName(a.RawSubject, b.RawSubject)
}

// Stamp has the new signatures of plans, which are of one artifact, countersigned where that was planned (Restamp): before it
// nothing of them is written, after it they are known, and can be judged. Several that are one signature with one chain get one
// countersignature. It is all or nothing: with an error no plan is changed.
func Stamp(ctx context.Context, plans []Plan, s *Stamper) ([]Plan, error) {
	out := slices.Clone(plans)
	for i := range out {
		p := &out[i]
		if p.Status != StatusPlanned || !p.Restamp {
			continue
		}
		if err := p.countersign(ctx, s, out[:i]); err != nil {
			return plans, fmt.Errorf("rechaining signature %s: %w", p.Signature, err)
		}
	}
	return out, nil
}

func (p *Plan) countersign(ctx context.Context, s *Stamper, before []Plan) error {
	var e *envelope.Envelope
	var stamped Stamped
	mine := p.envelope.Unverified()
	for _, b := range before {
		if b.Stamped == nil || b.envelope == nil {
			continue
		}
		if c := b.envelope.Unverified(); bytes.Equal(c.Signature, mine.Signature) && c.Chain.Equal(mine.Chain) {
			var err error
			if e, err = p.envelope.WithTimestamp(c.Timestamp); err != nil {
				return err
			}
			stamped = *b.Stamped
		}
	}
	if e == nil {
		var err error
		if e, stamped, err = s.Stamp(ctx, p.envelope); err != nil {
			return err
		}
	}
	if err := p.checkAuthority(&stamped, s.Roots); err != nil {
		return err
	}
	p.Restamp, p.Stamped = false, &stamped
	return p.propose(e)
}
