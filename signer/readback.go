package signer

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/registry"
)

// readBack returns once each new signature is there for anybody: listed for its subject, and as it was made.
func (s *signing) readBack(ctx context.Context) error {
	return each(ctx, len(s.targets), parallel, func(i int) error {
		if status := s.result.Signatures[i].Status; status != StatusNew && status != StatusTimestamped {
			return nil // it was found in the list, and verified, in this very run
		}
		return s.readBackOne(ctx, s.targets[i])
	})
}

func (s *signing) readBackOne(ctx context.Context, t target) error {
	doing := func(err error) error {
		return fmt.Errorf("reading back the signature %s of %s: %w", t.pushed.Descriptor.Digest, t.subject.Digest, err)
	}
	if err := s.repo.Confirm(ctx, t.subject, t.pushed); err != nil {
		return doing(err)
	}
	wait := readBackPause
	for try := 1; ; try++ {
		err := s.compare(ctx, t)
		if err == nil {
			return nil
		}
		if !passing(err) {
			return doing(err)
		}
		if try == readBacks {
			return &registry.Error{Code: registry.CodeUnsettled, Err: doing(fmt.Errorf("%w: %w", registry.ErrUnsettled, err))}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(wait):
			wait *= readBackGrowth
		}
	}
}

// compare reads the signature of t that is there, and what it says, as a verifier would.
func (s *signing) compare(ctx context.Context, t target) error {
	back := s.repo.ReadSignature(ctx, t.subject, registry.Referrer{Descriptor: t.pushed.Descriptor})
	if back.Err != nil {
		return back.Err
	}
	c, err := t.read(back.MediaType, back.Envelope)
	if err != nil {
		return fmt.Errorf("%w: what came back does not verify: %w", errNotYet, err)
	}
	if c.CoreID() == "" || c.CoreID() != t.content.CoreID() {
		return fmt.Errorf("%w: another signature came back", errNotYet)
	}
	if !bytes.Equal(c.Timestamp, t.content.Timestamp) {
		return fmt.Errorf("%w: it came back with another timestamp", errNotYet)
	}
	// Whoever wrote the envelope may have added to what it signs; not to what it claims.
	said, present, err := c.Payload.Claims()
	if claims, claiming := s.claimsOf(t); err != nil || present != claiming || !slices.Equal(said, claims) || c.Payload.Digest != t.subject.Digest {
		return fmt.Errorf("%w: what came back says something else than was to be signed", errNotYet)
	}
	return nil
}

// hasEnvelope reads the envelope of a signature manifest from where stock verifiers do, also if the manifest has it inline.
func hasEnvelope(ctx context.Context, repo *registry.Repo, m registry.Manifest) error {
	p, err := m.Parse()
	if err != nil {
		return err
	}
	for _, layer := range p.Layers {
		layer.Data = nil
		if _, err := repo.ReadBlob(ctx, layer, envelope.MaxBytes); err != nil {
			return err
		}
	}
	return nil
}
