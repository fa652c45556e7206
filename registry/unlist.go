package registry

import (
	"context"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Unlist takes a ghost, which is listed and whose manifest is not there, out of the fallback index where there is one (read back
// settled). It deletes nothing: a manifest that answers after all stays listed, and what only the registry itself lists only the
// registry can take out.
func (r *Repo) Unlist(ctx context.Context, subject ocispec.Descriptor, d digest.Digest) error {
	if err := checkDescriptor(subject); err != nil {
		return err
	}
	if err := checkDescriptor(ocispec.Descriptor{Digest: d}); err != nil {
		return err
	}
	s, ok := r.store.(*remote)
	if !ok {
		return nil // a layout lists what it has
	}
	if err := s.unlist(ctx, subject, d); err != nil {
		return fmt.Errorf("taking %s, which is not there, out of the list: %w", r.ref.With("", d), err)
	}
	return nil
}

func (s *remote) unlist(ctx context.Context, subject ocispec.Descriptor, d digest.Digest) error {
	there, err := s.hasManifest(ctx, d)
	if err != nil || there {
		return err
	}
	s.state.setRemoved(d, true)
	_, err = s.settle(ctx, subject, change{remove: []digest.Digest{d}})
	if errors.Is(err, errOccupied) { // whatever occupies that tag, it does not list d
		return nil
	}
	return err
}
