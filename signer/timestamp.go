package signer

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/registry"
)

// TimestampOptions of [PlanTimestamps].
type TimestampOptions struct {
	Roots []*x509.Certificate // of time-stamping authorities; required
	// Authority is what [Stamper.Probe] found: how long a new countersignature's certificates last, and where they lead. Required.
	Authority Stamped
	Now       time.Time // required
	Replace   bool      // delete the old one once the new one is listed
	// Expiring, if not 0, leaves out what has no countersignature, and those whose authority's certificates last longer than this.
	Expiring time.Duration
}

// A TimestampPlan is one signature's new countersignature, checked and not yet asked for. Of the embedded Plan the new envelope has the
// same chain; New and Stamped are known once an authority has answered ([StampAll]).
type TimestampPlan struct {
	Plan
	// Present is the countersignature that it has, if that is of use under the roots given; else Useless says why not.
	Present *Stamped `json:"presentTimestamp,omitempty"`
	Useless string   `json:"presentTimestampUseless,omitempty"`

	token []byte // the present one
	err   error
}

// Err is why it is skipped, nil if it is not.
func (p TimestampPlan) Err() error { return p.err }

// PlanTimestamps plans a countersignature for each of sigs, all signatures of one artifact: for those that have none which is of use under
// the roots given, and for those whose authority's certificates end before those of the authority as it is now. What has one, or has a
// twin (the same signature with the same chain) beside it that has one, is left alone, so that a second run changes nothing and a run that was
// killed is gone on with. It takes no key, and asks nobody.
//
// A plan that is skipped says why (Err): codes signature-invalid, timestamp-ignored, expired, would-break-timestamp, a rule of
// certchain's (its chain is not valid now, so that no verifier would accept a countersignature of now with it), or that of reading it.
func PlanTimestamps(sigs []registry.Signature, o TimestampOptions) []TimestampPlan {
	siblings := Among(sigs)
	plans := make([]TimestampPlan, len(sigs))
	for i, sig := range sigs {
		p := &plans[i]
		p.Plan = Plan{Subject: sig.Subject.Digest, Signature: sig.Descriptor.Digest, Status: StatusPlanned, Replace: o.Replace, sig: sig, now: o.Now}
		p.skipUnless(p.make(o, siblings))
		p.stops = siblings.stopsBetween(p.Signature, p.New)
	}
	return plans
}

// skipUnless makes of an error a plan that is skipped.
func (p *TimestampPlan) skipUnless(err error) {
	if err == nil {
		return
	}
	p.err = fmt.Errorf("timestamping signature %s: %w", p.Signature, err)
	p.Status, p.Detail, p.Reason, p.envelope, p.Restamp = StatusSkipped, err.Error(), codeOf(err), nil, false
}

// Skip makes it a plan that is skipped, for a reason of the caller's: a policy does not accept it.
func (p *TimestampPlan) Skip(err error) { p.skipUnless(err) }

func (p *TimestampPlan) make(o TimestampOptions, siblings *Siblings) error {
	e, err := p.readPresent()
	if err != nil {
		return err
	}
	c := p.content
	p.token = c.Timestamp
	own, err := StampOf(c, o.Roots)
	switch {
	case err == nil:
		p.Present = &own
	case len(c.Timestamp) > 0:
		p.Useless = err.Error()
	}
	if o.Expiring > 0 && (p.Present == nil || p.Present.HoldsUntil.After(o.Now.Add(o.Expiring))) {
		p.Status = StatusLeftOut
		return nil
	}
	if !p.gains(o.Authority) {
		p.Status = StatusUnchanged
		return nil
	}
	if twin := siblings.twin(c, shapeOfManifest(p.sig.Manifest), o.Roots); twin != nil && twin.sig.Descriptor.Digest != p.Signature && p.gains(twin.stamped) && !o.Authority.outlasts(twin.stamped) {
		return p.take(twin, o.Roots)
	}
	if err := CanStamp(c, o.Now); err != nil {
		if p.Present == nil {
			return err
		}
		p.Status = StatusUnchanged
		p.warn("its timestamp's authority has certificates until %s only, and it cannot be given a new one: %v", stamp(p.Present.HoldsUntil), err)
		return nil
	}
	if err := p.checkReplace(o.Authority, o.Roots); err != nil {
		return err
	}
	p.envelope, p.Restamp = e, true
	p.weigh(c)
	return nil
}

// gains reports whether s is worth more than the countersignature that is there.
func (p *TimestampPlan) gains(s Stamped) bool { return p.Present == nil || s.outlasts(*p.Present) }

func (s Stamped) outlasts(o Stamped) bool { return s.HoldsUntil.After(o.HoldsUntil) }

// weigh says what verifiers say of the present signature and of c, which it becomes: today, and once its chain has ended.
func (p *TimestampPlan) weigh(c envelope.Content) {
	p.Verdicts, p.Afterwards = p.verdicts(c, p.now), nil
	if ended := p.NowUntil.Add(time.Second); ended.After(p.now) {
		p.Afterwards = p.verdicts(c, ended)
	}
}

// take makes a listed signature the new one: there is nothing to ask for, and perhaps the old one to delete.
func (p *TimestampPlan) take(twin *sibling, roots []*x509.Certificate) error {
	if err := p.checkReplace(twin.stamped, roots); err != nil {
		return err
	}
	p.weigh(twin.content)
	p.Stamped, p.envelope = &twin.stamped, twin.envelope
	p.manifest, p.New, p.listed = twin.sig.Manifest, twin.sig.Descriptor.Digest, true
	if !p.Replace {
		p.Status = StatusThere
	}
	return nil
}

