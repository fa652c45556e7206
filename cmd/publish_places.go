package cmd

import (
	"context"
	"errors"
	"os"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/cmd/ui"
	"github.com/imprint-oci/imprint/registry"
	"github.com/imprint-oci/imprint/signer"
)

// source opens SRC and reads which artifact is meant.
func (p *publisher) source(ctx context.Context, pub publication) (*registry.Repo, registry.Manifest, error) {
	if len(pub.files) > 0 {
		return registry.Assemble(ctx, pub.files, registry.AssembleOptions{
			ArtifactType: p.artifactType, Annotations: p.described, Created: p.created,
		})
	}
	src, err := p.openSource(ctx, pub)
	if err != nil {
		return nil, registry.Manifest{}, err
	}
	var root registry.Manifest
	if pub.layout.IsRepository() {
		root, err = src.Only(ctx)
	} else {
		root, err = src.Resolve(ctx, pub.layout)
	}
	if err != nil {
		return nil, registry.Manifest{}, errors.Join(err, src.Close())
	}
	return src, root, nil
}

// attachTo shows the source with the attachments that it is going to have at the destination.
func (p *publisher) attachTo(ctx context.Context, src *registry.Repo, root registry.Manifest, r *ui.Published) (*registry.Repo, []registry.Manifest, error) {
	var adds []registry.Addition
	var manifests []registry.Manifest
	subject := ocispec.Descriptor{MediaType: root.Descriptor.MediaType, Digest: root.Descriptor.Digest, Size: root.Descriptor.Size}
	for _, a := range p.attached {
		from, m, err := registry.Assemble(ctx, []registry.File{{Path: a.path, MediaType: a.artifactType}}, registry.AssembleOptions{
			ArtifactType: a.artifactType, Subject: &subject, Created: p.created,
		})
		if err != nil {
			return nil, nil, err
		}
		adds = append(adds, registry.Addition{Subject: subject, Manifest: m, From: from})
		manifests = append(manifests, m)
		r.Attached = append(r.Attached, ui.Attached{File: a.path, ArtifactType: a.artifactType, Digest: m.Descriptor.Digest})
	}
	return registry.WithAdditions(src, adds...), manifests, nil
}

// plan says what would be signed: what the source has, unless it is signed there or at the destination.
func (p *publisher) plan(ctx context.Context, dst, src *registry.Repo, root registry.Manifest, o signer.Options) (signer.Result, error) {
	o.DryRun = true
	at := o
	at.Move = []string{"*"} // who holds the claims was asked where they are going to be made
	plan, err := signer.Sign(ctx, src, root, p.pen.key, p.pen.chain, at)
	if err != nil {
		return plan, err
	}
	there, err := signer.Sign(ctx, dst, root, p.pen.key, p.pen.chain, o)
	if err != nil && !errors.Is(err, registry.ErrNotFound) { // parts of it are not there yet
		return plan, err
	}
	signed := map[digest.Digest]signer.Signed{}
	for _, s := range there.Signatures {
		signed[s.Subject.Digest] = s
	}
	plan.Reference, plan.There = there.Reference, 0
	for i, s := range plan.Signatures {
		if found := signed[s.Subject.Digest]; s.Status == signer.StatusPlanned && found.Status == signer.StatusAlreadySigned {
			plan.Signatures[i] = found
		}
		if plan.Signatures[i].Status == signer.StatusAlreadySigned {
			plan.There++
		}
	}
	return plan, nil
}

// openSource opens the layout or archive of SRC.
func (p *publisher) openSource(ctx context.Context, pub publication) (*registry.Repo, error) {
	if pub.stdin {
		return registry.SpoolArchive(ctx, p.s.env.In, os.TempDir())
	}
	return p.s.open(ctx, pub.layout)
}

// openDestination opens DST, and returns how to let go of it.
func (p *publisher) openDestination(ctx context.Context, ref registry.Reference) (*registry.Repo, func() error, error) {
	c, err := p.s.client()
	if err != nil {
		return nil, nil, err
	}
	if p.dryRun && ref.Kind == registry.Layout {
		return rehearsed(ctx, c, ref)
	}
	repo, err := c.Create(ctx, ref, registry.CreateOptions{})
	if err != nil {
		return nil, nil, err
	}
	return repo, repo.Close, nil
}
