package signer

import (
	"context"
	"maps"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/registry"
)

// A hand is what signatures of our own are known by.
type hand struct {
	chain  certchain.Chain
	scheme string
	plugin string // the verification plugin that they call for
	// read parses and verifies an envelope.
	read func(mediaType string, b []byte) (envelope.Content, error)
}

func readStrictly(mediaType string, b []byte) (envelope.Content, error) {
	e, err := envelope.Parse(mediaType, b)
	if err != nil {
		return envelope.Content{}, err
	}
	return e.Verify()
}

func handOf(m *envelope.Made) *hand {
	return &hand{chain: m.Content.Chain, scheme: m.Content.Scheme, plugin: m.Plugin, read: m.Read}
}

// same reports whether who finds no signature of one hand finds none of the other either.
func (h *hand) same(o *hand) bool {
	return h != nil && h.chain.Leaf().Equal(o.chain.Leaf()) && h.chain.Root().Equal(o.chain.Root()) && h.scheme == o.scheme && h.plugin == o.plugin
}

// learn has the root's envelope made, if it is still to be signed, and holds it back. It tells who signs, so that now, before
// anything is pushed, the claims can be checked and what this very hand has signed already can be found.
func (s *signing) learn(ctx context.Context) error {
	root := &s.targets[0]
	if s.result.Signatures[0].Status != StatusPlanned || root.present != nil {
		return nil
	}
	m, err := s.make(ctx, *root)
	if err != nil {
		return err
	}
	asked := s.asked(*root, m)
	root.made = m
	s.describeMade(m)
	if asked {
		return nil
	}
	s.hand = handOf(m)
	if err := s.checkClaims(ctx); err != nil {
		return err
	}
	return s.findExisting(ctx)
}

// asked reports whether it is known already that the registry has no such signature as m for the target.
func (s *signing) asked(t target, m *envelope.Made) bool {
	return s.hand.same(handOf(m)) && (t.made != nil || m.Content.Payload.Equal(s.payload(t)))
}

func (s *signing) make(ctx context.Context, t target) (*envelope.Made, error) {
	m, err := envelope.SignWith(ctx, s.o.Format, s.payload(t), s.whole, s.chain, envelope.Options{SigningTime: s.o.Now, Expiry: s.expiry})
	if err != nil {
		return nil, s.of(t, err)
	}
	return m, nil
}

// describeMade says of result what the envelope decides.
func (s *signing) describeMade(m *envelope.Made) {
	c := m.Content
	s.result.Algorithm, s.result.SignedAt = c.Algorithm, c.SignedAt()
	s.describe(c.Chain)
	if !c.Expiry.IsZero() {
		s.describeExpiry(c.Expiry)
	}
	if s.expiry.IsZero() && !c.Expiry.IsZero() {
		s.warn("the signing authority has the signature expire at %s", stamp(c.Expiry))
	}
	if len(s.chain) > 0 && !s.chain.Equal(c.Chain) {
		s.warn("the signature has another certificate chain for the same key than the one given, as the plugin wrote it: rechain exchanges it")
	}
}

// signWhole pushes the envelope that was made for a target, after having it made unless it is there. If it turns out that the same is
// signed already it is thrown away.
func (s *signing) signWhole(ctx context.Context, i int) error {
	t := s.targets[i]
	m := t.made
	if m == nil {
		var err error
		if m, err = s.make(ctx, t); err != nil {
			return err
		}
	}
	if !s.asked(t, m) {
		t.made = m
		there, err := s.existing(ctx, t, handOf(m))
		if err != nil {
			return err
		}
		if there.digest != "" {
			s.note(i, there)
			return s.signOne(ctx, i) // which does nothing, unless a countersignature is lacking
		}
	}
	e, err := s.stampMade(ctx, i, m)
	if err != nil {
		return s.of(t, err)
	}
	if m.Plugin != "" {
		s.warn("only verifiers that have the verification plugin %s can judge this signature; imprint has none and refuses it", m.Plugin)
	}
	annotations := map[string]string{}
	maps.Copy(annotations, m.Annotations)
	annotations[registry.AnnotationThumbprint] = thumbprints(m.Content.Chain)
	annotations[ocispec.AnnotationCreated] = stamp(m.Content.SignedAt())
	s.targets[i].content, s.targets[i].read = m.Content, m.Read
	s.targets[i].content.Timestamp = e.Unverified().Timestamp
	return s.push(ctx, i, e, annotations)
}
