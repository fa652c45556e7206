package registry

import (
	"context"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A Referrer is an entry of the list of what refers to a subject.
type Referrer struct {
	ocispec.Descriptor // with ArtifactType and Annotations as the list has them: hints
}

// An Addition is a referrer that is going to exist: its manifest, and where its blobs are.
type Addition struct {
	Subject  ocispec.Descriptor
	Manifest Manifest
	// Blobs holds those that are in memory; From has the others.
	Blobs map[digest.Digest][]byte
	From  *Repo
}

// ListsByTag reports whether lists of referrers were found to be kept by the tag schema: apart from the manifests, so
// that one may be listed and gone.
func (r *Repo) ListsByTag() bool {
	s, ok := r.store.(*remote)
	return ok && s.state.api.no()
}

// Referrers lists what refers to subject: by the API, or the tag schema where there is no API or it lists nothing.
// artifactType filters (here, whatever the registry did); "" is all. Order is the registry's; each digest once.
func (r *Repo) Referrers(ctx context.Context, subject ocispec.Descriptor, artifactType string) ([]Referrer, error) {
	if err := checkDescriptor(subject); err != nil {
		return nil, err
	}
	list, err := r.store.referrers(ctx, subject, artifactType)
	if err != nil {
		return nil, fmt.Errorf("listing what refers to %s: %w", r.ref.With("", subject.Digest), err)
	}
	seen := make(map[digest.Digest]bool, len(list))
	out := make([]Referrer, 0, len(list))
	for _, ref := range list {
		// An entry that does not say its type may have any: a hint that is missing hides nothing.
		if artifactType != "" && ref.ArtifactType != "" && ref.ArtifactType != artifactType || seen[ref.Digest] {
			continue
		}
		// What has no usable digest cannot be fetched by anybody; it must not hide the others.
		if checkDescriptor(ref.Descriptor) != nil {
			continue
		}
		seen[ref.Digest] = true
		out = append(out, ref)
	}
	if len(out) > MaxReferrers {
		return nil, fail(codeCapped, "listing what refers to %s: %w (%w): %d referrers, at most %d are followed", r.ref.With("",
			subject.Digest), ErrCapped, ErrTooLarge, len(out), MaxReferrers)
	}
	return out, nil
}

// Named returns what a tag names now, "" if nothing, and whether there is such a repository at all: where there is none
// yet, nothing else needs to be asked. Of a registry it reads the manifest, since only a body tells the two apart; the
// digest is one of the algorithm.
func (r *Repo) Named(ctx context.Context, tag string, a digest.Algorithm) (d digest.Digest, repository bool, err error) {
	s, ok := r.store.(*remote)
	if !ok || r.checkTag(tag) != nil || tag == "" {
		d, err = r.Tagged(ctx, tag)
		if errors.Is(err, ErrNotFound) {
			return "", true, nil
		}
		return d, true, err
	}
	_, body, err := s.manifest(ctx, tag, "")
	if errors.Is(err, ErrNotFound) {
		e, _ := answered(err)
		return "", !e.has("NAME_UNKNOWN"), nil
	}
	if err != nil {
		return "", true, fmt.Errorf("looking up %s: %w", r.ref.With(tag, ""), err)
	}
	return a.FromBytes(body), true, nil
}

// Attach stores manifests that all have subject as their subject, and returns when the list of referrers has them: by
// the registry (OCI-Subject, or seen in the list), or by the tag schema, in one settled write for all of
// them. Their blobs must be there. ErrUnsettled if the list does not come to hold them.
func (r *Repo) Attach(ctx context.Context, subject ocispec.Descriptor, manifests ...Manifest) error {
	if len(manifests) == 0 {
		return nil
	}
	if err := checkDescriptor(subject); err != nil {
		return err
	}
	for _, m := range manifests {
		if err := checkDescriptor(m.Descriptor); err != nil {
			return err
		}
		if err := checkBytes(m.Descriptor, m.Bytes); err != nil {
			return err
		}
	}
	if err := r.store.attach(ctx, subject, manifests); err != nil {
		return fmt.Errorf("attaching to %s: %w", r.ref.With("", subject.Digest), err)
	}
	return nil
}

// Confirm reads the list of subject's referrers back and returns once it has all manifests, which were stored by
// [Repo.PushManifest]: what the registry has forgotten is written again; without the API the tag schema is written, once
// and settled, as [Repo.Attach] does. ErrUnsettled if the list does not come to hold them.
func (r *Repo) Confirm(ctx context.Context, subject ocispec.Descriptor, manifests ...Manifest) error {
	if len(manifests) == 0 {
		return nil
	}
	if err := checkDescriptor(subject); err != nil {
		return err
	}
	if err := r.store.confirm(ctx, subject, manifests); err != nil {
		return fmt.Errorf("confirming what refers to %s: %w", r.ref.With("", subject.Digest), err)
	}
	return nil
}

// Detach removes a referrer: out of the fallback index where there is one (read back settled), then the manifest is
// deleted. ErrUnsupported where manifests cannot be deleted; ErrUnauthorized where we may not; what is gone already
// is no error.
func (r *Repo) Detach(ctx context.Context, subject ocispec.Descriptor, d digest.Digest) error {
	if err := checkDescriptor(subject); err != nil {
		return err
	}
	if err := checkDescriptor(ocispec.Descriptor{Digest: d}); err != nil {
		return err
	}
	if err := r.store.detach(ctx, subject, d); err != nil {
		return fmt.Errorf("deleting %s: %w", r.ref.With("", d), err)
	}
	return nil
}
