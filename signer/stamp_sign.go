package signer

import (
	"context"
	"fmt"
	"maps"

	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/registry"
)

// stamp has an envelope that was made for a target countersigned, if that is asked for. It is pushed only with the countersignature: never
// silently without.
func (s *signing) stamp(ctx context.Context, i int, e *envelope.Envelope) (*envelope.Envelope, error) {
	if s.o.Timestamp == nil {
		return e, nil
	}
	e, stamped, err := s.o.Timestamp.Stamp(ctx, e)
	if err != nil {
		return nil, fmt.Errorf("timestamping the signature, which was not pushed: %w", err)
	}
	s.result.Signatures[i].Timestamp = &stamped
	return e, nil
}

// stampMade is stamp for an envelope that a service wrote as a whole. A countersignature that it brought stays, if it is of use.
func (s *signing) stampMade(ctx context.Context, i int, m *envelope.Made) (*envelope.Envelope, error) {
	if s.o.Timestamp == nil {
		return m.Envelope, nil
	}
	if m.Plugin != "" {
		return nil, &Error{codeIgnored, fmt.Errorf("timestamping the signature, which was not pushed: it calls for the verification plugin %s, "+
			"and imprint has nothing countersigned that it cannot judge", m.Plugin)}
	}
	if stamped := s.stampedBy(m.Content); stamped != nil {
		s.result.Signatures[i].Timestamp = stamped
		return m.Envelope, nil
	}
	return s.stamp(ctx, i, m.Envelope)
}

// stampedBy returns the countersignature that c has, nil if it is of no use, or if none is asked for.
func (s *signing) stampedBy(c envelope.Content) *Stamped {
	if s.o.Timestamp == nil {
		return nil
	}
	stamped, err := StampOf(c, s.o.Timestamp.Roots)
	if err != nil {
		return nil
	}
	return &stamped
}

// countersign puts a countersigned copy beside the signature of a target that is there already. The key is not used, and the one that is
// there stays.
func (s *signing) countersign(ctx context.Context, i int) error {
	t := &s.targets[i]
	e, err := envelope.Parse(t.present.MediaType, t.present.Envelope)
	if err != nil {
		return s.of(*t, err)
	}
	if e, err = s.stamp(ctx, i, e); err != nil {
		return s.of(*t, err)
	}
	if t.content, err = e.Verify(); err != nil {
		return s.of(*t, err)
	}
	t.read = readStrictly
	annotations := map[string]string{}
	maps.Copy(annotations, t.present.Annotations)
	annotations[registry.AnnotationThumbprint] = thumbprints(t.content.Chain)
	return s.push(ctx, i, e, annotations)
}