// checkReplace refuses to take a countersignature away from verifiers who trust its authority and not the new one. Beside the old
// signature the new one harms nobody.
func (p *TimestampPlan) checkReplace(new Stamped, roots []*x509.Certificate) error {
	if !p.Replace || len(p.token) == 0 {
		return nil
	}
	if err := breaksStamp(p.content, &new, roots); err != nil {
		return err
	}
	if from, to, ok, err := p.content.TimestampRange(); ok && err == nil {
		p.warn("with the old timestamp goes the proof that the signature was there by %s; the new one says %s", stamp(from.Add(to.Sub(from)/2)), newTime(new))
	}
	return nil
}

func newTime(s Stamped) string { return "no earlier than " + stamp(s.From) }

// twin returns the sibling that is the same signature with the same chain and has the countersignature that lasts longest; of several the
// one of the lowest digest, so that every run finds the same.
func (s *Siblings) twin(c envelope.Content, shape manifestShape, roots []*x509.Certificate) *sibling {
	s.once.Do(s.verify)
	var best *sibling
	for _, b := range s.byCore[c.CoreID()] {
		var err error
		if !b.content.Chain.Equal(c.Chain) || !shapeOfManifest(b.sig.Manifest).seenAs(shape) {
			continue
		}
		if b.stamped, err = StampOf(b.content, roots); err != nil {
			continue
		}
		if best == nil || b.stamped.outlasts(best.stamped) || !best.stamped.outlasts(b.stamped) && b.sig.Descriptor.Digest < best.sig.Descriptor.Digest {
			best = &b
		}
	}
	return best
}

// StampAll has those of plans, which are of one artifact, countersigned that are to be. Two of the same signature share one. An error ends it: what
// was countersigned before is in the plans returned, the rest stays planned, and [PushTimestamps] passes that over. A countersignature that turns out to be
// worth no more than the present one is dropped (Status "unchanged").
func StampAll(ctx context.Context, plans []TimestampPlan, s *Stamper) ([]TimestampPlan, error) {
	plans = slices.Clone(plans)
	type had struct {
		token   []byte
		stamped Stamped
	}
	tokens := map[string]had{} // by the primitive signature and the chain
	var failed error
	for i := range plans {
		p := &plans[i]
		if p.Status != StatusPlanned || !p.Restamp {
			continue
		}
		key := string(p.content.Signature) + string(bytes.Join(rawOf(p.content.Chain), nil))
		h, ok := tokens[key]
		if !ok {
			e, stamped, err := s.Stamp(ctx, p.envelope)
			if err != nil {
				failed = fmt.Errorf("timestamping signature %s: %w", p.Signature, err)
				break
			}
			h = had{e.Unverified().Timestamp, stamped}
			tokens[key] = h
		}
		p.skipUnless(p.settle(h.token, h.stamped, s.Roots))
	}
	return plans, failed
}

func rawOf(chain certchain.Chain) [][]byte {
	out := make([][]byte, len(chain))
	for i, c := range chain {
		out[i] = c.Raw
	}
	return out
}

// settle makes the new envelope of a token.
func (p *TimestampPlan) settle(token []byte, stamped Stamped, roots []*x509.Certificate) error {
	if !p.gains(stamped) {
		p.Status, p.envelope, p.Restamp = StatusUnchanged, nil, false
		p.Verdicts, p.Afterwards, p.Warnings = nil, nil, nil
		return nil
	}
	p.Warnings = nil
	if err := p.checkReplace(stamped, roots); err != nil {
		return err
	}
	e, err := p.envelope.WithTimestamp(token)
	if err != nil {
		return err
	}
	c, err := e.Verify()
	if err != nil {
		return fmt.Errorf("the new envelope: %w", err)
	}
	// What it is all about: it stays the same signature with the same chain. Checked where it would show, not assumed.
	if c.CoreID() != p.content.CoreID() || !c.Chain.Equal(p.content.Chain) {
		return fmt.Errorf("the new envelope: %w: it is another signature", envelope.ErrSignature)
	}
	p.Restamp = false
	p.weigh(c)
	p.envelope, p.Stamped = e, &stamped
	p.manifest = p.sig.Form().Manifest(p.subject, p.sig.MediaType, e.Bytes(), p.annotationsOf(c.Chain))
	p.New = p.manifest.Descriptor.Digest
	return nil
}

// PushTimestamps writes those of plans that are countersigned, as [Push] does: listed and read back, and only then, with Replace, the old ones
// are deleted.
func PushTimestamps(ctx context.Context, repo *registry.Repo, plans []TimestampPlan) ([]TimestampPlan, error) {
	plans = slices.Clone(plans)
	var at []int
	var due []Plan
	for i, p := range plans {
		if p.Status == StatusPlanned && !p.Restamp {
			at, due = append(at, i), append(due, p.Plan)
		}
	}
	done, err := Push(ctx, repo, due)
	for i, p := range done {
		plans[at[i]].Plan = p
	}
	return plans, err
}

// A TimestampResult is what the command did with one artifact.
type TimestampResult struct {
	Reference string          `json:"reference"`
	Digest    digest.Digest   `json:"digest"`
	Plans     []TimestampPlan `json:"signatures"`
	DryRun    bool            `json:"dryRun,omitempty"`
	Warnings  []string        `json:"warnings,omitempty"`
}

// Outline returns the plan without the bytes that it takes to write it, for who keeps thousands to show them.
func (p TimestampPlan) Outline() TimestampPlan {
	p.sig, p.content, p.envelope, p.manifest, p.token = registry.Signature{}, envelope.Content{}, nil, registry.Manifest{}, nil
	return p
}
